"""What is done with a task: submit, accept, reject, requeue, force-queue, renew, complete a hook."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Final, Literal

import msgspec
import orjson
from aiohttp import web
from msgspec import Meta

from switchyard.events.commands import ReleaseReview
from switchyard.events.encoding.json_bytes import check_bytes
from switchyard.events.errors import ConflictError, NotFoundError, RejectedError
from switchyard.events.values import Status
from switchyard.services import clock
from switchyard.services.gateway.doors.octopoid import dependents
from switchyard.services.gateway.doors.octopoid.claim import DEFAULT_LEASE_S
from switchyard.services.gateway.doors.octopoid.desk import Desk, desk_of, now, short
from switchyard.services.gateway.doors.octopoid.kept import flows
from switchyard.services.gateway.doors.octopoid.kept.messages import post_message
from switchyard.services.gateway.doors.octopoid.lease import (
    check_holder,
    check_lease,
    check_lease_s,
    holding,
    renewed,
)
from switchyard.services.gateway.doors.octopoid.moves import MAX_REASON_CHARS, Order, act, begun, move
from switchyard.services.gateway.doors.octopoid.tasks import (
    ATTEMPTS,
    CLAIMED,
    CONTINUATION,
    DONE,
    INCOMING,
    PROVISIONAL,
    REJECTIONS,
    RUNS,
    SORT,
    Task,
    task_to_change,
    task_view,
)
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.routes import Call
from switchyard.services.intake.bodies import decoded
from switchyard.services.records.entries.documents import Document

BURNT_OUT_TURNS: Final = 80
MOST_TURNS: Final = 100
_ANY: Final = msgspec.json.Decoder()
JUDGED: Final = frozenset({PROVISIONAL, CLAIMED})

Name = Annotated[str, Meta(min_length=1, max_length=255)]
Reason = Annotated[str, Meta(min_length=1, max_length=MAX_REASON_CHARS)]
Count = Annotated[int, Meta(ge=0)]
Notes = Annotated[str, Meta(max_length=50_000)]


class LeaseForm(msgspec.Struct, frozen=True):
    """What a holder may say, so that nothing it says is taken for a later holder's word."""

    lease_id: str | None = None


class SubmitForm(LeaseForm, frozen=True, kw_only=True):
    """The body of a submission."""

    commits_count: Count
    turns_used: Count
    check_results: Notes | None = None
    execution_notes: Notes | None = None


class RenewForm(LeaseForm, frozen=True):
    """The body of a renewal, which may be empty."""

    lease_duration_seconds: Annotated[float, Meta(ge=1)] | None = None


class AcceptForm(msgspec.Struct, frozen=True):
    """The body of an acceptance."""

    accepted_by: Name
    completed_at: Annotated[str, Meta(max_length=100)] | None = None


class RejectForm(msgspec.Struct, frozen=True):
    """The body of a rejection."""

    reason: Reason
    rejected_by: Name


class ForceForm(msgspec.Struct, frozen=True):
    """The body of a move past the flow."""

    queue: Name
    reason: Reason


class HookForm(msgspec.Struct, frozen=True):
    """The body of a hook's end."""

    status: Literal["passed", "failed"]
    evidence: Any = None


def _answer(desk: Desk, task: Task) -> web.Response:
    return json_response(task_view(desk, task))


async def submit(call: Call[SubmitForm]) -> web.Response:
    """`POST .../submit`: hand the work in; one that shows burnout goes to `needs_continuation`."""
    desk = desk_of(call)
    asked = call.body
    task = await task_to_change(desk, call.named("id"), "submit")
    burnt_out = asked.turns_used >= MOST_TURNS or (
        not asked.commits_count and asked.turns_used >= BURNT_OUT_TURNS
    )
    queue = CONTINUATION if burnt_out else PROVISIONAL
    fields = msgspec.structs.asdict(asked)
    result = {name: value for name, value in fields.items() if value is not None and name != "lease_id"}
    if (
        task.job.review is not None
        and task.queue == queue
        and task.job.review.result == result | {"queue": queue}
    ):
        return _answer(desk, task)  # this very call had been here before
    task = await holding(desk, task, asked.lease_id)
    by_hand = task.job.status is Status.REVIEW or task.is_apart  # it was put there, and nobody holds it
    if not by_hand or task.queue != CLAIMED:
        check_lease(task, "submit")
    fields = {"check_results": None, "execution_notes": None, **result, "submitted_at": short(now())}
    task = await begun(desk, task, {}, fields)
    by = f"worker:{task.job.worker}" if task.job.status in RUNS else desk.caller.actor
    return _answer(desk, await move(desk, task, Order(to=queue, by=by, result=result)))


async def accept(call: Call[AcceptForm]) -> web.Response:
    """`POST .../accept`: the task is done, and those that wait for it are released."""
    desk = desk_of(call)
    asked = call.body
    task = await task_to_change(desk, call.named("id"), "accept")
    by = f"agent:{asked.accepted_by}"
    if task.queue == DONE and task.document.get("accepted_by") == by:
        await dependents.release(desk, task.id)  # who accepted it may have broken off before that
        return _answer(desk, task)
    await flows.check_way(desk, task, DONE, JUDGED, "accept")
    completed_at = asked.completed_at or now()
    task = await begun(desk, task, {"accepted_by": by}, {"completed_at": completed_at})
    task = await move(desk, task, Order(to=DONE, by=by))
    await dependents.release(desk, task.id)
    return _answer(desk, task)


