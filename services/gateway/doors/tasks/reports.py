"""What is reported of a task with a user's token: it counts for the attempt that a server has.

Servers report by the address that they are given, which opens their one attempt. Clients of the task system
may do so too, by a task's own address. After a task's end a report is answered with the task as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

import msgspec
from aiohttp import web
from msgspec import UNSET

from switchyard.events.errors import ConflictError, InvalidError
from switchyard.events.job import Job
from switchyard.events.outcome import ERROR_BYTES, MESSAGE_CHARS
from switchyard.events.values import FINAL, JobError, Status
from switchyard.services.access.ticket_claims import OutcomeClaims
from switchyard.services.gateway.app_keys import BACKENDS, CALLBACKS, JOBS, SETTINGS
from switchyard.services.gateway.doors.tasks import answers, tasks, views
from switchyard.services.gateway.doors.tasks.forms import Metadata, Report
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.routes import Call

Said = Literal["running", "succeeded", "failed", "cancelled"]
_FIRST: Final[Mapping[str, Said]] = {
    "WAITING": "running", "PROCESSING": "running", "FINISHED": "succeeded", "FAILED": "failed",
}  # fmt: skip
_SECOND: Final[Mapping[str, Said]] = {
    "PENDING": "running", "PROCESSING": "running", "COMPLETED": "succeeded", "FAILED": "failed",
    "TIMEOUT": "failed", "CANCELLED": "cancelled",
}  # fmt: skip
REASON_CHARS: Final = 500
_CODE: Final = "server_failed"


class News(NamedTuple):
    """What a report says, whichever generation wrote it.

    Args:
        said: how the attempt stands.
        result: what came of it, where it succeeded.
        code: a word for what went wrong, where it failed.
        message: a sentence for it, or for how far it is.
        progress: how far it is, in percent; None where that is not said.
    """

    said: Said
    result: Any = None
    code: str = _CODE
    message: str = ""
    progress: float | None = None


async def report(call: Call[Report]) -> web.Response:
    """`PUT /api/task/{id}`: how a task stands, or how it ended."""
    news = _news(call.body, call.named("id"))
    job = await tasks.loaded(call)
    if job.status not in FINAL:
        job = await _recorded(call, job, news)
    if call.body.metadata is not UNSET:
        return json_response(await tasks.first(call, job))
    return json_response(
        answers.Changed(
            id=views.ID + job.id, status=views.second_status(job),
            updated_at=views.milliseconds(tasks.changed_at(job)),
        )
    )  # fmt: skip


async def _recorded(call: Call[Report], job: Job, news: News) -> Job:
    """The task after a report on it.

    Raises:
        ConflictError: no server has it.
    """
    backends, caller = call.part(BACKENDS), call.caller
    claims = await _attempt(call, job)
    match news.said:
        case "succeeded":
            return await backends.succeed(caller, claims, result=news.result, artifacts=[], usage={})
        case "failed":
            error = JobError(
                news.code, news.message[:REASON_CHARS] or "the server did not say why", retryable=True
            )
            return await backends.fail(caller, claims, error)
        case "cancelled":
            if job.status is not Status.CANCELLING:
                job = await call.part(JOBS).cancel(
                    caller, job, news.message[:REASON_CHARS] or "its server reports it as cancelled"
                )
            return await backends.cancelled(caller, claims, job)
        case "running":
            how_far = None
            if news.progress is not None:
                fraction = min(1.0, max(0.0, news.progress / 100))
                how_far = {"fraction": fraction, "stage": "", "message": news.message, "eta_s": None}
            return await backends.seen(caller, claims, how_far)


async def _attempt(call: Call[Report], job: Job) -> OutcomeClaims:
    """The attempt that a report counts for.

    Raises:
        ConflictError: nobody has the task, or who has it is no server.
    """
    name, lease = views.ID + job.id, job.lease
    if job.kind != call.part(SETTINGS).task_kind:
        raise ConflictError(f"{name} is a job of kind {job.kind}, and no task", code="not_delegated")
    if (claims := await call.part(CALLBACKS).attempt(call.caller, job)) is not None:
        return claims
    if lease is None:
        raise ConflictError(f"{name} waits for a server, and nobody has it yet", code="no_attempt")
    message = f"{name} is with worker {lease.worker}, which reports itself, and with no server"
    raise ConflictError(message, code="not_delegated")


def _news(form: Report, task_id: str) -> News:
    """What a body says.

    Raises:
        InvalidError: a field is missing, or a status is none.
    """
    if isinstance(form.metadata, Metadata):
        return _of_first(form, form.metadata, task_id)
    said = _said(_SECOND, form.status, "status")
    code = views.TIMED_OUT if form.status == "TIMEOUT" else _CODE
    result = None if form.result is UNSET else form.result
    return News(said, result, code, _message(form.error, said), _percent(form.progress))


def _of_first(form: Report, metadata: Metadata, task_id: str) -> News:
    for name in ("backend_task_id", "data"):
        if getattr(form, name) is UNSET:
            raise InvalidError(f"{name}: it was expected beside metadata", field=name)
    said = _said(_FIRST, metadata.status, "metadata.status")
    result = {
        "task_id": task_id, "backend_task_id": form.backend_task_id, "data": form.data,
        "metadata": msgspec.to_builtins(metadata),
    }  # fmt: skip
    return News(said, result, message=_message(metadata.message, said), progress=_percent(metadata.progress))


def _percent(value: object) -> float | None:
    return value if isinstance(value, int | float) else None


def _said(words: Mapping[str, Said], status: object, field: str) -> Said:
    found = words.get(status) if isinstance(status, str) else None
    if found is None:
        raise InvalidError(f"{field}: one of {', '.join(words)} was expected", field=field)
    return found


def _message(text: object, said: Said) -> str:
    """A sentence that a report brings, no longer than it may be."""
    most = ERROR_BYTES // 4 if said == "failed" else MESSAGE_CHARS
    return text[:most] if isinstance(text, str) else ""
