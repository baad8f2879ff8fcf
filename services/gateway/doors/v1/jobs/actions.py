"""What may be done with one job beside cancelling it: another priority, a new start, its removal."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from aiohttp import web

from switchyard.events.commands import AnyCommand, Archive, Discard, Redrive, Repair, Reprioritise
from switchyard.events.encoding.codec import place_of
from switchyard.events.job import Job, decide
from switchyard.events.values import Status
from switchyard.events.vocabulary.ids import JobId
from switchyard.services import clock
from switchyard.services.access.principal import Principal, Role
from switchyard.services.event_store import Transition
from switchyard.services.gateway.app_keys import LANES, SHARES, STORE, SUBMITTER
from switchyard.services.gateway.doors.v1.jobs.routes import answer, last_of
from switchyard.services.gateway.http.callers import body_of, caller_of, require
from switchyard.services.gateway.http.query import Query
from switchyard.services.records.kinds import Priority
from switchyard.services.records.lanes import key_of

MAX_REASON_CHARS: Final = 1000


class JobChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a change to a job."""

    priority: Priority


class RedriveRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a redrive, which may be empty."""

    payload: dict[str, Any] | None = None
    priority: Priority | None = None


class DiscardRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a discard, which may be empty."""

    reason: Annotated[str, msgspec.Meta(max_length=MAX_REASON_CHARS)] = ""


class RepairRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a repair, which may be empty."""

    to: Literal["queued", "dead", "cancelled"] | None = None
    reason: Annotated[str, msgspec.Meta(max_length=MAX_REASON_CHARS)] = ""


_CHANGE: Final = msgspec.json.Decoder(JobChange)
_REDRIVE: Final = msgspec.json.Decoder(RedriveRequest)
_DISCARD: Final = msgspec.json.Decoder(DiscardRequest)
_REPAIR: Final = msgspec.json.Decoder(RepairRequest)


async def reprioritise(request: web.Request) -> web.Response:
    """`PATCH /v1/jobs/{id}`: move a queued job to another priority."""
    principal = require(request, Role.SUBMITTER)
    query = Query(request, "tenant")
    change = await body_of(request, _CHANGE)
    job = await _loaded(request, query)
    command = Reprioritise(now=clock.now(), priority=change.priority)
    decide(job, command)  # refused before a lane is made for it
    request.app[SHARES].room.take(0)
    await ensure_lane(request, job, change.priority)
    return answer(request, await transition(request, principal, job, command))


async def redrive(request: web.Request) -> web.Response:
    """`POST /v1/jobs/{id}/redrive`: a new start for a dead job, with another payload if one is given."""
    principal = require(request, Role.SUBMITTER)
    query = Query(request, "tenant")
    asked = await body_of(request, _REDRIVE, empty=b"{}")
    job = await _loaded(request, query)
    decide(job, Redrive(now=clock.now()))
    payload = None
    if asked.payload is not None:
        payload = await request.app[SUBMITTER].payload(job, asked.payload)
    size_bytes = 0 if payload is None else len(bytes(payload))
    command = Redrive(now=clock.now(), payload=payload, priority=asked.priority, size_bytes=size_bytes)
    await ensure_lane(request, job, job.own_priority if asked.priority is None else asked.priority)
    return answer(request, await transition(request, principal, job, command))


async def discard(request: web.Request) -> web.Response:
    """`POST /v1/jobs/{id}/discard`: archive a dead job."""
    principal = require(request, Role.SUBMITTER)
    query = Query(request, "tenant")
    asked = await body_of(request, _DISCARD, empty=b"{}")
    job = await _loaded(request, query)
    command = Discard(now=clock.now(), by=principal.actor, reason=asked.reason)
    return answer(request, await transition(request, principal, job, command))


async def archive(request: web.Request) -> web.Response:
    """`DELETE /v1/jobs/{id}`: archive a job that has ended: a summary stays, its history goes."""
    principal = require(request, Role.SUBMITTER)
    query = Query(request, "tenant")
    job = await _loaded(request, query)
    command = Archive(now=clock.now(), by=principal.actor)
    return answer(request, await transition(request, principal, job, command))


async def repair(request: web.Request) -> web.Response:
    """`POST /v1/jobs/{id}/repair`: give a damaged job a state again."""
    principal = require(request, Role.SUBMITTER)
    query = Query(request, "tenant")
    asked = await body_of(request, _REPAIR, empty=b"{}")
    job = await _loaded(request, query)
    to = None if asked.to is None else Status(asked.to)
    command = Repair(now=clock.now(), by=principal.actor, reason=asked.reason, to=to)
    event = decide(job, command)
    place = None if event is None else place_of(event)
    if place is not None:  # a lane that does not exist yet is not made by the event alone
        await ensure_lane(request, job, place[1])
    return answer(request, await transition(request, principal, job, command))


async def _loaded(request: web.Request, query: Query) -> Job:
    job_id, last_seq = await last_of(request, query)
    return await request.app[STORE].load(JobId(job_id), at_least=last_seq)


async def transition(request: web.Request, principal: Principal, job: Job, command: AnyCommand) -> Job:
    """Append what the caller's command comes to; the job after that.

    Raises:
        ConflictError: the job's state does not allow it.
        UnavailableError: the broker does not answer.
    """
    trace = caller_of(request, principal).trace
    return (await append(request, job, command, actor=principal.actor, trace=trace)).job


async def append(
    request: web.Request, job: Job, command: AnyCommand, *, actor: str, trace: str
) -> Transition:
    """Append what a command comes to; a new start takes of the tenant's share.

    Raises:
        ConflictError: the job's state does not allow it.
        LimitError: the tenant has as many jobs as it may.
        UnavailableError: the broker does not answer.
    """
    app, share, size_bytes = request.app, None, job.size_bytes
    if isinstance(command, Redrive):
        decide(job, command)  # a conflict is told before a limit
        size_bytes += command.size_bytes
        share = app[SHARES].take(job.tenant, size_bytes)
    try:
        after, event = await app[STORE].transition(job, command, actor=actor, trace=trace)
    except BaseException:
        if share is not None:
            share.back(size_bytes)
        raise
    if share is not None:
        share.stored(after.seq, size_bytes)
    return Transition(after, event)


async def ensure_lane(request: web.Request, job: Job, priority: int, *, checked: bool = True) -> None:
    """Make the job's lane at a priority, unless it is known to be there.

    Args:
        request: whose application has the lanes.
        job: as last known.
        priority: which it is to have.
        checked: whether limits count.

    Raises:
        LimitError: no more lanes, or priorities in this lane, may be in use.
        UnavailableError: the broker does not answer.
    """
    lanes = request.app[LANES]
    if not lanes.ready(job.lane, priority):
        key = key_of(await request.app[STORE].spec(job.id), job.lane)
        await lanes.ensure(key, job.lane, priority, job.tenant, checked=checked)
