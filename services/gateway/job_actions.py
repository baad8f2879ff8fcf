"""What may be done with one job beside cancelling it: another priority."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final

import msgspec
from aiohttp import web

from events.codec import event_name
from events.commands import Reprioritise
from events.job import Job, decide
from services.gateway.auth import Role, require
from services.gateway.http import caller_of, json_body
from services.gateway.jobs import answer, last_of
from services.gateway.keys import LANES, METRICS, STORE
from services.gateway.problems import from_msgspec
from services.gateway.query import Query
from services.lanes import key_of

Priority = Annotated[int, msgspec.Meta(ge=0, le=100)]


class JobChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a change to a job."""

    priority: Priority


_CHANGE: Final = msgspec.json.Decoder(JobChange)


async def reprioritise(request: web.Request) -> web.Response:
    """`PATCH /v1/jobs/{id}`: move a queued job to another priority."""
    principal = require(request, Role.SUBMITTER)
    query = Query(request, "tenant")
    try:
        change = _CHANGE.decode(await json_body(request))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise from_msgspec(error) from None
    store = request.app[STORE]
    job_id, last_seq = await last_of(request, query)
    job = await store.load(job_id, at_least=last_seq)
    command = Reprioritise(now=datetime.now(UTC), priority=change.priority)
    decide(job, command)  # refused before a lane is made for it
    await ensure_lane(request, job, change.priority)
    job, event = await store.transition(
        job, command, actor=principal.actor, trace=caller_of(request, principal).trace
    )
    if event is not None:
        request.app[METRICS].appended.labels(event_name(event)).inc()
    return answer(request, job)


async def ensure_lane(request: web.Request, job: Job, priority: int) -> None:
    """Make the job's lane at a priority, unless it is known to be there.

    Raises:
        LimitError: no more lanes, or priorities in this lane, may be in use.
        UnavailableError: the broker does not answer.
    """
    lanes = request.app[LANES]
    if not lanes.ready(job.lane, priority):
        await lanes.ensure(key_of(await request.app[STORE].spec(job.id)), job.lane, priority)
