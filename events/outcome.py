"""What an attempt hands over: brought into the form that events hold, or refused by name.

One function for each part, and the same for a connector of ours, a handler on the loop, in a thread, in a
process of its own, and a worker over REST. A refusal's code says which part it was.
"""

from __future__ import annotations

import math
import numbers
import re
import traceback
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec

from switchyard.events.encoding.json_value import MAX_INT, MIN_INT, shown
from switchyard.events.encoding.json_written import type_name, type_named, written
from switchyard.events.errors import InvalidError
from switchyard.events.subjects import NAME
from switchyard.events.values import JobError

TIMEOUT: Final = "timeout"
INVALID_RESULT: Final = "invalid_result"
INVALID_USAGE: Final = "invalid_usage"
INVALID_CHECKS: Final = "invalid_checks"
INVALID_ARTIFACTS: Final = "invalid_artifacts"
INVALID_ERROR: Final = "invalid_error"
INVALID_PROGRESS: Final = "invalid_progress"
INVALID_LOG: Final = "invalid_log"

ERROR_CODE: Final = re.compile(r"[A-Za-z0-9_.:-]{1,100}")
ERROR_BYTES: Final = 64 * 1024
TRACE_CHARS: Final = 16_000
TRACE_PART_CHARS: Final = 2_000
MAX_NOTES: Final = 100
MAX_NAMES: Final = 100
MAX_NAME_CHARS: Final = 100
STAGE_CHARS: Final = 200
MESSAGE_CHARS: Final = 2_000
LINE_CHARS: Final = 16_384
"""A line of output; what is longer is cut."""


