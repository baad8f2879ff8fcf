"""Events to and from the bytes of the log.

The event's name stands in the subject, its version in the body's `v`. A body of an older version is
brought up one version at a time by `UPCASTS` before it is decoded; golden files under
`tests/events/golden` hold one body of every version ever written.

`decode` gives every message of the log a meaning: what cannot be read is `Unreadable`, for all readers alike.
`write` makes sure that nothing of the kind is ever written: the bytes pass the readers' own decoder first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from switchyard.events import subjects
from switchyard.events.encoding.json_value import check_json
from switchyard.events.encoding.nesting import deeper_than
from switchyard.events.errors import InvalidError, UnwritableError
from switchyard.events.events import (
    EVENTS,
    NAMES,
    AnyEvent,
    Blocked,
    Event,
    Parted,
    Queued,
    Rejected,
    Repaired,
    Scheduled,
    Submitted,
    Unreadable,
)
from switchyard.events.state import Job, evolve
from switchyard.events.subjects import JOB_ID, NAME, is_name
from switchyard.events.values import MAX_PRIORITY
from switchyard.events.vocabulary.ids import JobId, LaneId, Seq

Upcast = Callable[[dict[str, Any]], dict[str, Any]]

FINAL_EVENTS: Final = frozenset({"succeeded", "accepted", "cancelled", "expired", "dead"})

UPCASTS: Final[dict[tuple[str, int], Upcast]] = {}
"""From (event name, version) to the function that makes the next version's body of it."""

VERSIONS: Final[dict[str, int]] = {
    name: int(event_type.__struct_config__.tag or 1) for name, event_type in EVENTS.items()
}
_DECODERS: Final = {name: msgspec.json.Decoder(event_type) for name, event_type in EVENTS.items()}
_ENCODER: Final = msgspec.json.Encoder()


class _Versioned(msgspec.Struct):
    v: int = 1


_VERSION_DECODER: Final = msgspec.json.Decoder(_Versioned)


MAX_LEVELS: Final = 128
"""Levels of nesting in a body that is read: more than the doors let in, and less than any reader's stack."""

MAX_BYTES: Final = 1_000_000
"""The most a written body may have: under the broker's limit of 1 MiB a message, with room for headers."""

MAX_VERSION: Final = 1_000_000
_NOTHING: Final[Mapping[str, Any]] = {}

_PLACED: Final = frozenset({Submitted, Queued, Rejected, Repaired})
_FIRST: Final = frozenset({Submitted, Scheduled, Blocked})
_FOREIGN: Final[Mapping[type[Event], tuple[str, ...]]] = {
    event_type: names
    for event_type in AnyEvent.__args__
    if (names := tuple(
        field for field in ("result", "artifacts", "usage", "feedback", "payload")
        if field in event_type.__struct_fields__
    ))
}  # fmt: skip
"""The fields that handlers, reviewers and submitters fill, whose values JSON may lose without a word."""

_UNREADABLE: Final = (msgspec.MsgspecError, ValueError, RecursionError)
_UNENCODABLE: Final = (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError)


def event_name(event: AnyEvent) -> str:
    """The word that names the event in subjects, logs and answers."""
    return NAMES[type(event)]


