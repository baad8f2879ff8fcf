"""`/healthz`, `/readyz` and `/metrics`."""

from __future__ import annotations

import contextlib

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from events.errors import UnavailableError
from services import quarantine_index, room
from services.gateway.auth import Role, require
from services.gateway.http import json_response
from services.gateway.keys import METRICS, NATS, READ_MODEL, READINESS, SETTINGS, WORKERS
from services.gateway.live_door import DOOR
from services.gateway.query import Query


async def healthz(request: web.Request) -> web.Response:
    """The process answers."""
    Query(request)
    return json_response({"status": "ok"})


async def readyz(request: web.Request) -> web.Response:
    """Whether requests can be served: the broker and its streams are there, and what is behind them moves.

    Raises:
        MalformedError: there are parameters.
    """
    Query(request)
    checks = await request.app[READINESS].checks()
    ready = all(check["ok"] for check in checks.values())
    headers = {} if ready else {"Retry-After": "1"}
    return json_response({"ready": ready, "checks": checks}, status=200 if ready else 503, headers=headers)


async def metrics(request: web.Request) -> web.Response:
    """The metrics in Prometheus' text format; what cannot be asked for now keeps its last value.

    Raises:
        RejectedError: the settings do not open them and the caller has no token.
    """
    if not request.app[SETTINGS].metrics_public:
        require(request, Role.VIEWER)
    Query(request)
    app = request.app
    found = app[METRICS]
    workers = app[WORKERS].records()
    found.show_workers(record.state for record in workers)
    found.lost_slots.set(sum(record.lost_slots for record in workers))
    found.unreadable_workers.set(app[WORKERS].unreadable)
    found.live_connections.set(app[DOOR].connections)
    with contextlib.suppress(UnavailableError):
        found.show_jobs(app[READ_MODEL].counts())
        found.projection_lag.set(await app[READINESS].lag())
    with contextlib.suppress(UnavailableError):
        timeout_s = app[SETTINGS].request_timeout_s
        found.show_fills(await room.fills(app[NATS], timeout_s=timeout_s))
        found.show_quarantined(await quarantine_index.counts(app[NATS], timeout_s=timeout_s))
    return web.Response(body=found.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})
