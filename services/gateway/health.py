"""`/healthz`, `/readyz` and `/metrics`."""

from __future__ import annotations

import contextlib
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from events import subjects
from events.errors import UnavailableError
from services.gateway.auth import Role, require
from services.gateway.http import json_response
from services.gateway.keys import METRICS, NATS, READ_MODEL, SETTINGS, WORKERS
from services.gateway.live_door import DOOR
from services.gateway.query import Query
from services.log_reader import api
from services.topology_spec import load


async def healthz(request: web.Request) -> web.Response:
    """The process answers."""
    Query(request)
    return json_response({"status": "ok"})


async def readyz(request: web.Request) -> web.Response:
    """Whether requests can be served: the broker, its streams and the read model are there and current.

    Raises:
        MalformedError: there are parameters.
    """
    Query(request)
    checks = await _checks(request.app)
    ready = all(check["ok"] for check in checks.values())
    headers = {} if ready else {"Retry-After": "1"}
    return json_response({"ready": ready, "checks": checks}, status=200 if ready else 503, headers=headers)


async def _checks(app: web.Application) -> dict[str, dict[str, Any]]:
    settings = app[SETTINGS]
    checks: dict[str, dict[str, Any]] = {"broker": {"ok": app[NATS].is_connected}}
    try:
        there = await api(app[NATS], "STREAM.NAMES", timeout_s=settings.request_timeout_s)
        missing = {stream.name for stream in load().streams} - set(there.get("streams") or ())
        checks["streams"] = {"ok": not missing, "missing": sorted(missing)}
        lag = await projection_lag(app)
        limit = settings.ready_lag_events
        checks["read_model"] = {"ok": lag <= limit, "lag_events": lag, "limit": limit}
    except UnavailableError as error:
        checks["reads"] = {"ok": False, "error": str(error)}
    return checks


async def projection_lag(app: web.Application) -> int:
    """How many events the read model is behind the log.

    Raises:
        UnavailableError: the broker does not answer, or there is no log or no read model.
    """
    settings = app[SETTINGS]
    info = await api(app[NATS], f"STREAM.INFO.{subjects.JOBS}", timeout_s=settings.request_timeout_s)
    if "error" in info:
        raise UnavailableError(f"the broker has no stream {subjects.JOBS}")
    return max(0, int(info["state"]["last_seq"]) - app[READ_MODEL].checkpoint().seq)


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
        found.projection_lag.set(await projection_lag(app))
    return web.Response(body=found.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})
