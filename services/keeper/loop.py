"""The keeper process: its parts, side by side."""

from __future__ import annotations

import asyncio

import structlog
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.encoding.codec import decode, place_of
from switchyard.events.errors import NewerVersionError, UnavailableError
from switchyard.events.events import AnyEvent, Archived, Submitted, Unreadable
from switchyard.events.vocabulary.ids import JobId
from switchyard.projections.fold import NO_JOB
from switchyard.projections.reader import ReadModel
from switchyard.projections.tenants import Use
from switchyard.services.broker.consume import UnreadableError, consume, consume_batches
from switchyard.services.broker.publisher import Publisher
from switchyard.services.broker.reader import Stored
from switchyard.services.event_store import EventStore
from switchyard.services.files import Files
from switchyard.services.intake.shares import Shares
from switchyard.services.intake.submitter import Submitter
from switchyard.services.keeper.archive import purge_archived
from switchyard.services.keeper.controls import Controls
from switchyard.services.keeper.dependencies import Dependencies
from switchyard.services.keeper.expiry import Expiry
from switchyard.services.keeper.observing import observe
from switchyard.services.keeper.schedules import Schedules
from switchyard.services.keeper.source import watch_source
from switchyard.services.keeper.stale import purge_ended
from switchyard.services.keeper.sweep import Sweep
from switchyard.services.keeper.timers import Timers
from switchyard.services.records.kinds import Kinds
from switchyard.services.records.lanes import Lanes, key_of
from switchyard.services.records.limits import Limits
from switchyard.services.records.schedules import SCHEDULES
from switchyard.services.records.served_kinds import served_by
from switchyard.services.settings import Settings
from switchyard.services.telemetry.part import Telemetry

log = structlog.get_logger()


class Keeper:
    """Timers, dependencies, schedules, expiry, lanes, limits, controls, the source and the sweep.

    Args:
        nc: an open connection.
        read_model: for the sweep, where the host has one.
        telemetry: that of the process; one that nobody reads when not given.
    """

    def __init__(
        self,
        nc: Client,
        settings: Settings,
        read_model: ReadModel | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        self._nc = nc
        self._settings = settings
        self._publisher = Publisher(nc, window=settings.publish_window, timeout_s=settings.request_timeout_s)
        part = (telemetry or Telemetry("keeper")).part("keeper")
        self._store = EventStore(nc, self._publisher, settings, part.appends)
        self._expiry = expiry = Expiry(nc, self._store, settings, read_model)
        self._kinds = Kinds(nc, self._publisher, settings)
        self._lanes = Lanes(nc, self._publisher, settings, served_by(self._kinds, expiry.kinds))
        self._limits = Limits(nc, self._publisher, settings)
        self._timers = Timers(nc, self._store, self._lanes, self._publisher, settings)
        self._controls = Controls(nc, self._publisher, settings)
        self._dependencies = Dependencies(nc, self._store, self._publisher, self._lanes, settings)
        files = Files(nc, timeout_s=settings.request_timeout_s)
        self._shares = Shares(_uncounted if read_model is None else read_model.use, settings)
        submitter = Submitter(
            self._store, self._lanes, self._limits, self._kinds, files.exists, self._shares, settings
        )
        self._schedules = Schedules(nc, self._publisher, self._store, submitter, settings)
        self.sweep = Sweep(
            nc, self._store, self._publisher, self._lanes, self._timers, self._dependencies,
            self._schedules, expiry, settings, read_model,
        )  # fmt: skip
        observe(part, nc, settings, self.sweep.repaired)

    async def run(self) -> None:
        """Keep, until cancelled."""
        async with self._publisher, asyncio.TaskGroup() as group:
            group.create_task(consume(self._nc, subjects.JOBS, subjects.KEEPER_EVENTS, self._on_event))
            await self._shares.load(self._nc)
            await self._limits.load()
            await self._kinds.load()
            group.create_task(self._kinds.run())
            group.create_task(consume_batches(self._nc, subjects.JOBS, subjects.KEEPER_FINALS, self._on_ends))
            group.create_task(consume(self._nc, subjects.TIMERS, subjects.KEEPER_TIMERS, self._on_due))
            changes = consume(self._nc, subjects.SCHEDULES, subjects.KEEPER_SCHEDULES, self._on_schedule)
            group.create_task(changes)
            group.create_task(self._expiry.run())
            group.create_task(self._lanes.run())
            group.create_task(self._limits.run(applying=True))
            group.create_task(watch_source(self._nc, self._settings))
            group.create_task(self.sweep.run())
            group.create_task(self._controls.run())
            log.info("keeper_started")

    async def _on_event(self, message: Stored) -> None:
        """Do what an event asks for; one that cannot be read asks for nothing.

        Raises:
            NewerVersionError: a newer version of the program wrote it; it waits until this one is upgraded.
        """
        job_id = subjects.job_of(message.subject)
        if job_id is None:
            raise UnreadableError(NO_JOB)
        event = decode(message.subject, message.data, message.headers)
        if isinstance(event, Unreadable):
            if event.newer:
                raise NewerVersionError(f"event {message.seq}: {event.reason}")
            raise UnreadableError(event.reason)
        await self._timers.on_event(job_id, event, message.seq)
        await self._dependencies.on_event(job_id, event)
        await self._check_lane(job_id, event)
        if isinstance(event, Archived):
            await purge_archived(self._nc, job_id, message.seq, timeout_s=self._settings.request_timeout_s)

    async def _on_due(self, message: Stored) -> None:
        try:
            schedule = subjects.parse_schedule_due(message.subject)
            job = None if schedule is not None else subjects.parse_timer_due(message.subject)
        except ValueError as error:
            raise UnreadableError(str(error)) from None
        if schedule is not None:
            await self._schedules.on_due(*schedule)
        elif job is not None:
            await self._timers.on_due(*job)

    async def _on_schedule(self, message: Stored) -> None:
        try:
            tenant, name = SCHEDULES.key_of(message.subject)
        except ValueError as error:
            raise UnreadableError(str(error)) from None
        await self._schedules.on_change(tenant, name)

    async def _on_ends(self, messages: list[Stored]) -> None:
        ended = {
            job_id: message.subject.split(".", 3)[2]
            for message in messages
            if (job_id := subjects.job_of(message.subject)) is not None
        }
        await self._dependencies.on_ends(ended)
        await purge_ended(self._nc, list(ended), timeout_s=self._settings.request_timeout_s)

    async def _check_lane(self, job_id: JobId, event: AnyEvent) -> None:
        """A claimable event whose lane is gone would wait unseen: make the lane again."""
        place = place_of(event)
        if place is None or self._lanes.ready(*place):
            return
        spec = event.job if isinstance(event, Submitted) else await self._store.spec(job_id)
        await self._lanes.ensure(key_of(spec, place[0]), *place, spec.tenant, checked=False)


def _uncounted(tenant: str) -> Use:
    raise UnavailableError(f"there is no read model here that counts the jobs of {tenant}")
