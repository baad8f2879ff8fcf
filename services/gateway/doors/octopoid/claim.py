"""`POST /api/v1/tasks/claim`: work under a timed lease, or a review, by the queue that is asked for."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from switchyard.events.commands import ClaimReview
from switchyard.events.errors import ConflictError, LimitError, VersionConflictError
from switchyard.events.job import decide, evolve
from switchyard.events.values import Status
from switchyard.services import clock
from switchyard.services.dispatch.rest.claiming import Claimed, ClaimRequest, Nothing
from switchyard.services.gateway.doors.octopoid import flows
from switchyard.services.gateway.doors.octopoid.answers import NoTask
from switchyard.services.gateway.doors.octopoid.create import end_job
from switchyard.services.gateway.doors.octopoid.desk import Desk, desk_of, holder_of
from switchyard.services.gateway.doors.octopoid.listing import matching, tasks_of
from switchyard.services.gateway.doors.octopoid.moves import Order, changed, move
from switchyard.services.gateway.doors.octopoid.tasks import (
    ANY,
    BUILT_IN,
    CLAIMED,
    INCOMING,
    KIND,
    SORT,
    Task,
    job_id_of,
    task_named,
    task_view,
)
from switchyard.services.gateway.http.callers import alive, json_response, key_of
from switchyard.services.gateway.http.routes import Call

DEFAULT_LEASE_S: Final = 300.0
MISPLACED: Final = 100

Words = str | Annotated[list[str], Meta(max_length=100)]


class ClaimForm(msgspec.Struct, frozen=True):
    """The body of a claim."""

    orchestrator_id: Annotated[str, Meta(min_length=1, max_length=255)]
    agent_name: Annotated[str, Meta(min_length=1, max_length=255)]
    role_filter: Words | None = None
    type_filter: Words | None = None
    queue: str | None = None
    lease_duration_seconds: Annotated[float, Meta(ge=1)] | None = None
    max_claimed: Annotated[int, Meta(ge=0)] | None = None


async def claim(call: Call[ClaimForm]) -> web.Response:
    """A task for an agent, or 404 when there is none."""
    desk = desk_of(call)
    asked = call.body
    queue = asked.queue or INCOMING
    await flows.check_queue(desk, "default", queue)
    if asked.max_claimed is not None:
        await _check_claimed(desk, asked, asked.max_claimed)
    if queue == INCOMING:
        task = await _claimed(desk, asked, call.raw, key=key_of(call.request), alive=alive(call.request))
    else:
        task = None if queue in BUILT_IN else await _review(desk, asked, queue)
    if task is None:
        return json_response(NoTask(), status=404)
    return json_response(task_view(desk, task))


def _lease_s(desk: Desk, asked: ClaimForm) -> float:
    return min(asked.lease_duration_seconds or DEFAULT_LEASE_S, desk.settings.timed_lease_max_s)


def _list(words: Words | None) -> list[str]:
    if not words:
        return []
    return [words] if isinstance(words, str) else words


async def _check_claimed(desk: Desk, asked: ClaimForm, most: int) -> None:
    """Let an orchestrator pass that holds fewer tasks; counted just before the claim."""
    held = [
        task
        for task in await tasks_of(desk)
        if task_view(desk, task).orchestrator_id == asked.orchestrator_id and task.queue == CLAIMED
    ]
    if len(held) >= most:
        raise LimitError(f"{asked.orchestrator_id} holds {len(held)} tasks, of at most {most}")


# --- Work


async def _claimed(
    desk: Desk, asked: ClaimForm, raw: bytes, *, key: str | None, alive: Callable[[], bool]
) -> Task | None:
    """A task under a timed lease, claimed as at every other door."""
    wanted = {"role": _list(asked.role_filter) or [ANY], "type": _list(asked.type_filter) or [ANY]}
    claim_request = ClaimRequest(
        worker=holder_of(asked.orchestrator_id, asked.agent_name), kinds=[KIND],
        capabilities={"octopoid": wanted}, lease_s=_lease_s(desk, asked),
    )  # fmt: skip
    for _ in range(MISPLACED):
        claimed = await desk.leases.claim(desk.caller, claim_request, raw, key=key, alive=alive)
        if isinstance(claimed, Nothing):
            return None
        if (task := await _task_of(desk, claimed)) is not None:
            return task
    return None


async def _task_of(desk: Desk, claimed: Claimed) -> Task | None:
    """The task of a job that was claimed; None when it is none, or was to stand elsewhere and now does."""
    tenant, task_id = desk.tenant, str(claimed.payload.get("id", ""))
    found = await desk.documents.find(tenant, SORT, task_id)
    document = found.document
    if (
        document is None
        or document["deleted"]
        or job_id_of(tenant, task_id, document["nonce"]) != claimed.job.id
    ):
        await end_job(desk, claimed.job)
        return None
    task = Task(document, found.revision, claimed.job)
    if document["queue"] != INCOMING and claimed.job.attempt == 1 and not claimed.job.rejections:
        await move(desk, task, Order(to=document["queue"], by=desk.caller.actor))
        return None
    if claimed.claims.places:
        noted = {"fence": claimed.claims.fence, "places": list(claimed.claims.places)}
        task = await changed(desk, task, {"lease": noted})
    return task


# --- Reviews


async def _review(desk: Desk, asked: ClaimForm, queue: str) -> Task | None:
    """A task whose work waits in a queue for a decision, kept for one agent for a time."""
    filters: dict[str, Any] = {"role": _list(asked.role_filter), "type": _list(asked.type_filter)}
    waiting = [
        task
        for task in await tasks_of(desk)
        if task.queue == queue and task.job.status is Status.REVIEW and matching(task, filters)
    ]
    waiting.sort(key=lambda task: (-task.job.own_priority, task.document["created_at"]))
    reviewer = holder_of(asked.orchestrator_id, asked.agent_name)
    for candidate in waiting:
        if candidate.job.review is None or candidate.job.review.reviewer is not None:
            continue
        task = await task_named(desk, candidate.id)
        review = task.job.review
        if review is None or review.reviewer is not None or task.parked != queue:
            continue
        at = clock.now()
        command = ClaimReview(
            now=at, reviewer=reviewer, expires_at=at + timedelta(seconds=_lease_s(desk, asked))
        )
        try:
            event = decide(task.job, command)
            if event is None:
                continue
            # Not decided again after a conflict: an agent that asks twice at once gets two tasks.
            trace = desk.caller.trace
            seq = await desk.store.append(
                task.job, event, actor=f"worker:{reviewer}", trace=trace, key=desk.caller.key,
                command=type(command).__name__,
            )  # fmt: skip
        except (ConflictError, VersionConflictError):
            continue
        return task._replace(job=evolve(task.job, event, seq))
    return None
