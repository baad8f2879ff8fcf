"""The routes of schedules."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from itertools import islice
from typing import Any, Final

import msgspec
import orjson
from aiohttp import web
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import (
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    VersionConflictError,
)
from switchyard.events.schedules.schedule import Schedule, next_tick, paused, resumed, upcoming
from switchyard.events.schedules.ticks import ticks
from switchyard.events.subjects import NAME
from switchyard.services import clock
from switchyard.services.access.principal import Role
from switchyard.services.broker.bucket_use import Bounds, BucketUse
from switchyard.services.gateway.app_keys import SCHEDULES, SETTINGS, SUBMITTER
from switchyard.services.gateway.doors.v1.schedule_request import (
    ScheduleRequest,
    begins_at,
    checked_job,
    parse_preview,
    parse_schedule,
    timing_of,
)
from switchyard.services.gateway.http.callers import json_body, json_response, require
from switchyard.services.gateway.http.query import Query, scope, wrong
from switchyard.services.ids import new_id
from switchyard.services.intake.request import parse_request
from switchyard.services.records.schedules import Found, iso, tick_job_id
from switchyard.services.settings import Settings

NEXT_SHOWN: Final = 5


def add_routes(router: web.UrlDispatcher) -> None:
    """Connect the routes; `docs/api.md` describes each."""
    router.add_post("/v1/schedules", create)
    router.add_get("/v1/schedules", list_schedules)
    router.add_post("/v1/schedules/preview", preview)
    router.add_get("/v1/schedules/{id}", get)
    router.add_put("/v1/schedules/{id}", replace)
    router.add_delete("/v1/schedules/{id}", delete)
    router.add_post("/v1/schedules/{id}/pause", pause)
    router.add_post("/v1/schedules/{id}/resume", resume)
    router.add_get("/v1/schedules/{id}/next", next_runs)


async def create(request: web.Request) -> web.Response:
    """`POST /v1/schedules`."""
    tenant = require(request, Role.SUBMITTER).tenant
    Query(request)
    asked = parse_schedule(await json_body(request))
    name = asked.name or new_id()
    found = await request.app[SCHEDULES].load(tenant, name)
    if found.schedule is not None:
        raise _taken(name)
    return await _create(request, asked, name, found.revision)


async def replace(request: web.Request) -> web.Response:
    """`PUT /v1/schedules/{id}`: ticks up to now are those of the old one, later ones of the new."""
    tenant = require(request, Role.SUBMITTER).tenant
    Query(request)
    name = request.match_info["id"]
    if NAME.fullmatch(name) is None:
        raise InvalidError(f"name: expected a name that matches {NAME.pattern}", field="name")
    asked = parse_schedule(await json_body(request))
    if asked.name not in (None, name):
        raise InvalidError(f"name: expected {name!r}, as in the path", field="name")
    found = await request.app[SCHEDULES].load(tenant, name)
    if found.schedule is None:
        return await _create(request, asked, name, found.revision)
    fresh = await _schedule(request, asked, name)

    def step(old: Schedule, now: datetime) -> Schedule:
        return msgspec.structs.replace(
            old, timing=fresh.timing, job=fresh.job, missed=fresh.missed, overlap=fresh.overlap,
            written_at=now, decided_to=max(now, old.decided_to),
        )  # fmt: skip

    return json_response(_view(await _change(request, tenant, name, step)))


async def list_schedules(request: web.Request) -> web.Response:
    """`GET /v1/schedules`: a page of schedules by name, without the bodies of their jobs."""
    query = Query(request, "tenant", "cursor", "limit")
    tenant = _tenant(request, query)
    settings = request.app[SETTINGS]
    limit = query.integer("limit", default=settings.page_size, least=1, most=settings.page_size_max)
    after = query.text("cursor") or ""
    store = request.app[SCHEDULES]
    page: list[dict[str, Any]] = []
    for name in await store.names(tenant):
        if name <= after:
            continue
        schedule = (await store.load(tenant, name)).schedule
        if schedule is None:
            continue
        if len(page) == limit:
            return json_response({"schedules": page, "cursor": page[-1]["id"]})
        view = _view(schedule)
        view["kind"] = view.pop("job")["kind"]
        page.append(view)
    return json_response({"schedules": page, "cursor": None})


async def get(request: web.Request) -> web.Response:
    """`GET /v1/schedules/{id}`."""
    found = await _found(request, _tenant(request, Query(request, "tenant")), request.match_info["id"])
    return json_response(_view(found[0]))


async def next_runs(request: web.Request) -> web.Response:
    """`GET /v1/schedules/{id}/next`: the ticks to come."""
    query = Query(request, "tenant", "count")
    schedule, _ = await _found(request, _tenant(request, query), request.match_info["id"])
    times = islice(upcoming(schedule, clock.now()), _count(request, query))
    return json_response({"next_runs": [iso(tick) for tick in times]})


async def preview(request: web.Request) -> web.Response:
    """`POST /v1/schedules/preview`: the ticks to come of a schedule that is not made."""
    require(request, Role.VIEWER)
    count = _count(request, Query(request, "count"))
    asked = parse_preview(await json_body(request))
    now = clock.now()
    timing = timing_of(asked, now, shortest_s=request.app[SETTINGS].schedule_interval_s)
    return json_response({"next_runs": [iso(tick) for tick in islice(ticks(timing, now), count)]})


async def pause(request: web.Request) -> web.Response:
    """`POST /v1/schedules/{id}/pause`."""
    return await _stepped(request, paused)


async def resume(request: web.Request) -> web.Response:
    """`POST /v1/schedules/{id}/resume`."""
    return await _stepped(request, resumed)


async def delete(request: web.Request) -> web.Response:
    """`DELETE /v1/schedules/{id}`: jobs that it has made stay as they are."""
    require(request, Role.SUBMITTER)
    tenant, name = _tenant(request, Query(request, "tenant")), request.match_info["id"]
    for _ in range(request.app[SETTINGS].append_tries):
        schedule, revision = await _found(request, tenant, name)
        try:
            await request.app[SCHEDULES].delete(schedule, revision)
        except VersionConflictError:
            continue
        return web.Response(status=204)
    raise VersionConflictError


def use_of(nc: Client, settings: Settings) -> BucketUse:
    """Counts the schedules of each tenant."""
    bounds = Bounds("schedules", settings.schedules, settings.schedule_bytes, 422, "too_many_schedules")
    return BucketUse(nc, subjects.SCHEDULES, bounds, timeout_s=settings.request_timeout_s)


# --- One schedule


async def _create(request: web.Request, asked: ScheduleRequest, name: str, revision: int) -> web.Response:
    schedule = await _schedule(request, asked, name)
    store = request.app[SCHEDULES]
    try:
        await store.put(schedule, revision)
    except VersionConflictError:
        raise _taken(name) from None
    location = {"Location": f"/v1/schedules/{name}"}
    return json_response(_view(schedule), status=201, headers=location)


async def _schedule(request: web.Request, asked: ScheduleRequest, name: str) -> Schedule:
    """A new schedule as asked for."""
    app = request.app
    principal = require(request, Role.SUBMITTER)
    now = clock.now()
    timing = timing_of(asked, now, shortest_s=app[SETTINGS].schedule_interval_s)
    job = await checked_job(asked.job, name, principal.tenant, app[SUBMITTER])
    if (grant := principal.grant) is not None:
        grant.check_kind(parse_request(job).kind, "job.kind")
        if grant.jobs_per_day is not None:  # its jobs are not this key's submissions
            raise ForbiddenError("a key with a limit on its jobs makes no schedule", code="key_bounded")
    return Schedule(
        tenant=principal.tenant, name=name, generation=new_id(), timing=timing, job=msgspec.Raw(job),
        created_at=now, created_by=principal.actor, written_at=now, decided_to=begins_at(timing, now),
        missed=asked.missed, overlap=asked.overlap,
    )  # fmt: skip


async def _stepped(
    request: web.Request, step: Callable[[Schedule, datetime], Schedule | None]
) -> web.Response:
    require(request, Role.SUBMITTER)
    tenant = _tenant(request, Query(request, "tenant"))
    return json_response(_view(await _change(request, tenant, request.match_info["id"], step)))


async def _change(
    request: web.Request, tenant: str, name: str, step: Callable[[Schedule, datetime], Schedule | None]
) -> Schedule:
    """The schedule after a step, which gives None when its effect is already there.

    Raises:
        NotFoundError: there is no such schedule for this tenant.
        VersionConflictError: others were always faster.
    """
    for _ in range(request.app[SETTINGS].append_tries):
        schedule, revision = await _found(request, tenant, name)
        changed = step(schedule, clock.now())
        if changed is None:
            return schedule
        try:
            await request.app[SCHEDULES].put(changed, revision)
        except VersionConflictError:
            continue
        return changed
    raise VersionConflictError


async def _found(request: web.Request, tenant: str, name: str) -> tuple[Schedule, int]:
    found = Found(None, 0)
    if NAME.fullmatch(name) is not None:
        found = await request.app[SCHEDULES].load(tenant, name)
    if found.schedule is None:
        raise NotFoundError(f"there is no schedule {name[:64]}", field="id")
    return found.schedule, found.revision


def _taken(name: str) -> ConflictError:
    return ConflictError(f"there is a schedule {name} already; PUT replaces it", code="schedule_exists")


def _tenant(request: web.Request, query: Query) -> str:
    tenant = scope(request, query)
    if NAME.fullmatch(tenant) is None:
        raise wrong("tenant", tenant, "the name of one tenant")
    return tenant


def _count(request: web.Request, query: Query) -> int:
    return query.integer("count", default=NEXT_SHOWN, least=1, most=request.app[SETTINGS].schedule_next)


def _view(schedule: Schedule) -> dict[str, Any]:
    timing = schedule.timing
    state = "active"
    if schedule.paused:
        state = "paused"
    elif next_tick(schedule) is None:
        state = "ended"
    last, refused, skipped = schedule.last_tick, schedule.refused, schedule.skipped
    return {
        "id": schedule.name,
        "name": schedule.name,
        "tenant": schedule.tenant,
        "state": state,
        "cron": timing.cron,
        "every_s": timing.every_s,
        "timezone": timing.timezone,
        "start_at": timing.start_at and iso(timing.start_at),
        "end_at": timing.end_at and iso(timing.end_at),
        "missed": schedule.missed.value,
        "overlap": schedule.overlap.value,
        "job": orjson.loads(bytes(schedule.job)),
        "created_at": iso(schedule.created_at),
        "created_by": schedule.created_by,
        "next_runs": [iso(tick) for tick in islice(upcoming(schedule, clock.now()), NEXT_SHOWN)],
        "last_run": last and {"at": iso(last), "job_id": tick_job_id(schedule, last)},
        "runs": schedule.runs,
        "last_skipped": skipped and {"at": iso(skipped.at), "reason": skipped.reason},
        "last_refused": refused
        and {
            "at": iso(refused.at), "code": refused.code, "message": refused.message, "field": refused.field
        },
    }  # fmt: skip
