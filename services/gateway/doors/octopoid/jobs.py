"""The jobs that tasks are: made with a task, and another for a task whose job has ended for good."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson

from switchyard.events.commands import RequestCancel
from switchyard.events.errors import ConflictError, VersionConflictError
from switchyard.events.job import decide
from switchyard.events.values import Status
from switchyard.events.vocabulary.causes import DependencyFailure
from switchyard.events.vocabulary.ids import JobId
from switchyard.services import clock
from switchyard.services.gateway.doors.octopoid.desk import Desk, now
from switchyard.services.gateway.doors.octopoid.tasks import (
    ANY,
    INCOMING,
    KIND,
    PRIORITIES,
    SORT,
    WAITS,
    Task,
    job_id_of,
    job_key,
    task_named,
)
from switchyard.services.ids import new_id
from switchyard.services.intake.request import parse_request
from switchyard.services.records.entries.documents import Document

ENDED: Final = frozenset({Status.SUCCEEDED, Status.CANCELLED, Status.EXPIRED, Status.ARCHIVED})
"""States from which no way leads on; a dead job is redriven."""
ATTEMPT_S: Final = 30 * 86400.0
"""The most that renewals of one lease may come to, in seconds."""
MANY: Final = 100


def submission(document: Document, priority: int, depends_on: Sequence[JobId] = ()) -> bytes:
    """The job that a task is, as it would come to `POST /v1/jobs`."""
    fields = document["fields"]
    wanted = {
        f"octopoid.{name}": {"$any": [word for word in (fields.get(name), ANY) if word]}
        for name in ("role", "type")
    }
    return orjson.dumps(
        {
            "kind": KIND, "payload": {"id": document["id"], **fields}, "priority": priority,
            "labels": {"task": document["id"]}, "requires": wanted, "isolation": "strict",
            "depends_on": list(depends_on), "on_dependency_failure": DependencyFailure.WAIT,
            "max_attempts": MANY, "max_rejections": MANY, "attempt_timeout_s": ATTEMPT_S,
            "review": {"four_eyes": False},
        }
    )  # fmt: skip


async def reopened(desk: Desk, task: Task, queue: str) -> Task:
    """A task whose job has ended for good, with a new job that waits, and a queue to be brought to.

    The new job's name is noted before there is one, and becomes the task's once there is. So the same request
    goes on where it broke off, and who claims the job before that finds it to be the task's (`adopted`).

    Raises:
        RejectedError: a limit of the tenant.
        UnavailableError: the broker does not answer.
    """

    def note(document: Document) -> Document:
        return document if document.get("next") else document | {"next": {"nonce": new_id(), "queue": queue}}

    if not task.document.get("next"):  # its kind may be one whose jobs can be erased by now
        body = submission(task.document, PRIORITIES[task.priority])
        await desk.submitter.check(parse_request(body), desk.tenant)
    found = await desk.documents.change(desk.tenant, SORT, task.id, note)
    document = found.document or {}
    nonce = document["next"]["nonce"]
    if await desk.store.last_of_leader(JobId(job_id_of(desk.tenant, task.id, nonce))) is None:
        body = submission(document, PRIORITIES[task.priority])
        await desk.jobs.submit(desk.caller, parse_request(body), body, job_key(task.id, nonce))
    await adopt(desk, task.id, nonce, queue)
    return await task_named(desk, task.id)


async def other_job(desk: Desk, task: Task, fields: Document) -> Document:
    """What a task's document says while the task is to get another job, for which it waits in `incoming`.

    Raises:
        RejectedError: with these fields no job would be taken.
    """
    whole = task.document | {"fields": task.document["fields"] | fields}
    body = submission(whole, PRIORITIES[task.priority])
    await desk.submitter.check(parse_request(body), desk.tenant)  # before anything is written
    planned = task.document.get("next") or {"nonce": new_id(), "queue": INCOMING}
    return {"next": planned} | ({} if task.feedback is None else {"feedback": task.feedback})


async def rerouted(desk: Desk, task: Task) -> Task:
    """A task that waits in `incoming`, with another job that asks for the role and type it has by now.

    Its document says so already (`other_job`). Where it breaks off the task has a job that was cancelled; the
    same request goes on from there.

    Raises:
        ConflictError: it was claimed meanwhile.
        RejectedError: a limit of the tenant.
        UnavailableError: the broker does not answer.
    """
    if task.job.status in WAITS:
        by = desk.caller.actor
        command = RequestCancel(now=clock.now(), by=by, grace_s=0, reason="another role or type")
        event = decide(task.job, command)
        if event is not None:
            try:
                await desk.store.append(
                    task.job, event, actor=by, trace=desk.caller.trace, key=desk.caller.key,
                    command=type(command).__name__,
                )  # fmt: skip
            except VersionConflictError:
                raise ConflictError(f"Task {task.id} was changed meanwhile", code="race") from None
    return await reopened(desk, task, INCOMING)


async def adopt(desk: Desk, task_id: str, nonce: str, queue: str | None = None) -> None:
    """Make a task's next job its job.

    Args:
        desk: that of its scope.
        task_id: the task's id.
        nonce: the one that gives the next job's id.
        queue: where the task is to stand; None for where it was to stand when that was noted.

    Raises:
        ConflictError: another request changed the task meanwhile.
        UnavailableError: the broker does not answer.
    """

    def change(document: Document) -> Document:
        if document["nonce"] == nonce:
            return document  # somebody was faster
        planned = document.get("next") or {}
        if planned.get("nonce") != nonce or document["deleted"]:
            raise ConflictError(f"Task {task_id} was changed meanwhile", code="race")
        fresh: dict[str, Any] = {"nonce": nonce, "queue": queue or planned["queue"], "updated_at": now()}
        gone = dict.fromkeys(("next", "place", "lease", "accepted_by", "blocked_by"))
        return document | gone | fresh

    await desk.documents.change(desk.tenant, SORT, task_id, change)
