"""`POST /api/v1/tasks/claim`: work under a timed lease, or a review, by the queue that is asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
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
from switchyard.services.dispatch.rest.asked import ClaimRequest
from switchyard.services.dispatch.rest.claiming import Claimed, Nothing
from switchyard.services.gateway.doors.octopoid.answers import NoTask
from switchyard.services.gateway.doors.octopoid.create import end_job
from switchyard.services.gateway.doors.octopoid.desk import Desk, desk_of, holder_of, parties_of
from switchyard.services.gateway.doors.octopoid.jobs import adopt
from switchyard.services.gateway.doors.octopoid.kept import flows, roles
from switchyard.services.gateway.doors.octopoid.kept.cards import Card
from switchyard.services.gateway.doors.octopoid.lease import check_lease_s
from switchyard.services.gateway.doors.octopoid.listing import cards_of, caught_up, read_tasks
from switchyard.services.gateway.doors.octopoid.moves import Order, begun, move
from switchyard.services.gateway.doors.octopoid.tasks import (
    ANY,
    BUILT_IN,
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
PAGE: Final = 500
CANDIDATES: Final = 20
RUNNING: Final = (Status.RUNNING.value, Status.CANCELLING.value)

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
    named = _list(asked.role_filter)
    await roles.check_roles(desk, named, "role_filter")
    queue = asked.queue or (await roles.queue_of(desk, named[0]) if named else INCOMING)
    await flows.check_queue(desk, "default", queue)
    lease_s = _lease_s(desk, asked)
    if queue == INCOMING:
        if asked.max_claimed is not None:
            await _check_claimed(desk, asked, asked.max_claimed)
        task = await _claimed(
            desk, asked, lease_s, call.raw, key=key_of(call.request), alive=alive(call.request)
        )
    else:
        task = None if queue in BUILT_IN else await _review(desk, asked, queue, lease_s)
    if task is None:
        return json_response(NoTask(), status=404)
    return json_response(task_view(desk, task))


def _lease_s(desk: Desk, asked: ClaimForm) -> float:
    if asked.lease_duration_seconds is None:
        return min(DEFAULT_LEASE_S, desk.settings.octopoid_lease_max_s)
    check_lease_s(desk, asked.lease_duration_seconds, "lease_duration_seconds")
    return asked.lease_duration_seconds


def _list(words: Words | None) -> list[str]:
    if not words:
        return []
    return [words] if isinstance(words, str) else words


async def _check_claimed(desk: Desk, asked: ClaimForm, most: int) -> None:
    """Let an orchestrator pass that works on fewer tasks; counted just before the claim, without reviews."""
    await caught_up(desk)
    held, cursor, more = 0, None, True
    while more and held < most:
        page, cursor = desk.read_model.jobs(
            tenant=desk.tenant, states=RUNNING, kinds=[KIND], cursor=cursor, limit=PAGE
        )
        held += sum(parties_of(job.worker)[0] == asked.orchestrator_id for job in page)
        more = cursor is not None
    if held >= most:
        raise LimitError(f"{asked.orchestrator_id} holds {held} tasks, of at most {most}")


# --- Work


async def _claimed(
    desk: Desk, asked: ClaimForm, lease_s: float, raw: bytes, *, key: str | None, alive: Callable[[], bool]
) -> Task | None:
    """A task under a timed lease, claimed as at every other door."""
    wanted = {"role": _list(asked.role_filter) or [ANY], "type": _list(asked.type_filter) or [ANY]}
    claim_request = ClaimRequest(
        worker=holder_of(asked.orchestrator_id, asked.agent_name), kinds=[KIND],
        capabilities={"octopoid": wanted}, lease_s=lease_s,
    )  # fmt: skip
    for _ in range(MISPLACED):
        claimed = await desk.leases.claim(
            desk.caller, claim_request, raw, key=key, alive=alive, lease_max_s=lease_s
        )
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
    planned = None if document is None else (document.get("next") or {}).get("nonce")
    if planned and job_id_of(tenant, task_id, planned) == claimed.job.id:
        await adopt(desk, task_id, planned)  # who reopened the task broke off
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
    places = list(claimed.claims.places)
    noted = {"lease": {"fence": claimed.claims.fence, "places": places}} if places else {}
    return await begun(desk, task, noted)


# --- Reviews


async def _review(desk: Desk, asked: ClaimForm, queue: str, lease_s: float) -> Task | None:
    """A task whose work waits in a queue for a decision, kept for one agent for a time."""
    filters: dict[str, Any] = {"role": _list(asked.role_filter), "type": _list(asked.type_filter)}
    waiting = (await cards_of(desk)).all({"queue": [queue], **filters}, by_priority=True)
    reviewer = holder_of(asked.orchestrator_id, asked.agent_name)
    async for candidate in _candidates(desk, waiting):
        if candidate.job.status is Status.BLOCKED or _is_held(candidate):
            continue
        task = await task_named(desk, candidate.id)
        if task.is_apart and task.queue == queue and task.job.status is not Status.BLOCKED:
            task = await move(desk, task, Order(to=queue, by=desk.caller.actor))
        review = task.job.review
        if review is None or review.reviewer is not None or task.parked != queue:
            continue
        at = clock.now()
        command = ClaimReview(now=at, reviewer=reviewer, expires_at=at + timedelta(seconds=lease_s))
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
        return await begun(desk, task._replace(job=evolve(task.job, event, seq)))
    return None


async def _candidates(desk: Desk, waiting: Sequence[Card]) -> AsyncIterator[Task]:
    """Tasks in the order of a list, read some at a time: one of the first will mostly do."""
    for first in range(0, len(waiting), CANDIDATES):
        for task in await read_tasks(desk, waiting[first : first + CANDIDATES]):
            yield task


def _is_held(task: Task) -> bool:
    return task.job.review is not None and task.job.review.reviewer is not None
