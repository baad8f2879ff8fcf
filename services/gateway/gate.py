"""The gate: every request comes through it to its door, and every answer leaves by it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import structlog
from aiohttp import hdrs, web

from switchyard.events.errors import LimitError
from switchyard.services.access.principal import Principal, Role
from switchyard.services.gateway import app_keys, explorer, health
from switchyard.services.gateway.http.callers import CALLER, enter
from switchyard.services.gateway.http.connections import CONNECTIONS, door_of, known
from switchyard.services.gateway.http.doors import Bound, Door, Doors, bound
from switchyard.services.gateway.http.edge.cors import CORS
from switchyard.services.gateway.http.edge.packing import pack
from switchyard.services.gateway.http.edge.request_ids import IN_LOG, request_id
from switchyard.services.gateway.http.identity import H_KEY, TICKET
from switchyard.services.gateway.http.problems import problem_of
from switchyard.services.gateway.http.query import SECONDS, check_form
from switchyard.services.gateway.http.routes import Lasts, Media, Route, plain
from switchyard.services.gateway.http.uploads import continue_now
from switchyard.services.gateway.monitor import serving
from switchyard.services.gateway.openapi import served
from switchyard.services.settings import Settings

log = structlog.get_logger()

UNAUTHENTICATED: Final = 401
GONE: Final = 499
"""Stands in the log for an answer that could not be given to the end."""
UNMATCHED: Final = "unmatched"
METRICS: Final = "/metrics"
OPEN: Final = frozenset(
    {"/", serving.PATH, "/health", "/healthz", "/readyz", served.PATH, *(path for path, *_ in explorer.FILES)}
)
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
                method="GET", path="/health", handler=plain(health.health),
                summary="Say whether requests can be served, as Ilios does",
                answers={200: health.Healthy, 503: health.Healthy},
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
            *serving.routes(),
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
    status = GONE
    try:
        response = await _through(request, handler, started)
        status = response.status
        return response
    finally:
        _log_request(request, status, started)
        IN_LOG.reset(in_log)


def _log_request(request: web.Request, status: int, started: float) -> None:
    """Write that a request was answered: by the template of its path, which holds nobody's words.

    A line is written when an answer is about to be sent, or, of one that is sent as it is made, when it ends.
    """
    if not request.app[app_keys.SETTINGS].request_log:
        return
    caller, one = request.get(CALLER), bound(request)
    route = UNMATCHED if one is None else one.route.path
    fields = {"method": _method(request), "route": route, "status": status}
    if caller is not None:
        fields["tenant"] = caller.tenant
        if caller.home:
            fields["home"] = caller.home
        if caller.trace:
            fields["trace"] = caller.trace
    write = log.debug if route in OPEN or route == METRICS else log.info
    write("request", **fields, ms=round((time.perf_counter() - started) * 1000, 1))


def _method(request: web.Request) -> str:
    return request.method if request.method in hdrs.METH_ALL else "other"


async def _through(request: web.Request, handler: Handler, started: float) -> web.StreamResponse:
    guard = request.app[CONNECTIONS]
    # Without proxies only a failure asks for the address, which takes longer than many a request.
    client = guard.address_of(request) if guard.has_proxies else None
    doors, one = request.app[DOORS], bound(request)
    door = doors.of(request.rel_url.raw_path)
    if (only := door_of(request)) and door.name != only:
        door, one = doors.alone(only, request.method, request.rel_url.raw_path)
        handler = _nowhere if one is None else one.handle
    try:
        with guard.request(client):
            response = await _answered(request, handler, door, one, started)
        if response.status == UNAUTHENTICATED and not response.prepared and _tried(request):
            await guard.failures.wait(client or guard.address_of(request))
    except LimitError as error:
        response = door.refuse(error, request)
    return response


def _tried(request: web.Request) -> bool:
    named = (hdrs.AUTHORIZATION, H_KEY, hdrs.SEC_WEBSOCKET_PROTOCOL)
    return TICKET in request.query or any(name in request.headers for name in named)


async def _answered(
    request: web.Request, handler: Handler, door: Door, one: Bound | None, started: float
) -> web.StreamResponse:
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
        label = UNMATCHED if route is None else route.path
        seconds = time.perf_counter() - started
        request.app[app_keys.METRICS].answered(_method(request), label, response.status, seconds)
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
    if route.waits is not None:
        return settings.answer_s + min(route.waits(request), settings.wait_s)
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
