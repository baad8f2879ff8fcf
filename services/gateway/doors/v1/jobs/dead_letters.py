"""The routes of dead letters: their list, and a new start or the end for many of them at once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from switchyard.events.subjects import NAME_PATTERN
from switchyard.events.vocabulary.causes import DeadReason
from switchyard.projections.dead_letters import DeadFilters
from switchyard.projections.job_view import job_view
from switchyard.projections.jobs import microseconds
from switchyard.projections.lists.jobs import TOP
from switchyard.services.gateway.app_keys import DEAD_LETTERS, FRESHNESS
from switchyard.services.gateway.doors.v1.answers.jobs import DeadLetterPage, Discarded, Redriven, Refusal
from switchyard.services.gateway.doors.v1.jobs.actions import Reason
from switchyard.services.gateway.doors.v1.jobs.shown import page_tag
from switchyard.services.gateway.doors.v1.parts import (
    EMPTY,
    H_KNOWN,
    H_TRACE,
    KIND,
    LABEL,
    PAGED,
    READ,
    SEQ,
    SUBMIT,
    TAGGED,
    TENANT,
    labels_of,
    page_limit,
    words_of,
)
from switchyard.services.gateway.http import tags
from switchyard.services.gateway.http.callers import H_SEQ, json_response
from switchyard.services.gateway.http.query import H_MIN_SEQ, Query, min_seq, wide_scope, wrong
from switchyard.services.gateway.http.routes import Call, Lasts, Parameter, Route
from switchyard.services.gateway.operations.dead_letters import Tally
from switchyard.services.records.kinds import Priority

CODE_CHARS: Final = 100
DEAD_REASONS: Final = tuple(reason.value for reason in DeadReason)

Name = Annotated[str, Meta(pattern=NAME_PATTERN)]
Code = Annotated[str, Meta(min_length=1, max_length=CODE_CHARS)]
Few = Meta(max_length=50)
Time = Annotated[datetime, Meta(tz=True)]


class Filter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which dead letters a bulk call is about, as the parameters of the list; all when empty."""

    kind: Annotated[list[Name], Few] = []
    reason: Annotated[list[DeadReason], Few] = []
    code: Annotated[list[Code], Few] = []
    label: Annotated[dict[Name, str], Few] = {}
    ended_after: Time | None = None
    ended_before: Time | None = None


class Selection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a bulk call: which ones, how many at most, and where the call before left off."""

    filter: Filter = Filter()
    cursor: str | None = None
    limit: Annotated[int, Meta(ge=1)] | None = None


class BulkRedrive(Selection, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a bulk redrive."""

    priority: Priority | None = None


class BulkDiscard(Selection, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a bulk discard."""

    reason: Reason = ""


async def list_dead_letters(call: Call[None]) -> web.Response:
    """A page of dead jobs, those that died last first."""
    query = call.query
    tenant = wide_scope(call.caller, query)
    filters = _filters(
        tenant, words_of(query, "kind"), _reasons(query), _codes(query),
        labels_of(query), query.time("ended_after"), query.time("ended_before"),
    )  # fmt: skip
    limit = page_limit(call)
    seq = await call.part(FRESHNESS).wait(min_seq(call.request))
    found = page_tag(call, seq, tenant)
    if tags.is_known(call.request, found):
        return tags.not_modified(found, seq)
    page, more, _ = await call.part(DEAD_LETTERS).list(
        filters, cursor=query.text("cursor"), limit=limit, min_seq=seq
    )
    body = DeadLetterPage(dead_letters=[job_view(job) for job in page], cursor=more)
    return json_response(body, headers=tags.headers(found, seq))


async def redrive(call: Call[BulkRedrive]) -> web.Response:
    """A new start for all that the filters select."""
    asked = call.body
    tally = await call.part(DEAD_LETTERS).redrive(
        call.caller, _selected(call), priority=asked.priority, cursor=asked.cursor, limit=asked.limit,
        min_seq=min_seq(call.request),
    )  # fmt: skip
    return json_response(Redriven(redriven=tally.done, **_counts(tally)), headers={H_SEQ: str(tally.seq)})


async def discard(call: Call[BulkDiscard]) -> web.Response:
    """Archive all that the filters select."""
    asked = call.body
    tally = await call.part(DEAD_LETTERS).discard(
        call.caller, _selected(call), reason=asked.reason, cursor=asked.cursor, limit=asked.limit,
        min_seq=min_seq(call.request),
    )  # fmt: skip
    return json_response(Discarded(discarded=tally.done, **_counts(tally)), headers={H_SEQ: str(tally.seq)})


def _counts(tally: Tally) -> dict[str, Any]:
    errors = [Refusal(id=job_id, code=code, message=message) for job_id, code, message in tally.errors]
    return {
        "skipped": tally.skipped, "refused": tally.refusals.total(), "errors": errors, "cursor": tally.cursor,
    }  # fmt: skip


def _selected(call: Call[Any]) -> DeadFilters:
    wanted: Filter = call.body.filter
    return _filters(
        wide_scope(call.caller, call.query), wanted.kind, wanted.reason, wanted.code,
        tuple(wanted.label.items()), wanted.ended_after, wanted.ended_before,
    )  # fmt: skip


def _filters(
    tenant: str | None,
    kinds: Sequence[str],
    reasons: Sequence[str],
    codes: Sequence[str],
    labels: Sequence[tuple[str, str]],
    ended_after: datetime | None,
    ended_before: datetime | None,
) -> DeadFilters:
    return DeadFilters(
        tenant=tenant, kinds=kinds, reasons=reasons, codes=codes, labels=labels,
        since=microseconds(ended_after) or 0,
        below=TOP if ended_before is None else (microseconds(ended_before) or 0, ""),
    )  # fmt: skip


def _reasons(query: Query) -> list[str]:
    reasons = words_of(query, "reason")
    for reason in reasons:
        if reason not in DEAD_REASONS:
            raise wrong("reason", reason, f"one of {', '.join(DEAD_REASONS)}")
    return reasons


def _codes(query: Query) -> list[str]:
    codes = [code for value in query.all("code") for code in value.split(",")]
    for code in codes:
        if not 1 <= len(code) <= CODE_CHARS:
            raise wrong("code", code, f"an error code of 1 to {CODE_CHARS} characters")
    return codes


_BULK: Final[dict[str, Any]] = {
    "method": "POST", "roles": SUBMIT, "query": (TENANT,), "headers": (H_MIN_SEQ, H_TRACE),
    "empty": EMPTY, "answer_headers": SEQ, "lasts": Lasts.BODY,
}  # fmt: skip

ROUTES: Final = (
    Route(
        method="GET", path="/v1/dead-letters", handler=list_dead_letters, summary="List dead jobs",
        roles=READ, headers=(H_MIN_SEQ, H_KNOWN), answers={200: DeadLetterPage, 304: None},
        answer_headers=TAGGED,
        query=(
            TENANT, Parameter("ended_after", "time"), Parameter("ended_before", "time"), *PAGED, KIND,
            Parameter("reason", repeated=True), Parameter("code", repeated=True), LABEL,
        ),
    ),
    Route(
        path="/v1/dead-letters/redrive", handler=redrive, summary="Start many dead jobs again",
        body=BulkRedrive, answers={200: Redriven}, **_BULK,
    ),
    Route(
        path="/v1/dead-letters/discard", handler=discard, summary="Archive many dead jobs",
        body=BulkDiscard, answers={200: Discarded}, **_BULK,
    ),
)  # fmt: skip
