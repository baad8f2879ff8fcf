"""An endpoint as a whole: how it is, and what waits at it."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from switchyard.events.errors import ConflictError
from switchyard.events.job import Job
from switchyard.services.concurrency import each
from switchyard.services.gateway.app_keys import JOBS, LIVE, READ_MODEL, WORKERS
from switchyard.services.gateway.doors.compat.jobs import LABEL
from switchyard.services.gateway.doors.compat.runpod import views
from switchyard.services.gateway.doors.compat.runpod.answers import (
    Health,
    JobCounts,
    Purged,
    WorkerCounts,
)
from switchyard.services.gateway.doors.compat.runpod.jobs import kind_named
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.query import min_seq
from switchyard.services.gateway.http.routes import Call

PAGE: Final = 100
QUEUED: Final = ("queued", "scheduled", "blocked", "retrying")
"""What clients know as waiting in the queue."""
AT_ONCE: Final = 8
MOST: Final = 1000
"""Jobs that one call removes; the same call again removes the rest."""


async def health(call: Call[None]) -> web.Response:
    """`GET /{endpoint_id}/health`: the tenant's jobs of the kind, and who runs it for that."""
    kind, tenant = kind_named(call), call.caller.tenant
    await call.part(JOBS).freshness.wait(min_seq(call.request))
    counts = call.part(READ_MODEL).counts(tenant=tenant)
    of = {state: jobs for (name, state), jobs in counts.items() if name == kind}
    workers = [
        record for record in call.part(WORKERS).records() if kind in record.kinds and record.runs_for(tenant)
    ]
    ready = [record for record in workers if record.state == "running"]
    busy = sum(bool(record.fences) for record in ready)
    return json_response(
        Health(
            jobs=JobCounts(
                completed=of.get("succeeded", 0), failed=of.get("dead", 0) + of.get("expired", 0),
                in_progress=sum(of.get(state, 0) for state in ("running", "cancelling", "review")),
                in_queue=sum(of.get(state, 0) for state in QUEUED),
                retried=of.get("retrying", 0),
            ),
            workers=WorkerCounts(
                idle=len(ready) - busy, initializing=0, ready=len(ready), running=busy,
                throttled=sum(record.state in ("paused", "draining") for record in workers),
                unhealthy=sum(record.state == "unregistered" for record in workers),
            ),
        )
    )  # fmt: skip


async def purge(call: Call[None]) -> web.Response:
    """`POST /{endpoint_id}/purge-queue`: cancel what waits at the endpoint and came by this door."""
    kind, jobs = kind_named(call), call.part(JOBS)
    filters = {
        "kinds": [kind], "states": QUEUED,
        "labels": [(LABEL, views.NAME)], "limit": PAGE,
    }  # fmt: skip
    seq = (await call.part(LIVE).log_state()).last_seq
    removed, cursor = 0, None

    async def one(job: Job) -> bool:
        try:
            await jobs.cancel(call.caller, job, "purged by a client of RunPod's API")
        except ConflictError:
            return False  # it waits no more
        return True

    while True:
        page, cursor, _ = await jobs.list(call.caller.tenant, {**filters, "cursor": cursor}, min_seq=seq)
        removed += sum(await each(one, page, at_once=AT_ONCE))
        if cursor is None or removed >= MOST:
            break
    return json_response(Purged(removed=removed, status="completed" if cursor is None else "in progress"))
