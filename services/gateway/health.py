"""`/healthz`, `/readyz` and `/metrics`."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import web
from msgspec import UNSET, UnsetType
from prometheus_client import CONTENT_TYPE_LATEST

from switchyard.events.errors import UnavailableError
from switchyard.events.values import DAMAGED
from switchyard.services import clock
from switchyard.services.access.principal import ANYBODY, Principal, Role
from switchyard.services.gateway.app_keys import METRICS, READ_MODEL, READINESS, SETTINGS, WORKERS
from switchyard.services.gateway.http.callers import json_response, require
from switchyard.services.gateway.http.query import Query
from switchyard.services.gateway.live.admission import DOOR
from switchyard.services.gateway.metrics import tenant_text
from switchyard.services.records.tenancy import is_seen
from switchyard.services.telemetry.part import Value


class Health(msgspec.Struct, frozen=True):
    """The process answers."""

    status: str


class Ready(msgspec.Struct, frozen=True):
    """Whether requests can be served, and what each check has found."""

    ready: bool
    checks: Mapping[str, Mapping[str, Any]]


class Healthy(msgspec.Struct, frozen=True):
    """Whether requests can be served, in the words of Ilios."""

    status: str
    timestamp: str
    services: Mapping[str, str] | UnsetType = UNSET
    error: str | UnsetType = UNSET


async def healthz(request: web.Request) -> web.Response:
    """The process answers."""
    Query(request)
    return json_response(Health("ok"))


async def health(request: web.Request) -> web.Response:
    """As `readyz`, for clients of Ilios."""
    Query(request)
    checks = await request.app[READINESS].checks()
    failed = [name for name, check in checks.items() if not check["ok"]]
    at = clock.now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if failed:
        body = Healthy("unhealthy", at, error=f"not ready: {', '.join(failed)}")
        return json_response(body, status=503, headers={"Retry-After": "1"})
    return json_response(Healthy("healthy", at, {"database": "connected", "s3": "configured"}))


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
    telemetry = app[METRICS].telemetry
    await telemetry.refresh()
    return _text(telemetry.text())


def observe(app: web.Application) -> None:
    """Have the gateway asked by whoever asks the process that it is part of."""
    metrics = app[METRICS]

    async def refresh() -> None:
        shown: dict[str, Value] = {"switchyard_live_connections": app[DOOR].connections}
        with contextlib.suppress(UnavailableError):
            shown["switchyard_live_lag_events"] = await app[READINESS].live_lag()
        with contextlib.suppress(UnavailableError):
            counts = app[READ_MODEL].counts()
            damaged = sum(count for (_, state), count in counts.items() if state == DAMAGED)
            shown["switchyard_damaged_jobs"] = damaged
        metrics.show(shown)

    part = metrics.telemetry.part("gateway")
    part.checks, part.refresh = app[READINESS].checks, refresh


def _own_metrics(app: web.Application, principal: Principal) -> bytes:
    seen = [record for record in app[WORKERS].records() if is_seen(record, principal.sees)]
    return tenant_text(app[READ_MODEL].counts(tenant=principal.tenant), [record.state for record in seen])


def _text(body: bytes) -> web.Response:
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})
