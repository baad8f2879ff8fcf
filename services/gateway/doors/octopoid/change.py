"""`GET` and `PATCH /api/v1/tasks/{id}`: what a task says of itself, and its moves by hand."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from aiohttp import web

from switchyard.events.commands import Propose, ReleaseReview, Unblock
from switchyard.events.errors import ConflictError, InvalidError
from switchyard.events.values import Status
from switchyard.services import clock
from switchyard.services.gateway.doors.octopoid.desk import MAX_CHARS, Desk, desk_of
from switchyard.services.gateway.doors.octopoid.jobs import other_job, rerouted
from switchyard.services.gateway.doors.octopoid.kept import flows, roles
from switchyard.services.gateway.doors.octopoid.lease import holding, renewed
from switchyard.services.gateway.doors.octopoid.moves import (
    MAX_REASON_CHARS,
    Order,
    act,
    changed,
    move,
    prioritised,
)
from switchyard.services.gateway.doors.octopoid.tasks import (
    ATTEMPTS,
    CLAIMED,
    DONE,
    FIELDS,
    INCOMING,
    REJECTIONS,
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
from switchyard.services.records.entries.documents import Document

# What the job's own events say is passed over in a patch: unchanged clients send it along.
OF_THE_JOB: Final = frozenset({"claimed_at", "orchestrator_id", "updated_at"})
HOLDING: Final = frozenset({"blocked_by", "claimed_by", "lease_expires_at"})
COUNTS: Final = frozenset({ATTEMPTS, REJECTIONS})
MAX_COUNT: Final = 2**31 - 1
ROUTING: Final = ("role", "type")
STRINGS: Final = frozenset(ROUTING) | {
    "title", "file_path", "branch", "content", "project_id", "flow", "execution_notes", "completed_at",
}  # fmt: skip
MAX_VALUE_CHARS: Final = 256 * 1024
MAX_ROUTING_CHARS: Final = 255


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
    known = FIELDS.keys() | OF_THE_JOB | COUNTS | {"queue", "priority"} | HOLDING
    if not asked.keys() & known:
        raise InvalidError("No fields to update")
    expires_at = _time("lease_expires_at", asked.get("lease_expires_at"))
    holder = asked.get("claimed_by")
    if holder is not None and not (isinstance(holder, str) and len(holder) <= MAX_CHARS):
        rule = f"a name of at most {MAX_CHARS} characters was expected"
        raise InvalidError(f"claimed_by: {rule}", field="claimed_by")
    rerouting = _is_rerouted(task, fields)
    if rerouting:
        await roles.check_roles(desk, [fields.get("role")], "role")
    members: Document = await other_job(desk, task, fields) if rerouting else {}
    if "priority" in asked:
        priority_of(asked["priority"])
        if asked["priority"] != task.priority:
            members["priority"] = asked["priority"]
    if counts := {name: _count(name, asked[name]) for name in COUNTS & asked.keys()}:
        members["counts"] = {name: task.count(name) for name in COUNTS} | {"for": None} | counts
    task = await changed(desk, task, members, fields)
    if rerouting:
        task = await rerouted(desk, task)
    if "blocked_by" in asked and not asked["blocked_by"] and task.job.status is Status.BLOCKED:
        task = await act(desk, task, Unblock(now=clock.now()), desk.caller.actor)
        queue = queue or (task.queue if task.is_apart else None)
    if queue is not None and (queue != task.queue or task.is_apart):
        reason = str(asked.get("execution_notes") or "")[:MAX_REASON_CHARS]
        task = await move(desk, task, Order(to=queue, by=desk.caller.actor, reason=reason))
    elif expires_at is not None:
        task = await renewed(desk, await holding(desk, task, None), expires_at, "lease_expires_at")
    elif "claimed_by" in asked and holder is None:
        task = await _left(desk, task)
    task = await prioritised(desk, task)
    if holder is not None and task_view(desk, task).claimed_by is None:
        task = await changed(desk, task, {"named": [holder, task.job.seq]})
    return json_response(task_view(desk, task))


def _time(name: str, value: Any) -> datetime | None:
    if value is not None and not isinstance(value, str):
        raise InvalidError(f"{name}: a time was expected, as in 2026-01-31T12:00:00Z", field=name)
    return None if value is None else parse_time(name, value)


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_COUNT:
        raise InvalidError(f"{name}: a whole number of 0 to {MAX_COUNT} was expected", field=name)
    return value


async def _check_move(desk: Desk, task: Task, queue: Any) -> None:
    if queue == DONE:
        raise InvalidError('Cannot set queue to "done" via PATCH: use POST .../accept', field="queue")
    await flows.check_queue(desk, task.flow, queue)


def _check_fields(task: Task, asked: dict[str, Any], fields: dict[str, Any]) -> None:
    for name, value in fields.items():
        if name in STRINGS and not isinstance(value, str | None):
            raise InvalidError(f"{name}: a string was expected", field=name)
        most = MAX_ROUTING_CHARS if name in ROUTING else MAX_VALUE_CHARS
        if isinstance(value, str) and len(value) > most:
            raise InvalidError(f"{name}: at most {most} characters were expected", field=name)
    blocker = asked.get("blocked_by")
    if blocker and blocker != task.document["blocked_by"]:
        message = "blocked_by: what a task waits for is said when it is created; it can only be taken away"
        raise InvalidError(message, field="blocked_by")


def _is_rerouted(task: Task, fields: dict[str, Any]) -> bool:
    """Whether a task is to have another role or type; also where a request for that broke off.

    Raises:
        ConflictError: it does not wait to be claimed, so others decide by what it has.
    """
    named = [name for name in ROUTING if name in fields]
    if named and task.job.status is Status.CANCELLED and task.document.get("next"):
        return True
    if all(fields[name] == task.document["fields"].get(name) for name in named):
        return False
    if task.queue != INCOMING or task.job.status is Status.BLOCKED:
        message = f"{named[0]}: it decides who may claim a task, and changes only while that is in incoming"
        raise ConflictError(message, code="wrong_queue")
    return True


async def _left(desk: Desk, task: Task) -> Task:
    """The task without who has claimed it: free for another review, or in `claimed` with nobody."""
    job, at = task.job, clock.now()
    if job.status is Status.REVIEW and job.review is not None and job.review.reviewer is not None:
        return await act(desk, task, ReleaseReview(now=at, reviewer=job.review.reviewer), desk.caller.actor)
    if job.status in RUNS and task.queue == CLAIMED and job.lease is not None:
        left = Propose(now=at, fence=job.lease.fence, result={"queue": CLAIMED}, by=desk.caller.actor)
        return await act(desk, task, left, desk.caller.actor)
    return task