async def reject(call: Call[RejectForm]) -> web.Response:
    """`POST .../reject`: back to `incoming`, with the reason for the next attempt."""
    desk = desk_of(call)
    asked = call.body
    task = await task_to_change(desk, call.named("id"), "reject")
    by = f"agent:{asked.rejected_by}"
    known = task.feedback
    if (
        task.queue == INCOMING
        and isinstance(known, dict)
        and (known.get("reason"), known.get("rejected_by")) == (asked.reason, by)
    ):
        return _answer(desk, task)
    await flows.check_way(desk, task, INCOMING, JUDGED, "reject")
    if task.job.status in RUNS:
        task = await move(desk, task, Order(to=PROVISIONAL, by=by))
    feedback = {
        REJECTIONS: task.count(REJECTIONS) + 1, "reason": asked.reason, "rejected_by": by,
    }  # fmt: skip
    task = await begun(desk, task, count=REJECTIONS)
    order = Order(to=INCOMING, by=by, reason=asked.reason, feedback=feedback)
    return _answer(desk, await move(desk, task, order))


async def requeue(call: Call[LeaseForm]) -> web.Response:
    """`POST .../requeue`: back to `incoming`; it counts as an attempt, not as a rejection."""
    desk = desk_of(call)
    asked = call.body
    task = await task_to_change(desk, call.named("id"), "requeue")
    check_holder(task, asked.lease_id)
    await flows.check_way(desk, task, INCOMING, JUDGED, "requeue")
    by = desk.caller.actor
    task = await begun(desk, task, count=ATTEMPTS)
    return _answer(desk, await move(desk, task, Order(to=INCOMING, by=by, reason="requeued")))


async def force_queue(call: Call[ForceForm]) -> web.Response:
    """`POST .../force-queue`: into any queue past the flow's ways; a message says why."""
    desk = desk_of(call)
    asked = call.body
    task = await task_to_change(desk, call.named("id"), "move")
    await flows.check_queue(desk, task.flow, asked.queue)
    by = desk.caller.actor
    task = await begun(desk, task, {}, {"completed_at": short(now())} if asked.queue == DONE else {})
    task = await move(desk, task, Order(to=asked.queue, by=by, reason=asked.reason))
    if task.queue == DONE:
        await dependents.release(desk, task.id)
    message: Document = {"task_id": task.id, "from_actor": "system", "type": "force_queue"}
    await post_message(desk, message | {"content": asked.reason})
    return _answer(desk, task)


async def renew(call: Call[RenewForm]) -> web.Response:
    """`POST .../renew`: the lease of work or of a review ends later."""
    desk = desk_of(call)
    asked = call.body
    task = await task_to_change(desk, call.named("id"), "renew")
    lease_s = asked.lease_duration_seconds
    if lease_s is None:
        lease_s = min(DEFAULT_LEASE_S, desk.settings.octopoid_lease_max_s)
    check_lease_s(desk, lease_s, "lease_duration_seconds")
    task = await holding(desk, task, asked.lease_id)
    expires_at = clock.now() + timedelta(seconds=lease_s)
    return _answer(desk, await renewed(desk, task, expires_at, "lease_duration_seconds"))


async def release(call: Call[None]) -> web.Response:
    """`POST .../release`: leave a review to others."""
    desk = desk_of(call)
    task = await task_to_change(desk, call.named("id"), "release")
    review = task.job.review
    if task.job.status is not Status.REVIEW or review is None or review.reviewer is None:
        raise ConflictError("Failed to release task: nobody reviews it", code="wrong_queue")
    command = ReleaseReview(now=clock.now(), reviewer=review.reviewer)
    return _answer(desk, await act(desk, task, command, desk.caller.actor))


async def complete_hook(call: Call[HookForm]) -> web.Response:
    """`POST .../hooks/{hook}/complete`: note how a hook of the task ended."""
    desk = desk_of(call)
    asked = call.body
    task = await task_to_change(desk, call.named("id"), "complete a hook of")
    wanted = call.named("hook")

    def change(document: Document) -> Document:
        hooks = _hooks(document["fields"].get("hooks"))
        if not any(hook.get("name") == wanted for hook in hooks):
            raise NotFoundError(f"Hook '{wanted[:64]}' not found on task", field="hook")
        for hook in hooks:
            if hook.get("name") == wanted:
                hook["status"] = asked.status
                if asked.evidence is not None:
                    hook["evidence"] = asked.evidence
                break
        coded = orjson.dumps(hooks)
        check_bytes(coded, "hooks")  # else they could not be read for the next one
        fields = document["fields"] | {"hooks": coded.decode()}
        return document | {"fields": fields, "updated_at": now()}

    found = await desk.documents.change(desk.tenant, SORT, task.id, change)
    return _answer(desk, task._replace(document=found.document or {}, revision=found.revision))


def _hooks(value: Any) -> list[dict[str, Any]]:
    """The hooks of a task, whether they came as JSON in a string or as a list.

    Raises:
        ConflictError: they are neither.
    """
    try:
        hooks = decoded(value.encode(), _ANY) if isinstance(value, str) else value
    except RejectedError:
        hooks = value
    if hooks is None:
        return []
    if not isinstance(hooks, list) or not all(isinstance(hook, dict) for hook in hooks):
        raise ConflictError("the task's hooks are no list of objects", code="hooks")
    return [dict(hook) for hook in hooks]
