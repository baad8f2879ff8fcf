"""A value of a program is written as JSON, or refused by the name of the part that is at fault."""

from __future__ import annotations

import dataclasses
import enum
import math
import uuid
from datetime import UTC, datetime, time
from typing import Any

import orjson
import pytest

from switchyard.events.encoding.json_written import type_named, written
from switchyard.events.errors import InvalidError


class Colour(enum.Enum):
    RED = "red"
    ODD = (math.nan,)


@dataclasses.dataclass
class Page:
    number: Any


class Incomparable(dict[str, Any]):
    """Raises when it is compared."""

    __hash__ = None

    def __eq__(self, other: object) -> bool:
        raise RuntimeError


def broken(_: Any) -> Any:
    raise RuntimeError


def unknown(_: Any) -> Any:
    raise TypeError


def endless(item: Any) -> Any:
    return item


@pytest.mark.parametrize(
    "value",
    [
        None, True, "é", 2**64 - 1, -(2**63), 1.5, [], {}, (1, None), Colour.RED, Page(None), [Page(1)],
        uuid.UUID(int=1), datetime(2026, 1, 1, tzinfo=UTC), Incomparable(a=None),
    ],
)  # fmt: skip
def test_what_json_knows_is_written(value: Any) -> None:
    assert written(value, "value") == orjson.dumps(value)


@pytest.mark.parametrize(
    ("value", "field", "rule"),
    [
        (math.nan, "value", "a finite number, not nan"),
        ({"a": [None, math.inf]}, "value.a[1]", "a finite number"),
        ([{"a": 1}, {1: 2}], "value[1]", "keys that are strings of whole characters, not 1"),
        ({"\ud800": 1}, "value", "keys that are strings of whole characters"),
        (["\ud800"], "value[0]", "a string of whole Unicode characters"),
        ([2**64], "value[0]", "at most 64 bits"),
        ([{1}], "value[0]", "a value that JSON can hold, not an object of type set"),
        (Page({"a": b""}), "value.number.a", "not an object of type bytes"),
        ([Colour.ODD], "value[0][0]", "a finite number"),
        ([[[[1]]]], "value[0][0][0]", "nested deeper than 3 levels"),
    ],
)
def test_what_it_does_not_is_refused_at_its_place(value: Any, field: str, rule: str) -> None:
    with pytest.raises(InvalidError, match=rule) as raised:
        written(value, "value", levels=3)
    assert raised.value.field == field


def test_a_value_without_a_name_is_called_the_value() -> None:
    with pytest.raises(InvalidError, match=r"^the value: expected a finite number"):
        written(math.nan, "")
    with pytest.raises(InvalidError, match=r"^a: "):
        written({"a": math.nan}, "")


@pytest.mark.parametrize(
    ("default", "rule"),
    [
        (broken, "its conversion failed: RuntimeError"),
        (unknown, "expected a value that JSON can hold, not an object of type set"),
        (endless, "nested deeper than 3 levels"),
    ],
)
def test_an_object_that_nothing_stands_for_is_refused(default: Any, rule: str) -> None:
    assert written([{1}], "value", default=sorted) == b"[[1]]"
    with pytest.raises(InvalidError, match=rule):
        written([{1}], "value", default=default, levels=3)


def test_what_only_the_writer_refuses_is_refused_with_its_words() -> None:
    with pytest.raises(InvalidError, match=r"value: expected a value that JSON can hold: .*tzinfo"):
        written(time(12, tzinfo=UTC), "value")


def test_plain_values_are_named_as_they_are_and_others_by_their_type() -> None:
    assert [type_named(item) for item in (None, True, 1, "a")] == ["null", "true", "1", '"a"']
    assert type_named(object()) == "an object of type object"
    assert type_named(type("x" * 500, (), {})()) == "an object of type " + "x" * 200
