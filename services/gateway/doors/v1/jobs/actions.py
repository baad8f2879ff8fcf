"""What may be done with one job: cancel it, another priority, a new start, its removal."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from aiohttp import web

from switchyard.events.values import Status
from switchyard.projections.job_view import JobView
from switchyard.services.gateway.app_keys import JOBS
from switchyard.services.gateway.doors.v1.jobs.shown import loaded, shown
from switchyard.services.gateway.doors.v1.parts import (
    CHANGED,
    EMPTY,
    H_KEY,
    H_TRACE,
    JOBS_SHARE,
    NO_SUCH,
    SEQ,
    SUBMIT,
    TENANT,
)
from switchyard.services.gateway.http.callers import key_of
from switchyard.services.gateway.http.routes import Call, Parameter, Route
from switchyard.services.intake.request import parse_key
from switchyard.services.records.kinds import Priority

MAX_REASON_CHARS: Final = 1000

Reason = Annotated[str, msgspec.Meta(max_length=MAX_REASON_CHARS)]


class CancelRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a cancel request, which may be empty."""

    reason: Reason = ""


class JobChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a change to a job."""

    priority: Priority


class RedriveRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a redrive, which may be empty."""

    payload: dict[str, Any] | None = None
    priority: Priority | None = None


class DiscardRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a discard, which may be empty."""

    reason: Reason = ""


class RepairRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a repair, which may be empty."""

    to: Literal["queued", "dead", "cancelled"] | None = None
    reason: Reason = ""


async def cancel(call: Call[CancelRequest]) -> web.Response:
    """End the job, at once or as soon as its worker has stopped."""
    job = await call.part(JOBS).cancel(call.caller, await loaded(call), call.body.reason)
    return await shown(call, job, status=202 if job.status is Status.CANCELLING else 200)


async def reprioritise(call: Call[JobChange]) -> web.Response:
    """Move a queued job to another priority."""
    job = await loaded(call)
    return await shown(call, await call.part(JOBS).reprioritise(call.caller, job, call.body.priority))


async def redrive(call: Call[RedriveRequest]) -> web.Response:
    """A new start for a dead job, with another payload if one is given."""
    job, asked = await loaded(call), call.body
    return await shown(call, await call.part(JOBS).redrive(call.caller, job, asked.payload, asked.priority))


async def discard(call: Call[DiscardRequest]) -> web.Response:
    """Archive a dead job."""
    return await shown(call, await call.part(JOBS).discard(call.caller, await loaded(call), call.body.reason))


async def archive(call: Call[None]) -> web.Response:
    """Archive a job that has ended: a summary stays, its history goes, and its content if that is wanted."""
    if call.query.flag("erase"):
        return await shown(call, await call.part(JOBS).erase(call.caller, await loaded(call)))
    return await shown(call, await call.part(JOBS).archive(call.caller, await loaded(call)))


async def repair(call: Call[RepairRequest]) -> web.Response:
    """Give a damaged job a state again."""
    job, asked = await loaded(call), call.body
    to = None if asked.to is None else Status(asked.to)
    return await shown(call, await call.part(JOBS).repair(call.caller, job, to, asked.reason))


async def again(call: Call[None]) -> web.Response:
    """Submit once more what a job runs with."""
    header = key_of(call.request)
    key = None if header is None else parse_key(header)
    found, event = await call.part(JOBS).again(call.caller, await loaded(call), key)
    location = {"Location": f"/v1/jobs/{found.id}"}
    return await shown(call, found, status=200 if event is None else 201, headers=location)


_COMMON: Final[dict[str, Any]] = {
    "roles": SUBMIT, "query": (TENANT,), "headers": (H_TRACE,), "answer_headers": SEQ,
}  # fmt: skip

ROUTES: Final = (
    Route(
        method="PATCH", path="/v1/jobs/{id}", handler=reprioritise, summary="Change a job's priority",
        body=JobChange, answers={200: JobView}, errors=(*CHANGED, *JOBS_SHARE), **_COMMON,
    ),
    Route(
        method="DELETE", path="/v1/jobs/{id}", handler=archive, summary="Archive a job",
        answers={200: JobView}, errors=(*CHANGED, (409, "not_erasable")),
        **_COMMON | {"query": (TENANT, Parameter("erase", "boolean"))},
    ),
    Route(
        method="POST", path="/v1/jobs/{id}/cancel", handler=cancel, summary="Cancel a job",
        body=CancelRequest, empty=EMPTY, answers={200: JobView, 202: JobView}, errors=CHANGED, **_COMMON,
    ),
    Route(
        method="POST", path="/v1/jobs/{id}/redrive", handler=redrive, summary="Start a dead job again",
        body=RedriveRequest, empty=EMPTY, answers={200: JobView},
        errors=(*CHANGED, (413, "payload_too_large"), (422, "unknown_file"), *JOBS_SHARE), **_COMMON,
    ),
    Route(
        method="POST", path="/v1/jobs/{id}/again", handler=again, summary="Run a job again",
        roles=SUBMIT, headers=(H_KEY, H_TRACE), answers={201: JobView, 200: JobView},
        answer_headers=(*SEQ, "Location"),
        errors=(
            *NO_SUCH, (409, "damaged"), (409, "idempotency_conflict"), (409, "not_repeatable"),
            (422, "unknown_file"), (422, "unknown_dependency"), *JOBS_SHARE,
        ),
    ),
    Route(
        method="POST", path="/v1/jobs/{id}/discard", handler=discard, summary="Archive a dead job",
        body=DiscardRequest, empty=EMPTY, answers={200: JobView}, errors=CHANGED, **_COMMON,
    ),
    Route(
        method="POST", path="/v1/jobs/{id}/repair", handler=repair, summary="Give a damaged job a state",
        body=RepairRequest, empty=EMPTY, answers={200: JobView},
        errors=(
            *CHANGED, (409, "not_damaged"), (409, "nothing_to_repair"), (409, "illegal_repair"), *JOBS_SHARE,
        ),
        **_COMMON,
    ),
)  # fmt: skip
