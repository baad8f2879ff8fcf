"""Timed leases over REST: `/v1/leases`, the door for workers that do not speak NATS."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from switchyard.events.commands import (
    AnyCommand,
    Complete,
    ConfirmCancel,
    Fail,
    Propose,
    Release,
    RenewClaim,
    Wake,
)
from switchyard.events.encoding.codec import event_name
from switchyard.events.errors import ConflictError, InvalidError
from switchyard.events.job import RULE_CHECKS, Job
from switchyard.events.outcome import ERROR_BYTES, MAX_NAME_CHARS, MAX_NAMES
from switchyard.events.subjects import NAME_PATTERN
from switchyard.events.values import JobError, Status
from switchyard.projections.job_view import time_view
from switchyard.services import clock
from switchyard.services.access.lease_tickets import LeaseClaims
from switchyard.services.access.principal import Principal, Role
from switchyard.services.dispatch.leasing import jitter
from switchyard.services.dispatch.rest.claiming import Claimed, ClaimRequest, Nothing, attempt_s
from switchyard.services.event_store import Transition
from switchyard.services.gateway.app_keys import (
    CLAIMING,
    LEASE_TOKENS,
    METRICS,
    SETTINGS,
    STORE,
)
from switchyard.services.gateway.doors.v1.jobs.routes import answer
from switchyard.services.gateway.doors.v1.leases import results
from switchyard.services.gateway.doors.v1.leases.holder import cancel_view, holder, loaded, stale
from switchyard.services.gateway.http.callers import (
    H_SEQ,
    body_of,
    caller_of,
    heard,
    json_body,
    json_response,
    require,
)
from switchyard.services.gateway.http.query import Query

H_REVISION: Final = "Switchyard-Worker-Revision"
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


_CLAIM: Final = msgspec.json.Decoder(ClaimRequest)
_RENEW: Final = msgspec.json.Decoder(RenewRequest)
_FAIL: Final = msgspec.json.Decoder(FailRequest)
_SUCCEED: Final = msgspec.json.Decoder(SucceedRequest)
_PROPOSE: Final = msgspec.json.Decoder(ProposeRequest)
_RELEASE: Final = msgspec.json.Decoder(ReleaseRequest)


# --- The claim


async def claim(request: web.Request) -> web.Response:
    """`POST /v1/leases`: a job under a timed lease, or 204 when none came in time."""
    principal = require(request, Role.WORKER)
    Query(request)
    raw = await json_body(request)
    asked = await body_of(request, _CLAIM)
    claimed = await request.app[CLAIMING].claim(principal, asked, raw, **heard(request))
    if isinstance(claimed, Nothing):
        wish = request.app[CLAIMING].wish(principal, asked)
        state = {"Switchyard-Worker-State": wish or "running"}
        return web.Response(status=204, headers=state | {H_REVISION: str(claimed.revision)})
    if claimed.is_new:
        request.app[METRICS].appended.labels("claimed").inc()
    return json_response(_claimed_view(request, claimed), status=201, headers=_headers(claimed))


def _headers(claimed: Claimed) -> dict[str, str]:
    return {
        H_SEQ: str(claimed.job.seq),
        H_REVISION: str(claimed.revision),
        "Location": f"/v1/leases/{claimed.claims.id}",
    }


def _claimed_view(request: web.Request, claimed: Claimed) -> dict[str, Any]:
    job, spec = claimed.job, claimed.spec
    return {
        "lease": {
            "id": claimed.claims.id,
            "token": request.app[LEASE_TOKENS].sign(claimed.claims),
            "fence": claimed.claims.fence,
            "attempt": claimed.claims.attempt,
            "worker": claimed.claims.worker,
            "revision": claimed.revision,
            "expires_at": time_view(job.lease.expires_at if job.lease else None),
            "timeout_s": attempt_s(job, request.app[SETTINGS]),
        },
        "job": {
            "id": job.id,
            "kind": job.kind,
            "tenant": job.tenant,
            "state": job.status.value,
            "payload": claimed.payload,
            "labels": job.labels,
            "priority": job.priority,
            "requires": spec.requires,
            "attempt": job.attempt,
            "failures": job.failures,
            "max_attempts": job.max_attempts,
            "rejections": job.rejections,
            "feedback": job.feedback,
            "attempt_timeout_s": job.attempt_timeout_s,
            "deadline_at": time_view(job.deadline_at),
            "created_at": time_view(job.created_at),
        },
    }


# --- What the holder says


async def renew(request: web.Request) -> web.Response:
    """`POST /v1/leases/{id}/renew`: prolong it; the answer says if the job is to be stopped."""
    principal, claims = holder(request)
    asked = await body_of(request, _RENEW, empty=b"{}")
    settings = request.app[SETTINGS]
    lease_s = asked.lease_s or claims.lease_s
    if lease_s > settings.timed_lease_max_s:
        message = f"lease_s: at most {settings.timed_lease_max_s:g} was expected"
        raise InvalidError(message, field="lease_s")
    now = clock.now()
    job = await loaded(request, claims)
    ends_at = attempt_ends_at(job, settings.attempt_timeout_s)
    grace = timedelta(seconds=settings.cancel_grace_s)
    expires_at = min(now + timedelta(seconds=lease_s), ends_at + grace) if ends_at else now
    if expires_at <= now and job.lease is not None and job.lease.fence == claims.fence:
        raise ConflictError(
            f"lease {claims.id} cannot be prolonged: the attempt's time is over", code="attempt_timeout",
            allowed=("succeed", "fail", "release", "propose"),
        )  # fmt: skip
    command = RenewClaim(now=now, fence=claims.fence, expires_at=expires_at)
    before = job
    try:
        job, _ = await _append(request, principal, claims, job, command)
    except ConflictError as error:
        return await stale(request, claims, error)
    await request.app[CLAIMING].prolonged(claims, before, expires_at)
    view = {
        "id": claims.id, "fence": claims.fence, "attempt": claims.attempt, "worker": claims.worker,
        "expires_at": time_view(expires_at),
    }  # fmt: skip
    body = {"lease": view, "job": {"id": job.id, "state": job.status.value}, **cancel_view(job)}
    return json_response(body, headers={H_SEQ: str(job.seq)})


def attempt_ends_at(job: Job, timeout_s: float) -> datetime | None:
    """When the attempt's time is over; its lease may go on for as long as a stop may take."""
    if job.started_at is None:
        return None
    return job.started_at + timedelta(seconds=job.attempt_timeout_s or timeout_s)


