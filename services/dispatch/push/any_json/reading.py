"""What a server says, by the paths and words of its options."""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec

from switchyard.events.encoding.json_value import check_json
from switchyard.events.errors import InvalidError
from switchyard.events.outcome import MESSAGE_CHARS, progress_of
from switchyard.events.values import JobError
from switchyard.services.dispatch.push import report
from switchyard.services.dispatch.push.any_json.options import JsonOptions, Plan, plan_of
from switchyard.services.dispatch.push.any_json.paths import MISSING, Path, found_at
from switchyard.services.dispatch.push.report import Done, Failed, Heard, Report, Running, Stopped

SAMPLE_BYTES: Final = 256 * 1024
"""All values together that the templates take in when they are tried."""
_NOTHING: Final[tuple[Any, ...]] = (MISSING, None, False, "", [], {})


def said(plan: Plan, body: dict[str, Any], *, at_end: bool = False) -> Report:
    """What a body says of a task.

    Args:
        plan: the server's options, read.
        body: that of an answer or a callback.
        at_end: whether it is the only answer, so that a task cannot be at work after it.

    Raises:
        InvalidError: it does not say what it should; it names the option.
    """
    paths = plan.paths
    meaning = _meaning(plan, body, at_end=at_end)
    error = found_at(body, paths.error) if paths.error is not None else MISSING
    if meaning == "failed" or (meaning is None and error not in _NOTHING):
        return Failed(_error(error))
    if meaning == "stopped":
        return Stopped()
    result = found_at(body, paths.result)
    if meaning == "done" or (
        meaning is None and (at_end or (paths.result and result not in (MISSING, None)))
    ):
        if result is MISSING:
            raise InvalidError(f"result: nothing stands at {plan.options.result!r}", field="options.result")
        return Done(result, usage=_usage(plan, body))
    return Running(_progress(plan, body))


def called_back(plan: Plan, body: dict[str, Any]) -> Heard:
    """What a callback says.

    Raises:
        InvalidError: it does not say what it should; it names the option.
    """
    return Heard(said(plan, body), remote_id_of(plan, body))


def remote_id_of(plan: Plan, body: dict[str, Any]) -> str:
    """What the server calls the task; "" where it does not say, or not in a form that can be noted."""
    if plan.paths.remote_id is None:
        return report.remote_id_of(body)
    found = found_at(body, plan.paths.remote_id)
    if isinstance(found, int) and not isinstance(found, bool):
        found = str(found)
    return found if report.is_remote_id(found) and found not in (".", "..") else ""


def _meaning(plan: Plan, body: dict[str, Any], *, at_end: bool) -> str | None:
    """What the status says: a list of the options; None where there is none to go by."""
    if plan.paths.status is None:
        return None
    found = found_at(body, plan.paths.status)
    if found is MISSING or isinstance(found, dict | list) or found is None:
        if at_end:
            return None
        raise InvalidError(f"status: no word stands at {plan.options.status!r}", field="options.status")
    word = found if isinstance(found, str) else msgspec.json.encode(found).decode()
    meaning = plan.words.get(word.strip().lower(), "running")
    if at_end and meaning == "running":
        message = f"status: {word[:40]!r} is no word for the end of a task, and nothing is asked later"
        raise InvalidError(message, field="options.status")
    return meaning


def _error(found: Any) -> JobError:
    code, retryable = report.FAILURE, True
    if isinstance(found, dict):
        retryable = found.get("retryable") is not False
        found = next(
            (found[name] for name in ("message", "error", "detail", "code") if found.get(name)), found
        )
    if found in _NOTHING:
        found = report.BY_SERVER
    text = found if isinstance(found, str) else msgspec.json.encode(found).decode()
    return JobError(code, text[:MESSAGE_CHARS], retryable)


def _progress(plan: Plan, body: dict[str, Any]) -> dict[str, Any] | None:
    number = _number(body, plan.paths.progress)
    message = None if plan.paths.message is None else found_at(body, plan.paths.message)
    if number is None and not isinstance(message, str):
        return None
    fraction = 0.0 if number is None else number
    fraction = fraction / 100 if fraction > 1 else fraction
    return progress_of(fraction, "", message if isinstance(message, str) else "", None)


def _usage(plan: Plan, body: dict[str, Any]) -> dict[str, float]:
    found = {name: _number(body, path) for name, path in plan.paths.usage.items()}
    return {name: number for name, number in found.items() if number is not None and number >= 0}


def _number(body: dict[str, Any], path: Path | None) -> float | None:
    found = MISSING if path is None else found_at(body, path)
    if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
        return None
    return float(found)


# --- The dry run when a server is registered


def check(options: JsonOptions) -> None:
    """Refuse options that are wrong in themselves, or do not fit the samples that stand in them.

    Raises:
        InvalidError: they do; it names the field.
    """
    plan = plan_of(options)
    if options.sample is not None:
        values = {
            "payload": options.sample, "task_id": "task-0", "job_id": "0", "kind": "kind",
            "callback_url": "https://gateway.example.com/v1/callbacks/ticket",
        }  # fmt: skip
        check_json(plan.body.render(values, SAMPLE_BYTES), "options.body")
        for header in plan.headers.values():
            header.render(values, SAMPLE_BYTES)
    if options.sample_answer is not None:
        try:
            said(plan, options.sample_answer, at_end=options.mode == "sync")
        except InvalidError as error:
            message = f"options.sample_answer: {error.message}"
            raise InvalidError(message, field=error.field or "options.sample_answer") from None
        if options.remote_id is not None and not remote_id_of(plan, options.sample_answer):
            message = f"options.remote_id: no id stands at {options.remote_id!r} of sample_answer"
            raise InvalidError(message, field="options.remote_id")