def write(job_id: JobId, event: AnyEvent) -> tuple[str, bytes]:
    """The event's subject and body, of which it is certain that every reader can read them.

    Raises:
        UnwritableError: a value is not what its field takes, or JSON cannot carry it; names the field.
    """
    name = NAMES[type(event)]
    for field in _FOREIGN.get(type(event), ()):
        if value := getattr(event, field):  # what is empty has nothing in it
            _check(value, field)
    try:
        body = _ENCODER.encode(event)
    except _UNENCODABLE as error:
        at = _worst(event)
        why = str(error).encode(errors="backslashreplace").decode()
        raise UnwritableError(f"{at}: the event {name} cannot be written: {why}", field=at) from None
    if len(body) > MAX_BYTES:
        at = _worst(event)
        message = f"{at}: the event {name} has {len(body)} bytes, of at most {MAX_BYTES}"
        raise UnwritableError(message, field=at)
    if deeper_than(body, MAX_LEVELS):
        at = _worst(event)
        raise UnwritableError(f"{at}: the event {name} is nested deeper than {MAX_LEVELS} levels", field=at)
    try:
        back = _DECODERS[name].decode(body)
    except _UNREADABLE as error:
        at = _path(error) or _worst(event)
        raise UnwritableError(f"{at}: {error}", field=at) from None
    place = place_of(back)
    if place is None:
        subject, wrong = subjects.job_event(job_id, name), _odd_names(back)
    else:
        subject = subjects.claimable_event(job_id, name, *place)
        wrong = _misplaced(subject.split("."), back)
    if wrong:
        at = _misplacing(back)
        raise UnwritableError(f"{at}: the event {name} cannot be placed: {wrong}", field=at)
    return subject, body


def decode(subject: str, body: bytes, headers: Mapping[str, str] | None = None) -> AnyEvent | Unreadable:
    """The event that a message of the log holds, or why it cannot be read."""
    tokens = subject.split(".")
    name = tokens[2] if len(tokens) > 2 else ""
    try:
        found = _read(tokens, name, body)
    except KeyError:
        why = f"there is no event named {name[:64]!r}"
        return _unreadable(name, why, headers, fields=_of_newer_program(body, headers))
    except _UNREADABLE:
        return _decode_older(tokens, name, body, headers)
    return _unreadable(name, found, headers) if isinstance(found, str) else found


def fold(job: Job, subject: str, body: bytes, seq: Seq, headers: Mapping[str, str] | None = None) -> Job:
    """The state after the event that a message of the log holds."""
    return evolve(job, decode(subject, body, headers), seq)


def _read(tokens: list[str], name: str, body: bytes) -> AnyEvent | str:
    """The event, or what is wrong with it; raises what the decoder does."""
    if deeper_than(body, MAX_LEVELS):
        return f"the body is nested deeper than {MAX_LEVELS} levels"
    event = _DECODERS[name].decode(body)
    return _misplaced(tokens, event) or event


def _decode_older(
    tokens: list[str], name: str, body: bytes, headers: Mapping[str, str] | None
) -> AnyEvent | Unreadable:
    current = VERSIONS[name]
    try:
        version = _VERSION_DECODER.decode(body).v
        fields = msgspec.json.decode(body, type=dict[str, Any])
        while version < current and (name, version) in UPCASTS:
            fields = UPCASTS[name, version](fields)
            version += 1
        if version == current:
            event = msgspec.convert({**fields, "v": version}, EVENTS[name])
            wrong = _misplaced(tokens, event)
            return _unreadable(name, wrong, headers) if wrong else event
    except _UNREADABLE as error:
        return _unreadable(name, f"the body is not that of the event {name}: {error}", headers)
    why = f"version {version} of {name} is not known; this program knows {current}"
    return _unreadable(name, why, headers, fields=fields if current < version < MAX_VERSION else {})


def _unreadable(
    name: str, why: str, headers: Mapping[str, str] | None, *, fields: Mapping[str, Any] = _NOTHING
) -> Unreadable:
    """What stands in the place of the event; its fields are known where a newer version wrote it."""
    get = (headers or {}).get
    tenant, kind = get(subjects.H_TENANT, ""), get(subjects.H_KIND, "")
    why = why.encode(errors="backslashreplace").decode()
    return Unreadable(
        name[:64], why[:500], bool(fields),
        tenant if NAME.fullmatch(tenant) else "", kind if NAME.fullmatch(kind) else "", dict(fields),
    )  # fmt: skip