class Reference(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A stored artifact, as saving it answers."""

    file: str
    name: str
    type: str
    size_bytes: int
    sha256: str


# --- The outcome


def result_json(value: Any, default: Callable[[Any], Any] | None = None) -> bytes:
    """A result as JSON; `default` as for `written`.

    Raises:
        InvalidError: code `invalid_result`.
    """
    try:
        return written(value, "result", default=default)
    except InvalidError as error:
        error.code = INVALID_RESULT
        raise


def usage_of(value: Any) -> dict[str, float]:
    """Amounts by unit.

    Raises:
        InvalidError: code `invalid_usage`.
    """
    amounts: dict[str, float] = {}
    for name, amount in _entries(value, "usage", INVALID_USAGE):
        field = f"usage.{name}"
        if isinstance(amount, bool) or not isinstance(amount, int | float):
            _refuse(INVALID_USAGE, field, f"expected a number, not {type_named(amount)}")
        if isinstance(amount, int) and not MIN_INT <= amount <= MAX_INT:
            _refuse(INVALID_USAGE, field, "expected an integer of at most 64 bits")
        if not math.isfinite(amount):
            _refuse(INVALID_USAGE, field, f"expected a finite number, not {amount}")
        amounts[name] = int(amount) if isinstance(amount, int) else float(amount)
    return amounts


def checks_of(value: Any) -> dict[str, bool]:
    """Which checks a proposal passed and which it did not.

    Raises:
        InvalidError: code `invalid_checks`.
    """
    checks: dict[str, bool] = {}
    for name, passed in _entries(value, "checks", INVALID_CHECKS):
        if NAME.fullmatch(name) is None:
            _refuse(INVALID_CHECKS, "checks", f"expected names that match {NAME.pattern}, not {shown(name)}")
        if not isinstance(passed, bool):
            _refuse(INVALID_CHECKS, f"checks.{name}", f"expected true or false, not {type_named(passed)}")
        checks[name] = passed
    return checks


def artifacts_of(value: Any) -> tuple[dict[str, Any], ...]:
    """References to what was stored.

    Raises:
        InvalidError: code `invalid_artifacts`.
    """
    if not isinstance(value, list | tuple):
        _refuse(INVALID_ARTIFACTS, "artifacts", f"expected a list, not {type_named(value)}")
    for at, reference in enumerate(value):
        try:
            msgspec.convert(reference, Reference)
            written(reference, f"artifacts[{at}]")
        except msgspec.ValidationError as error:
            _refuse(INVALID_ARTIFACTS, f"artifacts[{at}]", f"expected what saving it answered: {error}")
        except InvalidError as error:
            error.code = INVALID_ARTIFACTS
            raise
    return tuple(value)


# --- The failure


def failure_of(code: Any, message: Any, *, retryable: bool) -> JobError:
    """Why an attempt failed, as events hold it; one whose code is none fails for good, and says so."""
    said = text_of(message, ERROR_BYTES)
    if isinstance(code, str) and ERROR_CODE.fullmatch(code):
        return JobError(code, said, retryable)
    rule = f"code: expected 1 to {MAX_NAME_CHARS} of A-Z a-z 0-9 _ . : -, not {type_named(code)}"
    return JobError(INVALID_ERROR, text_of(f"{rule}; the message was: {said}", ERROR_BYTES), retryable=False)


def exception_text(error: BaseException) -> str:
    """An exception that nobody foresaw, for people."""
    return text_of(f"{type_name(error)}: {text_of(error, ERROR_BYTES)}", ERROR_BYTES)


def trace_of(error: BaseException) -> str:
    """An exception's traceback for the log, with what is long in it cut."""
    try:
        shown = traceback.TracebackException.from_exception(error)
        _shorten(shown)
        parts = list(shown.format())
    except BaseException:  # noqa: BLE001 - notes and texts are the foreign code's, and may raise anything
        parts = [f"<an exception of type {type_name(error)}, which cannot be shown>"]
    return text_of("".join(_cut(part, TRACE_PART_CHARS) for part in parts)[-TRACE_CHARS:], 4 * TRACE_CHARS)


def _shorten(shown: traceback.TracebackException) -> None:
    """Cut the notes of an error and of those that led to it, before they are laid out line by line."""
    left = [shown]
    while left:
        each = left.pop()
        notes = each.__notes__
        if isinstance(notes, list | tuple):
            each.__notes__ = [_cut(note, TRACE_PART_CHARS) for note in notes[:MAX_NOTES] if type(note) is str]
        left += filter(None, (each.__cause__, each.__context__, *(each.exceptions or ())))


# --- Reports


def progress_of(fraction: Any, stage: Any, message: Any, eta_s: Any) -> dict[str, Any]:
    """A report of progress: its fraction between 0 and 1, its texts cut, its time left out if unknown.

    Raises:
        InvalidError: code `invalid_progress`: a part is of another type.
    """
    if not _is_number(fraction):
        _refuse(INVALID_PROGRESS, "fraction", f"expected a number, not {type_named(fraction)}")
    if eta_s is not None and not _is_number(eta_s):
        _refuse(INVALID_PROGRESS, "eta_s", f"expected a number or None, not {type_named(eta_s)}")
    for field, said in (("stage", stage), ("message", message)):
        if not isinstance(said, str):
            _refuse(INVALID_PROGRESS, field, f"expected a string, not {type_named(said)}")
    left_s = None if eta_s is None else _float(eta_s)
    return {
        "fraction": min(1.0, max(0.0, _float(fraction))),  # NaN gives 0
        "stage": _cut(stage, STAGE_CHARS),
        "message": _cut(message, MESSAGE_CHARS),
        "eta_s": max(0.0, left_s) if left_s is not None and math.isfinite(left_s) else None,
    }


def line_of(line: Any) -> str:
    """A line of output, cut.

    Raises:
        InvalidError: code `invalid_log`: it is no string.
    """
    if not isinstance(line, str):
        _refuse(INVALID_LOG, "line", f"expected a string, not {type_named(line)}")
    return _cut(line, LINE_CHARS)


# --- Text


def text_of(said: Any, most_bytes: int) -> str:
    """Whatever it is as text that can be sent: halves of surrogate pairs spelled out, the end cut off."""
    try:
        text = said if issubclass(type(said), str) else str(said)
        body = text.encode(errors="backslashreplace")
    except BaseException:  # noqa: BLE001 - an object's own text may raise anything, also an exit
        return f"<an object of type {type_name(said)}, which has no text>"
    if len(body) <= most_bytes:
        return body.decode()
    mark = f"… (cut; {len(body)} bytes in all)"
    return body[: most_bytes - len(mark.encode())].decode(errors="ignore") + mark


def _cut(text: str, most_chars: int) -> str:
    whole = text[: most_chars + 1].encode(errors="backslashreplace").decode()
    return whole if len(whole) <= most_chars else whole[: most_chars - 1] + "…"


def _entries(value: Any, field: str, code: str) -> list[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        _refuse(code, field, f"expected an object, not {type_named(value)}")
    if len(value) > MAX_NAMES:
        _refuse(code, field, f"{len(value)} entries of at most {MAX_NAMES}")
    entries = list(value.items())
    for name, _ in entries:
        if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME_CHARS or not name.isprintable():
            rule = f"expected names of 1 to {MAX_NAME_CHARS} printable characters"
            _refuse(code, field, f"{rule}, not {shown(name)}")
    return entries


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real | Decimal) and not isinstance(value, bool)


def _float(value: Any) -> float:
    """As a float; infinite where it is too large for one."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _refuse(code: str, field: str, rule: str) -> Any:
    raise InvalidError(f"{field}: {rule}", code=code, field=field)


def timed_out(timeout_s: float) -> JobError:
    """The error of an attempt that took longer than it may, whoever notices."""
    return JobError(TIMEOUT, f"the attempt took longer than {timeout_s:g} s")
