"""`/healthz`, `/readyz` and `/metrics`."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from switchyard.events.errors import UnavailableError
from switchyard.services.access.principal import ANYBODY, Principal, Role
from switchyard.services.broker import quarantine_index
from switchyard.services.gateway.app_keys import METRICS, NATS, READ_MODEL, READINESS, SETTINGS, WORKERS
from switchyard.services.gateway.http.callers import json_response, require
from switchyard.services.gateway.http.query import Query
from switchyard.services.gateway.live.admission import DOOR
from switchyard.services.gateway.metrics import tenant_text
from switchyard.services.records import room


class Health(msgspec.Struct, frozen=True):
    """The process answers."""

    status: str


class Ready(msgspec.Struct, frozen=True):
    """Whether requests can be served, and what each check has found."""

    ready: bool
    checks: Mapping[str, Mapping[str, Any]]


async def healthz(request: web.Request) -> web.Response:
    """The process answers."""
    Query(request)
    return json_response(Health("ok"))


async def readyz(request: web.Request) -> web.Response:
    """Whether requests can be served: the broker and its streams are there, and what is behind them moves.

    Raises:
        MalformedError: there are parameters.
    """
    Query(request)
    checks = await request.app[READINESS].checks()
    ready = all(check["ok"] for check in checks.values())
    headers = {} if ready else {"Retry-After": "1"}
    return json_response(Ready(ready, checks), status=200 if ready else 503, headers=headers)


async def metrics(request: web.Request) -> web.Response:
    """The metrics in Prometheus' text format; what cannot be asked for now keeps its last value.

    Whoever is no operator gets what is its tenant's own: jobs, and the workers that it may see.

    Raises:
        RejectedError: the settings do not open them and the caller has no token.
    """
    app = request.app
    if not app[SETTINGS].metrics_public:
        principal = require(request, Role.VIEWER, Role.OPERATOR)
        if not principal.sees(ANYBODY):
            Query(request)
            return _text(_own_metrics(app, principal))
    Query(request)
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
    return _text(found.text())


def _own_metrics(app: web.Application, principal: Principal) -> bytes:
    seen = [record for record in app[WORKERS].records() if principal.sees(record.tenant)]
    return tenant_text(app[READ_MODEL].counts(tenant=principal.tenant), [record.state for record in seen])


def _text(body: bytes) -> web.Response:
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})
