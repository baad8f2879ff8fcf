"""References to results of other jobs within a payload.

An object with the single key `$result` is one, anywhere in the payload:

    {"$result": {"job": "<id>"}}                         the whole result
    {"$result": {"job": "<id>", "path": "pages.0.text"}} a part of it
    {"$result": {"job": "<id>", "artifact": "page.md"}}  the file id of an artifact

`path` names keys of objects and indexes of arrays (counted from 0), separated by dots; a key that holds a
dot itself cannot be reached. What takes a reference's place is not looked through again, so a result cannot
refer to anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Final

import msgspec

from switchyard.events.errors import InvalidError
from switchyard.events.job import Job
from switchyard.events.values import RESULT_ARTIFACT, Status
from switchyard.events.vocabulary.ids import JobId
from switchyard.events.vocabulary.refusals import RefusalCode

KEY: Final = "$result"
MARK: Final = f'"{KEY}"'.encode()
"""What the JSON of a payload with a reference contains."""
SHOWN_CHARS: Final = 64

Place = tuple[str | int, ...]
"""The keys and indexes that lead to a value of the payload."""


class Reference(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A result, a part of one, or an artifact.

    Args:
        job: whose.
        path: leads to the part; "" for the whole.
        artifact: the artifact's name; "" for the result.
    """

    job: Annotated[JobId, msgspec.Meta(max_length=36)]
    path: Annotated[str, msgspec.Meta(max_length=512)] = ""
    artifact: Annotated[str, msgspec.Meta(max_length=100)] = ""


def find(payload: Any, place: Place = ()) -> Iterator[tuple[Place, Reference]]:
    """Every reference within, with its place.

    Raises:
        InvalidError: something has the key of a reference, but not the form.
    """
    if isinstance(payload, dict):
        if payload.keys() == {KEY}:
            yield place, _reference(payload[KEY], place)
            return
        for key, value in payload.items():
            yield from find(value, (*place, key))
    elif isinstance(payload, list):
        for index, value in enumerate(payload):
            yield from find(value, (*place, index))


def resolve(payload: Any, parents: Mapping[JobId, Job], place: Place = ()) -> Any:
    """The payload with a value in the place of every reference.

    Args:
        payload: as it was submitted.
        parents: the jobs that it refers to, by id.
        place: where `payload` itself stands.

    Raises:
        InvalidError: code `unresolved_reference`; a reference leads nowhere.
    """
    if isinstance(payload, dict):
        if payload.keys() == {KEY}:
            return _value(_reference(payload[KEY], place), parents, place)
        return {key: resolve(value, parents, (*place, key)) for key, value in payload.items()}
    if isinstance(payload, list):
        return [resolve(value, parents, (*place, index)) for index, value in enumerate(payload)]
    return payload


def dotted(place: Place) -> str:
    """The place as an error names it."""
    return ".".join(["payload", *(str(part)[:SHOWN_CHARS] for part in place)])


def excuses(places: Sequence[Place], payload: Any, fault: Place) -> bool:
    """Whether a rule that the payload breaks may hold once its references have their values.

    It may at, below and above a reference. Within an object that holds one, a fault in one form of several
    that the object may have is excused too: which form it has may turn on the reference.

    Args:
        places: where the references are.
        payload: as it was submitted.
        fault: where the rule is broken, with the names of forms among the keys.
    """
    for place in places:
        shared = 0
        while shared < min(len(place), len(fault)) and place[shared] == fault[shared]:
            shared += 1
        if shared in (len(place), len(fault)):
            return True
        if shared < len(fault) - 1 and not _holds(payload, fault[: shared + 1]):
            return True
    return False


def _holds(payload: Any, place: Place) -> bool:
    for part in place:
        try:
            payload = payload[part]
        except (KeyError, IndexError, TypeError):
            return False
    return True


def _reference(value: Any, place: Place) -> Reference:
    field = dotted((*place, KEY))
    try:
        reference = msgspec.convert(value, Reference)
    except msgspec.ValidationError as error:
        rule = str(error).replace("`", "")
        raise InvalidError(f"{field}: not a reference to a result: {rule}", field=field) from None
    if reference.path and reference.artifact:
        raise InvalidError(f"{field}: either path or artifact was expected, not both", field=field)
    return reference


def _value(reference: Reference, parents: Mapping[JobId, Job], place: Place) -> Any:
    parent = parents.get(reference.job)
    if parent is None:
        raise _unresolved(place, f"job {reference.job} is not one that this job waits for")
    if parent.status is Status.ARCHIVED:
        raise _unresolved(place, f"job {parent.id} was archived without its result")
    if parent.status is not Status.SUCCEEDED:
        raise _unresolved(place, f"job {parent.id} has no result, it is {parent.status.value}")
    files = {artifact["name"]: artifact for artifact in parent.artifacts}
    if reference.artifact:
        if reference.artifact not in files:
            raise _unresolved(place, f"job {parent.id} has no artifact {reference.artifact!r}")
        return files[reference.artifact]["file"]
    if parent.result is None and RESULT_ARTIFACT in files:
        if reference.path:
            raise _unresolved(
                place, f"the result of job {parent.id} is the file {RESULT_ARTIFACT}, in which no path leads"
            )
        return files[RESULT_ARTIFACT]
    return _part(parent, reference.path, place)


def _part(parent: Job, path: str, place: Place) -> Any:
    value = parent.result
    parts = path.split(".") if path else []
    for depth, part in enumerate(parts):
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and _is_index(part) and int(part) < len(value):
            value = value[int(part)]
        else:
            before = ".".join(parts[:depth])[:SHOWN_CHARS]
            where = f"{before!r} in the result" if depth else "the result"
            raise _unresolved(place, f"{where} of job {parent.id} has no {part[:SHOWN_CHARS]!r}")
    return value


def _is_index(part: str) -> bool:
    return part.isascii() and part.isdigit() and len(part) < 10


def _unresolved(place: Place, why: str) -> InvalidError:
    field = dotted(place)
    return InvalidError(f"{field}: {why}", code=RefusalCode.UNRESOLVED_REFERENCE, field=field)
