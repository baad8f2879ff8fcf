"""What a decoder lets pass though it cannot be written again is found and named."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from switchyard.events.encoding.json_bytes import MAX_BODY_NESTING, check_bytes, refuse_fault
from switchyard.events.encoding.json_written import written
from switchyard.events.encoding.nesting import deeper_than
from switchyard.events.errors import InvalidError

TEXT = st.text('ab[]{}"\\,:é\n\U0001f600', max_size=6)
LEAVES = (
    st.none()
    | st.booleans()
    | TEXT
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=40,
)


def levels(value: Any) -> int:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if parts is None else 1 + max(map(levels, parts), default=0)


def nested(count: int) -> bytes:
    return b"[" * count + b"]" * count


def field_of(body: bytes) -> str | None:
    try:
        check_bytes(body)
    except InvalidError as error:
        return error.field
    return None


@given(VALUES, st.sampled_from(["ascii", "utf-8"]), st.integers(1, 12))
def test_levels_are_counted_as_they_are_whatever_strings_hold(value: Any, form: str, most: int) -> None:
    body = json.dumps(value, ensure_ascii=form == "ascii").encode()
    assert deeper_than(body, most) == (levels(value) > most)


@given(VALUES)
def test_what_can_be_written_again_passes(value: Any) -> None:
    for body in (msgspec.json.encode(value), orjson.dumps(value), written(value, "x")):
        check_bytes(body)
        refuse_fault(body)
    assert orjson.loads(written(value, "x")) == orjson.loads(orjson.dumps(value))


@given(VALUES, VALUES)
def test_a_fault_is_named_by_its_path(before: Any, after: Any) -> None:
    body = b'{"a":[%b,{"b":%%b}],"c":%b}' % (msgspec.json.encode(before), msgspec.json.encode(after))
    for fault in (b"18446744073709551616", b"-9223372036854775809", b"9" * 5000):
        assert field_of(body.replace(b"%b", fault)) == "a[1].b"
    for fault in (b"-1e400", rb'"\ud800"', rb'{"\udc00": 1}'):
        with pytest.raises(InvalidError) as raised:
            refuse_fault(body.replace(b"%b", fault))
        assert (raised.value.field or "").startswith("a[1].b")


@pytest.mark.parametrize(
    "value",
    [
        b"18446744073709551615", b"-9223372036854775808", b"0." + b"1" * 400, b"1e-400",
        b'"' + b"9" * 400 + b'"',
        rb'"\\" ', rb'"\ud83d\ude00"', b"1" * 30 + b".5", b"1" * 30 + b"e5", b"-" + b"1" * 30 + b"E-5",
        b"1e" + b"0" * 40 + b"1", nested(MAX_BODY_NESTING - 1), b'["' + b"[" * 400 + b'"]',
    ],
)  # fmt: skip
def test_what_only_looks_odd_passes(value: bytes) -> None:
    body = b'{"a":%b}' % value
    check_bytes(body)
    refuse_fault(body)


def test_a_level_too_many_is_named_however_it_is_hidden() -> None:
    deep = nested(MAX_BODY_NESTING)
    for body in (b'{"a":%b}' % deep, b'{"a":["]","]"],"b":%b}' % deep, rb'{"a":["\"]","\\"],"b":%b}' % deep):
        field = field_of(body)
        assert field is not None
        assert field.endswith("[0]" * (MAX_BODY_NESTING - 1))
    hidden = b'["]",' * MAX_BODY_NESTING + b"[]" + b',"["]' * MAX_BODY_NESTING
    assert field_of(hidden) is not None


def test_a_fault_far_into_a_body_is_refused_without_its_name() -> None:
    body = b"[%b1%b]" % (b"[]," * 100_000, b"0" * 30)
    with pytest.raises(InvalidError, match="the body"):
        check_bytes(body)
