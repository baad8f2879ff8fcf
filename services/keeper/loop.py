"""The keeper process: its parts, side by side."""

from __future__ import annotations

import asyncio

import structlog
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.encoding.codec import decode, place_of
from switchyard.events.errors import NewerVersionError, UnavailableError
from switchyard.events.events import AnyEvent, Archived, Submitted, Unreadable
from switchyard.events.job import Job, evolve
from switchyard.events.vocabulary.ids import JobId, Seq
from switchyard.projections.fold import NO_JOB
from switchyard.projections.reader import ReadModel
from switchyard.projections.tenants import Use
from switchyard.services.broker.consume import PutOffError, UnreadableError, consume, consume_batches
from switchyard.services.broker.publisher import Publisher
from switchyard.services.broker.reader import Stored
from switchyard.services.dispatch.parts.joining import Parts as Reader
from switchyard.services.event_store import EventStore
from switchyard.services.files import Files
from switchyard.services.gc import collect_less_often
from switchyard.services.intake.budgets import Budgets
from switchyard.services.intake.erasing import Eraser
from switchyard.services.intake.shares import Shares
from switchyard.services.intake.spend import Spend
from switchyard.services.intake.submitter import Submitter
from switchyard.services.intake.vault import Vault
from switchyard.services.intake.workflows.templates import Templates
from switchyard.services.keeper.batches.batches import Batches
from switchyard.services.keeper.controls import Controls
from switchyard.services.keeper.dependencies import Dependencies
from switchyard.services.keeper.expiry import Expiry
from switchyard.services.keeper.fan_out.parts import Parts
from switchyard.services.keeper.fan_out.put_off import HELD_S, FullError, PutOff
from switchyard.services.keeper.kept.archive import purge_archived, purge_lines
from switchyard.services.keeper.kept.erasures import Erasures
from switchyard.services.keeper.kept.retention import Retention
from switchyard.services.keeper.observing import observe
from switchyard.services.keeper.schedules import Schedules
from switchyard.services.keeper.source import watch_source
from switchyard.services.keeper.stale import purge_ended
from switchyard.services.keeper.sweep import Sweep
from switchyard.services.keeper.timers import ACTOR, Timers
from switchyard.services.keeper.waits import Waits
from switchyard.services.ledger.prices import Prices
from switchyard.services.ledger.quotas import Quotas
from switchyard.services.ledger.writer import LedgerWriter
from switchyard.services.records.kinds import Kinds
from switchyard.services.records.lanes import Lanes, key_of
from switchyard.services.records.limits import Limits
from switchyard.services.records.schedules import SCHEDULES
from switchyard.services.records.served_kinds import served_by
from switchyard.services.records.workflows.store import Workflows
from switchyard.services.settings import Settings
from switchyard.services.telemetry.part import Telemetry

log = structlog.get_logger()


class Keeper:
    """Timers, dependencies, schedules, batches, expiry, lanes, limits, ledger, erasures, source and sweep.

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
        self._ledger = LedgerWriter(nc, self._publisher, settings)
        self._files = files = Files.of(nc, settings)
        self._shares = Shares(_uncounted if read_model is None else read_model.use, settings)
        self._prices, self._quotas = (
            Prices(nc, self._publisher, settings),
            Quotas(nc, self._publisher, settings),
        )
        budgets = None if read_model is None else Budgets(self._quotas, self._prices, read_model)
        submitter = Submitter(
            self._store,
            self._lanes,
            self._limits,
            self._kinds,
            Vault(nc, files, settings),
            self._shares,
            settings,
            Templates(Workflows(nc, self._publisher, settings)),
            spend=None if read_model is None else Spend(read_model.jobs_by_key),
            budgets=budgets,
        )
        waits = Waits(nc, self._publisher, settings)
        self._parts = Parts(self._store, submitter, Reader(self._store, files), waits, settings)
        self._put_off = PutOff(self._submit_parts)
        self._dependencies = Dependencies(self._store, self._lanes, waits, self._parts)
        self._schedules = Schedules(nc, self._publisher, self._store, submitter, settings)
        self._batches = Batches(nc, self._publisher, self._store, submitter, settings)
        self.sweep = Sweep(
            nc, self._store, self._publisher, self._lanes, self._timers, self._dependencies,
            self._schedules, expiry, settings, read_model, limits=self._limits, files=files,
            parts=self._parts, put_off=self._put_off,
        )  # fmt: skip
        self._eraser = Eraser(nc, self._store, files, self._publisher, settings)
        self.retention = Retention(
            nc,
            self._store,
            self._kinds,
            self._limits,
            settings,
            read_model,
            self._eraser,
            files,
            self._batches.needs,
        )
        self._erasures = Erasures(nc, self._eraser, files, every_s=settings.sweep_s)
        observe(part, nc, settings, self.sweep.repaired)

    async def run(self) -> None:
        """Keep, until cancelled."""
        collect_less_often()
        async with self._files, self._publisher, asyncio.TaskGroup() as group:
            group.create_task(consume(self._nc, subjects.JOBS, subjects.KEEPER_EVENTS, self._on_event))
            await self._shares.load(self._nc)
            await self._limits.load()
            await self._kinds.load()
            for followed in (self._prices, self._quotas):
                await followed.load()
                group.create_task(followed.run())
            group.create_task(self._kinds.run())
            group.create_task(consume_batches(self._nc, subjects.JOBS, subjects.KEEPER_FINALS, self._on_ends))
            group.create_task(consume(self._nc, subjects.JOBS, subjects.KEEPER_LEDGER, self._ledger.on_event))
            group.create_task(consume(self._nc, subjects.JOBS, subjects.KEEPER_PARTS, self._on_parted))
            group.create_task(consume(self._nc, subjects.TIMERS, subjects.KEEPER_TIMERS, self._on_due))
            changes = consume(self._nc, subjects.SCHEDULES, subjects.KEEPER_SCHEDULES, self._on_schedule)
            group.create_task(changes)
            group.create_task(self._expiry.run())
            group.create_task(self._lanes.run())
            group.create_task(self._limits.run(applying=True))
            group.create_task(watch_source(self._nc, self._settings))
            group.create_task(self.sweep.run())
            group.create_task(self.retention.run())
            group.create_task(self._controls.run())
            group.create_task(self._erasures.run())
            group.create_task(self._batches.run())
            group.create_task(self._put_off.run())
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
            await self._ledger.settle(job_id)  # its consumer may not have come so far
            await purge_archived(self._nc, job_id, message.seq, timeout_s=self._settings.request_timeout_s)
            if self._settings.log_keep_s == 0:  # else they go by their age
                await purge_lines(self._nc, job_id, timeout_s=self._settings.request_timeout_s)
            job = evolve(Job(id=job_id), event, Seq(message.seq))
            if await self._eraser.follow(job, event.by or ACTOR):
                await self._ledger.erased(job, message)

    async def _on_parted(self, message: Stored) -> None:
        job_id = subjects.job_of(message.subject)
        if job_id is not None and self._put_off.is_done(job_id, message.seq):
            return
        try:
            await self._submit_parts(message, 0)
        except FullError as full:
            self._put_off.add(JobId(job_id or ""), message, full)
            raise PutOffError(HELD_S) from None

    async def _submit_parts(self, message: Stored, first: int) -> None:
        job = await self._parts.on_parted(message, first)
        if job is not None:  # those that it waits for may all have ended before
            await self._dependencies.settle(job.id, ())

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
        self._put_off.ended({message.headers.get(subjects.H_TENANT, "") for message in messages})
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
