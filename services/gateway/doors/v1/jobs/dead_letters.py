"""Dead letters: their list, and a new start or the end for many of them at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from switchyard.events.commands import Discard, Redrive
from switchyard.events.errors import ConflictError, InvalidError, RejectedError, UnavailableError
from switchyard.events.job import Job
from switchyard.events.subjects import NAME_PATTERN
from switchyard.events.vocabulary.causes import DeadReason
from switchyard.projections.dead_letters import DeadFilters
from switchyard.projections.job_list import TOP
from switchyard.projections.job_view import job_view
from switchyard.projections.jobs import microseconds
from switchyard.services import clock
from switchyard.services.access.principal import Role
from switchyard.services.gateway.app_keys import FRESHNESS, READ_MODEL, SETTINGS
from switchyard.services.gateway.doors.v1.jobs.actions import MAX_REASON_CHARS, ensure_lane, transition
from switchyard.services.gateway.doors.v1.jobs.routes import labels_of, page_limit, words_of
from switchyard.services.gateway.http.callers import H_SEQ, body_of, json_response, require
from switchyard.services.gateway.http.query import Query, min_seq, wide_scope, wrong
from switchyard.services.records.kinds import Priority

CODE_CHARS: Final = 100
DEAD_REASONS: Final = tuple(reason.value for reason in DeadReason)
SHOWN_REFUSALS: Final = 20

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

    reason: Annotated[str, Meta(max_length=MAX_REASON_CHARS)] = ""


_REDRIVE: Final = msgspec.json.Decoder(BulkRedrive)
_DISCARD: Final = msgspec.json.Decoder(BulkDiscard)


async def list_dead_letters(request: web.Request) -> web.Response:
    """`GET /v1/dead-letters`: a page of dead jobs, those that died last first."""
    query = Query(
        request, "tenant", "ended_after", "ended_before", "cursor", "limit",
        repeated=("kind", "reason", "code", "label"),
    )  # fmt: skip
    filters = _filters(
        wide_scope(request, query), words_of(query, "kind"), _reasons(query), _codes(query),
        labels_of(query), query.time("ended_after"), query.time("ended_before"),
    )  # fmt: skip
    cursor, limit = query.text("cursor"), page_limit(request, query)
    seq = await request.app[FRESHNESS].wait(min_seq(request))
    page, more = request.app[READ_MODEL].dead_letters(filters, cursor=cursor, limit=limit)
    body = {"dead_letters": [job_view(job) for job in page], "cursor": more}
    return json_response(body, headers={H_SEQ: str(seq)})


async def redrive(request: web.Request) -> web.Response:
    """`POST /v1/dead-letters/redrive`: a new start for all that the filters select."""
    principal = require(request, Role.SUBMITTER)
    tenant = wide_scope(request, Query(request, "tenant"))
    asked = await body_of(request, _REDRIVE, empty=b"{}")

    async def one(job: Job) -> Job:
        command = Redrive(now=clock.now(), priority=asked.priority)
        await ensure_lane(request, job, job.own_priority if asked.priority is None else asked.priority)
        return await transition(request, principal, job, command)

    return await _bulk(request, asked, tenant, one, "redriven")


async def discard(request: web.Request) -> web.Response:
    """`POST /v1/dead-letters/discard`: archive all that the filters select."""
    principal = require(request, Role.SUBMITTER)
    tenant = wide_scope(request, Query(request, "tenant"))
    asked = await body_of(request, _DISCARD, empty=b"{}")

    async def one(job: Job) -> Job:
        command = Discard(now=clock.now(), by=principal.actor, reason=asked.reason)
        return await transition(request, principal, job, command)

    return await _bulk(request, asked, tenant, one, "discarded")


@dataclass(slots=True)
class _Tally:
    """What a bulk call has come to."""

    done: int = 0
    skipped: int = 0
    seq: int = 0
    unavailable: UnavailableError | None = None


async def _bulk(
    request: web.Request,
    asked: Selection,
    tenant: str | None,
    one: Callable[[Job], Awaitable[Job]],
    done: str,
) -> web.Response:
    """Do one thing to each of the selected, many at the same time, and answer with counts and where to go on.

    Each is decided on the job as the read model has it, and again if that was behind the log.

    Raises:
        RejectedError: a parameter is wrong.
        UnavailableError: the broker did not answer for one of them; the call may be repeated as it was.
    """
    app = request.app
    settings = app[SETTINGS]
    most = settings.dead_letters_at_once
    if asked.limit is not None and asked.limit > most:
        raise InvalidError(f"limit: at most {most} at once", field="limit")
    seq = await app[FRESHNESS].wait(min_seq(request))
    wanted = asked.filter
    filters = _filters(
        tenant,
        wanted.kind,
        wanted.reason,
        wanted.code,
        tuple(wanted.label.items()),
        wanted.ended_after,
        wanted.ended_before,
    )
    page, more = app[READ_MODEL].dead_letters(filters, cursor=asked.cursor, limit=asked.limit or most)
    tally = _Tally(seq=seq)
    refused: list[dict[str, Any]] = []
    refusals = Counter[str]()
    waiting = iter(page)

    async def work() -> None:
        for job in waiting:
            try:
                after = await one(job)
            except ConflictError:
                tally.skipped += 1  # somebody else was faster: it is dead no more
            except RejectedError as error:
                refusals[error.code] += 1
                if len(refused) < SHOWN_REFUSALS:
                    refused.append({"id": job.id, "code": error.code, "message": error.message})
            except UnavailableError as error:
                tally.unavailable = error
                return
            else:
                tally.done += 1
                tally.seq = max(tally.seq, after.seq)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(len(page), settings.dead_letters_in_flight)):
            group.create_task(work())
    if tally.unavailable is not None:
        raise tally.unavailable
    body = {
        done: tally.done, "skipped": tally.skipped, "refused": refusals.total(), "errors": refused,
        "cursor": more,
    }  # fmt: skip
    return json_response(body, headers={H_SEQ: str(tally.seq)})


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
