"""The routes of reviews: results that attempts have proposed, and the people or agents who judge them."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

import msgspec
from aiohttp import hdrs, web
from msgspec import Meta

from switchyard.projections.job_view import JobView, job_view
from switchyard.services.files.named import jobs_named
from switchyard.services.gateway.app_keys import FRESHNESS, REVIEWS, TENANT_FILES
from switchyard.services.gateway.doors.v1.answers.jobs import ReviewPage
from switchyard.services.gateway.doors.v1.jobs.shown import loaded, page_tag, shown
from switchyard.services.gateway.doors.v1.parts import (
    CHANGED,
    EMPTY,
    H_KNOWN,
    H_TRACE,
    KIND,
    LABEL,
    PAGED,
    REVIEW,
    SEQ,
    TAGGED,
    TENANT,
    labels_of,
    page_limit,
    words_of,
)
from switchyard.services.gateway.http import tags
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.query import H_MIN_SEQ, min_seq, wide_scope
from switchyard.services.gateway.http.routes import Call, Route
from switchyard.services.intake.faults import MalformedError

MAX_REASON_CHARS: Final = 10_000
_ATTEMPT: Final = re.compile(r'"([0-9]{1,18})"')


class ClaimReviewRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a review's claim, which may be empty."""

    lease_s: Annotated[float, Meta(ge=1)] | None = None


class NothingRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A body that has nothing to say."""


class RejectRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a rejection; the next attempt reads the feedback."""

    reason: Annotated[str, Meta(min_length=1, max_length=MAX_REASON_CHARS)]
    feedback: Any = None


async def list_reviews(call: Call[None]) -> web.Response:
    """A page of the jobs whose results wait for a reviewer, newest first."""
    query = call.query
    tenant = wide_scope(call.caller, query)
    filters: dict[str, Any] = {
        "kinds": words_of(query, "kind"),
        "labels": labels_of(query),
        "cursor": query.text("cursor"),
        "limit": page_limit(call),
    }
    seq = await call.part(FRESHNESS).wait(min_seq(call.request))
    found = page_tag(call, seq, tenant)
    if tags.is_known(call.request, found):
        return tags.not_modified(found, seq)
    page, cursor, _ = await call.part(REVIEWS).list(tenant, filters, min_seq=seq)
    page = await jobs_named(call.part(TENANT_FILES).files, page)
    body = ReviewPage(reviews=[job_view(job) for job in page], cursor=cursor)
    return json_response(body, headers=tags.headers(found, seq))


async def claim(call: Call[ClaimReviewRequest]) -> web.Response:
    """Keep the review for oneself, for a time; again to keep it longer."""
    job = await loaded(call)
    return await shown(call, await call.part(REVIEWS).claim(call.caller, job, call.body.lease_s))


async def release(call: Call[NothingRequest]) -> web.Response:
    """Leave the review to others."""
    return await shown(call, await call.part(REVIEWS).release(call.caller, await loaded(call)))


async def accept(call: Call[NothingRequest]) -> web.Response:
    """The proposed result is the job's."""
    attempts = _meant(call.request)
    return await shown(call, await call.part(REVIEWS).accept(call.caller, await loaded(call), attempts))


async def reject(call: Call[RejectRequest]) -> web.Response:
    """Send the job back, or end it when it was rejected too often."""
    attempts, asked, reviews = _meant(call.request), call.body, call.part(REVIEWS)
    job = await loaded(call)
    return await shown(call, await reviews.reject(call.caller, job, asked.reason, asked.feedback, attempts))


def _meant(request: web.Request) -> tuple[int, ...] | None:
    """The attempts whose proposals a request judges, of which one has to wait; None for any.

    Raises:
        MalformedError: `If-Match` is neither `*` nor the numbers of attempts, each in quotes.
    """
    match = ",".join(request.headers.getall(hdrs.IF_MATCH, ())).strip()
    if match in ("", "*"):
        return None
    found = [_ATTEMPT.fullmatch(one.strip()) for one in match.split(",")]
    if None in found:
        message = 'If-Match: the attempt of the proposal was expected, in quotes, as "2"'
        raise MalformedError(message, field=hdrs.IF_MATCH)
    return tuple(int(one[1]) for one in found if one is not None)


_COMMON: Final[dict[str, Any]] = {
    "roles": REVIEW, "query": (TENANT,), "answers": {200: JobView}, "answer_headers": SEQ,
}  # fmt: skip
_TRACED: Final[dict[str, Any]] = {"headers": (H_TRACE,)}
_MEANT: Final[dict[str, Any]] = {"headers": (H_TRACE, "If-Match")}
_HELD: Final = (*CHANGED, (409, "review_claimed"))
_JUDGED: Final = (*_HELD, (400, "malformed"), (412, "precondition_failed"))

ROUTES: Final = (
    Route(
        method="GET", path="/v1/reviews", handler=list_reviews, summary="List what waits for a reviewer",
        roles=REVIEW, query=(TENANT, *PAGED, KIND, LABEL), headers=(H_MIN_SEQ, H_KNOWN),
        answers={200: ReviewPage, 304: None}, answer_headers=TAGGED,
    ),
    Route(
        method="POST", path="/v1/reviews/{id}/claim", handler=claim, summary="Keep a review for oneself",
        body=ClaimReviewRequest, empty=EMPTY, errors=(*_HELD, (403, "four_eyes")), **_TRACED, **_COMMON,
    ),
    Route(
        method="POST", path="/v1/reviews/{id}/release", handler=release, summary="Leave a review to others",
        body=NothingRequest, empty=EMPTY, errors=_HELD, **_TRACED, **_COMMON,
    ),
    Route(
        method="POST", path="/v1/reviews/{id}/accept", handler=accept, summary="Accept a result",
        body=NothingRequest, empty=EMPTY, errors=(*_JUDGED, (403, "four_eyes")), **_MEANT, **_COMMON,
    ),
    Route(
        method="POST", path="/v1/reviews/{id}/reject", handler=reject, summary="Reject a result",
        body=RejectRequest, errors=_JUDGED, **_MEANT, **_COMMON,
    ),
)  # fmt: skip
