"""What attempts hand over, however odd, becomes what events hold, or is refused by the name of its part."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from switchyard.events import outcome
from switchyard.events.errors import InvalidError

HUGE = 10**400
LARGE = "artifacts[0].size_bytes"
SAVED = {"file": "f", "name": "n", "type": "text/plain", "size_bytes": 1, "sha256": "ab"}


class Mute:
    """Has no text of its own."""

    def __str__(self) -> str:
        raise SystemExit


class Whole(int):
    """An integer of a kind of its own."""


def refused(function: Callable[[Any], Any], value: Any) -> tuple[str, str | None]:
    """Code and field of the refusal."""
    with pytest.raises(InvalidError) as raised:
        function(value)
    return str(raised.value.code), raised.value.field


@pytest.mark.parametrize(
    ("function", "value", "code", "field"),
    [
        (outcome.result_json, {"a": [math.nan]}, "invalid_result", "result.a[0]"),
        (outcome.usage_of, [], "invalid_usage", "usage"),
        (outcome.usage_of, {str(number): 1 for number in range(101)}, "invalid_usage", "usage"),
        (outcome.usage_of, {"": 1}, "invalid_usage", "usage"),
        (outcome.usage_of, {"a\n": 1}, "invalid_usage", "usage"),
        (outcome.usage_of, {"a" * 101: 1}, "invalid_usage", "usage"),
        (outcome.usage_of, {1: 1}, "invalid_usage", "usage"),
        (outcome.usage_of, {"pages": True}, "invalid_usage", "usage.pages"),
        (outcome.usage_of, {"pages": "3"}, "invalid_usage", "usage.pages"),
        (outcome.usage_of, {"pages": 2**64}, "invalid_usage", "usage.pages"),
        (outcome.usage_of, {"pages": math.inf}, "invalid_usage", "usage.pages"),
        (outcome.checks_of, None, "invalid_checks", "checks"),
        (outcome.checks_of, {"No name": True}, "invalid_checks", "checks"),
        (outcome.checks_of, {"lint": 1}, "invalid_checks", "checks.lint"),
        (outcome.artifacts_of, SAVED, "invalid_artifacts", "artifacts"),
        (outcome.artifacts_of, [SAVED, {"file": "f"}], "invalid_artifacts", "artifacts[1]"),
        (outcome.artifacts_of, [SAVED | {"size_bytes": 2**64}], "invalid_artifacts", LARGE),
        (lambda value: outcome.progress_of(value, "", "", None), True, "invalid_progress", "fraction"),
        (lambda value: outcome.progress_of(value, "", "", None), "1", "invalid_progress", "fraction"),
        (lambda value: outcome.progress_of(0, "", "", value), "1", "invalid_progress", "eta_s"),
        (lambda value: outcome.progress_of(0, value, "", None), None, "invalid_progress", "stage"),
        (lambda value: outcome.progress_of(0, "", value, None), b"", "invalid_progress", "message"),
        (outcome.line_of, b"line", "invalid_log", "line"),
    ],
)  # fmt: skip
def test_what_no_event_can_hold_is_refused_by_its_name(
    function: Callable[[Any], Any], value: Any, code: str, field: str
) -> None:
    assert refused(function, value) == (code, field)


def test_what_events_can_hold_comes_back_as_plain_values() -> None:
    assert outcome.result_json({"a": [1, None]}) == b'{"a":[1,null]}'
    usage = outcome.usage_of({"pages": Whole(3), "s": 1.5})
    assert [(name, type(amount)) for name, amount in usage.items()] == [("pages", int), ("s", float)]
    assert outcome.checks_of({"lint": True, "tests": False}) == {"lint": True, "tests": False}
    assert outcome.artifacts_of([SAVED]) == (SAVED,)
    assert outcome.line_of("x" * 20_000) == "x" * 16_383 + "…"


@pytest.mark.parametrize(
    ("fraction", "eta_s", "expected"),
    [
        (0.5, None, (0.5, None)),
        (Decimal("0.25"), 3, (0.25, 3.0)),
        (7, -1, (1.0, 0.0)),
        (-HUGE, HUGE, (0.0, None)),
        (math.nan, math.nan, (0.0, None)),
    ],
)
def test_progress_is_a_fraction_and_its_time_is_left_out_where_it_is_none(
    fraction: Any, eta_s: Any, expected: tuple[float, float | None]
) -> None:
    report = outcome.progress_of(fraction, "stage", "message", eta_s)
    assert (report["fraction"], report["eta_s"]) == expected
    assert (report["stage"], report["message"]) == ("stage", "message")


def test_a_failure_keeps_its_code_and_one_whose_code_is_none_fails_for_good() -> None:
    failure = outcome.failure_of("no_vram", "out of memory", retryable=True)
    assert (failure.code, failure.message, failure.retryable) == ("no_vram", "out of memory", True)
    for code in ("", "no code", "a" * 101, None, 5):
        failure = outcome.failure_of(code, "out of memory", retryable=True)
        assert (failure.code, failure.retryable) == ("invalid_error", False)
        assert "out of memory" in failure.message
    assert outcome.timed_out(2.5).message == "the attempt took longer than 2.5 s"


def test_any_exception_has_a_text_and_a_trace() -> None:
    assert outcome.exception_text(ValueError("no")) == "ValueError: no"
    assert "which has no text" in outcome.exception_text(ValueError(Mute()))
    assert "ValueError: no" in outcome.trace_of(ValueError("no"))
    assert "which cannot be shown" in outcome.trace_of(ExceptionGroup("several", [Untraceable()]))


def test_notes_without_end_are_cut_before_they_are_laid_out() -> None:
    error, cause = ValueError("no"), KeyError("cause")
    error.__cause__ = cause
    cause.add_note("a\n" * 10_000_000)
    for number in range(1000):
        error.add_note(f"note {number}")
    tracemalloc.start()
    try:
        trace = outcome.trace_of(error)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 5_000_000
    assert "KeyError: 'cause'" in trace
    assert "note 99" in trace
    assert "note 100" not in trace


class Untraceable(Exception):  # noqa: N818 -- it is one that nobody expects
    """Whoever shows it ends the process."""

    @property
    def __notes__(self) -> list[str]:  # type: ignore[override]
        raise KeyboardInterrupt


def test_text_is_cut_to_its_bytes_and_halves_of_pairs_are_spelled_out() -> None:
    assert outcome.text_of("\ud800", 100) == "\\ud800"
    cut = outcome.text_of("é" * 100, 60)
    assert len(cut.encode()) <= 60
    assert cut.endswith("… (cut; 200 bytes in all)")
