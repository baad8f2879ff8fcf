"""Events to and from the bytes of the log.

The event's name stands in the subject, its version in the body's `v`. A body of an older version is
brought up one version at a time by `UPCASTS` before it is decoded; golden files under
`tests/events/golden` hold one body of every version ever written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from events.errors import UnknownEventError
from events.history import AnyEvent, Event
from events.job import Job, evolve

Upcast = Callable[[dict[str, Any]], dict[str, Any]]


def _name(event_type: type[Event]) -> str:
    name = event_type.__name__
    return name[0].lower() + "".join(f"_{char.lower()}" if char.isupper() else char for char in name[1:])


EVENTS: Final[Mapping[str, type[AnyEvent]]] = {
    _name(event_type): event_type for event_type in AnyEvent.__args__
}
NAMES: Final[Mapping[type[AnyEvent], str]] = {event_type: name for name, event_type in EVENTS.items()}
CLAIMABLE: Final = frozenset({"submitted", "queued", "rejected"})
FINAL_EVENTS: Final = frozenset({"succeeded", "accepted", "cancelled", "expired", "dead"})

UPCASTS: Final[dict[tuple[str, int], Upcast]] = {}
"""From (event name, version) to the function that makes the next version's body of it."""

_VERSIONS: Final[dict[str, int]] = {
    name: int(event_type.__struct_config__.tag or 1) for name, event_type in EVENTS.items()
}
_DECODERS: Final = {name: msgspec.json.Decoder(event_type) for name, event_type in EVENTS.items()}
_ENCODER: Final = msgspec.json.Encoder()


class _Versioned(msgspec.Struct):
    v: int = 1


_VERSION_DECODER: Final = msgspec.json.Decoder(_Versioned)


def encode(event: AnyEvent) -> bytes:
    """The event's body."""
    return _ENCODER.encode(event)


def event_name(event: AnyEvent) -> str:
    """The word that names the event in subjects, logs and answers."""
    return NAMES[type(event)]


def decode(subject: str, body: bytes) -> AnyEvent:
    """The event that a message of the log holds.

    Raises:
        UnknownEventError: its name or version is not known here, or its body does not have that form.
    """
    name = subject.split(".", 3)[2]
    try:
        return _DECODERS[name].decode(body)
    except KeyError:
        raise UnknownEventError(f"{subject}: there is no event named {name!r}") from None
    except msgspec.DecodeError:
        pass  # an older form, or damaged: the slow way tells
    return _decode_older(subject, name, body)


def _decode_older(subject: str, name: str, body: bytes) -> AnyEvent:
    current = _VERSIONS[name]
    try:
        version = _VERSION_DECODER.decode(body).v
        fields = msgspec.json.decode(body, type=dict[str, Any])
        while version < current and (name, version) in UPCASTS:
            fields = UPCASTS[name, version](fields)
            version += 1
        if version == current:
            return msgspec.convert({**fields, "v": version}, EVENTS[name])
    except msgspec.MsgspecError as error:
        raise UnknownEventError(f"{subject}: the body is not that of a {name} event: {error}") from None
    raise UnknownEventError(
        f"{subject}: version {version} of {name} is not known; this program knows {current}"
    )


def fold(job: Job, subject: str, body: bytes, seq: int) -> Job:
    """The state after the event that a message of the log holds."""
    return evolve(job, decode(subject, body), seq)
