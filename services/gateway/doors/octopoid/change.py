"""`GET` and `PATCH /api/v1/tasks/{id}`: what a task says of itself, and its moves by hand."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from aiohttp import web

from switchyard.events.commands import ClaimReview, ReleaseReview, RenewClaim, Reprioritise, Unblock
from switchyard.events.errors import ConflictError, InvalidError
from switchyard.events.values import Status
from switchyard.services import clock
from switchyard.services.gateway.doors.octopoid import flows
from switchyard.services.gateway.doors.octopoid.desk import Desk, desk_of
from switchyard.services.gateway.doors.octopoid.moves import (
    MAX_REASON_CHARS,
    Order,
    act,
    changed,
    lease_of,
    move,
)
from switchyard.services.gateway.doors.octopoid.tasks import (
    CLAIMED,
    DONE,
    FIELDS,
    RUNS,
    Task,
    priority_of,
    task_named,
    task_to_change,
    task_view,
)
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.query import parse_time
from switchyard.services.gateway.http.routes import Call
from switchyard.services.gateway.operations.leases import attempt_ends_at

# What the job's own events say is passed over in a patch: unchanged clients send it along.
OF_THE_JOB: Final = frozenset(
    {"claimed_at", "orchestrator_id", "attempt_count", "rejection_count", "completed_at", "updated_at"}
)
FIXED: Final = ("role", "type")
STRINGS: Final = frozenset(
    {"title", "file_path", "branch", "content", "project_id", "flow", "execution_notes"}
)
MAX_VALUE_CHARS: Final = 256 * 1024


async def get(call: Call[None]) -> web.Response:
    """`GET /api/v1/tasks/{id}`."""
    desk = desk_of(call)
    return json_response(task_view(desk, await task_named(desk, call.named("id"))))


async def patch(call: Call[dict[str, Any]]) -> web.Response:
    """`PATCH /api/v1/tasks/{id}`: other fields, another priority, another queue, a longer lease."""
    desk = desk_of(call)
    asked = call.body
    task = await task_to_change(desk, call.named("id"), "update")
    version = asked.get("version")
    if version is not None and version != task.job.seq + task.revision:
        raise ConflictError("Failed to update task: it has another version by now", code="version")
    queue = asked.get("queue")
    if queue is not None:
        await _check_move(desk, task, queue)
    fields = {name: value for name, value in asked.items() if name in FIELDS}
    _check_fields(task, asked, fields)
    known = FIELDS.keys() | OF_THE_JOB | {"queue", "priority", "blocked_by", "claimed_by", "lease_expires_at"}
    if not asked.keys() & known:
        raise InvalidError("No fields to update")
    until = asked.get("lease_expires_at")
    expires_at = None if until is None else parse_time("lease_expires_at", str(until))
    priority = priority_of(asked["priority"]) if "priority" in asked else task.job.own_priority
    if priority != task.job.own_priority and task.job.status is not Status.QUEUED:
        message = f"Failed to update task: its priority can be changed while it waits, and it is {task.queue}"
        raise ConflictError(message, code="wrong_queue")
    task = await changed(desk, task, {}, fields)
    if priority != task.job.own_priority:
        await desk.jobs.ensure_lane(task.job, priority)
        command = Reprioritise(now=clock.now(), priority=priority)
        task = await act(desk, task, command, desk.caller.actor)
    if "blocked_by" in asked and not asked["blocked_by"] and task.job.status is Status.BLOCKED:
        task = await act(desk, task, Unblock(now=clock.now()), desk.caller.actor)
    if queue is not None and queue != task.queue:
        reason = str(asked.get("execution_notes") or "")[:MAX_REASON_CHARS]
        task = await move(desk, task, Order(to=queue, by=desk.caller.actor, reason=reason))
    elif expires_at is not None:
        task = await renewed(desk, task, expires_at)
    elif "claimed_by" in asked and asked["claimed_by"] is None:
        task = await _review_left(desk, task)
    return json_response(task_view(desk, task))


async def _check_move(desk: Desk, task: Task, queue: Any) -> None:
    if queue == DONE:
        raise InvalidError("queue: a task is done when it is accepted: POST .../accept", field="queue")
    await flows.check_queue(desk, task.flow, queue)


def _check_fields(task: Task, asked: dict[str, Any], fields: dict[str, Any]) -> None:
    for name, value in fields.items():
        if name in STRINGS and not isinstance(value, str | None):
            raise InvalidError(f"{name}: a string was expected", field=name)
        if isinstance(value, str) and len(value) > MAX_VALUE_CHARS:
            raise InvalidError(f"{name}: at most {MAX_VALUE_CHARS} characters were expected", field=name)
    for name in FIXED:
        if name in fields and fields[name] != task.document["fields"].get(name):
            message = f"{name}: it decides who may claim the task, so it stays; delete and create the task"
            raise InvalidError(message, field=name)
    blocker = asked.get("blocked_by")
    if blocker and blocker != task.document["blocked_by"]:
        message = "blocked_by: what a task waits for is said when it is created; it can only be taken away"
        raise InvalidError(message, field="blocked_by")


async def _review_left(desk: Desk, task: Task) -> Task:
    """The task without the reviewer that it has; who works on one leaves it by a requeue."""
    review = task.job.review
    if task.job.status is not Status.REVIEW or review is None or review.reviewer is None:
        return task
    command = ReleaseReview(now=clock.now(), reviewer=review.reviewer)
    return await act(desk, task, command, desk.caller.actor)


async def renewed(desk: Desk, task: Task, expires_at: datetime) -> Task:
    """The task under a lease, of work or of a review, that ends later.

    Raises:
        ConflictError: nobody holds it, or the lease has ended.
    """
    job, now = task.job, clock.now()
    settings = desk.settings
    expires_at = min(expires_at, now + timedelta(seconds=settings.timed_lease_max_s))
    if job.status is Status.REVIEW and job.review is not None and job.review.reviewer is not None:
        command = ClaimReview(now=now, reviewer=job.review.reviewer, expires_at=expires_at)
        return await act(desk, task, command, desk.caller.actor)
    check_lease(task, "renew")
    lease = lease_of(desk, task)
    expires_at = min(expires_at, attempt_ends_at(job, settings.attempt_timeout_s) or expires_at)
    if expires_at <= now:
        raise ConflictError("Failed to renew task: the lease would end in the past", code="lease_expired")
    renewal = RenewClaim(now=now, fence=lease.fence, expires_at=expires_at)
    task = await act(desk, task, renewal, f"worker:{lease.worker}")
    await desk.leases.claiming.prolonged(lease, job, expires_at)
    return task


def check_lease(task: Task, verb: str) -> None:
    """Let a task pass that an agent works on.

    Raises:
        ConflictError: nobody does, or the lease's time is over.
    """
    lease = task.job.lease
    if task.job.status not in RUNS or task.queue != CLAIMED or lease is None:
        message = f"Failed to {verb} task: it is in {task.queue}, expected claimed"
        raise ConflictError(message, code="wrong_queue")
    if lease.expires_at is not None and lease.expires_at <= clock.now():
        raise ConflictError(f"Failed to {verb} task: the lease has expired", code="lease_expired")
