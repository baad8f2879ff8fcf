"""The routes of attempts that a back end carries on by itself: left to it, and what it reports of them.

A back end that calls back is given one URL. The token in its path says who calls and which attempt is meant.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated, Any, Final, Literal

import msgspec
from aiohttp import web
from msgspec import Meta

from switchyard.events.errors import InvalidError
from switchyard.events.outcome import MAX_NAMES
from switchyard.events.values import Backend, BackendName, JobError, RemoteId
from switchyard.projections.job_view import ArtifactView
from switchyard.services import clock
from switchyard.services.access.principal import Principal, Role
from switchyard.services.access.ticket_claims import OutcomeClaims
from switchyard.services.dispatch.backends.delegations import actor_of
from switchyard.services.dispatch.rest.asked import AttemptsRequest
from switchyard.services.gateway.app_keys import BACKENDS, CALLBACKS, FINDING, LEASES, SETTINGS
from switchyard.services.gateway.doors.v1.answers.leases import (
    DelegateAnswer,
    FoundAnswer,
    LeaseNotice,
    delegate_answer,
    found_answer,
    notice,
)
from switchyard.services.gateway.doors.v1.leases.results import GONE, HOLDER, ProgressRequest, held
from switchyard.services.gateway.doors.v1.leases.routes import H_REVISION, H_STATE, ErrorRequest, Unit
from switchyard.services.gateway.doors.v1.parts import NO_SUCH, SEQ, WORK
from switchyard.services.gateway.http.callers import H_SEQ, json_response
from switchyard.services.gateway.http.identity import DOORKEEPER
from switchyard.services.gateway.http.routes import Call, Lasts, Media, Parameter, Route
from switchyard.services.gateway.http.uploads import Upload, continue_now, open_upload
from switchyard.services.gateway.operations.leases import attempt_ends_at
from switchyard.services.gateway.operations.outcomes import reference
from switchyard.services.records.servers.naming import BACKEND_KIND

CLAIMS: Final = web.RequestKey("outcome_claims", OutcomeClaims)


class BackendRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which back end; `remote_id` is what it calls the work, where that is known."""

    kind: BackendName
    id: BackendName
    remote_id: RemoteId = ""


class DelegateRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """To whom an attempt is left.

    Args:
        backend: who carries it on.
        lease_s: seconds from one sign of life to the next.
        watched: whether the worker looks after it, so that another may once this one is gone.
    """

    backend: BackendRequest
    lease_s: Annotated[float, Meta(ge=1)] | None = None
    watched: bool = False


class OutcomeRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a back end says of its work; what does not go with `state` is refused."""

    state: Literal["running", "succeeded", "failed", "stopped", "lost"]
    progress: ProgressRequest | None = None
    result: Any = None
    artifacts: list[str] = []
    usage: Annotated[dict[Unit, float], Meta(max_length=MAX_NAMES)] = {}
    error: ErrorRequest | None = None

    def __post_init__(self) -> None:
        of_success = self.result is not None or self.artifacts or self.usage
        if self.progress is not None and self.state != "running":
            raise ValueError("progress goes with running alone")
        if of_success and self.state != "succeeded":
            raise ValueError("result, artifacts and usage go with succeeded alone")
        if (self.error is not None) is not (self.state == "failed"):
            raise ValueError("error goes with failed, which needs one")


def caller_of(request: web.Request) -> Principal:
    """The back end that a request comes from, as the token in its path says.

    Raises:
        UnauthenticatedError: the token is none of ours.
        RateLimitedError: the tenant asks too often.
    """
    claims = request[CLAIMS] = request.app[BACKENDS].claims(request.match_info["ticket"])
    name = actor_of(claims.backend)
    principal = Principal(name, claims.tenant, frozenset({Role.WORKER}), "", math.inf)
    request.app[DOORKEEPER].count(request, principal)
    return principal


async def delegate(call: Call[DelegateRequest]) -> web.Response:
    """Leave the attempt to a back end."""
    asked = call.body.backend
    backend = Backend(asked.kind, asked.id, asked.remote_id)
    claims = held(call)
    left, job, token = await call.part(BACKENDS).delegate(
        call.caller, claims, backend, call.body.lease_s, watched=call.body.watched
    )
    return json_response(delegate_answer(left, job, token), headers={H_SEQ: str(job.seq)})


async def find(call: Call[AttemptsRequest]) -> web.Response:
    """Attempts at a back end that nobody looks after any more: the worker does from now on."""
    backend = Backend(_name(call, "kind"), _name(call, "id"))
    found = await call.part(FINDING).find(call.caller, call.body, backend)
    leases, timeout_s = call.part(LEASES), call.part(SETTINGS).attempt_timeout_s
    answers = []
    for one in found.attempts:
        ends_at = attempt_ends_at(one.claimed.job, timeout_s)
        left_s = timeout_s if ends_at is None else max(0.0, (ends_at - clock.now()).total_seconds())
        answers.append(found_answer(one, leases.token(one.claimed.claims), left_s))
    wish = leases.claiming.wish(call.caller, call.body)
    headers = {H_STATE: wish or "running", H_REVISION: str(found.revision)}
    return json_response(FoundAnswer(attempts=answers, more=found.more), headers=headers)


def _name(call: Call[Any], part: str) -> str:
    """A part of a back end's name.

    Raises:
        InvalidError: it can be none.
    """
    try:
        return msgspec.convert(call.named(part), BackendName)
    except msgspec.ValidationError:
        message = f"{part}: expected 1 to 100 of A-Z a-z 0-9 _ . : -"
        raise InvalidError(message, field=part) from None


async def report(call: Call[OutcomeRequest]) -> web.Response:
    """What the back end says; the answer says whether it is to stop."""
    backends, said, claims = call.part(BACKENDS), call.body, call.request[CLAIMS]
    caller = replace(call.caller, actor="")  # it is no user
    if claims.backend.kind == BACKEND_KIND:
        await call.part(CALLBACKS).leave(caller, claims, "")
    match said.state:
        case "running":
            progress = None if said.progress is None else msgspec.structs.asdict(said.progress)
            job = await backends.seen(caller, claims, progress)
        case "succeeded":
            job = await backends.succeed(
                caller, claims, result=said.result, artifacts=said.artifacts, usage=said.usage
            )
        case "failed" if said.error is not None:
            error = JobError(said.error.code, said.error.message, said.error.retryable, said.error.traceback)
            job = await backends.fail(caller, claims, error)
        case "stopped":
            job = await backends.stopped(caller, claims)
        case _:
            job = await backends.lost(caller, claims)
    return json_response(notice(job), headers={H_SEQ: str(job.seq)})


async def upload(call: Call[None]) -> web.Response:
    """Store a file of the attempt."""
    request = call.request

    async def opened() -> Upload:
        await continue_now(request)
        return await open_upload(request, call.query, call.part(SETTINGS).transfer_idle_s)

    info = await call.part(BACKENDS).artifact(
        request[CLAIMS],
        call.query.text("name") or "",
        opened,
        announced=request.content_length or 0,
    )
    return json_response(ArtifactView(**reference(info)), status=201)


OF_TOKENS: Final = (*NO_SUCH, (401, "outcome_token_invalid"), (409, "damaged"))

ROUTES: Final = (
    Route(
        path="/v1/leases/{id}/delegate", handler=delegate, summary="Leave an attempt to a back end",
        body=DelegateRequest, answers={200: DelegateAnswer}, errors=(*GONE, (409, "delegated")), **HOLDER,
    ),
    Route(
        method="POST", path="/v1/backends/{kind}/{id}/attempts", handler=find,
        summary="Look after what others have left at a back end", roles=WORK, body=AttemptsRequest,
        answers={200: FoundAnswer}, answer_headers=(H_REVISION, H_STATE),
        errors=(
            (409, "unknown_revision"), (429, "too_many_bytes"), (429, "too_many_workers"),
            (429, "too_many_capabilities"),
        ),
        lasts=Lasts.BODY,
    ),
    Route(
        method="POST", path="/v1/outcomes/{ticket}", handler=report, summary="Report on work of a back end",
        roles=WORK, body=OutcomeRequest, answers={200: LeaseNotice}, answer_headers=SEQ,
        errors=(*OF_TOKENS, (413, "quota_exceeded"), (422, "unknown_file"), (422, "unwritable")),
    ),
    Route(
        method="POST", path="/v1/outcomes/{ticket}/artifacts", handler=upload,
        summary="Store a file of the work of a back end", roles=WORK, query=(Parameter("name"),),
        headers=("Content-Digest", "Digest"), body=Media("application/octet-stream"),
        answers={201: ArtifactView},
        errors=(
            *OF_TOKENS, (409, "illegal_transition"), (409, "lease_lost"), (400, "body_broken_off"),
            (408, "upload_stalled"), (408, "upload_timeout"), (413, "file_too_large"),
            (413, "quota_exceeded"), (422, "digest_mismatch"), (429, "too_many_transfers"),
            (507, "storage_full"),
        ),
        lasts=Lasts.BODY, expects=True,
    ),
)  # fmt: skip
PATHS: Final = frozenset(route.path for route in ROUTES if "{ticket}" in route.path)
