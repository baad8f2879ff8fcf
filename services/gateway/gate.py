"""The gate: every request comes through it to its door, and every answer leaves by it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from aiohttp import hdrs, web

from switchyard.events.errors import LimitError
from switchyard.services.access.principal import Principal, Role
from switchyard.services.gateway import app_keys, explorer, health
from switchyard.services.gateway.http.callers import enter
from switchyard.services.gateway.http.connections import CONNECTIONS, known
from switchyard.services.gateway.http.doors import Door, Doors, bound
from switchyard.services.gateway.http.edge.cors import CORS
from switchyard.services.gateway.http.edge.packing import pack
from switchyard.services.gateway.http.edge.request_ids import IN_LOG, request_id
from switchyard.services.gateway.http.identity import H_KEY
from switchyard.services.gateway.http.problems import problem_of
from switchyard.services.gateway.http.query import SECONDS, check_form
from switchyard.services.gateway.http.routes import Lasts, Media, Route, plain
from switchyard.services.gateway.http.uploads import continue_now
from switchyard.services.gateway.openapi import served
from switchyard.services.settings import Settings

UNAUTHENTICATED: Final = 401
METRICS: Final = "/metrics"
OPEN: Final = frozenset({"/healthz", "/readyz", served.PATH, *(path for path, *_ in explorer.FILES)})
DOORS: Final = web.AppKey("doors", Doors)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class House(Door):
    """The gateway's own door: how it is, and every path that is nobody's.

    Args:
        metrics_public: whether metrics are for everybody.
    """

    name = "gateway"

    def __init__(self, *, metrics_public: bool = False) -> None:
        self._open = OPEN | {METRICS} if metrics_public else OPEN

    def routes(self) -> Sequence[Route]:
        """What it answers itself."""
        return (
            Route(
                method="GET", path="/healthz", handler=plain(health.healthz),
                summary="Say that the process answers", answers={200: health.Health},
            ),
            Route(
                method="GET", path="/readyz", handler=plain(health.readyz),
                summary="Say whether requests can be served", answers={200: health.Ready, 503: health.Ready},
            ),
            Route(
                method="GET", path=METRICS, handler=plain(health.metrics), summary="Read metrics",
                roles=() if METRICS in self._open else (Role.VIEWER, Role.OPERATOR),
                answers={200: Media("text/plain; version=0.0.4")},
            ),
            Route(
                method="GET", path=served.PATH, handler=plain(served.openapi), headers=("If-None-Match",),
                summary="Read the description of the API", answers={200: dict[str, Any], 304: None},
                answer_headers=("ETag",),
            ),
            *explorer.routes(),
        )  # fmt: skip

    def keys(self, route: Route) -> Mapping[str, Sequence[Role]]:
        """None for what is open."""
        return {} if route.path in self._open else super().keys(route)

    async def identify(self, request: web.Request, route: Route | None) -> Principal | None:
        """Who calls; nobody needs to say for health, the page of documents, and metrics that are open."""
        if route is not None and route.path in self._open:
            return None
        return await super().identify(request, route)


@web.middleware
async def gate(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let in whom the door knows, slow who tries, word every error as the door does, and count."""
    started = time.perf_counter()
    # What else runs for this connection later has an id of its own, or none.
    in_log = IN_LOG.set(request_id(request))
    try:
        return await _through(request, handler, started)
    finally:
        IN_LOG.reset(in_log)


async def _through(request: web.Request, handler: Handler, started: float) -> web.StreamResponse:
    guard = request.app[CONNECTIONS]
    # Without proxies only a failure asks for the address, which takes longer than many a request.
    client = guard.address_of(request) if guard.has_proxies else None
    door = request.app[DOORS].of(request.rel_url.raw_path)
    try:
        with guard.request(client):
            response = await _answered(request, handler, door, started)
        if response.status == UNAUTHENTICATED and not response.prepared and _tried(request):
            await guard.failures.wait(client or guard.address_of(request))
    except LimitError as error:
        response = door.refuse(error, request)
    return response


def _tried(request: web.Request) -> bool:
    return any(name in request.headers for name in (hdrs.AUTHORIZATION, H_KEY, hdrs.SEC_WEBSOCKET_PROTOCOL))


async def _answered(request: web.Request, handler: Handler, door: Door, started: float) -> web.StreamResponse:
    one = bound(request)
    # A path that another door owns by a longer prefix is not there, whatever pattern of this one it fits.
    route = one.route if one is not None and one.door is door else None
    if one is not None and route is None:
        handler = _nowhere
    try:
        asked = request.app[CORS].preflight(request) if request.method == hdrs.METH_OPTIONS else None
        response = await _let_in(request, handler, door, route) if asked is None else asked
    except ConnectionError:
        raise  # the client is gone: nobody is there to answer
    except Exception as error:  # the outermost door: `problem_of` logs what nobody foresaw
        if request.writer.output_size > 0:
            raise  # half an answer is out: only closing the connection can show it
        response = door.refuse(error, request)
    if route is None or route.lasts is not Lasts.CONNECTION:
        method = request.method if request.method in hdrs.METH_ALL else "other"
        label = "unmatched" if route is None else route.path
        seconds = time.perf_counter() - started
        request.app[app_keys.METRICS].answered(method, label, response.status, seconds)
    return response


async def _let_in(
    request: web.Request, handler: Handler, door: Door, route: Route | None
) -> web.StreamResponse:
    check_form(request)
    async with asyncio.timeout(_bound_s(request, route)):
        principal = await door.identify(request, route)
        if principal is not None:
            enter(request, principal)
            known(request)
        response = await handler(request)
        await pack(request, response)
    return response


async def _nowhere(_: web.Request) -> web.StreamResponse:
    raise web.HTTPNotFound


def _bound_s(request: web.Request, route: Route | None) -> float | None:
    """How long a request may take; None for one that lasts as its body, its stream or its own limits do."""
    settings: Settings = request.app[app_keys.SETTINGS]
    if route is None:
        return settings.answer_s
    if route.lasts is not Lasts.ANSWER:
        return None
    # Whatever else is in the parameter is refused by the route.
    wait = request.query.get("wait", "")
    wait_s = min(float(wait), settings.wait_s) if SECONDS.fullmatch(wait) else 0.0
    return settings.answer_s + wait_s


def answer_expectations(app: web.Application) -> None:
    """Have every route that does not do so itself answer `Expect` before its body comes."""
    for route in app.router.routes():
        one = getattr(route.handler, "__self__", None)
        if not getattr(getattr(one, "route", None), "expects", False):
            # It is set where a route is made, and aiohttp makes some itself.
            route._expect_handler = _expected  # noqa: SLF001


async def _expected(request: web.Request) -> web.Response | None:
    try:
        await continue_now(request)
    except web.HTTPExpectationFailed as error:
        return problem_of(error).response(request)
    return None
