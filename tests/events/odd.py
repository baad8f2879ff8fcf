"""Odd values for every field of every event, made from the types themselves: a new field is tried unasked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, Final

import msgspec
from msgspec import inspect

from switchyard.events.events import AnyEvent, Event
from tests.events.examples import JOB_ID, LATER, NOW

Path = tuple[str | int, ...]
"""Field names, keys and indexes from the event down to a value."""


def _nested(levels: int, *, of: type) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value] if of is list else {"x": value}
    return value


def _itself() -> list[Any]:
    itself: list[Any] = []
    itself.append(itself)
    return itself


VALUES: Final[dict[str, Any]] = {
    "nan": float("nan"), "inf": float("inf"), "10**400": 10**400, "10**30": 10**30, "-2**63-1": -(2**63) - 1,
    "2**63": 2**63, "2**64": 2**64, "1e300": 1e300, "-1": -1, "0": 0, "1": 1, "1.5": 1.5, "true": True,
    "surrogate": "\ud800", "nul": "\x00", "text": "ü", "empty": "", "long": "x" * 2_000_000,
    "words": "a b.*>\r\nNats-Rollup: all", "list300": _nested(300, of=list), "dict300": _nested(300, of=dict),
    "list100": _nested(100, of=list), "none": None, "list": [], "dict": {}, "list of null": [None],
    "list of nan": [float("nan")], "dict of nan": {"x": float("nan")}, "int keys": {1: 2},
    "tuple keys": {(1, 2): 3}, "surrogate key": {"\ud800": 1}, "itself": _itself(), "object": object(),
    "bytes": b"\xff", "set": {1}, "frozenset": frozenset({"a"}), "decimal": Decimal("NaN"),
    "naive": datetime(2026, 1, 1), "first": datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))),  # noqa: DTZ001
    "last": datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=timezone(-timedelta(hours=14))),
    "second": datetime(1, 1, 1, tzinfo=UTC), "delta": timedelta(days=1), "type": int, "event": NOW,
}  # fmt: skip

TEXTS: Final[dict[str, bytes]] = {
    "nan": b"NaN", "inf": b"Infinity", "1e400": b"1e400", "-1e400": b"-1e400", "10**30": b"1" + b"0" * 30,
    "10**400": b"1" + b"0" * 400, "-2**63-1": b"-9223372036854775809", "2**63": b"9223372036854775808",
    "-0.0": b"-0.0", "0": b"0", "1": b"1", "-1": b"-1", "1.5": b"1.5", "true": b"true", "null": b"null",
    "list": b"[]", "dict": b"{}", "list of null": b"[null]", "dict of null": b'{"x":null}',
    "dict of big": b'{"x":1' + b"0" * 30 + b"}", "surrogate": b'"\\ud800"', "nul": b'"\\u0000"',
    "no utf-8": b'"\xff"', "control": b'"\x01"', "text": '"ü"'.encode(), "empty": b'""',
    "words": b'"a b.*>\\r\\nNats-Rollup: all"', "number text": b'"1"',
    "list300": b"[" * 300 + b"]" * 300, "list127": b"[" * 127 + b"]" * 127, "open": b"[" * 5000,
    "dict300": b'{"x":' * 300 + b"1" + b"}" * 300, "dict100": b'{"x":' * 100 + b"1" + b"}" * 100,
    "naive": b'"2026-01-01T00:00:00"', "first": b'"0001-01-01T00:00:00+14:00"',
    "last": b'"9999-12-31T23:59:59.999999-14:00"', "second": b'"0001-01-01T00:00:00Z"',
    "day": b'"2026-01-01"', "unknown status": b'"absent"', "twice": b'{"x":1,"x":2}', "nothing": b"",
    "trailing": b"1,", "comment": b"/**/1",
}  # fmt: skip


def sample(event_type: type[Event]) -> AnyEvent:
    """A valid event of that type in which every field is set."""
    event: AnyEvent = _sample(inspect.type_info(event_type), "")
    return event


def _sample(of: inspect.Type, field: str) -> Any:
    match of:
        case inspect.StructType(cls=cls, fields=fields):
            return cls(**{each.name: _sample(each.type, each.name) for each in fields})
        case inspect.UnionType(types=types):
            return _sample(next(each for each in types if not isinstance(each, inspect.NoneType)), field)
        case inspect.StrType():
            return JOB_ID if field in ("depends_on", "id", "parent") else "simulate"
        case inspect.IntType():
            return 7
        case inspect.FloatType():
            return 2.0
        case inspect.BoolType():
            return True
        case inspect.DateTimeType():
            return LATER if field.endswith("_at") else NOW
        case inspect.EnumType(cls=cls):
            return list(cls)[-1]
        case inspect.VarTupleType(item_type=item):
            return (_sample(item, field), _sample(item, field))
        case inspect.DictType(value_type=value):
            return {"kind": _sample(value, field)} if field == "labels" else {"a": _sample(value, field)}
        case inspect.AnyType():
            return {"deep": [{"x": 1}]}
        case _:
            raise AssertionError(f"give a sample of {of}")


def paths(value: Any, here: Path = ()) -> Iterator[Path]:
    """Where each value is that lies in this one, its own fields first."""
    fields: dict[Any, Any] = {}
    if isinstance(value, msgspec.Struct):
        fields |= msgspec.structs.asdict(value)
    elif isinstance(value, dict):
        fields |= value
    elif isinstance(value, list | tuple):
        fields = dict(enumerate(value))
    for name, inner in fields.items():
        yield (*here, name)
        yield from paths(inner, (*here, name))


def with_value(value: Any, path: Path, odd: Any) -> Any:
    """The same with another value at the path; nothing is checked."""
    if not path:
        return odd
    first, rest = path[0], path[1:]
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.replace(
            value, **{str(first): with_value(getattr(value, str(first)), rest, odd)}
        )
    if isinstance(value, dict):
        return {**value, first: with_value(value[first], rest, odd)}
    items = list(value)
    items[int(first)] = with_value(items[int(first)], rest, odd)
    return type(value)(items)


def odd_events(event_type: type[Event]) -> Iterator[tuple[Path, str, AnyEvent]]:
    """Every field of the event, each with every odd value: where, which, and the event."""
    event = sample(event_type)
    for path in paths(event):
        for name, odd in VALUES.items():
            yield path, name, with_value(event, path, odd)


def odd_bodies(event_type: type[Event]) -> Iterator[tuple[Path, str, bytes]]:
    """The same as JSON that no encoder of ours would write."""
    fields = msgspec.json.decode(msgspec.json.encode(sample(event_type)))
    for path in paths(fields):
        for name, odd in TEXTS.items():
            yield path, name, msgspec.json.encode(with_value(fields, path, msgspec.Raw(odd)))


def at_depth(levels: int, call: Callable[[], Any]) -> Any:
    """What the call gives with so many frames on the stack below it."""
    return call() if levels == 0 else at_depth(levels - 1, call)
