"""The API of this project, `/v1`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from aiohttp import web

from switchyard.services.access.principal import Principal, Role
from switchyard.services.gateway.doors.v1 import (
    about,
    controls,
    files,
    keys,
    kinds,
    limits,
    quarantine,
    schedules,
    workers,
)
from switchyard.services.gateway.doors.v1.jobs import actions, bulk, dead_letters, reviews, routes
from switchyard.services.gateway.doors.v1.leases import outcomes
from switchyard.services.gateway.doors.v1.leases import routes as leases
from switchyard.services.gateway.doors.v1.live import sse, websocket
from switchyard.services.gateway.http.doors import Door
from switchyard.services.gateway.http.routes import Route

ROUTES: Final = tuple(
    route
    for area in (
        routes, bulk, actions, dead_letters, quarantine, schedules, reviews, workers, controls, kinds, limits,
        keys, websocket, sse, files, leases, outcomes, about,
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

    async def identify(self, request: web.Request, route: Route | None) -> Principal | None:
        """Who calls: a back end by the token in its path, all others as everywhere."""
        if route is not None and route.path in outcomes.PATHS:
            return outcomes.caller_of(request)
        return await super().identify(request, route)

    def keys(self, route: Route) -> Mapping[str, Sequence[Role]]:
        """None for a back end's reports: the token in their path is what opens them."""
        return {} if route.path in outcomes.PATHS else super().keys(route)
