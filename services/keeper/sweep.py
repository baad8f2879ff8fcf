"""The slow sweep: what should not happen is looked for, repaired and counted."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta

import structlog
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.commands import Requeue
from switchyard.events.errors import SwitchyardError, UnavailableError
from switchyard.events.vocabulary.ids import JobId, LaneId, Seq
from switchyard.projections.reader import ReadModel
from switchyard.services import clock
from switchyard.services.broker.bucket import Bucket
from switchyard.services.broker.connection import on_reconnect
from switchyard.services.broker.jetstream import NOTHING, api
from switchyard.services.broker.publisher import Publisher
from switchyard.services.broker.reader import read_range
from switchyard.services.dispatch.backends.index import Index
from switchyard.services.dispatch.backends.stale import sweep
from switchyard.services.event_store import EventStore
from switchyard.services.files import Files
from switchyard.services.keeper.dependencies import Dependencies, overdue
from switchyard.services.keeper.expiry import Expiry
from switchyard.services.keeper.fan_out.orphans import Orphans
from switchyard.services.keeper.fan_out.parts import Parts
from switchyard.services.keeper.fan_out.put_off import PutOff
from switchyard.services.keeper.lanes import LaneSweep, consumer_names
from switchyard.services.keeper.leftovers import delete_leftovers, purge_leftovers
from switchyard.services.keeper.schedules import Schedules
from switchyard.services.keeper.stale import purge_acknowledged, purge_overdue, purge_page
from switchyard.services.keeper.timers import ACTOR, Timers
from switchyard.services.records.lanes import Lanes
from switchyard.services.records.limits import Limits
from switchyard.services.records.servers.naming import SLOT, slots_consumer, slots_of
from switchyard.services.records.servers.record import SERVERS
from switchyard.services.settings import Settings

log = structlog.get_logger()

PAGE = 500
RETRY_S = 1.0
ORPHAN_UPLOADS = 2.0
GONE_AT_ONCE = 100
OVERDUE_S = 600.0  # clocks differ, and a broker that has just started fires what is overdue by itself


class Sweep:
    """Compares the read model with `WORK`, `TIMERS` and the workers, and lanes with their consumers.

    Without a read model on this host only lanes, schedules and files are swept.
    """

    def __init__(
        self,
        nc: Client,
        store: EventStore,
        publisher: Publisher,
        lanes: Lanes,
        timers: Timers,
        dependencies: Dependencies,
        schedules: Schedules,
        expiry: Expiry,
        settings: Settings,
        read_model: ReadModel | None,
        *,
        limits: Limits,
        files: Files,
        parts: Parts,
        put_off: PutOff,
    ) -> None:
        self._nc = nc
        self._store = store
        self._lane_sweep = LaneSweep(nc, publisher, lanes, settings, self._count)
        self._limits = limits
        self._registry = Bucket(nc, SERVERS, timeout_s=settings.request_timeout_s)
        self._gone: set[str] = set()
        self._timers = timers
        self._dependencies = dependencies
        self._schedules = schedules
        self._expiry = expiry
        self._settings = settings
        self._read_model = read_model
        self._files = files
        self._reconnects = -1
        self._index = Index(nc, publisher, timeout_s=settings.request_timeout_s)
        self._timers_from = self._backends_from = 1
        self._reconnected = asyncio.Event()
        self.repaired: Counter[str] = Counter()
        self._orphans = Orphans(parts, put_off, _one, self._count)

    async def run(self) -> None:
        """Sweep every `sweep_s` seconds, until cancelled; at the start and after an outage timers alone."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_outages())
            while True:
                await asyncio.sleep(self._settings.sweep_s)
                try:
                    await self.once(group)
                except SwitchyardError as error:
                    log.warning("sweep_broken_off", error=str(error))

    async def _follow_outages(self) -> None:
        """A broker that was killed may bring timers back, which are not to fire."""
        on_reconnect(self._nc, self._reconnected.set)
        while True:
            try:
                await self._stale_timers()
            except SwitchyardError as error:
                log.debug("stale_timers_unknown", error=str(error))
                await asyncio.sleep(RETRY_S)
                continue
            await self._reconnected.wait()
            self._reconnected.clear()

    async def once(self, group: asyncio.TaskGroup) -> None:
        """One sweep."""
        await self._lane_sweep.once()
        for name in await self._schedules.repair():
            self._count("schedule_without_timer", schedule=name)
        dropped, self._backends_from = await sweep(self._index, self._store, self._backends_from)
        for _ in range(dropped):
            self._count("stale_backend_entry")
        await self._files.sweep(older_than_s=self._settings.upload_timeout_s * ORPHAN_UPLOADS)
        await self._slots_of_gone()
        timeout_s = self._settings.request_timeout_s
        await self._stale_timers()
        if self._read_model is None or not self._read_model.exists():
            log.warning("swept_without_read_model")  # a keeper on a host without a projector
            return
        await self._overdue(self._read_model)
        await self._unreleased(self._read_model)
        await self._lost_work(self._read_model)
        await purge_leftovers(self._nc, self._read_model, timeout_s=timeout_s)
        await delete_leftovers(self._nc, self._read_model, timeout_s=timeout_s)
        self._lost_workers(self._read_model, group)

    async def _slots_of_gone(self) -> None:
        """Take away the slots of servers that were removed while no pusher ran.

        Such slots are met in two sweeps: the registry may be read from a replica that does not know yet of a
        new server whose slots are there already.
        """
        names = await consumer_names(self._nc, subjects.TOKENS, self._settings.request_timeout_s)
        slots = {name: key for name in names if (key := slots_of(name)) is not None}
        if slots:
            async for entry in self._registry.since(1):
                if entry.value is not None or entry.is_unreadable:
                    slots.pop(slots_consumer(*entry.key), None)
        seen, self._gone = self._gone, set(slots)
        for name in sorted(self._gone & seen)[:GONE_AT_ONCE]:
            await self._limits.remove_places(SLOT, slots[name])
            self._count("slots_of_a_server_that_is_gone", consumer=name)

    async def _stale_timers(self) -> None:
        """Timers that the broker is past, or of jobs that have ended: the whole of them after it was away."""
        timeout_s, before = self._settings.request_timeout_s, clock.now() - timedelta(seconds=OVERDUE_S)
        await purge_acknowledged(
            self._nc, subjects.TIMERS, subjects.KEEPER_TIMERS, subjects.ALL_TIMERS_DUE, timeout_s=timeout_s
        )
        reconnects = self._nc.stats["reconnects"]
        if reconnects != self._reconnects:
            await purge_overdue(self._nc, before, self._wake, timeout_s=timeout_s)
            start: int | None = 1
            while start is not None:
                start = await purge_page(self._nc, start, timeout_s=timeout_s)
            self._reconnects = reconnects
        else:
            self._timers_from = await purge_page(self._nc, self._timers_from, timeout_s=timeout_s) or 1

    async def _wake(self, job_id: JobId, purpose: str) -> None:
        with _one(job_id):
            await self._timers.on_due(job_id, purpose)

    def _count(self, what: str, **where: object) -> None:
        self.repaired[what] += 1
        log.warning("repaired", what=what, **where)

    async def _overdue(self, read_model: ReadModel) -> None:
        """A job whose time has come long ago has lost its timer."""
        before = clock.now() - timedelta(seconds=self._settings.heartbeat_s)
        for job_id in read_model.due(before, PAGE):
            with _one(job_id):
                woken, _ = await self._timers.wake(job_id)
                if woken:
                    self._count("due_without_timer", job=job_id)

    async def _unreleased(self, read_model: ReadModel) -> None:
        """A blocked job is still blocked long after the jobs that it waits for have ended."""
        before = clock.now() - timedelta(seconds=self._settings.lease_s)
        after = ""
        while jobs := read_model.blocked(PAGE, after):
            after = jobs[-1].id
            for job in jobs:
                if not overdue(job, read_model, before):
                    await self._orphans.unsubmitted(job, read_model, before)
                    continue
                with _one(job.id):
                    if await self._dependencies.settle(job.id, job.waits_for):
                        self._count("blocked_without_cause", job=job.id)
            await asyncio.sleep(0)  # a page is read without a pause
        await self._orphans.abandoned(read_model, before)

    async def _lost_work(self, read_model: ReadModel) -> None:
        """A queued job whose claimable event has no work message gets a new one."""
        for queue in read_model.queues(tenant=None):
            lane, priority, waiting = queue["lane"], queue["priority"], queue["waiting"]
            if not waiting or await self._messages(lane, priority) >= waiting:
                continue
            there = await self._sources(lane, priority)
            after = 0
            while jobs := read_model.waiting(lane, priority, PAGE, after):
                for job in jobs:
                    after = job.claimable_seq
                    if after not in there and self._is_old(job.claimable_at):
                        await self._requeue(job.id, after)

    async def _requeue(self, job_id: JobId, claimable_seq: Seq) -> None:
        command = Requeue(now=clock.now(), claimable_seq=claimable_seq)
        with _one(job_id):
            _, event = await self._store.transition(job_id, command, actor=ACTOR)
            if event is not None:
                self._count("queued_without_work", job=job_id)

    def _is_old(self, claimable_at: datetime | None) -> bool:
        """Whether the source has had more than time enough for an event of then."""
        return claimable_at is not None and clock.now() - claimable_at > timedelta(
            seconds=self._settings.lease_s
        )

    async def _messages(self, lane: LaneId, priority: int) -> int:
        """How many messages of a lane and priority are in `WORK`, delivered or not."""
        subject = subjects.work(lane, priority)
        info = await api(
            self._nc,
            f"STREAM.INFO.{subjects.WORK}",
            {"subjects_filter": subject},
            timeout_s=self._settings.request_timeout_s,
            expected=NOTHING,
        )
        return int((info["state"].get("subjects") or {}).get(subject, 0))

    async def _sources(self, lane: LaneId, priority: int) -> set[int]:
        """The sequences in `JOBS` of all work messages of a lane and priority."""
        sources: set[int] = set()
        start = 1
        while stored := await read_range(
            self._nc, subjects.WORK, subjects.work(lane, priority),
            start=start, timeout_s=self._settings.request_timeout_s,
        ):  # fmt: skip
            sources.update(int(message.headers[subjects.H_SOURCE].split(" ")[1]) for message in stored)
            start = stored[-1].seq + 1
        return sources

    def _lost_workers(self, read_model: ReadModel, group: asyncio.TaskGroup) -> None:
        """A worker that holds leases but has no heartbeat expired while no keeper was looking."""
        alive = self._expiry.alive()
        for worker in read_model.workers():
            if worker["running"] and worker["id"] not in alive:
                self._expiry.expire(group, worker["id"], {})


@contextlib.contextmanager
def _one(job_id: JobId) -> Iterator[None]:
    """Let the sweep continue with the others when one job cannot be repaired; not when the broker is away."""
    try:
        yield
    except UnavailableError:
        raise
    except SwitchyardError as error:
        log.warning("job_not_repaired", job=job_id, error=str(error))
