"""The API of this project, `/v1`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from aiohttp import web

from switchyard.services.access.browsers.file_tickets import FileTickets
from switchyard.services.access.principal import Principal, Role
from switchyard.services.gateway.app_keys import (
    FILE_TICKETS,
    NATS,
    PUBLISHER,
    SETTINGS,
    TENANT_FILES,
    UPLOADS,
    VERIFIER,
)
from switchyard.services.gateway.doors.v1 import (
    about,
    artifacts,
    controls,
    files,
    keys,
    kinds,
    limits,
    models,
    previews,
    quarantine,
    schedules,
    servers,
    workers,
)
from switchyard.services.gateway.doors.v1.batches import routes as batches
from switchyard.services.gateway.doors.v1.billing import disk, prices, quotas
from switchyard.services.gateway.doors.v1.billing import usage as billed
from switchyard.services.gateway.doors.v1.jobs import (
    actions,
    bulk,
    dead_letters,
    erasures,
    ids,
    reviews,
    routes,
    series,
    workflows,
)
from switchyard.services.gateway.doors.v1.leases import callbacks, outcomes, parting
from switchyard.services.gateway.doors.v1.leases import routes as leases
from switchyard.services.gateway.doors.v1.live import logs, sse, tickets, watch_sse, websocket
from switchyard.services.gateway.doors.v1.resumable import routes as resumable
from switchyard.services.gateway.http.doors import Beside, Door
from switchyard.services.gateway.http.identity import TICKET
from switchyard.services.gateway.http.routes import Route
from switchyard.services.gateway.operations.transfers.resumable import ResumableUploads

ROUTES: Final = tuple(
    route
    for area in (
        routes, ids, bulk, actions, dead_letters, erasures, quarantine, schedules, reviews, workers, controls,
        kinds, limits, keys, servers, models, workflows, batches, tickets, websocket, sse, watch_sse, files,
        resumable, artifacts, logs,
        leases, outcomes, parting, callbacks, previews, billed, prices, quotas, disk, series, about,
    )
    for route in area.ROUTES
)  # fmt: skip


class V1(Door):
    """Jobs, leases, files and operation over REST, WebSockets and event streams."""

    name = "v1"
    prefixes = ("/v1",)

    def routes(self) -> Sequence[Route]:
        """All of `docs/api.md`."""
        return ROUTES

    async def open(self, app: web.Application) -> Sequence[Beside]:
        """Put in resumable uploads, which follow what other gateways begin and end."""
        app[FILE_TICKETS] = FileTickets(app[VERIFIER])
        uploads = ResumableUploads(app[NATS], app[PUBLISHER], app[TENANT_FILES], app[SETTINGS])
        await uploads.load()
        app[UPLOADS] = uploads
        return (uploads,)

    async def identify(self, request: web.Request, route: Route | None) -> Principal | None:
        """Who calls: a back end by the token in its path, all others as everywhere."""
        if route is not None and route.path in outcomes.PATHS:
            return outcomes.caller_of(request)
        if route is not None and route.path in callbacks.PATHS:
            return callbacks.caller_of(request)
        if (
            route is not None
            and (route.method, route.path) == ("GET", files.PATH)
            and TICKET in request.query
        ):
            return await files.caller_of(request)
        return await super().identify(request, route)

    def keys(self, route: Route) -> Mapping[str, Sequence[Role]]:
        """None for a back end's reports: the token in their path is what opens them."""
        return {} if route.path in outcomes.PATHS | callbacks.PATHS else super().keys(route)
