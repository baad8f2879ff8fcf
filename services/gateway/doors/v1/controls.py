"""Routes that pause and resume workers, lanes and kinds, and drain workers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from aiohttp import web

from switchyard.events import subjects
from switchyard.events.errors import (
    ConflictError,
    InvalidError,
    NotFoundError,
    UnavailableError,
    VersionConflictError,
)
from switchyard.services import clock
from switchyard.services.access.principal import ANYBODY, Principal, Role
from switchyard.services.broker.bucket import Bucket
from switchyard.services.connectors.registry import CONNECTORS
from switchyard.services.gateway.app_keys import NATS, PUBLISHER, READ_MODEL, SETTINGS, WORKERS
from switchyard.services.gateway.doors.v1.workers import live_worker
from switchyard.services.gateway.http.callers import json_response, require
from switchyard.services.gateway.http.query import SHOWN_CHARS, Query
from switchyard.services.records import controls
from switchyard.services.records.controls import Control, What, Wish
from switchyard.services.records.lane_entries import LANES
from switchyard.services.records.workers import rest_tenant

Handler = Callable[[web.Request], Awaitable[web.Response]]
WISHES: Final[dict[str, Wish | None]] = {"pause": "paused", "resume": None, "drain": "draining"}


async def list_controls(request: web.Request) -> web.Response:
    """`GET /v1/controls`: what is paused or told to drain, and concerns the caller."""
    principal = require(request, Role.VIEWER, Role.OPERATOR)
    Query(request)
    found = await controls.all_controls(request.app[NATS], timeout_s=request.app[SETTINGS].request_timeout_s)
    concerns = _concern(request.app, principal)
    shown = [
        _view(what, name, control) for (what, name), control in sorted(found.items()) if concerns(what, name)
    ]
    return json_response({"controls": shown})


def _concern(app: web.Application, principal: Principal) -> Callable[[str, str], bool]:
    """Whether something of a name concerns the caller: kinds and workers may be another tenant's."""
    if principal.sees(ANYBODY):
        return lambda _what, _name: True
    kinds = {kind for kind, _ in app[READ_MODEL].counts(tenant=principal.tenant)} | set(CONNECTORS)
    lanes = {queue["lane"] for queue in app[READ_MODEL].queues(tenant=principal.tenant)}

    def concerns(what: str, name: str) -> bool:
        if what != "worker":
            return name in (kinds if what == "kind" else lanes)
        record = app[WORKERS].get(name)
        return principal.sees(rest_tenant(name) if record is None else record.tenant)

    return concerns


def worker_route(verb: str) -> Handler:
    """The route that pauses, resumes or drains a worker."""

    async def handle(request: web.Request) -> web.Response:
        principal = require(request, Role.OPERATOR)
        Query(request)
        record = live_worker(request)
        control = _control(WISHES[verb], principal.actor)
        app = request.app
        timeout_s = app[SETTINGS].request_timeout_s
        for _ in range(app[SETTINGS].append_tries):
            now, seq = await controls.read(app[NATS], "worker", record.id, timeout_s=timeout_s)
            if record.state == "draining" or (now is not None and now.state == "draining"):
                if verb == "drain":
                    return json_response(_view("worker", record.id, now or control), status=202)
                raise ConflictError(
                    f"cannot {verb} worker {record.id}: it drains, which nothing takes back", code="draining"
                )
            try:
                await controls.write(app[PUBLISHER], "worker", record.id, control, expected=seq)
            except VersionConflictError:
                continue
            return json_response(_view("worker", record.id, control), status=202)
        raise UnavailableError(f"others change what is wished for worker {record.id} all the time")

    return handle


def queue_route(what: What, verb: str) -> Handler:
    """The route that pauses or resumes a lane or a kind."""

    async def handle(request: web.Request) -> web.Response:
        principal = require(request, Role.OPERATOR)
        Query(request)
        name = request.match_info[what]
        if subjects.NAME.fullmatch(name) is None:
            raise InvalidError(
                f"{what}: a name that matches {subjects.NAME.pattern} was expected", field=what
            )
        app = request.app
        timeout_s = app[SETTINGS].request_timeout_s
        # Also a lane that was removed is one: it may be made again.
        if what == "lane" and not await Bucket(app[NATS], LANES, timeout_s=timeout_s).keys(name):
            raise NotFoundError(f"there is no lane {name[:SHOWN_CHARS]}", field=what)
        control = _control(WISHES[verb], principal.actor)
        now, _ = await controls.read(app[NATS], what, name, timeout_s=timeout_s)
        if (now is None) is not (control is None):
            await controls.write(app[PUBLISHER], what, name, control)
        else:
            control = now
        consumers = await controls.carry_out(app[NATS], what, name, timeout_s=timeout_s)
        return json_response({**_view(what, name, control), "consumers": consumers})

    return handle


def add_routes(router: web.UrlDispatcher) -> None:
    """Connect the routes."""
    router.add_get("/v1/controls", list_controls)
    for verb in WISHES:
        router.add_post(f"/v1/workers/{{id}}/{verb}", worker_route(verb))
    for verb in ("pause", "resume"):
        router.add_post(f"/v1/lanes/{{lane}}/{verb}", queue_route("lane", verb))
        router.add_post(f"/v1/kinds/{{kind}}/{verb}", queue_route("kind", verb))


def _control(wish: Wish | None, by: str) -> Control | None:
    return None if wish is None else Control(wish, by, clock.now())


def _view(what: str, name: str, control: Control | None) -> dict[str, Any]:
    """What is wished for a thing; a state `running` stands for nothing in particular."""
    fields: dict[str, Any] = {} if control is None else msgspec.to_builtins(control)
    return {"what": what, "name": name, "state": "running", "by": None, "at": None, **fields}
