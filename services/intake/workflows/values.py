"""Whether a value is what an input takes, and the seeds that are drawn."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from typing import Any, Final, NoReturn

from msgspec import UNSET

from switchyard.events.encoding.json_value import check_json
from switchyard.events.errors import InvalidError
from switchyard.services.records.workflows.record import MAX_SEED, MAX_TEXT, SEED, Input

DRAWN: Final = -1
"""What many front ends send for a seed that is to be drawn."""
SHOWN_CHOICES: Final = 10
_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,), "file": (str,),
    "seed": (int,),
}  # fmt: skip
_WORDS: Final = {
    "string": "a text", "integer": "a whole number", "number": "a number", "boolean": "true or false",
    "file": "the id of a file", "seed": "a whole number, or nothing for one that is drawn",
}  # fmt: skip


def is_to_be_drawn(one: Input, value: Any) -> bool:
    """Whether a seed is drawn for a value."""
    return one.type == "seed" and (value is UNSET or value is None or (value == DRAWN and _lowest(one) >= 0))


def drawn(one: Input) -> int:
    """A seed in the bounds of an input."""
    lowest, highest = bounds(one)
    return lowest + secrets.randbelow(highest - lowest + 1)


def bounds(one: Input) -> tuple[int, int]:
    """The least and the largest seed of an input."""
    return _lowest(one), SEED if one.max is None else int(one.max)


def shifted(one: Input, value: int, by: int) -> int:
    """The seed of a later one of several jobs: each has the next, and after the largest comes the least."""
    lowest, _ = bounds(one)
    highest = MAX_SEED if one.max is None else int(one.max)
    return lowest + (value - lowest + by) % (highest - lowest + 1)


def check(one: Input, value: Any, field: str, choices: Collection[Any] | None = None) -> None:
    """Judge a value.

    Args:
        one: what it is for.
        value: as it was given.
        field: where it stands in the request.
        choices: what the workers of the kind have to choose from; None where nobody says.

    Raises:
        InvalidError: the input does not take it.
    """
    if one.type == "json":
        check_json(value, field)
        return
    if not isinstance(value, _TYPES[one.type]) or (isinstance(value, bool) and one.type != "boolean"):
        _refuse(field, f"{_WORDS[one.type]} was expected")
    check_json(value, field)
    if isinstance(value, str):
        most = one.max_chars or MAX_TEXT
        if len(value) > most:
            _refuse(field, f"at most {most} characters were expected, not {len(value)}")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        _check_number(one, value, field)
    if one.choices is not None:
        _check_choice(value, one.choices, field)
    elif choices is not None and not one.open:
        _check_choice(value, choices, field)


def _check_number(one: Input, value: float, field: str) -> None:
    lowest, highest = one.min, one.max
    if one.type == "seed":
        lowest, highest = _lowest(one), MAX_SEED if highest is None else highest
    if lowest is not None and value < lowest:
        _refuse(field, f"at least {lowest} was expected, not {value}")
    if highest is not None and value > highest:
        _refuse(field, f"at most {highest} was expected, not {value}")


def _check_choice(value: Any, choices: Collection[Any], field: str) -> None:
    if any(one == value and isinstance(one, bool) is isinstance(value, bool) for one in choices):
        return
    shown = ", ".join(str(one)[:80] for one in list(choices)[:SHOWN_CHOICES])
    more = f" and {len(choices) - SHOWN_CHOICES} more" if len(choices) > SHOWN_CHOICES else ""
    _refuse(field, f"one of {shown}{more} was expected" if choices else "there is nothing to choose from")


def _lowest(one: Input) -> int:
    return 0 if one.min is None else int(one.min)


def _refuse(field: str, rule: str) -> NoReturn:
    raise InvalidError(f"{field}: {rule}", field=field)
