"""The routes of timed leases, the door for workers that do not speak NATS."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from switchyard.events.outcome import ERROR_BYTES, MAX_NAME_CHARS, MAX_NAMES
from switchyard.events.subjects import NAME_PATTERN
from switchyard.events.values import JobError
from switchyard.projections.job_view import JobView
from switchyard.services.dispatch.rest.asked import ClaimRequest
from switchyard.services.dispatch.rest.claiming import Nothing
from switchyard.services.dispatch.rest.timed import attempt_s
from switchyard.services.gateway.app_keys import LEASES, SETTINGS
from switchyard.services.gateway.doors.v1.answers.leases import (
    ClaimAnswer,
    RenewAnswer,
    claim_answer,
    renew_answer,
)
from switchyard.services.gateway.doors.v1.jobs.shown import shown
from switchyard.services.gateway.doors.v1.leases import results
from switchyard.services.gateway.doors.v1.leases.results import GONE, HOLDER, held
from switchyard.services.gateway.doors.v1.parts import EMPTY, H_KEY, H_TRACE, WORK
from switchyard.services.gateway.http.callers import H_SEQ, alive, json_response, key_of
from switchyard.services.gateway.http.routes import Call, Lasts, Route

H_REVISION: Final = "Switchyard-Worker-Revision"
H_STATE: Final = "Switchyard-Worker-State"
Code = Annotated[str, Meta(min_length=1, max_length=100)]
Check = Annotated[str, Meta(pattern=NAME_PATTERN)]
Unit = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARS)]


class RenewRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a renewal, which may be empty."""

    lease_s: Annotated[float, Meta(ge=1)] | None = None


class ErrorRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why an attempt failed."""

    code: Code
    message: Annotated[str, Meta(max_length=ERROR_BYTES)] = ""
    retryable: bool = True
    traceback: Annotated[str, Meta(max_length=8_192)] = ""


class FailRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a failure."""

    error: ErrorRequest


class SucceedRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a success; artifacts are named as they were uploaded."""

    result: Any = None
    artifacts: list[str] = []
    usage: Annotated[dict[Unit, float], Meta(max_length=MAX_NAMES)] = {}


class ProposeRequest(SucceedRequest, frozen=True, forbid_unknown_fields=True):
    """The body of a proposal; `checks` says which it passed and which it did not."""

    checks: Annotated[dict[Check, bool], Meta(max_length=MAX_NAMES)] = {}


class ReleaseRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a release, which has nothing to say."""


async def claim(call: Call[ClaimRequest]) -> web.Response:
    """A job under a timed lease, or 204 when none came in time."""
    leases, request = call.part(LEASES), call.request
    claimed = await leases.claim(call.caller, call.body, call.raw, key=key_of(request), alive=alive(request))
    if isinstance(claimed, Nothing):
        wish = leases.claiming.wish(call.caller, call.body)
        return web.Response(
            status=204, headers={H_STATE: wish or "running", H_REVISION: str(claimed.revision)}
        )
    body = claim_answer(claimed, leases.token(claimed.claims), attempt_s(claimed.job, call.part(SETTINGS)))
    headers = {
        H_SEQ: str(claimed.job.seq),
        H_REVISION: str(claimed.revision),
        "Location": f"/v1/leases/{claimed.claims.id}",
    }
    return json_response(body, status=201, headers=headers)


async def renew(call: Call[RenewRequest]) -> web.Response:
    """Prolong it; the answer says if the job is to be stopped."""
    claims = held(call)
    job, expires_at = await call.part(LEASES).renew(call.caller, claims, call.body.lease_s)
    return json_response(renew_answer(claims, job, expires_at), headers={H_SEQ: str(job.seq)})


async def succeed(call: Call[SucceedRequest]) -> web.Response:
    """The result."""
    fields = msgspec.structs.asdict(call.body)
    return await shown(call, await call.part(LEASES).succeed(call.caller, held(call), **fields))


async def propose(call: Call[ProposeRequest]) -> web.Response:
    """A result for a reviewer, or for the checks that it passed."""
    fields = msgspec.structs.asdict(call.body)
    return await shown(call, await call.part(LEASES).propose(call.caller, held(call), **fields))


async def fail(call: Call[FailRequest]) -> web.Response:
    """The error; another attempt follows where one is left."""
    asked = call.body.error
    error = JobError(asked.code, asked.message, asked.retryable, asked.traceback)
    return await shown(call, await call.part(LEASES).fail(call.caller, held(call), error))


async def release(call: Call[ReleaseRequest]) -> web.Response:
    """Give the job back uncounted, or say that it has stopped."""
    return await shown(call, await call.part(LEASES).release(call.caller, held(call)))


_ENDS: Final[dict[str, Any]] = {**HOLDER, "answers": {200: JobView}}

ROUTES: Final = (
    Route(
        method="POST", path="/v1/leases", handler=claim, summary="Claim a job for a time",
        roles=WORK, body=ClaimRequest, headers=(H_KEY, H_TRACE),
        answers={201: ClaimAnswer, 204: None}, answer_headers=(H_SEQ, H_REVISION, H_STATE, "Location"),
        errors=(
            (409, "idempotency_conflict"), (409, "unknown_revision"), (429, "too_many_claims"),
            (429, "too_many_claim_keys"), (429, "too_many_bytes"), (429, "too_many_workers"),
            (429, "too_many_capabilities"),
        ),
        lasts=Lasts.BODY,
    ),
    Route(
        path="/v1/leases/{id}/renew", handler=renew, summary="Prolong a lease",
        body=RenewRequest, empty=EMPTY, answers={200: RenewAnswer},
        errors=(*GONE, (409, "attempt_timeout")), **HOLDER,
    ),
    Route(
        path="/v1/leases/{id}/succeed", handler=succeed, summary="Hand in a result",
        body=SucceedRequest, empty=EMPTY,
        errors=(*GONE, (413, "quota_exceeded"), (422, "unknown_file"), (422, "unwritable")), **_ENDS,
    ),
    Route(
        path="/v1/leases/{id}/propose", handler=propose, summary="Hand in a result for a reviewer",
        body=ProposeRequest, empty=EMPTY,
        errors=(*GONE, (413, "quota_exceeded"), (422, "unknown_file"), (422, "unwritable")), **_ENDS,
    ),
    Route(
        path="/v1/leases/{id}/fail", handler=fail, summary="Report a failure",
        body=FailRequest, errors=GONE, **_ENDS,
    ),
    Route(
        path="/v1/leases/{id}/release", handler=release, summary="Give a job back",
        body=ReleaseRequest, empty=EMPTY, errors=GONE, **_ENDS,
    ),
    *results.ROUTES,
)  # fmt: skip
