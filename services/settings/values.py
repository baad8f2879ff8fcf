"""What values of settings look like."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import orjson
import pydantic
from pydantic import Field

from switchyard.events.subjects import MAX_NAME, is_name

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB
SKEW_S: Final = 1.0  # by which a clock may be off before anybody is warned
MOST: Final = 2**60  # of bytes or things; what counts them has 64 bits
LONGEST_TTL_S: Final = 3660 * 86400.0  # the broker counts in nanoseconds
LONGEST_S: Final = 1e10  # some three hundred years; a date so far ahead can still be written


class Table(pydantic.BaseModel):
    """Settings that belong together, and stand in one table of the file.

    An input is in no message: it may be a password. What checks values is built for all tables together.
    """

    model_config = pydantic.ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, defer_build=True
    )


def listed(value: Any) -> Any:
    """The parts of a text between commas; anything else as it is."""
    return [one.strip() for one in value.split(",") if one.strip()] if isinstance(value, str) else value


def _parsed(value: Any) -> Any:
    return orjson.loads(value) if isinstance(value, str) else value


def _as_json(value: Any) -> Any:
    """The value, if the environment could say it too: TOML has numbers that JSON has not.

    Raises:
        ValueError: it could not.
    """
    try:
        orjson.dumps(value)
    except TypeError as error:
        raise ValueError(f"not to be written as JSON: {error}") from None
    return value


def _pairs(value: Any) -> Any:
    """What a text of `name=value` between commas says; anything else as it is.

    Raises:
        ValueError: a part has no `=`, or a name stands twice.
    """
    if not isinstance(value, str):
        return value
    found: dict[str, str] = {}
    for one in listed(value):
        name, equals, meant = one.partition("=")
        if not equals or not name.strip():
            raise ValueError("name=value was expected, with commas between")
        if name.strip() in found:
            raise ValueError(f"{name.strip()[:80]!r} stands twice")
        found[name.strip()] = meant.strip()
    return found


def _named(value: str) -> str:
    if not is_name(value):
        raise ValueError(f"a name was expected: a-z, 0-9, _ and -, at most {MAX_NAME}")
    return value


Seconds = Annotated[float, Field(gt=0, le=LONGEST_S)]
Count = Annotated[int, Field(gt=0, le=MOST)]
Name = Annotated[str, pydantic.AfterValidator(_named)]
Names = Annotated[tuple[str, ...], pydantic.BeforeValidator(listed)]
NameByText = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=200)], Name], pydantic.BeforeValidator(_pairs)
]
Paths = Annotated[tuple[Path, ...], pydantic.BeforeValidator(listed)]
Networks = Annotated[tuple[pydantic.IPvAnyNetwork, ...], pydantic.BeforeValidator(listed)]
Sections = Annotated[
    dict[str, dict[str, Any]], pydantic.BeforeValidator(_parsed), pydantic.AfterValidator(_as_json)
]
