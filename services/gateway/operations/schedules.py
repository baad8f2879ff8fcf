"""Schedules: jobs that come again by the clock."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import datetime
from itertools import islice

import msgspec
import orjson
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import (
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    VersionConflictError,
)
from switchyard.events.schedules.schedule import Schedule, paused, resumed, run_by_hand, upcoming
from switchyard.events.schedules.ticks import ticks
from switchyard.events.subjects import NAME
from switchyard.services import clock
from switchyard.services.access.principal import Caller
from switchyard.services.broker.bucket_use import Bounds, BucketUse
from switchyard.services.gateway.operations.schedule_request import (
    PreviewRequest,
    ScheduleRequest,
    begins_at,
    checked_job,
    timing_of,
)
from switchyard.services.ids import new_id
from switchyard.services.intake.request import parse_request
from switchyard.services.intake.submitter import Submitted, Submitter
from switchyard.services.records.schedules import Found, ScheduleStore, tick_body
from switchyard.services.settings import Settings

Step = Callable[[Schedule, datetime], Schedule | None]


class Schedules:
    """Makes and changes schedules for callers.

    Args:
        store: keeps them.
        submitter: judges their jobs.
        settings: limits.
    """

    def __init__(self, store: ScheduleStore, submitter: Submitter, settings: Settings) -> None:
        self._store = store
        self._submitter = submitter
        self._settings = settings

    async def create(self, caller: Caller, asked: ScheduleRequest) -> Schedule:
        """Make a schedule.

        Raises:
            ConflictError: code `schedule_exists`.
            RejectedError: it breaks a rule, or a limit of the tenant.
        """
        name = asked.name or new_id()
        found = await self._store.load(caller.tenant, name)
        if found.schedule is not None:
            raise _taken(name)
        return await self._create(caller, asked, name, found.revision)

    async def replace(self, caller: Caller, name: str, asked: ScheduleRequest) -> tuple[Schedule, bool]:
        """Make a schedule, or put another in its place; it, and whether it is a new one.

        Ticks up to now are those of the old one, later ones of the new.

        Raises:
            RejectedError: it breaks a rule, or a limit of the tenant.
        """
        if NAME.fullmatch(name) is None:
            raise InvalidError(f"name: expected a name that matches {NAME.pattern}", field="name")
        if asked.name not in (None, name):
            raise InvalidError(f"name: expected {name!r}, as in the path", field="name")
        found = await self._store.load(caller.tenant, name)
        if found.schedule is None:
            return await self._create(caller, asked, name, found.revision), True
        fresh = await self._schedule(caller, asked, name)

        def step(old: Schedule, now: datetime) -> Schedule:
            return msgspec.structs.replace(
                old, timing=fresh.timing, job=fresh.job, missed=fresh.missed, overlap=fresh.overlap,
                written_at=now, decided_to=max(now, old.decided_to),
            )  # fmt: skip

        return await self._change(caller.tenant, name, step), False

    async def page(self, tenant: str, after: str, limit: int) -> tuple[list[Schedule], str | None]:
        """A page of schedules by name, and the cursor of the next."""
        page: list[Schedule] = []
        for name in await self._store.names(tenant):
            if name <= after:
                continue
            schedule = (await self._store.load(tenant, name)).schedule
            if schedule is None:
                continue
            if len(page) == limit:
                return page, page[-1].name
            page.append(schedule)
        return page, None

    async def get(self, tenant: str, name: str) -> Schedule:
        """A schedule.

        Raises:
            NotFoundError: there is none of that name for this tenant.
        """
        return (await self._found(tenant, name))[0]

    async def next_runs(self, tenant: str, name: str, count: int) -> list[datetime]:
        """The ticks to come."""
        return list(islice(upcoming(await self.get(tenant, name), clock.now()), count))

    def preview(self, asked: PreviewRequest, count: int) -> list[datetime]:
        """The ticks to come of a schedule that is not made."""
        now = clock.now()
        timing = timing_of(asked, now, shortest_s=self._settings.schedule_interval_s)
        return list(islice(ticks(timing, now), count))

    async def run(self, caller: Caller, name: str, key: str | None) -> Submitted:
        """Make a job of a schedule at once, whether it is paused or not; its ticks come as they would have.

        Args:
            caller: who wants it, and whose limits count.
            name: that of the schedule.
            key: an idempotency key; the same one gives the same job.

        Raises:
            NotFoundError: there is none of that name for this tenant.
            RejectedError: the job breaks a rule, or a limit of the tenant.
            UnavailableError: the broker does not answer.
        """
        schedule, _ = await self._found(caller.tenant, name)
        job = bytes(schedule.job)
        # What is asked for is the same whenever it is asked.
        asked = b'{"run":%b,"job":%b}' % (orjson.dumps([name, schedule.generation]), job)
        body = tick_body(name, job, clock.now())
        submitted = await self._submitter.submit(parse_request(body), asked, caller, key)

        def step(found: Schedule, now: datetime) -> Schedule | None:
            return run_by_hand(found, now, submitted.job.id, caller.actor)

        with contextlib.suppress(NotFoundError, VersionConflictError):  # the job is there, come what may
            await self._change(caller.tenant, name, step)
        return submitted

    async def pause(self, tenant: str, name: str) -> Schedule:
        """Let no more of its jobs come."""
        return await self._change(tenant, name, paused)

    async def resume(self, tenant: str, name: str) -> Schedule:
        """Let its jobs come again."""
        return await self._change(tenant, name, resumed)

    async def delete(self, tenant: str, name: str) -> None:
        """Take a schedule away.

        Raises:
            NotFoundError: there is none of that name for this tenant.
            VersionConflictError: others were always faster.
        """
        for _ in range(self._settings.append_tries):
            schedule, revision = await self._found(tenant, name)
            try:
                await self._store.delete(schedule, revision)
            except VersionConflictError:
                continue
            return
        raise VersionConflictError

    async def _create(self, caller: Caller, asked: ScheduleRequest, name: str, revision: int) -> Schedule:
        schedule = await self._schedule(caller, asked, name)
        try:
            await self._store.put(schedule, revision)
        except VersionConflictError:
            raise _taken(name) from None
        return schedule

    async def _schedule(self, caller: Caller, asked: ScheduleRequest, name: str) -> Schedule:
        """A new schedule as asked for."""
        now = clock.now()
        timing = timing_of(asked, now, shortest_s=self._settings.schedule_interval_s)
        job = await checked_job(asked.job, name, caller.tenant, self._submitter)
        if caller.grant is not None:
            caller.grant.check_kind(parse_request(job).kind, "job.kind")
            if caller.grant.jobs_per_day is not None:  # its jobs are not this key's submissions
                message = "a key with a limit on its jobs makes no schedule"
                raise ForbiddenError(message, code="key_bounded")
        return Schedule(
            tenant=caller.tenant, name=name, generation=new_id(), timing=timing, job=msgspec.Raw(job),
            created_at=now, created_by=caller.actor, written_at=now, decided_to=begins_at(timing, now),
            missed=asked.missed, overlap=asked.overlap,
        )  # fmt: skip

    async def _change(self, tenant: str, name: str, step: Step) -> Schedule:
        """The schedule after a step, which gives None when its effect is already there.

        Raises:
            NotFoundError: there is no such schedule for this tenant.
            VersionConflictError: others were always faster.
        """
        for _ in range(self._settings.append_tries):
            schedule, revision = await self._found(tenant, name)
            changed = step(schedule, clock.now())
            if changed is None:
                return schedule
            try:
                await self._store.put(changed, revision)
            except VersionConflictError:
                continue
            return changed
        raise VersionConflictError

    async def _found(self, tenant: str, name: str) -> tuple[Schedule, int]:
        found = Found(None, 0)
        if NAME.fullmatch(name) is not None:
            found = await self._store.load(tenant, name)
        if found.schedule is None:
            raise NotFoundError(f"there is no schedule {name[:64]}", field="id")
        return found.schedule, found.revision


def _taken(name: str) -> ConflictError:
    return ConflictError(f"there is a schedule {name} already; PUT replaces it", code="schedule_exists")


def use_of(nc: Client, settings: Settings) -> BucketUse:
    """Counts the schedules of each tenant."""
    bounds = Bounds("schedules", settings.schedules, settings.schedule_bytes, 422, "too_many_schedules")
    return BucketUse(nc, subjects.SCHEDULES, bounds, timeout_s=settings.request_timeout_s)
