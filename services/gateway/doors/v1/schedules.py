"""The routes of schedules."""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from switchyard.events.subjects import NAME
from switchyard.projections.job_view import JobView
from switchyard.services.gateway.app_keys import SCHEDULES, SETTINGS
from switchyard.services.gateway.doors.v1.answers.schedules import (
    NEXT_SHOWN,
    NextRuns,
    ScheduleAnswer,
    SchedulePage,
    schedule_answer,
)
from switchyard.services.gateway.doors.v1.jobs.shown import shown
from switchyard.services.gateway.doors.v1.parts import (
    H_KEY,
    H_TRACE,
    JOBS_SHARE,
    NO_SUCH,
    PAGED,
    READ,
    SEQ,
    SUBMIT,
    TENANT,
    after_name,
    page_limit,
)
from switchyard.services.gateway.http.callers import json_response, key_of
from switchyard.services.gateway.http.query import scope, wrong
from switchyard.services.gateway.http.routes import Call, Parameter, Route
from switchyard.services.gateway.operations.schedule_request import PreviewRequest, ScheduleRequest
from switchyard.services.intake.request import parse_key


async def create(call: Call[ScheduleRequest]) -> web.Response:
    """Make a schedule."""
    schedule = await call.part(SCHEDULES).create(call.caller, call.body)
    location = {"Location": f"/v1/schedules/{schedule.name}"}
    return json_response(schedule_answer(schedule), status=201, headers=location)


async def replace(call: Call[ScheduleRequest]) -> web.Response:
    """Ticks up to now are those of the old one, later ones of the new."""
    schedule, is_new = await call.part(SCHEDULES).replace(call.caller, call.named("id"), call.body)
    location = {"Location": f"/v1/schedules/{schedule.name}"} if is_new else None
    return json_response(schedule_answer(schedule), status=201 if is_new else 200, headers=location)


async def list_schedules(call: Call[None]) -> web.Response:
    """A page of schedules by name, without the bodies of their jobs."""
    tenant = _tenant(call)
    limit, after = page_limit(call), after_name(call)
    page, cursor = await call.part(SCHEDULES).page(tenant, after, limit)
    answers = [schedule_answer(schedule, listed=True) for schedule in page]
    return json_response(SchedulePage(schedules=answers, cursor=cursor))


async def get(call: Call[None]) -> web.Response:
    """A schedule."""
    return json_response(schedule_answer(await call.part(SCHEDULES).get(_tenant(call), call.named("id"))))


async def next_runs(call: Call[None]) -> web.Response:
    """The ticks to come."""
    runs = await call.part(SCHEDULES).next_runs(_tenant(call), call.named("id"), _count(call))
    return json_response(NextRuns(next_runs=runs))


async def preview(call: Call[PreviewRequest]) -> web.Response:
    """The ticks to come of a schedule that is not made."""
    return json_response(NextRuns(next_runs=call.part(SCHEDULES).preview(call.body, _count(call))))


async def run(call: Call[None]) -> web.Response:
    """A job of the schedule, made now."""
    header = key_of(call.request)
    key = None if header is None else parse_key(header)
    job, event = await call.part(SCHEDULES).run(call.caller, call.named("id"), key)
    location = {"Location": f"/v1/jobs/{job.id}"}
    return await shown(call, job, status=200 if event is None else 201, headers=location)


async def pause(call: Call[None]) -> web.Response:
    """Let no more of its jobs come."""
    return json_response(schedule_answer(await call.part(SCHEDULES).pause(_tenant(call), call.named("id"))))


async def resume(call: Call[None]) -> web.Response:
    """Let its jobs come again."""
    return json_response(schedule_answer(await call.part(SCHEDULES).resume(_tenant(call), call.named("id"))))


async def delete(call: Call[None]) -> web.Response:
    """Take a schedule away; its jobs stay."""
    await call.part(SCHEDULES).delete(_tenant(call), call.named("id"))
    return web.Response(status=204)


def _tenant(call: Call[Any]) -> str:
    tenant = scope(call.caller, call.query)
    if NAME.fullmatch(tenant) is None:
        raise wrong("tenant", tenant, "the name of one tenant")
    return tenant


def _count(call: Call[Any]) -> int:
    return call.query.integer("count", default=NEXT_SHOWN, least=1, most=call.part(SETTINGS).schedule_next)


_COUNT: Final = Parameter("count", "integer")
_WRITTEN: Final = (
    (422, "too_many_schedules"), (422, "too_often"), (422, "unknown_file"), (422, "unknown_limit"),
    (422, "unknown_dependency"), (413, "payload_too_large"), (429, "too_many_bytes"),
)  # fmt: skip

ROUTES: Final = (
    Route(
        method="POST", path="/v1/schedules", handler=create, summary="Make a schedule",
        roles=SUBMIT, body=ScheduleRequest, answers={201: ScheduleAnswer}, answer_headers=("Location",),
        errors=((409, "schedule_exists"), *_WRITTEN),
    ),
    Route(
        method="GET", path="/v1/schedules", handler=list_schedules, summary="List schedules",
        roles=READ, query=(TENANT, *PAGED), answers={200: SchedulePage},
    ),
    Route(
        method="POST", path="/v1/schedules/preview", handler=preview, summary="Show when one would tick",
        roles=READ, body=PreviewRequest, query=(_COUNT,), answers={200: NextRuns},
        errors=((422, "too_often"),),
    ),
    Route(
        method="GET", path="/v1/schedules/{id}", handler=get, summary="Read a schedule",
        roles=READ, query=(TENANT,), answers={200: ScheduleAnswer}, errors=NO_SUCH,
    ),
    Route(
        method="PUT", path="/v1/schedules/{id}", handler=replace, summary="Make or replace a schedule",
        roles=SUBMIT, body=ScheduleRequest, answers={201: ScheduleAnswer, 200: ScheduleAnswer},
        answer_headers=("Location",), errors=((409, "schedule_exists"), *NO_SUCH, *_WRITTEN),
    ),
    Route(
        method="DELETE", path="/v1/schedules/{id}", handler=delete, summary="Remove a schedule",
        roles=SUBMIT, query=(TENANT,), answers={204: None}, errors=NO_SUCH,
    ),
    Route(
        method="POST", path="/v1/schedules/{id}/run", handler=run, summary="Make a job of a schedule now",
        roles=SUBMIT, headers=(H_KEY, H_TRACE), answers={201: JobView, 200: JobView},
        answer_headers=(*SEQ, "Location"),
        errors=(
            *NO_SUCH, (409, "idempotency_conflict"), (409, "damaged"), (413, "payload_too_large"),
            (422, "unknown_file"), (422, "unknown_limit"), (422, "unknown_dependency"), *JOBS_SHARE,
        ),
    ),
    Route(
        method="POST", path="/v1/schedules/{id}/pause", handler=pause, summary="Pause a schedule",
        roles=SUBMIT, query=(TENANT,), answers={200: ScheduleAnswer}, errors=NO_SUCH,
    ),
    Route(
        method="POST", path="/v1/schedules/{id}/resume", handler=resume, summary="Resume a schedule",
        roles=SUBMIT, query=(TENANT,), answers={200: ScheduleAnswer}, errors=NO_SUCH,
    ),
    Route(
        method="GET", path="/v1/schedules/{id}/next", handler=next_runs, summary="Show when a schedule ticks",
        roles=READ, query=(TENANT, _COUNT), answers={200: NextRuns}, errors=NO_SUCH,
    ),
)  # fmt: skip
