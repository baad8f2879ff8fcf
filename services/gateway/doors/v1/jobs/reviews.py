"""Reviews: results that attempts have proposed, and the people or agents who judge them."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from switchyard.events.commands import Accept, AnyCommand, ClaimReview, Reject, ReleaseReview
from switchyard.events.errors import InvalidError
from switchyard.events.events import Rejected
from switchyard.events.job import Job, decide
from switchyard.events.values import Status
from switchyard.events.vocabulary.ids import JobId
from switchyard.projections.job_view import job_view
from switchyard.services import clock
from switchyard.services.access.principal import Principal, Role
from switchyard.services.gateway.app_keys import FRESHNESS, READ_MODEL, SETTINGS, SHARES, STORE
from switchyard.services.gateway.doors.v1.jobs.actions import ensure_lane, transition
from switchyard.services.gateway.doors.v1.jobs.routes import answer, labels_of, last_of, page_limit, words_of
from switchyard.services.gateway.http.callers import H_SEQ, body_of, json_response, require
from switchyard.services.gateway.http.query import Query, min_seq, wide_scope

MAX_REASON_CHARS: Final = 10_000


class ClaimReviewRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a review's claim, which may be empty."""

    lease_s: Annotated[float, Meta(ge=1)] | None = None


class NothingRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A body that has nothing to say."""


class RejectRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a rejection; the next attempt reads the feedback."""

    reason: Annotated[str, Meta(min_length=1, max_length=MAX_REASON_CHARS)]
    feedback: Any = None


_CLAIM: Final = msgspec.json.Decoder(ClaimReviewRequest)
_NOTHING: Final = msgspec.json.Decoder(NothingRequest)
_REJECT: Final = msgspec.json.Decoder(RejectRequest)


async def list_reviews(request: web.Request) -> web.Response:
    """`GET /v1/reviews`: a page of the jobs whose results wait for a reviewer, newest first."""
    require(request, Role.REVIEWER)
    query = Query(request, "tenant", "cursor", "limit", repeated=("kind", "label"))
    tenant = wide_scope(request, query)
    filters: dict[str, Any] = {
        "kinds": words_of(query, "kind"),
        "labels": labels_of(query),
        "cursor": query.text("cursor"),
        "limit": page_limit(request, query),
    }
    seq = await request.app[FRESHNESS].wait(min_seq(request))
    page, cursor = request.app[READ_MODEL].jobs(tenant=tenant, states=[Status.REVIEW.value], **filters)
    reviews = [job_view(job) for job in page]
    return json_response({"reviews": reviews, "cursor": cursor}, headers={H_SEQ: str(seq)})


async def claim(request: web.Request) -> web.Response:
    """`POST /v1/reviews/{id}/claim`: keep the review for oneself, for a time; again to keep it longer."""
    principal, job = await _reviewed(request)
    asked = await body_of(request, _CLAIM, empty=b"{}")
    settings = request.app[SETTINGS]
    lease_s = asked.lease_s or settings.review_lease_s
    if lease_s > settings.timed_lease_max_s:
        message = f"lease_s: at most {settings.timed_lease_max_s:g} was expected"
        raise InvalidError(message, field="lease_s")
    request.app[SHARES].room.start()
    now = clock.now()
    command = ClaimReview(now=now, reviewer=principal.actor, expires_at=now + timedelta(seconds=lease_s))
    return await _judged(request, principal, job, command)


async def release(request: web.Request) -> web.Response:
    """`POST /v1/reviews/{id}/release`: leave the review to others."""
    principal, job = await _reviewed(request)
    await body_of(request, _NOTHING, empty=b"{}")
    command = ReleaseReview(now=clock.now(), reviewer=principal.actor)
    return await _judged(request, principal, job, command)


async def accept(request: web.Request) -> web.Response:
    """`POST /v1/reviews/{id}/accept`: the proposed result is the job's."""
    principal, job = await _reviewed(request)
    await body_of(request, _NOTHING, empty=b"{}")
    return await _judged(request, principal, job, Accept(now=clock.now(), reviewer=principal.actor))


async def reject(request: web.Request) -> web.Response:
    """`POST /v1/reviews/{id}/reject`: send the job back, or end it when it was rejected too often."""
    principal, job = await _reviewed(request)
    asked = await body_of(request, _REJECT)
    command = Reject(now=clock.now(), reviewer=principal.actor, reason=asked.reason, feedback=asked.feedback)
    ahead = decide(job, command)
    if isinstance(ahead, Rejected):
        await ensure_lane(request, job, ahead.priority, checked=False)
    return await _judged(request, principal, job, command)


async def _reviewed(request: web.Request) -> tuple[Principal, Job]:
    """The caller, and the job that the route names."""
    principal = require(request, Role.REVIEWER)
    job_id, last_seq = await last_of(request, Query(request, "tenant"))
    return principal, await request.app[STORE].load(JobId(job_id), at_least=last_seq)


async def _judged(request: web.Request, principal: Principal, job: Job, command: AnyCommand) -> web.Response:
    return answer(request, await transition(request, principal, job, command))


def add_routes(router: web.UrlDispatcher) -> None:
    """Connect the routes."""
    router.add_get("/v1/reviews", list_reviews)
    for verb in (claim, release, accept, reject):
        router.add_post(f"/v1/reviews/{{id}}/{verb.__name__}", verb)
