"""New tasks, and tasks that are deleted."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Final

import msgspec
import orjson
from aiohttp import web
from msgspec import Meta

from switchyard.events.commands import ConfirmCancel, Discard, RequestCancel
from switchyard.events.encoding.damage import refuse_damaged
from switchyard.events.errors import ConflictError, InvalidError, NotFoundError, VersionConflictError
from switchyard.events.job import Job
from switchyard.events.values import Status
from switchyard.events.vocabulary.ids import JobId
from switchyard.services import clock
from switchyard.services.gateway.doors.octopoid.answers import TaskDeleted
from switchyard.services.gateway.doors.octopoid.desk import Desk, desk_of, now
from switchyard.services.gateway.doors.octopoid.jobs import submission
from switchyard.services.gateway.doors.octopoid.kept import flows, projects, roles
from switchyard.services.gateway.doors.octopoid.moves import Order, move
from switchyard.services.gateway.doors.octopoid.tasks import (
    ATTEMPTS,
    FIELDS,
    INCOMING,
    REJECTIONS,
    SORT,
    Task,
    job_id_of,
    job_key,
    priority_of,
    task_named,
    task_view,
)
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.routes import Call
from switchyard.services.ids import new_id
from switchyard.services.intake.request import parse_request
from switchyard.services.records.entries.documents import Document

LABEL_CHARS: Final = 200

Id = Annotated[str, Meta(min_length=1, max_length=LABEL_CHARS)]
Word = Annotated[str, Meta(min_length=1, max_length=100)]


class TaskForm(msgspec.Struct, frozen=True):
    """The body of a creation; what it does not name but tasks have is kept as well."""

    id: Id
    file_path: Annotated[str, Meta(min_length=1, max_length=4096)]
    title: str | None = None
    queue: str | None = None
    priority: str | None = None
    role: Word | None = None
    type: Word | None = None
    flow: Word | None = None
    blocked_by: str | None = None
    content: str | None = None
    branch: str | None = None
    project_id: str | None = None
    complexity: str | None = None
    auto_accept: bool | int | None = None
    hooks: Any = None
    flow_overrides: Any = None
    metadata: Any = None
    breakdown_depth: int | None = None


async def create(call: Call[TaskForm]) -> web.Response:
    """`POST /api/v1/tasks`: the document, then the job; the same request again continues from there."""
    desk = desk_of(call)
    asked = call.body
    tenant, documents = desk.tenant, desk.documents
    queue = asked.queue or INCOMING
    await flows.check_queue(desk, asked.flow or "default", queue)
    priority = priority_of(asked.priority or "P2")
    await roles.check_roles(desk, [asked.role], "role")
    digest = hashlib.sha256(orjson.dumps(msgspec.to_builtins(asked), option=orjson.OPT_SORT_KEYS)).hexdigest()
    found = await documents.find(tenant, SORT, asked.id)
    if found.document is not None and found.document["deleted"]:
        await _remove(desk, found.document, found.revision)
        found = await documents.find(tenant, SORT, asked.id)
    document = found.document
    if document is not None and document["request"] != digest:
        job_id = job_id_of(tenant, asked.id, document["nonce"])
        if await desk.store.last_of_leader(JobId(job_id)) is not None:
            raise _taken(asked.id)
        document = None  # what was refused, or broke off, before there was a job: it has no claim to the id
    again = document is not None
    waits_for = await jobs_of(desk, asked.blocked_by)
    if document is None:
        given = {name: value for name, value in msgspec.structs.asdict(asked).items() if name in FIELDS}
        if (branch := await projects.branch_of(desk, asked.project_id)) is not None:
            given["branch"] = branch
        at = now()
        document = {
            "id": asked.id, "nonce": new_id(), "request": digest, "deleted": False, "queue": queue,
            "blocked_by": asked.blocked_by or None, "place": None, "created_at": at, "updated_at": at,
            "counts": {ATTEMPTS: 0, REJECTIONS: 0, "for": None},
            "fields": {name: value for name, value in given.items() if value is not None},
        }  # fmt: skip
        await write_down(desk, document, priority, waits_for, found.revision)
    task = await with_job(desk, document, priority, waits_for)
    if queue != INCOMING and (task.is_new or again):
        task = await placed(desk, task, queue)
    return json_response(task_view(desk, task), status=200 if again else 201)


async def write_down(
    desk: Desk, document: Document, priority: int, waits_for: list[JobId], revision: int
) -> None:
    """Write a new task's document, if its job will be taken.

    Raises:
        ConflictError: somebody was faster.
        LimitError: there is no room.
    """
    body = submission(document, priority, waits_for)
    desk.submitter.check_room(desk.tenant, len(body), len(waits_for))
    await desk.submitter.check(parse_request(body), desk.tenant)  # before anything is written
    try:
        await desk.documents.create(desk.tenant, SORT, document["id"], document, revision)
    except VersionConflictError:
        raise _taken(document["id"]) from None


async def with_job(desk: Desk, document: Document, priority: int, waits_for: list[JobId]) -> Task:
    """The task of a document, with its job, which is made where it is not there."""
    try:
        return await task_named(desk, document["id"])
    except NotFoundError:
        body = submission(document, priority, waits_for)
        key = job_key(document["id"], document["nonce"])
        await desk.jobs.submit(desk.caller, parse_request(body), body, key)
        return await task_named(desk, document["id"])


async def placed(desk: Desk, task: Task, queue: str) -> Task:
    """A task that was created elsewhere than in `incoming`, unless it has gone on already."""
    if task.queue not in (queue, INCOMING):
        return task
    return await move(desk, task, Order(to=queue, by=desk.caller.actor, reason="created there"))


def _taken(task_id: str) -> ConflictError:
    return ConflictError(f"Task {task_id} already exists", code="exists")


async def jobs_of(desk: Desk, blocked_by: str | None) -> list[JobId]:
    """The jobs of the tasks that a task waits for.

    Raises:
        InvalidError: one is not there.
    """
    jobs = []
    for name in (blocked_by or "").split(","):
        if not name.strip():
            continue
        try:
            jobs.append((await task_named(desk, name.strip())).job.id)
        except NotFoundError:
            message = f"blocked_by: there is no task {name.strip()[:LABEL_CHARS]!r}"
            raise InvalidError(message, field="blocked_by") from None
    return jobs


async def delete(call: Call[None]) -> web.Response:
    """`DELETE /api/v1/tasks/{id}`: hide the task, end its job, and free its id."""
    desk = desk_of(call)
    tenant, task_id = desk.tenant, call.named("id")
    documents = desk.documents
    found = await documents.find(tenant, SORT, task_id)
    if found.document is None:
        raise NotFoundError("Task not found", field="id")
    if not found.document["deleted"]:
        task = await task_named(desk, task_id)  # one whose creation was never finished is not there
        if task.job.damage is not None and task.job.damage.newer:
            raise refuse_damaged(task.job)
        found = await documents.change(tenant, SORT, task_id, lambda document: document | {"deleted": True})
    await _remove(desk, found.document or {}, found.revision)
    return json_response(TaskDeleted(task_id=task_id))


async def _remove(desk: Desk, document: Document, revision: int) -> None:
    """Finish a deletion."""
    tenant = desk.tenant
    job = await desk.store.load(JobId(job_id_of(tenant, document["id"], document["nonce"])))
    await end_job(desk, job)
    try:
        await desk.documents.delete(tenant, SORT, document["id"], revision)
    except VersionConflictError:
        raise ConflictError(f"Task {document['id']} was changed meanwhile", code="race") from None


async def end_job(desk: Desk, job: Job) -> None:
    """Cancel the job of a task that is deleted; one that has ended stays as it is, a damaged one goes."""
    actor = desk.caller.actor
    store = desk.store
    if job.damage is not None:
        discard = Discard(now=clock.now(), by=actor, reason="the task was deleted")
        await store.transition(job, discard, actor=actor)
        return
    if job.status in (Status.SUCCEEDED, Status.DEAD, Status.EXPIRED, Status.ARCHIVED, Status.ABSENT):
        return
    grace_s = desk.settings.cancel_grace_s
    command = RequestCancel(now=clock.now(), by=actor, grace_s=grace_s, reason="the task was deleted")
    job, _ = await store.transition(job, command, actor=actor)
    if job.status is Status.CANCELLING and job.lease is not None:
        await store.transition(job, ConfirmCancel(now=clock.now(), fence=job.lease.fence), actor=actor)
