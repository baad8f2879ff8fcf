"""What an answer that is no success says: whose fault it is, and whether another try may help. Pure.

| answer | |
|---|---|
| 400, 413, 415, 422, 501; 404 of a model | the job's: dead, with the param it names |
| 401, 403, 405; another 404 | the server's: the job goes elsewhere uncounted |
| 429, 503, 529 and the like | it is full: the job goes elsewhere uncounted, the server rests |
| another one, or an error within a stream | it may have been billed: an attempt |
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from switchyard.events.values import JobError
from switchyard.services.pusher.calling import MOST_REST_S, Answer, Broken, Full, NotTaken, shown
from switchyard.services.pusher.profiles.openai.limits import rest_s
from switchyard.services.records.servers.condition import Outcome

FULL: Final = frozenset({409, 429, 503, 529})
OF_THE_JOB: Final = frozenset({400, 404, 413, 415, 422, 501})
KEPT_CODES: Final = frozenset({
    "content_filter", "content_policy_violation", "context_length_exceeded", "invalid_prompt",
    "model_not_found", "moderation_blocked", "string_above_max_length",
})  # fmt: skip
"""Codes of refusals that callers may want to see as they are; another one is in the message."""
NO_MONEY: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
PARAM_CHARS: Final = 100
_CODE: Final = re.compile(r"[a-z][a-z0-9_]{0,59}")


class Said(msgspec.Struct, frozen=True):
    """An error object, as far as it is one; strings are not cut yet."""

    message: str = ""
    code: str = ""
    param: str = ""


def said_of(error: Any) -> Said:
    """What the value of `error` says: an object, or only a text."""
    if isinstance(error, str):
        return Said(error)
    if not isinstance(error, dict):
        return Said()
    message, code, param = (error.get(name) for name in ("message", "code", "param"))
    if not isinstance(code, str) or _CODE.fullmatch(code) is None:
        code = error.get("type")
    return Said(
        message if isinstance(message, str) else "",
        code if isinstance(code, str) and _CODE.fullmatch(code) else "",
        param if isinstance(param, str) else "",
    )


def error_in(body: Any) -> Any:
    """The error of an answer's body: `error`, or `detail` and `message` as some servers have it."""
    if not isinstance(body, dict):
        return None
    for name in ("error", "detail", "message"):
        if (found := body.get(name)) is not None:
            return body if isinstance(found, str) and name == "message" else found
    return None


def judged(
    status: int, headers: Mapping[str, str], body: Any, text: str, now: datetime, hidden: list[str]
) -> Answer:
    """What an answer that is no success comes to.

    Args:
        status: not 2xx.
        headers: those of the answer.
        body: as JSON, as far as it is; None else.
        text: the beginning of it, for people.
        now: the time.
        hidden: what is not shown.
    """
    if 300 <= status < 400:
        return NotTaken(Outcome.REDIRECT, status)
    error = error_in(body)
    said = said_of(error)
    if status in FULL:
        return Full(MOST_REST_S if said.code in NO_MONEY else rest_s(headers, now))
    if status in OF_THE_JOB and (status != 404 or _is_of_a_model(said)):
        code = said.code if said.code in KEPT_CODES else "server_refused"
        return Broken(JobError(code, worded(status, said, text, hidden), retryable=False), None, status)
    if status in (401, 403, 404, 405):
        if said.code in KEPT_CODES:  # the key may not have this model: another job's model it may
            return Broken(
                JobError(said.code, worded(status, said, text, hidden), retryable=False), None, status
            )
        return NotTaken(Outcome.STATUS, status)
    message = worded(status, said, text, hidden)
    return Broken(JobError(f"server_status_{status}", message), Outcome.STATUS, status)


def _is_of_a_model(said: Said) -> bool:
    """Whether a 404 is about the model, and not about the path, which is not the job's fault."""
    return said.code == "model_not_found" or "model" in said.message.lower()


def worded(status: int, said: Said, text: str, hidden: list[str]) -> str:
    """A refusal for people: what was wrong first."""
    parts = [f"it answered {status}"]
    if said.param:
        parts.append(f"param {shown(said.param, hidden)[:PARAM_CHARS]}")
    if said.code:
        parts.append(shown(said.code, hidden))
    what = shown(said.message or text, hidden)
    return ": ".join([", ".join(parts), *([what] if what else [])])


def failed(error: Any, hidden: list[str]) -> JobError:
    """What an error says that comes with a success, as it may within a stream that had begun.

    Some of it may have been billed, so it was an attempt.
    """
    said = said_of(error)
    detail = shown(said.message, hidden)
    code = f" ({shown(said.code, hidden)})" if said.code else ""
    is_kept = said.code in KEPT_CODES
    message = f"the server says in its answer that it failed{code}{f': {detail}' if detail else ''}"
    return JobError(said.code if is_kept else "server_failed", message, retryable=not is_kept)
