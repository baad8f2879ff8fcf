"""Values of a program on their way to JSON: written, or refused by name."""

from __future__ import annotations

import dataclasses
import enum
import math
import uuid
from collections.abc import Callable
from datetime import date, datetime, time
from typing import Any, Final

import orjson

from switchyard.events.encoding.json_value import MAX_INT, MAX_NESTING, MIN_INT, refuse, shown, shown_key
from switchyard.events.encoding.nesting import deeper_than

MAX_TYPE_CHARS: Final = 200
_NAME: Final[Any] = type.__dict__["__name__"]  # not the class's own word, which may raise anything
AS_TEXT: Final = (datetime, date, time, uuid.UUID)


def written(
    value: Any, field: str, *, default: Callable[[Any], Any] | None = None, levels: int = MAX_NESTING
) -> bytes:
    """The value as JSON.

    Args:
        value: anything.
        field: its name.
        default: what stands for an object that JSON does not know; it raises TypeError where nothing does.
        levels: how many of nesting are taken.

    Raises:
        InvalidError: JSON cannot hold a part of it, or no reader could write it again; it names the part.
    """
    try:
        body = orjson.dumps(value, default=default)
    except TypeError as error:
        _check(value, field, default, levels)
        refuse(field or "the value", f"expected a value that JSON can hold: {error}")
    # A number that is not finite is written as null, which nobody asked for.
    if deeper_than(body, levels) or (b"null" in body and not _is_same(value, body)):
        _check(value, field, default, levels)
    return body


def _is_same(value: Any, body: bytes) -> bool:
    try:
        return bool(orjson.loads(body) == value)
    except Exception:  # noqa: BLE001 - a value's own comparison may raise anything; then each part is looked at
        return False


def _check(value: Any, field: str, default: Callable[[Any], Any] | None, levels: int) -> None:
    """Refuse the first part that cannot be written; a stack instead of recursion, for it may be deep."""
    waiting = [(value, field, 1)]
    while waiting:
        item, here, level = waiting.pop()
        name = here or "the value"
        if isinstance(item, enum.Enum):
            item = item.value
        if dataclasses.is_dataclass(item) and not isinstance(item, type):
            item = {known.name: getattr(item, known.name) for known in dataclasses.fields(item)}
        if isinstance(item, dict | list) or type(item) is tuple:
            if level > levels:
                refuse(name, f"nested deeper than {levels} levels")
            waiting += [(part, path, level + 1) for part, path in reversed(_parts(item, here, name))]
        elif not _is_leaf(item, name):
            if level > levels:
                refuse(name, f"nested deeper than {levels} levels")
            waiting.append((_stand_in(item, name, default), here, level + 1))


def _parts(item: Any, here: str, name: str) -> list[tuple[Any, str]]:
    """The members of a container, each with its path."""
    if not isinstance(item, dict):
        return [(part, f"{here}[{at}]") for at, part in enumerate(item)]
    for key in item:
        if type(key) is not str or not _is_unicode(key):
            refuse(name, f"expected keys that are strings of whole characters, not {type_named(key)}")
    return [(part, f"{here}.{shown_key(key)}".lstrip(".")) for key, part in item.items()]


def _is_leaf(item: Any, name: str) -> bool:
    """Whether it is a value without parts that can be written; refused if only its value is at fault."""
    match item:
        case None | bool():
            pass
        case str():
            if not _is_unicode(item):
                refuse(name, "expected a string of whole Unicode characters")
        case int():
            if not MIN_INT <= item <= MAX_INT:
                refuse(name, "expected an integer of at most 64 bits")
        case float() if type(item) is float:
            if not math.isfinite(item):
                refuse(name, f"expected a finite number, not {item}")
        case _:
            return isinstance(item, AS_TEXT)
    return True


def _stand_in(item: Any, name: str, default: Callable[[Any], Any] | None) -> Any:
    if default is not None:
        try:
            return default(item)
        except Exception as error:  # noqa: BLE001 - an object's own conversion may raise anything
            if not isinstance(error, TypeError):
                refuse(name, f"its conversion failed: {type_name(error)}")
    return refuse(name, f"expected a value that JSON can hold, not {type_named(item)}")


def type_named(item: Any) -> str:
    """What something is, for people: plain values as they are, others by their type."""
    if item is None or type(item) in (bool, int, float, str):
        return shown(item)
    return f"an object of type {type_name(item)}"


def type_name(item: Any) -> str:
    """The name of something's type, whatever it is."""
    name: str = _NAME.__get__(type(item))
    return name[:MAX_TYPE_CHARS]


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
