"""Who speaks for a lease: its token, the job as it is, and the answer when the lease is gone."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from aiohttp import web

from switchyard.events.allowed import allowed_commands
from switchyard.events.encoding.damage import refuse_damaged
from switchyard.events.errors import ConflictError, NotFoundError
from switchyard.events.events import Unreadable
from switchyard.events.job import Job
from switchyard.projections.job_view import time_view
from switchyard.services.access import lease_tickets
from switchyard.services.access.lease_tickets import LeaseClaims
from switchyard.services.access.principal import Principal, Role
from switchyard.services.gateway.app_keys import LEASE_TOKENS, REST_WORKERS, STORE
from switchyard.services.gateway.doors.v1.jobs.routes import answer
from switchyard.services.gateway.http.callers import require
from switchyard.services.gateway.http.problems import problem_of
from switchyard.services.gateway.http.query import Query

ENDED_BY: Final = {
    "succeed": {"succeeded"},
    "fail": {"failed", "dead", "cancelled", "expired"},
    "release": {"queued", "cancelled", "expired"},
    "propose": {"proposed", "cancelled", "expired"},
}
"""From verb to the events that it ends a lease with."""
SHOWN_SINCE: Final = 50


def holder(request: web.Request, *parameters: str) -> tuple[Principal, LeaseClaims]:
    """The caller, and the lease that its token stands for.

    Raises:
        ForbiddenError: it has neither role nor token.
        NotFoundError: the lease is for another tenant's job.
    """
    principal = require(request, Role.WORKER)
    Query(request, *parameters)
    token = request.headers.get(lease_tickets.HEADER)
    claims = request.app[LEASE_TOKENS].check(token, request.match_info["id"])
    if not principal.is_admin and principal.tenant != claims.tenant:
        raise NotFoundError(f"there is no lease {claims.id}", field="id")
    return principal, claims


async def loaded(request: web.Request, claims: LeaseClaims) -> Job:
    """The job, at least as it was when the lease was granted."""
    return await request.app[STORE].load(claims.job, at_least=claims.fence)


def check(job: Job, claims: LeaseClaims, verb: str) -> None:
    """Let the holder of a lease pass.

    Raises:
        ConflictError: it is not the job's lease any more, or the job is damaged.
        NewerVersionError: a newer version of the program wrote the job's log.
    """
    if job.damage is not None:
        raise refuse_damaged(job)
    allowed = allowed_commands(job.status)
    if job.lease is None:
        message = f"cannot {verb} job {job.id}: it is {job.status.value}"
        raise ConflictError(message, code="illegal_transition", allowed=allowed)
    if job.lease.fence != claims.fence:
        message = f"cannot {verb} job {job.id}: lease {claims.fence} is lost; lease {job.lease.fence} runs it"
        raise ConflictError(message, code="lease_lost", allowed=allowed)


async def stale(
    request: web.Request, claims: LeaseClaims, error: ConflictError, verb: str = ""
) -> web.Response:
    """What has happened since to a lease that is gone; the job when this very call has ended it before."""
    since = await request.app[STORE].history(claims.job, after=claims.fence, limit=SHOWN_SINCE)
    ends = (entry for entry in since if not isinstance(entry.event, Unreadable))
    end = next((entry for entry in ends if entry.name not in ("claim_renewed", "cancel_requested")), None)
    if end is not None and end.name in ENDED_BY.get(verb, ()) and end.actor == f"worker:{claims.worker}":
        return answer(request, await request.app[STORE].load(claims.job, at_least=end.seq))
    request.app[REST_WORKERS].ended(claims.worker, claims.fence)
    problem = problem_of(error)
    shown = [
        {"seq": entry.seq, "type": entry.name, "at": time_view(entry.event.at), "actor": entry.actor}
        for entry in since
    ]
    problem = msgspec.structs.replace(problem, extra={"since": shown})
    return problem.response(request.path)


def cancel_view(job: Job) -> dict[str, Any]:
    """Whether the holder is to stop, and until when it may."""
    asked = job.cancellation
    return {
        "cancel_requested": asked is not None,
        "cancel": asked and {"by": asked.by, "reason": asked.reason, "force_at": time_view(asked.force_at)},
    }
