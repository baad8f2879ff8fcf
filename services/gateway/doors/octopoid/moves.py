"""From one queue to another: the commands that bring a task's job there, one guarded event after the other.

Each event is true by itself. After a crash in between the task stands where the last event left it, the
request was not answered, and the same request continues from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

import msgspec

from switchyard.events.commands import (
    Accept,
    AnyCommand,
    Claim,
    Fail,
    Propose,
    Redrive,
    Reject,
    Release,
    ReleaseReview,
    Reprioritise,
    Unblock,
)
from switchyard.events.errors import ConflictError
from switchyard.events.events import Queued, Rejected
from switchyard.events.job import Job, decide
from switchyard.events.values import JobError, Status
from switchyard.events.vocabulary.ids import Fence, Revision, WorkerId
from switchyard.services import clock
from switchyard.services.access.ticket_claims import LeaseClaims
from switchyard.services.gateway.doors.octopoid.desk import SYSTEM, Desk, now
from switchyard.services.gateway.doors.octopoid.jobs import ENDED, reopened
from switchyard.services.gateway.doors.octopoid.tasks import (
    ATTEMPTS,
    DONE,
    FAILED,
    INCOMING,
    PRIORITIES,
    REJECTIONS,
    RUNS,
    SORT,
    WAITS,
    Task,
)
from switchyard.services.records.entries.documents import Document, Found

MOST_STEPS: Final = 8
SYSTEM_LEASE_S: Final = 30.0
MAX_REASON_CHARS: Final = 10_000


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A move that somebody wants.

    Args:
        to: the queue.
        by: who, as it stands in the job's history.
        reason: why.
        result: what the work came to, when it is handed in.
        feedback: what the next attempt is to know; None leaves it what it was.
    """

    to: str
    by: str
    reason: str = ""
    result: Mapping[str, Any] = {}
    feedback: Any = None


async def move(desk: Desk, task: Task, order: Order) -> Task:
    """The task where it was to go.

    Raises:
        ConflictError: no way leads there from where it is.
        UnavailableError: the broker does not answer.
    """
    if "counts" not in task.document:
        task = await changed(desk, task, {"counts": _counts(task)})
    for _ in range(MOST_STEPS):
        if task.job.status is Status.BLOCKED and order.to != DONE:
            task = await _put_apart(desk, task, order)
            if task.job.status is Status.BLOCKED:
                return task
        if task.job.status in ENDED and task.queue != order.to:
            task = await reopened(desk, task, order.to)
        if task.is_apart and order.to == INCOMING:
            task = await changed(desk, task, {"queue": INCOMING})
        if task.queue == order.to and not (task.is_new or _is_held(task.job)):
            return await prioritised(desk, task)
        if task.job.status is Status.REVIEW and order.to not in (INCOMING, FAILED, DONE):
            place = {"attempt": task.job.attempt, "queue": order.to}
            if task.document.get("place") != place:
                task = await changed(desk, task, {"place": place})
            if not _is_held(task.job):
                return task
        command = _next(desk, task, order)
        if command is None:
            return task
        task = await act(desk, task, command, order.by)
    raise ConflictError(f"task {task.id} cannot be brought to {order.to}: others move it", code="race")


async def _put_apart(desk: Desk, task: Task, order: Order) -> Task:
    """A task that waits for others in another queue: it goes on waiting, and only its document says where.

    Its job is read again: what it waits for may have been done meanwhile, and then it is to be moved.
    """
    said = {} if order.feedback is None else {"feedback": order.feedback}
    task = await changed(desk, task, {"queue": order.to, **said})
    return task._replace(job=await desk.store.load(task.job.id, at_least=task.job.seq))


async def prioritised(desk: Desk, task: Task) -> Task:
    """The task with the priority that it was to have as soon as it waits in its lane."""
    name = task.document.get("priority")
    if name is None or task.job.status is not Status.QUEUED:
        return task
    if (priority := PRIORITIES[name]) != task.job.own_priority:
        await desk.jobs.ensure_lane(task.job, priority)
        task = await act(desk, task, Reprioritise(now=clock.now(), priority=priority), desk.caller.actor)
    return await changed(desk, task, {"priority": None})


async def begun(
    desk: Desk,
    task: Task,
    members: Document | None = None,
    fields: Mapping[str, Any] | None = None,
    *,
    count: str | None = None,
) -> Task:
    """The task with what a transition changes of it before its move: nobody has to intervene any more.

    Args:
        desk: that of its scope.
        task: as it stands.
        members: what changes of its document.
        fields: what changes of its fields.
        count: which of its counts goes up by one.
    """
    members = dict(members or {})
    if count is not None:
        counts = _counts(task)
        # What has no event of its own counts at once.
        counted_for = None if task.job.status is Status.BLOCKED else [count, task.job.seq]
        members["counts"] = counts | {count: counts[count] + 1, "for": counted_for}
    return await changed(desk, task, members, calmed(task) | dict(fields or {}))


