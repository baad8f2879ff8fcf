"""Values of JSON whose shape is not known: refused, brought into one form, and shown to people in short."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any, Final, NoReturn

import msgspec
import orjson

from switchyard.events.errors import InvalidError

# What is nested deeper is not looked at: it could not be written without exhausting the stack.
MAX_NESTING: Final = 64
MIN_INT: Final = -(2**63)
MAX_INT: Final = 2**64 - 1
SHOWN_CHARS: Final = 64
SHOWN_ITEMS: Final = 8
SHOWN_LEVELS: Final = 3
SHOWN_PATH_CHARS: Final = 512


def refuse(field: str, rule: str) -> NoReturn:
    """Say which field breaks which rule."""
    field = field[:SHOWN_PATH_CHARS]
    raise InvalidError(f"{field}: {rule}", field=field)


def check_json(value: Any, field: str) -> None:
    """Refuse what JSON cannot carry, or what cannot be written again.

    Raises:
        InvalidError: a number that is not finite or an integer beyond 64 bits, half a surrogate pair, another
            type, or more than 64 levels.
    """
    # A stack instead of recursion, for it may be deep.
    waiting = [(value, field, 0)]
    while waiting:
        item, here, level = waiting.pop()
        if level > MAX_NESTING:
            refuse(here, "nested too deeply")
        if isinstance(item, dict):
            for key, inner in item.items():
                if not isinstance(key, str) or not _is_unicode(key):
                    refuse(f"{here}.{shown_key(str(key))}", "expected a key of whole Unicode characters")
                waiting.append((inner, f"{here}.{shown_key(key)}", level + 1))
        elif isinstance(item, list):
            waiting += [(inner, f"{here}.{at}", level + 1) for at, inner in enumerate(item)]
        elif isinstance(item, str):
            if not _is_unicode(item):
                refuse(here, "expected a string of whole Unicode characters")
        elif type(item) is int:
            if not MIN_INT <= item <= MAX_INT:
                refuse(here, "expected an integer of at most 64 bits")
        elif isinstance(item, float):
            if not math.isfinite(item):
                refuse(here, "expected a finite number")
        elif item is not None and not isinstance(item, bool):
            refuse(here, "expected a value that JSON can hold")


def dumps(value: Any) -> bytes:
    """The value's JSON, also of integers beyond 64 bits, which stored values of before may hold."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return msgspec.json.encode(value)


def encoded(value: Any) -> bytes:
    """The value's JSON, the same for the same value; only for what `check_json` let pass."""
    return msgspec.json.encode(value, order="deterministic")


def distinct(values: Iterable[Any]) -> list[Any]:
    """The values sorted by their JSON, each once."""
    by_json = {encoded(value): value for value in values}
    return [by_json[key] for key in sorted(by_json)]


def literal(value: Any) -> Any:
    """The value with each number in one form: 1.0 is 1."""
    if isinstance(value, list):
        return [literal(item) for item in value]
    if isinstance(value, dict):
        return {key: literal(value[key]) for key in sorted(value)}
    if isinstance(value, float) and value.is_integer() and MIN_INT <= value <= MAX_INT:
        return int(value)
    return value


def named(value: Any) -> str:
    """What kind of value it is."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case str():
            return "a string"
        case list():
            return "a list"
        case dict():
            return "an object"
        case _:
            return "a number"


def shown(value: Any, levels: int = SHOWN_LEVELS) -> str:
    """A value as people read it: JSON, with what is long or deep left out.

    Args:
        value: anything.
        levels: how many of nesting are shown.
    """
    match value:
        case str():
            return _quoted(value)
        case None | bool():
            return json.dumps(value)
        case int() if not MIN_INT <= value <= MAX_INT:
            return f"a number of {value.bit_length()} bits"
        case int() | float():
            return repr(value)
        case list() | dict() if levels == 0:
            return "…"
        case list():
            items = [shown(item, levels - 1) for item in value[:SHOWN_ITEMS]]
            return f"[{', '.join(items + ['…'] * (len(value) > SHOWN_ITEMS))}]"
        case dict():
            keys = list(value)[:SHOWN_ITEMS]
            entries = [f"{_quoted(str(key))}: {shown(value[key], levels - 1)}" for key in keys]
            return "{" + ", ".join(entries + ["…"] * (len(value) > SHOWN_ITEMS)) + "}"
        case _:
            return type(value).__name__


def shown_key(key: str) -> str:
    """A key as it may stand in a message."""
    return _whole(key[:SHOWN_CHARS])


def shown_path(path: str) -> str:
    """A dotted path as it may stand in a message."""
    return _whole(path[:SHOWN_PATH_CHARS])


def _quoted(text: str) -> str:
    return _whole(json.dumps(text[:SHOWN_CHARS] + "…" * (len(text) > SHOWN_CHARS), ensure_ascii=False))


def _whole(text: str) -> str:
    """The text with halves of surrogate pairs spelled out, so that it can be sent."""
    return text.encode(errors="backslashreplace").decode()


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
