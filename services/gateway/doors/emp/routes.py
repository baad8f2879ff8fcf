"""The routes of the emp-redis door."""

from __future__ import annotations

from typing import Final

from aiohttp import hdrs, web

from switchyard.services.access.principal import Role
from switchyard.services.gateway.doors.emp import sockets
from switchyard.services.gateway.doors.emp.rest import answers, handlers, sse
from switchyard.services.gateway.doors.emp.rest.forms import SubmitForm
from switchyard.services.gateway.http.routes import (
    Call,
    Handler,
    Lasts,
    Media,
    OneOf,
    Parameter,
    Route,
    plain,
)

WS: Final = "/ws"
TEST: Final = "/ws/test"
TOKEN: Final = Parameter("token")


def _of(role: str) -> Handler:
    async def handle(call: Call[None]) -> web.StreamResponse:
        return await sockets.by_path(call.request, role)

    return handle


async def _root(call: Call[None]) -> web.StreamResponse:
    if hdrs.UPGRADE in call.request.headers:
        return await sockets.by_message(call.request)
    return await handlers.health(call)


def _socket(path: str, handler: Handler, summary: str) -> Route:
    return Route(
        method="GET", path=path, handler=handler, summary=summary, query=(TOKEN,), lenient=True,
        headers=("Origin",), answers={101: None}, lasts=Lasts.CONNECTION,
    )  # fmt: skip


SOCKETS: Final = (
    _socket(WS + "/client/{id}", _of("client"), "Speak with a client over a WebSocket"),
    _socket(WS + "/worker/{id}", _of("worker"), "Speak with a worker over a WebSocket"),
    _socket(WS + "/monitor/{id}", _of("monitor"), "Speak with a monitor over a WebSocket"),
    _socket(WS + "/compat", plain(sockets.by_message), "Speak with whoever the first message names"),
    _socket(TEST, plain(sockets.test), "Say that WebSockets can be opened"),
)
JOBS: Final = "/api/jobs"
_REFUSED: Final = ((404, "not_found"), (409, "damaged"))
_SUBMITTED: Final = (
    (403, "kind_not_allowed"), (409, "conflict"), (409, "damaged"), (409, "idempotency_conflict"),
    (413, "payload_too_large"), (422, "unknown_limit"), (429, "key_spent"), (429, "limit"),
    (429, "too_many_jobs"), (429, "too_many_job_bytes"), (507, "storage_full"),
)  # fmt: skip
REST: Final = (
    Route(
        method="POST", path=JOBS, handler=handlers.submit, summary="Submit a job", body=SubmitForm,
        roles=(Role.SUBMITTER,), query=(TOKEN,), lenient=True,
        answers={200: OneOf((answers.SubmitAnswer, answers.JobAnswer)), 201: answers.SubmitAnswer},
        errors=_SUBMITTED, lasts=Lasts.BODY,
    ),
    Route(
        method="GET", path=JOBS, handler=handlers.listed, summary="List jobs", roles=(Role.VIEWER,),
        query=(TOKEN, Parameter("status"), Parameter("limit", "integer"), Parameter("offset", "integer")),
        lenient=True, answers={200: answers.JobsAnswer},
    ),
    Route(
        method="GET", path=JOBS + "/{id}", handler=handlers.read, summary="Read a job", roles=(Role.VIEWER,),
        query=(TOKEN,), lenient=True, answers={200: answers.JobAnswer}, errors=_REFUSED,
    ),
    Route(
        method="GET", path=JOBS + "/{id}/progress", handler=sse.progress, roles=(Role.VIEWER,),
        summary="Follow a job as server-sent events", query=(TOKEN,), lenient=True,
        headers=("Last-Event-ID",), answers={200: Media("text/event-stream"), 204: None}, errors=_REFUSED,
        lasts=Lasts.CONNECTION,
    ),
)  # fmt: skip
ROUTES: Final = (*SOCKETS, *REST)
AT_LISTENER: Final = (
    _socket("/", _root, "The same, where no path is named; how the gateway is, without a WebSocket"),
    Route(
        method="GET", path="/health", handler=handlers.health, summary="Say that somebody is there",
        lenient=True, answers={200: answers.HealthAnswer},
    ),
)  # fmt: skip
"""What is answered at the door's own listener beside those."""
OPEN: Final = frozenset(route.path for route in (*SOCKETS, *AT_LISTENER))
"""Paths that find out by themselves who comes, or do not ask."""
