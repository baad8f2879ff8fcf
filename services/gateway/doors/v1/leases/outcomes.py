"""The routes of attempts that a back end carries on by itself: left to it, and what it reports of them.

A back end that calls back is given one URL. The token in its path says who calls and which attempt is meant.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Final, Literal

import msgspec
from aiohttp import web
from msgspec import Meta

from switchyard.events.outcome import MAX_NAMES
from switchyard.events.values import Backend, BackendName, JobError, RemoteId
from switchyard.projections.job_view import ArtifactView
from switchyard.services.access.outcome_tickets import OutcomeClaims
from switchyard.services.access.principal import Principal, Role
from switchyard.services.gateway.app_keys import BACKENDS, SETTINGS
from switchyard.services.gateway.doors.v1.answers.leases import (
    DelegateAnswer,
    LeaseNotice,
    delegate_answer,
    notice,
)
from switchyard.services.gateway.doors.v1.leases.results import GONE, HOLDER, ProgressRequest, held
from switchyard.services.gateway.doors.v1.leases.routes import ErrorRequest, Unit
from switchyard.services.gateway.doors.v1.parts import NO_SUCH, SEQ, WORK
from switchyard.services.gateway.http.callers import H_SEQ, json_response
from switchyard.services.gateway.http.identity import DOORKEEPER
from switchyard.services.gateway.http.routes import Call, Lasts, Media, Parameter, Route
from switchyard.services.gateway.http.uploads import Upload, continue_now, open_upload
from switchyard.services.gateway.operations.backends import actor_of
from switchyard.services.gateway.operations.outcomes import reference

CLAIMS: Final = web.RequestKey("outcome_claims", OutcomeClaims)


class BackendRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which back end; `remote_id` is what it calls the work, where that is known."""

    kind: BackendName
    id: BackendName
    remote_id: RemoteId = ""


class DelegateRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """To whom an attempt is left, and seconds from one sign of life to the next."""

    backend: BackendRequest
    lease_s: Annotated[float, Meta(ge=1)] | None = None


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
    job, token = await call.part(BACKENDS).delegate(call.caller, claims, backend, call.body.lease_s)
    return json_response(delegate_answer(claims, job, token), headers={H_SEQ: str(job.seq)})


async def report(call: Call[OutcomeRequest]) -> web.Response:
    """What the back end says; the answer says whether it is to stop."""
    backends, caller, said, claims = call.part(BACKENDS), call.caller, call.body, call.request[CLAIMS]
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
