"""`GET /v1/queues`: what waits and runs, by lane and priority."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from aiohttp import web

from switchyard.events.lane import LaneKey
from switchyard.services import clock
from switchyard.services.access.principal import Role
from switchyard.services.gateway.app_keys import FRESHNESS, LANES, READ_MODEL, WORKERS
from switchyard.services.gateway.http.callers import H_SEQ, json_response
from switchyard.services.gateway.http.query import Query, min_seq, wide_scope
from switchyard.services.records.workers import WorkerRecord


async def list_queues(request: web.Request) -> web.Response:
    """The queues that hold jobs which have not ended.

    Raises:
        RejectedError: a parameter is wrong, or the tenant is not the caller's.
        UnavailableError: the read model lags too far behind.
    """
    tenant = wide_scope(request, Query(request, "tenant"), wide=Role.OPERATOR)
    seq = await request.app[FRESHNESS].wait(min_seq(request))
    queues = request.app[READ_MODEL].queues(tenant=tenant)
    now = clock.now()
    workers = [
        record
        for record in request.app[WORKERS].records()
        if tenant is None or (record.tenant in (None, tenant) and record.runs_for(tenant))
    ]
    for queue in queues:
        key = request.app[LANES].key(queue["lane"], queue["priority"]) or LaneKey(queue["kind"])
        queue.update(_needs(key, workers), oldest_waiting_s=_age_s(queue["oldest_waiting_at"], now))
    return json_response({"queues": queues}, headers={H_SEQ: str(seq)})


def _needs(key: LaneKey, workers: Sequence[WorkerRecord]) -> dict[str, Any]:
    """What a lane's jobs need, and who can give it: what an autoscaler goes by."""
    fitting = [record for record in workers if record.state == "running" and record.fits(key)]
    return {
        "requires": key.requires,
        "prefers": key.prefers,
        "isolation": key.isolation,
        "limits": [limit.partition(".")[2] for limit in key.limits],
        "fitting_workers": len(fitting),
        "fitting_slots": sum(record.slots for record in fitting),
        "free_slots": sum(max(0, record.slots - len(record.fences)) for record in fitting),
    }


def _age_s(since: str | None, now: datetime) -> float | None:
    return None if since is None else max(0.0, (now - datetime.fromisoformat(since)).total_seconds())
