"""`GET /v1/jobs/{id}/explain`: why a job waits, or ended as it did."""

from __future__ import annotations

from aiohttp import web

from switchyard.events.job import Job
from switchyard.events.lane import LaneKey
from switchyard.events.values import Status
from switchyard.services import clock
from switchyard.services.dispatch.explain import LimitUse, Situation, explained
from switchyard.services.gateway.app_keys import LIMITS, NATS, READ_MODEL, SETTINGS, SHARES, STORE, WORKERS
from switchyard.services.gateway.doors.v1.jobs.routes import current_job
from switchyard.services.gateway.doors.v1.limits import use_of
from switchyard.services.gateway.http.callers import H_SEQ, PRINCIPAL, json_response
from switchyard.services.gateway.http.query import Query
from switchyard.services.records import controls
from switchyard.services.records.lanes import key_of


async def explain(request: web.Request) -> web.Response:
    """The reasons, from what the log, the live workers, the limits and the controls say now.

    Raises:
        NotFoundError: the caller has no such job.
        UnavailableError: the broker does not answer.
    """
    job = await current_job(request, Query(request, "tenant"))
    return json_response(explained(job, await _situation(request, job)), headers={H_SEQ: str(job.seq)})


async def _situation(request: web.Request, job: Job) -> Situation:
    app = request.app
    if job.status is not Status.QUEUED or job.damage is not None:
        parents = job.depends_on if job.status is Status.BLOCKED and job.damage is None else ()
        loaded = [await app[STORE].load(parent) for parent in parents]
        return Situation(LaneKey(job.kind), 0, (), parents={one.id: one.shown_state for one in loaded})
    key = key_of(await app[STORE].spec(job.id), job.lane)
    timeout_s = app[SETTINGS].request_timeout_s
    wishes = await controls.all_controls(app[NATS], timeout_s=timeout_s)
    room = app[SHARES].room
    await room.look(app[NATS])
    paused = [what for what in (("lane", job.lane), ("kind", job.kind)) if what in wishes]
    return Situation(
        key=key,
        ahead=app[READ_MODEL].place(job),
        workers=[one for one in app[WORKERS].records() if request[PRINCIPAL].sees(one.tenant)],
        limits=[await _use(request, limit) for limit in key.limits if limit in app[LIMITS].known],
        paused=[what for what, _ in paused],
        now=clock.now(),
        held=room.why_no_start,
    )


async def _use(request: web.Request, key: str) -> LimitUse:
    limit = request.app[LIMITS].known[key]
    running, starts_left = await use_of(request, key, limit)
    return LimitUse(key.partition(".")[2], limit.concurrency, running, limit.per_minute, starts_left)
