"""Schedules: timers set from what the bucket holds, and ticks turned into jobs.

A timer only wakes. Whoever wakes reads the record, decides every tick that is due by compare-and-set, and
then submits their jobs under ids that the ticks give (`switchyard.events.schedules.schedule`). The timer is
set from the record that stands when it is set, so the order in which changes are handled does not matter.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.commands import RequestCancel
from switchyard.events.errors import ConflictError, RejectedError, UnavailableError, VersionConflictError
from switchyard.events.schedules.schedule import Overlap, Refusal, Schedule, decide, fired, next_tick
from switchyard.events.values import FINAL, Status
from switchyard.events.vocabulary.ids import JobId
from switchyard.services import clock
from switchyard.services.access.principal import Caller
from switchyard.services.broker.jetstream import api
from switchyard.services.broker.publisher import Publisher
from switchyard.services.event_message import KEY_ACTOR
from switchyard.services.event_store import EventStore
from switchyard.services.intake.request import parse_request
from switchyard.services.intake.submitter import Submitter
from switchyard.services.records.schedules import ScheduleStore, iso, tick_body, tick_job_id, tick_key
from switchyard.services.settings import Settings

log = structlog.get_logger()


class Schedules:
    """Sets the timers of schedules and acts on those that are due."""

    def __init__(
        self, nc: Client, publisher: Publisher, store: EventStore, submitter: Submitter, settings: Settings
    ) -> None:
        self._nc = nc
        self._publisher = publisher
        self._store = store
        self._submitter = submitter
        self._settings = settings
        self._records = ScheduleStore(
            nc, publisher, tries=settings.append_tries, timeout_s=settings.request_timeout_s
        )

    async def on_change(self, tenant: str, name: str) -> None:
        """Set the timer of a schedule that was written, or take it away."""
        await self._arm(tenant, name)

    async def on_due(self, tenant: str, name: str) -> None:
        """Do what is due; one that woke too early is set again."""
        if not await self.wake(tenant, name):
            await clock.CLOCK.ask(self._nc)  # the broker, which fires timers, has another time than we
            await self._arm(tenant, name)

    async def repair(self) -> list[str]:
        """Wake every schedule that should have been woken long ago; the names of those that needed it."""
        repaired = []
        before = clock.now() - timedelta(seconds=self._settings.lease_s)
        async for schedule in self._records.all():
            at = schedule.firing[0] if schedule.firing else next_tick(schedule)
            if at is None or max(at, schedule.written_at) > before:
                continue
            if await self.wake(schedule.tenant, schedule.name):
                repaired.append(schedule.name)
        return repaired

    async def wake(self, tenant: str, name: str) -> bool:
        """Decide the ticks that are due by now and submit their jobs; whether there was anything to do.

        Raises:
            UnavailableError: the broker does not answer, or others were always faster.
        """
        wrote = False
        conflicts = 0
        found = await self._records.load(tenant, name)
        while found.schedule is not None:
            changed = await self._advanced(found.schedule)
            if changed is None:
                break
            try:
                revision = await self._records.put(changed, found.revision)
            except VersionConflictError:
                conflicts += 1
                if conflicts > self._settings.append_tries:
                    raise UnavailableError(f"schedule {name}: others were always faster") from None
                found = await self._records.load(tenant, name)
            else:
                found = found._replace(schedule=changed, revision=revision)
                wrote = True
        return wrote

    async def _advanced(self, schedule: Schedule) -> Schedule | None:
        """The schedule one step on: its ticks decided, or the jobs of decided ticks submitted."""
        if schedule.firing:
            return await self._fire(schedule)
        now = clock.now()
        at = next_tick(schedule)
        if at is None or at > now:
            return None
        previous_runs = schedule.overlap is not Overlap.ALLOW and await self._previous_runs(schedule)
        return decide(
            schedule, now,
            previous_runs=previous_runs,
            late_s=self._settings.schedule_late_s,
            limit=self._settings.schedule_catch_up,
        )  # fmt: skip

    async def _previous_runs(self, schedule: Schedule) -> bool:
        if schedule.last_tick is None:
            return False
        job = await self._store.load(tick_job_id(schedule, schedule.last_tick))
        return job.status is not Status.ABSENT and job.status not in FINAL

    async def _fire(self, schedule: Schedule) -> Schedule:
        """Submit the jobs of the ticks that were decided; those that are there already stay as they are."""
        actor = f"schedule:{schedule.name}"
        if schedule.cancels is not None:
            await self._cancel(tick_job_id(schedule, schedule.cancels), actor)
        made = []
        refused = None
        for tick in schedule.firing:
            try:
                body = tick_body(schedule.name, bytes(schedule.job), tick)
                by = schedule.created_by
                key = by.removeprefix(KEY_ACTOR) if by.startswith(KEY_ACTOR) else ""
                caller = Caller(schedule.tenant, actor, key=key)
                await self._submitter.submit(parse_request(body), body, caller, tick_key(schedule, tick))
            except ConflictError:
                made.append(tick)  # by the schedule as it was before it was replaced
            except RejectedError as error:
                refused = Refusal(tick, error.code, error.message, error.field)
                log.warning(
                    "schedule_job_rejected", tenant=schedule.tenant, schedule=schedule.name, tick=iso(tick),
                    code=error.code, error=error.message,
                )  # fmt: skip
            else:
                made.append(tick)
        return fired(schedule, clock.now(), made, refused)

    async def _cancel(self, job_id: JobId, actor: str) -> None:
        command = RequestCancel(
            now=clock.now(), by=actor, grace_s=self._settings.cancel_grace_s, reason="next tick"
        )
        try:
            await self._store.transition(job_id, command, actor=actor)
        except ConflictError:
            return  # it has ended by itself

    async def _arm(self, tenant: str, name: str) -> None:
        """Set the timer that the record asks for, and once more if the record changed meanwhile."""
        for _ in range(self._settings.append_tries):
            found = await self._records.load(tenant, name)
            at = None if found.schedule is None else self._wake_at(found.schedule)
            if at is None:
                await self._disarm(tenant, name)
            else:
                headers = {
                    subjects.H_SCHEDULE: f"@at {iso(at)}",
                    subjects.H_SCHEDULE_TARGET: subjects.schedule_timer_due(tenant, name),
                }
                await self._publisher.publish(subjects.schedule_timer(tenant, name), b"", headers)
            if (await self._records.load(tenant, name)).revision == found.revision:
                return

    async def _disarm(self, tenant: str, name: str) -> None:
        query = {"filter": subjects.schedule_timer(tenant, name)}
        call = f"STREAM.PURGE.{subjects.TIMERS}"
        answer = await api(self._nc, call, query, timeout_s=self._settings.request_timeout_s)
        if "error" in answer:
            raise UnavailableError(f"a timer cannot be purged: {answer['error'].get('description')}")

    def _wake_at(self, schedule: Schedule) -> datetime | None:
        now = clock.now()
        if schedule.firing:  # whoever decided them is at it, or is gone by then
            return now + timedelta(seconds=self._settings.heartbeat_s)
        at = next_tick(schedule)
        return None if at is None else max(at, now)
