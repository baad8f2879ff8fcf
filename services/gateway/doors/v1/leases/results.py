"""What an attempt over REST says while it works: progress, log lines, artifacts."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from switchyard.events.job import Job
from switchyard.events.outcome import LINE_CHARS, MESSAGE_CHARS, STAGE_CHARS
from switchyard.projections.job_view import ArtifactView
from switchyard.services.access import lease_tickets
from switchyard.services.access.ticket_claims import LeaseClaims
from switchyard.services.gateway.app_keys import LEASES, SETTINGS
from switchyard.services.gateway.doors.v1.answers.leases import LeaseNotice, notice
from switchyard.services.gateway.doors.v1.parts import NO_SUCH, SEQ, WORK
from switchyard.services.gateway.http.callers import H_SEQ, json_response
from switchyard.services.gateway.http.routes import Call, Lasts, Media, Parameter, Route
from switchyard.services.gateway.http.uploads import Upload, continue_now, open_upload
from switchyard.services.gateway.operations.outcomes import reference

GONE: Final = (
    *NO_SUCH, (403, "lease_token_invalid"), (409, "illegal_transition"), (409, "conflict"),
    (409, "damaged"), (409, "lease_lost"), (409, "not_timed"),
)  # fmt: skip
"""What whoever says something as a holder may be answered."""


class ProgressRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a progress report."""

    fraction: Annotated[float, Meta(ge=0, le=1)]
    stage: Annotated[str, Meta(max_length=STAGE_CHARS)] = ""
    message: Annotated[str, Meta(max_length=MESSAGE_CHARS)] = ""
    eta_s: Annotated[float, Meta(ge=0)] | None = None


class LogRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a log report."""

    lines: list[Annotated[str, Meta(max_length=LINE_CHARS)]]


def held(call: Call[Any]) -> LeaseClaims:
    """The lease that a call is about, as its token says.

    Raises:
        ForbiddenError: the token is not the lease's.
        NotFoundError: the lease is for another tenant's job.
    """
    token = call.request.headers.get(lease_tickets.HEADER)
    return call.part(LEASES).held(call.caller, call.named("id"), token)


async def progress(call: Call[ProgressRequest]) -> web.Response:
    """How far the attempt is; the answer says if it is to stop."""
    leases = call.part(LEASES)
    job = await leases.running(held(call), "report on")
    await leases.outcomes.progress(job, msgspec.structs.asdict(call.body))
    return _notice(job)


async def logs(call: Call[LogRequest]) -> web.Response:
    """Lines of output; the answer says if the attempt is to stop."""
    leases = call.part(LEASES)
    job = await leases.running(held(call), "report on")
    return _notice(job, dropped=await leases.outcomes.lines(job, call.body.lines))


async def upload(call: Call[None]) -> web.Response:
    """Store a file of the attempt."""
    claims, leases, request = held(call), call.part(LEASES), call.request

    async def opened() -> Upload:
        await continue_now(request)
        return await open_upload(request, call.query, call.part(SETTINGS).transfer_idle_s)

    info = await leases.artifact(
        claims,
        call.query.text("name") or "",
        opened,
        announced=request.content_length or 0,
        api_key=call.caller.key,
    )
    return json_response(ArtifactView(**reference(info)), status=201)


def _notice(job: Job, *, dropped: int = 0) -> web.Response:
    return json_response(notice(job, dropped=dropped), headers={H_SEQ: str(job.seq)})


HOLDER: Final[dict[str, Any]] = {
    "method": "POST", "roles": WORK, "headers": (lease_tickets.HEADER,), "answer_headers": SEQ,
}  # fmt: skip

ROUTES: Final = (
    Route(
        path="/v1/leases/{id}/progress", handler=progress, summary="Report how far an attempt is",
        body=ProgressRequest, answers={200: LeaseNotice}, errors=GONE, **HOLDER,
    ),
    Route(
        path="/v1/leases/{id}/logs", handler=logs, summary="Report what an attempt printed",
        body=LogRequest, answers={200: LeaseNotice}, errors=(*GONE, (429, "log_share_spent")), **HOLDER,
    ),
    Route(
        method="POST", path="/v1/leases/{id}/artifacts", handler=upload, summary="Store a file of an attempt",
        roles=WORK, query=(Parameter("name"),), headers=(lease_tickets.HEADER, "Content-Digest", "Digest"),
        body=Media("application/octet-stream", form=True), answers={201: ArtifactView},
        errors=(
            *GONE, (400, "body_broken_off"), (408, "upload_stalled"), (408, "upload_timeout"),
            (413, "file_too_large"), (413, "quota_exceeded"), (422, "digest_mismatch"),
            (429, "too_many_transfers"), (507, "storage_full"),
        ),
        lasts=Lasts.BODY, expects=True,
    ),
)  # fmt: skip
