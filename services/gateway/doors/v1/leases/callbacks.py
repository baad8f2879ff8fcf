"""The route that prediction servers call back: the token in its path says who calls and what it is about."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Final

import msgspec
from aiohttp import web

from switchyard.services.access.principal import Principal, Role
from switchyard.services.access.ticket_claims import OutcomeClaims
from switchyard.services.dispatch.backends.delegations import actor_of
from switchyard.services.dispatch.push.callbacks import CALLBACKS as PREFIX
from switchyard.services.gateway.app_keys import CALLBACKS
from switchyard.services.gateway.doors.v1.answers.leases import LeaseNotice, notice
from switchyard.services.gateway.doors.v1.leases.outcomes import OF_TOKENS
from switchyard.services.gateway.doors.v1.parts import SEQ, WORK
from switchyard.services.gateway.http.callers import H_SEQ, json_body, json_response
from switchyard.services.gateway.http.identity import DOORKEEPER
from switchyard.services.gateway.http.routes import Call, Lasts, Route

CLAIMS: Final = web.RequestKey("callback_claims", OutcomeClaims)


def caller_of(request: web.Request) -> Principal:
    """The server that a request comes from; what else it brings to show who it is does not count.

    Raises:
        UnauthenticatedError: the token is none of ours.
        RateLimitedError: the tenant asks too often.
    """
    claims = request[CLAIMS] = request.app[CALLBACKS].claims(request.match_info["ticket"])
    principal = Principal(actor_of(claims.backend), claims.tenant, frozenset({Role.WORKER}), "", math.inf)
    request.app[DOORKEEPER].count(request, principal)
    return principal


class CallbackRequest(msgspec.Struct, frozen=True):
    """The body of a callback, in either form; what else it holds belongs to the result of the older one.

    Servers of another profile than `task` call back as that has it.

    Args:
        backend_task_id: what the server calls the task.
        data: the output, in the older form.
        metadata: `status`, and maybe `progress` and `message`, in the older form.
        status: PROCESSING, COMPLETED, FAILED or CANCELLED, in the newer form.
        result: what comes of COMPLETED.
        progress: a fraction, per cent, or an object with one of them and a message.
        error: what comes of FAILED.
    """

    backend_task_id: Any = None
    data: Any = None
    metadata: Any = None
    status: Any = None
    result: Any = None
    progress: Any = None
    error: Any = None


async def called_back(call: Call[CallbackRequest]) -> web.Response:
    """What the server says of its task; the answer says how the job stands, and whether it is to stop."""
    claims, callbacks = call.request[CLAIMS], call.part(CALLBACKS)
    caller = replace(call.caller, actor="")
    async with callbacks.room(claims, call.request.content_length):
        try:
            raw = await json_body(call.request, callbacks.most_bytes(claims))
        except web.HTTPRequestEntityTooLarge:
            await callbacks.too_large(caller, claims)
            raise
        job = await callbacks.report(caller, claims, raw)
    return json_response(notice(job), headers={H_SEQ: str(job.seq)})


ROUTES: Final = tuple(
    Route(
        method=method, path=f"{PREFIX}/{{ticket}}", handler=called_back, summary=summary, roles=WORK,
        body=CallbackRequest, reads=True, lasts=Lasts.BODY, answers={200: LeaseNotice}, answer_headers=SEQ,
        errors=(*OF_TOKENS, (413, "quota_exceeded"), (422, "unwritable")),
    )
    for method, summary in (
        ("POST", "Call back on a task of a prediction server"),
        ("PUT", "Call back on a task of a prediction server, as older ones do"),
    )
)  # fmt: skip
PATHS: Final = frozenset(route.path for route in ROUTES)