def calmed(task: Task) -> Document:
    """The field that says that somebody has to intervene, as it is to be from now on, if it said so."""
    return {"needs_intervention": False} if task.document["fields"].get("needs_intervention") else {}


def _counts(task: Task) -> Document:
    return {ATTEMPTS: task.count(ATTEMPTS), REJECTIONS: task.count(REJECTIONS), "for": None}


def _is_held(job: Job) -> bool:
    return job.review is not None and job.review.reviewer is not None


def _next(desk: Desk, task: Task, order: Order) -> AnyCommand | None:
    """The next step on the way; None at its end."""
    job, to = task.job, order.to
    at = clock.now()
    fence = job.lease.fence if job.lease else Fence(0)
    reviewer = (job.review and job.review.reviewer) or order.by
    match job.status:
        case Status.SUCCEEDED if to == DONE:
            return None
        case Status.DEAD | Status.CANCELLED | Status.EXPIRED if to == FAILED:
            return None
        case Status.DEAD:
            return Redrive(now=at, priority=PRIORITIES.get(task.document.get("priority") or ""))
        case Status.REVIEW if to == DONE:
            return Accept(now=at, reviewer=reviewer)
        case Status.REVIEW if to in (INCOMING, FAILED):
            feedback = job.feedback if order.feedback is None else order.feedback
            return Reject(now=at, reviewer=reviewer, reason=order.reason or "requeued", feedback=feedback)
        case Status.REVIEW:
            return ReleaseReview(now=at, reviewer=reviewer)
        case Status.RUNNING | Status.CANCELLING if to == INCOMING:
            return Release(now=at, fence=fence)
        case Status.RUNNING | Status.CANCELLING if to == FAILED:
            error = JobError("failed_by_client", order.reason or "moved to failed", retryable=False)
            return Fail(now=at, fence=fence, error=error)
        case Status.RUNNING | Status.CANCELLING:
            queue = {"queue": to} if to != DONE else {}
            return Propose(now=at, fence=fence, result={**order.result, **queue}, by=order.by)
        case _ if job.status in WAITS and to == INCOMING:
            return None
        case Status.BLOCKED:
            return Unblock(now=at)
        case Status.QUEUED:
            worker = f"rest.{desk.tenant}.{SYSTEM}"
            return Claim(
                now=at,
                worker=WorkerId(worker),
                revision=Revision(0),
                expires_at=at + timedelta(seconds=SYSTEM_LEASE_S),
            )
        case _:
            message = f"no way leads from {task.queue} to {to}: job {job.id} is {job.status.value}"
            raise ConflictError(message, code="wrong_queue")


async def act(desk: Desk, task: Task, command: AnyCommand, by: str) -> Task:
    """The task after a command; what a lease had that has ended by it is given up.

    Raises:
        ConflictError: the job's state does not allow it.
        UnavailableError: the broker does not answer.
    """
    before = task.job
    ahead = decide(before, command)
    if isinstance(ahead, Queued | Rejected):
        # What is open already goes back whatever the limits say.
        checked = isinstance(command, Redrive | Reprioritise)
        await desk.jobs.ensure_lane(before, ahead.priority, checked=checked)
    job, event = await desk.jobs.transition(desk.caller, before, command, actor=by)
    if event is not None and before.status in RUNS and before.lease is not None and job.lease is None:
        await desk.leases.claiming.ended(lease_of(desk, task), before)
    return task._replace(job=job)


def lease_of(desk: Desk, task: Task) -> LeaseClaims:
    """The lease under which a task runs, with its places under limits, as its claim noted them."""
    lease = task.job.lease
    if lease is None:
        raise AssertionError("the caller knows that it runs")
    noted = task.document.get("lease") or {}
    places = tuple(noted["places"]) if noted.get("fence") == lease.fence else ()
    tenant = desk.tenant
    return LeaseClaims(task.job.id, lease.fence, lease.attempt, lease.worker, tenant, 0.0, places)


async def changed(desk: Desk, task: Task, members: Document, fields: Mapping[str, Any] | None = None) -> Task:
    """The task with other members of its document, or other fields.

    Raises:
        NotFoundError: it was deleted meanwhile.
        UnavailableError: the broker does not answer.
    """

    def change(document: Document) -> Document:
        whole = document | members
        if fields:
            whole["fields"] = document["fields"] | fields
        return document if whole == document else whole | {"updated_at": now()}

    found: Found = await desk.documents.change(desk.tenant, SORT, task.id, change)
    return task._replace(document=found.document or {}, revision=found.revision)
