"""A job as clients of the task door know tasks."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from msgspec import UNSET, UnsetType

from switchyard.events.errors import ForbiddenError, NotFoundError
from switchyard.events.job import Job
from switchyard.events.values import Status
from switchyard.services.access.principal import Role
from switchyard.services.gateway.doors.tasks import answers
from switchyard.services.gateway.http.problems import problem_of
from switchyard.services.visible import redacted

ID: Final = "task-"
GENERATION: Final = "task-api"
"""The label that says as which generation's task a job was made."""
FIRST: Final = "1"
SECOND: Final = "2"
TIMED_OUT: Final = "timeout"
PUSHED: Final = "server"
_DOT: Final = "%2E"
"""A server has a task as worker `server.<tenant>.<id>`, with this for the dots of its id."""
RUNNING: Final = frozenset({Status.RUNNING, Status.CANCELLING, Status.REVIEW})
INVALID: Final = 422
BODY: Final = frozenset({400, INVALID})
SERVERS_FAULT: Final = 500
_FIRST: Final = {
    Status.SUCCEEDED: "FINISHED", Status.DEAD: "FAILED", Status.CANCELLED: "FAILED", Status.EXPIRED: "FAILED",
    Status.ARCHIVED: "FINISHED",
}  # fmt: skip
_SECOND: Final = {
    Status.SUCCEEDED: "COMPLETED", Status.DEAD: "FAILED", Status.CANCELLED: "CANCELLED",
    Status.EXPIRED: "TIMEOUT", Status.ARCHIVED: "COMPLETED",
}  # fmt: skip


def job_id(task_id: str) -> str:
    """The job that a task is.

    Raises:
        NotFoundError: no task has such an id.
    """
    if not task_id.startswith(ID):
        raise NotFoundError(f"Task {task_id[:80]} not found", field="id")
    return task_id.removeprefix(ID)


def server_id(worker: str) -> str:
    """The id of a server as it was registered; that of a worker, where a worker has the task."""
    words = worker.split(".")
    return words[2].replace(_DOT, ".") if len(words) == 3 and words[0] == PUSHED else worker


def first_status(job: Job) -> str:
    """The word of the first generation for where a job stands."""
    if job.damage is not None:
        return "FAILED"
    return "PROCESSING" if job.status in RUNNING else _FIRST.get(job.archived_as or job.status, "WAITING")


def second_status(job: Job) -> str:
    """The word of the second generation for where a job stands."""
    if job.damage is not None:
        return "FAILED"
    status = job.archived_as or job.status
    if status is Status.DEAD and job.error is not None and job.error.code == TIMED_OUT:
        return "TIMEOUT"
    return "PROCESSING" if job.status in RUNNING else _SECOND.get(status, "PENDING")


def error_of(job: Job) -> str | UnsetType:
    """Why a job has ended without a result, or what went wrong last."""
    if job.damage is not None:
        return f"the job is damaged: {job.damage.reason}"
    if job.status in (Status.CANCELLED, Status.EXPIRED) and job.reason:
        return job.reason
    return UNSET if job.error is None else job.error.message


def result_of(job: Job) -> Any:
    """A result in the form of the second generation; files of it are named beside."""
    if job.result is None and job.artifacts:
        return {"artifacts": list(job.artifacts)}
    return job.result


def milliseconds(at: datetime | None) -> int:
    """As the door shows a time."""
    return 0 if at is None else int(at.timestamp() * 1000)


def details(
    job: Job, payload: Mapping[str, Any], *, server: str, callback_url: str, updated_at: datetime | None
) -> answers.TaskDetails:
    """A task of the first generation.

    Args:
        job: what it is.
        payload: what was asked for.
        server: which one has or had it; "" for none.
        callback_url: where a report on it may be sent with a user's token.
        updated_at: when it last changed.
    """
    task_id = ID + job.id
    return answers.TaskDetails(
        id=task_id, status=first_status(job), request=payload, server_id=server,
        result=_result(job, task_id, server), created_at=milliseconds(job.created_at),
        updated_at=milliseconds(updated_at or job.created_at), callback_url=callback_url,
        error=error_of(job) if first_status(job) == "FAILED" else UNSET,
    )  # fmt: skip


def _result(job: Job, task_id: str, server: str) -> dict[str, Any] | None:
    """A result in the form in which a server of the first generation reports it, whatever gave it."""
    if job.status is not Status.SUCCEEDED and job.archived_as is not Status.SUCCEEDED:
        return None
    found = result_of(job)
    if isinstance(found, dict) and isinstance(found.get("metadata"), dict) and "data" in found:
        return {**found, "task_id": task_id}
    data = found if isinstance(found, dict) else {"result": found}
    return {
        "task_id": task_id, "backend_task_id": task_id, "data": data,
        "metadata": {"server_id": server, "status": "FINISHED", "progress": 100},
    }  # fmt: skip


def refused_status(status: int) -> int:
    """A broken rule is a 400 here."""
    return 400 if status == INVALID else status


def refusal(error: BaseException) -> tuple[int, answers.RefusalAnswer]:
    """The status and the body of an error, as clients of the task system read it."""
    problem = problem_of(error)
    message = redacted(problem.detail)
    details: list[answers.Issue] | UnsetType = UNSET
    if isinstance(error, ForbiddenError) and Role.TENANT_ADMIN.value in problem.detail:
        message = "Unauthorized: Admin role required"
    elif problem.status in BODY:
        path = () if problem.field is None else str(problem.field).split(".")
        details = [answers.Issue(message=message, path=path)]
        message = "Invalid request data"
    elif problem.status == SERVERS_FAULT:
        message = "Internal server error"
    body = answers.RefusalAnswer(error=message, code=problem.code, details=details)
    return refused_status(problem.status), body