async def succeed(request: web.Request) -> web.Response:
    """`POST /v1/leases/{id}/succeed`: the result."""
    principal, claims = holder(request)
    asked = await body_of(request, _SUCCEED, empty=b"{}")
    return await _result(request, principal, claims, asked, "succeed")


async def propose(request: web.Request) -> web.Response:
    """`POST /v1/leases/{id}/propose`: a result for a reviewer, or for the checks that it passed."""
    principal, claims = holder(request)
    asked = await body_of(request, _PROPOSE, empty=b"{}")
    return await _result(request, principal, claims, asked, "propose")


async def _result(
    request: web.Request, principal: Principal, claims: LeaseClaims, asked: SucceedRequest, verb: str
) -> web.Response:
    job = await loaded(request, claims)
    result: Any = None
    artifacts: tuple[dict[str, Any], ...] = ()
    # Nothing is stored for a lease that is gone or a damaged job; the command says so, or finds itself done.
    if job.damage is None and job.lease is not None and job.lease.fence == claims.fence:
        result, artifacts = await results.kept(request, job, claims, asked.result, asked.artifacts)
    fields: dict[str, Any] = {
        "now": clock.now(), "fence": claims.fence,
        "result": result, "artifacts": artifacts, "usage": asked.usage,
    }  # fmt: skip
    command: AnyCommand = Complete(**fields)
    if isinstance(asked, ProposeRequest):
        command = Propose(**fields, by=principal.actor, checks=asked.checks)
    return await _end(request, principal, claims, job, command, verb)


async def fail(request: web.Request) -> web.Response:
    """`POST /v1/leases/{id}/fail`: the error; another attempt follows where one is left."""
    principal, claims = holder(request)
    asked = (await body_of(request, _FAIL)).error
    job = await loaded(request, claims)
    error = JobError(asked.code, asked.message, asked.retryable, asked.traceback)
    command = Fail(now=clock.now(), fence=claims.fence, error=error, jitter=jitter())
    return await _end(request, principal, claims, job, command, "fail")


async def release(request: web.Request) -> web.Response:
    """`POST /v1/leases/{id}/release`: give the job back uncounted, or say that it has stopped."""
    principal, claims = holder(request)
    await body_of(request, _RELEASE, empty=b"{}")
    job = await loaded(request, claims)
    command: AnyCommand = Release(now=clock.now(), fence=claims.fence, by_handler=True, jitter=jitter())
    if job.status is Status.CANCELLING:
        command = ConfirmCancel(now=clock.now(), fence=claims.fence)
    return await _end(request, principal, claims, job, command, "release")


async def _end(
    request: web.Request,
    principal: Principal,
    claims: LeaseClaims,
    job: Job,
    command: AnyCommand,
    verb: str,
) -> web.Response:
    before = job
    try:
        job, event = await _append(request, principal, claims, job, command)
    except ConflictError as error:
        return await stale(request, claims, error, verb)
    if event is not None:  # else this call had been here before, and its places may be another's by now
        await request.app[CLAIMING].ended(claims, before)
    if job.review is not None and job.review.passed:
        job = await _accept_by_rule(request, principal, job)
    return answer(request, job)


async def _append(
    request: web.Request, principal: Principal, claims: LeaseClaims, job: Job, command: AnyCommand
) -> Transition:
    done = await request.app[STORE].transition(
        job,
        command,
        actor=f"worker:{claims.worker}",
        trace=caller_of(request, principal).trace,
        key=principal.key,
    )
    if done.event is not None:
        request.app[METRICS].appended.labels(event_name(done.event)).inc()
    return done


async def _accept_by_rule(request: web.Request, principal: Principal, job: Job) -> Job:
    """Accept what has passed its checks; a keeper does it where this gateway dies before."""
    wake = Wake(now=clock.now(), cancel_grace_s=request.app[SETTINGS].cancel_grace_s)
    trace = caller_of(request, principal).trace
    job, _ = await request.app[STORE].transition(job, wake, actor=RULE_CHECKS, trace=trace)
    return job


def add_routes(router: web.UrlDispatcher, expect: Any) -> None:
    """Connect the routes; `expect` answers `Expect: 100-continue` of an upload."""
    router.add_post("/v1/leases", claim)
    for verb in (renew, results.progress, results.logs, succeed, fail, release, propose):
        router.add_post(f"/v1/leases/{{id}}/{verb.__name__}", verb)
    router.add_post("/v1/leases/{id}/artifacts", results.upload, expect_handler=expect)
