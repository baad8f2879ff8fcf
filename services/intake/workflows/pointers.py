"""Places in a payload, as JSON Pointers name them. Source: RFC 6901."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

Steps = tuple[str, ...]


def steps_of(pointer: str) -> Steps:
    """The keys and indices of a pointer that is not the root's."""
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in pointer[1:].split("/"))


def value_at(payload: Any, steps: Steps) -> Any:
    """What stands in a place; UNSET for nothing."""
    here = payload
    for step in steps:
        match here:
            case dict() if step in here:
                here = here[step]
            case list() if (index := _index(step, len(here))) is not None:
                here = here[index]
            case _:
                return UNSET
    return here


def can_be_put(payload: Any, steps: Steps) -> bool:
    """Whether a value can be put in a place: all but a last key of an object have to be there."""
    *before, last = steps
    match value_at(payload, tuple(before)):
        case dict():
            return True
        case list() as items:
            return _index(last, len(items)) is not None
        case _:
            return False


def put(payload: Any, steps: Steps, value: Any) -> None:
    """Put a value in a place that `can_be_put` knows."""
    *before, last = steps
    here = value_at(payload, tuple(before))
    if isinstance(here, list):
        here[int(last)] = value
    else:
        here[last] = value


def _index(step: str, size: int) -> int | None:
    """The index that a step is; None where it is none of a list of that size."""
    if not (step.isascii() and step.isdecimal()) or len(step) > 9 or (len(step) > 1 and step[0] == "0"):
        return None
    return int(step) if int(step) < size else None
