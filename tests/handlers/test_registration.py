"""What can be a handler, and how what cannot is reported."""

from __future__ import annotations

from typing import Any

import pytest

from switchyard.handlers import Context, Handlers, HandlersError


def test_a_kind_has_one_handler() -> None:
    handlers = Handlers()
    handlers.kind("once")(lambda _: None)
    with pytest.raises(HandlersError, match="'once' has two handlers"):
        handlers.kind("once")(lambda _: None)


@pytest.mark.parametrize("kind", ["", "Upper", "a kind", "x" * 64])
def test_a_kind_is_a_name(kind: str) -> None:
    with pytest.raises(HandlersError, match="is no kind"):
        Handlers().kind(kind)(lambda _: None)


def test_slots_are_at_least_one() -> None:
    with pytest.raises(HandlersError, match="slots: at least 1"):
        Handlers().kind("none", slots=0)(lambda _: None)


def nothing() -> None: ...


def too_much(_payload: dict[str, Any], _context: Context, _more: int) -> None: ...


def unknown(_payload: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821 - the point of the test


async def on_the_loop(_payload: dict[str, Any]) -> None: ...


@pytest.mark.parametrize(
    ("function", "options", "expected"),
    [
        (nothing, {}, "nothing: a handler takes the payload"),
        (too_much, {}, "too_much: a handler takes the payload"),
        (unknown, {}, "unknown: its annotations cannot be read: name 'Nowhere' is not defined"),
        (on_the_loop, {"process": True}, "on_the_loop: process=True is for a plain function"),
    ],
)
def test_what_cannot_be_a_handler_is_reported_by_name(
    function: Any, options: dict[str, Any], expected: str
) -> None:
    with pytest.raises(HandlersError) as raised:
        Handlers().kind("some", **options)(function)
    assert str(raised.value).startswith(expected)


def test_a_function_stays_what_it_was() -> None:
    handlers = Handlers()
    assert handlers.kind("same")(nothing_but) is nothing_but
    assert handlers["same"].function is nothing_but
    assert [handler.kind for handler in handlers] == ["same"]


def nothing_but(payload: dict[str, Any]) -> dict[str, Any]:
    return payload