def _of_newer_program(body: bytes, headers: Mapping[str, str] | None) -> dict[str, Any]:
    """The fields of an event of an unknown name that looks as ours do: only a newer version writes those."""
    if not {subjects.H_TENANT, subjects.H_KIND} <= set(headers or {}) or deeper_than(body, MAX_LEVELS):
        return {}
    try:
        fields = msgspec.json.decode(body, type=dict[str, Any])
    except _UNREADABLE:
        return {}
    version = fields.get("v")
    return fields if isinstance(version, int) and 0 < version < MAX_VERSION and "at" in fields else {}


def place_of(event: AnyEvent) -> tuple[LaneId, int] | None:
    """Lane and priority of an event that puts its job into a lane."""
    if type(event) not in _PLACED:
        return None
    match event:
        case Submitted(job=spec):
            return spec.lane, spec.priority
        case Queued(lane=lane, priority=priority) | Rejected(lane=lane, priority=priority):
            return lane, priority
        case Repaired(lane=lane, priority=priority) if lane:
            return lane, priority
        case _:
            return None


def _misplaced(tokens: list[str], event: AnyEvent) -> str:
    """What is wrong with the place of an event, or ""; the broker looks at its subject alone."""
    place = place_of(event)
    if place is None:
        if len(tokens) != 3:
            return "its subject names a lane, which the event does not"
        return _odd_names(event)
    lane, priority = place
    if len(tokens) != 5 or tokens[3] != lane or tokens[4] != str(priority):
        return f"its subject does not name the lane and priority of the event, {lane[:64]!r} and {priority}"
    if not is_name(lane) or not 0 <= priority <= MAX_PRIORITY:
        return f"{lane[:64]!r} is no lane, or {priority} no priority of 0 to {MAX_PRIORITY}"
    return _odd_names(event)


def _misplacing(event: AnyEvent) -> str:
    """The field of an event without a place that is to blame."""
    if isinstance(event, Blocked) and not all(map(JOB_ID.fullmatch, event.depends_on)):
        return "depends_on"
    if isinstance(event, Parted):
        return "parts"
    if getattr(event, "job", None) is not None:
        return "job"
    return "priority" if is_name(getattr(event, "lane", "")) else "lane"


def _odd_names(event: AnyEvent) -> str:
    """What is wrong with the names in a first event, or ""; they stand in subjects and headers."""
    if isinstance(event, Parted) and not all(JOB_ID.fullmatch(part.id) for part in event.parts):
        return "its parts are no jobs"
    if type(event) not in _FIRST:
        return ""
    if isinstance(event, Blocked) and not all(map(JOB_ID.fullmatch, event.depends_on)):
        return "what it waits for are no jobs"
    spec = getattr(event, "job", None)
    if spec is None:
        return ""
    if not (is_name(spec.kind) and is_name(spec.tenant) and is_name(spec.lane)):
        return "its kind, tenant or lane is no name"
    if spec.parent and JOB_ID.fullmatch(spec.parent) is None:
        return "what it is a part of is no job"
    return "" if not spec.shared_lane or is_name(spec.shared_lane) else "its shared lane is no name"


def _check(value: Any, field: str) -> None:
    """Refuse what JSON cannot carry: msgspec would write a NaN as null, and a set as a list."""
    if isinstance(value, msgspec.Raw):
        return  # JSON already, checked at the door
    try:
        check_json(list(value) if isinstance(value, tuple) else value, field)
    except InvalidError as error:
        raise UnwritableError(error.message, field=error.field) from None


def _worst(event: AnyEvent) -> str:
    """The field that cannot be encoded, is nested too deeply, or has the most bytes."""
    sizes = dict[str, int]()
    for field in event.__struct_fields__:
        try:
            body = _ENCODER.encode(getattr(event, field))
        except _UNENCODABLE:
            return field
        if deeper_than(body, MAX_LEVELS - 1):
            return field
        sizes[field] = len(body)
    return max(sizes, key=sizes.__getitem__)


def _path(error: Exception) -> str | None:
    """The field that msgspec names, as `error.code`."""
    place = str(error).partition(" - at ")[2]
    return place.rpartition("`$")[2].rstrip("`").lstrip(".").replace("[...]", "") or None
