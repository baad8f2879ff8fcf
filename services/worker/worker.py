"""The worker process: registers, finds work, runs it attempt by attempt, and drains when asked to stop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.subscription import Subscription

from switchyard._worker.contained import install, ours
from switchyard._worker.process_state import kept
from switchyard.events import subjects
from switchyard.events.errors import SwitchyardError
from switchyard.events.lane import LaneKey
from switchyard.events.vocabulary.ids import WorkerId
from switchyard.services.broker.publisher import Publisher
from switchyard.services.broker.reachability import Reachability
from switchyard.services.connectors.protocol import BackendConnector, Connector
from switchyard.services.dispatch.backends.delegations import Delegations
from switchyard.services.dispatch.backends.index import Index
from switchyard.services.dispatch.dispatcher import Dispatcher
from switchyard.services.dispatch.leasing import Lease, Leasing
from switchyard.services.dispatch.log_share import LogShare
from switchyard.services.dispatch.parts.joining import Parts
from switchyard.services.dispatch.picker.passing import Passing
from switchyard.services.dispatch.reports.reporter import Reporter
from switchyard.services.dispatch.start_room import StartRoom
from switchyard.services.dispatch.work import Work
from switchyard.services.ending import FAREWELL_S, Patience, at_most
from switchyard.services.event_store import EventStore
from switchyard.services.files import Files
from switchyard.services.files.reservations import WorkerQuota
from switchyard.services.gc import collect_less_often
from switchyard.services.records import controls
from switchyard.services.records.kinds import Kinds
from switchyard.services.records.tenancy import EVERYBODY, Tenancy
from switchyard.services.records.workers import Offered, new_record
from switchyard.services.settings import Settings
from switchyard.services.telemetry.part import Telemetry
from switchyard.services.worker.abilities import Abilities
from switchyard.services.worker.attempts import connector_calls
from switchyard.services.worker.attempts.attaching import Attaching
from switchyard.services.worker.attempts.attempt_run import Means
from switchyard.services.worker.attempts.attempts import Attempts
from switchyard.services.worker.attempts.delegated import Delegated
from switchyard.services.worker.attempts.previews import PreviewSender
from switchyard.services.worker.attempts.renewals import Renewals
from switchyard.services.worker.hardware.machine import Machine
from switchyard.services.worker.instances import Instances
from switchyard.services.worker.model_orders import follow_orders
from switchyard.services.worker.observing import Standing, observe
from switchyard.services.worker.registration import Registration
from switchyard.services.worker.slots import Slots

log = structlog.get_logger()

LAST_SETTLE_S = 2.0  # of a worker that has drained: what is not recorded then is decided by the log


class Worker:
    """Runs jobs of the connectors' kinds, `settings.slots` at once.

    Args:
        nc: an open connection.
        connectors: each with an id of its own.
        worker_id: unique to this run of the process.
        capabilities: what the operator declares beside what the connectors find.
        tenancy: whose jobs it runs.
        settings: limits and timeouts.
        telemetry: that of the process; one that nobody reads when not given.
        machine: what finds what the machine has; nothing does when not given.
        idle_s: seconds without a job after which it ends by itself; never when not given.

    Raises:
        ValueError: two connectors have the same id.
    """

    def __init__(
        self,
        nc: Client,
        connectors: Sequence[Connector],
        settings: Settings,
        *,
        worker_id: str,
        capabilities: dict[str, Any] | None = None,
        tenancy: Tenancy = EVERYBODY,
        telemetry: Telemetry | None = None,
        machine: Machine | None = None,
        idle_s: float | None = None,
    ) -> None:
        self.id = worker_id
        self._idle_s = idle_s
        self._tenancy = tenancy
        self._nc = nc
        self._settings = settings
        self._slots = Slots(settings.slots, self._limit, refit=self._refit)
        self._instances = Instances(connectors, self._slots, lambda: self._registration.record)
        self._abilities = Abilities(
            connectors, capabilities or {}, most_bytes=settings.worker_capabilities_bytes, machine=machine
        )
        self._paused = self._patient = False
        self._stopping = asyncio.Event()
        self._grace: asyncio.Timeout | None = None
        self._patience = Patience()
        self.gone = False
        self.is_worn = False
        """Whether it drains because of code that does not end: another process is to take its place."""
        self._slot_freed, self._has_picked = asyncio.Event(), asyncio.Event()
        self._busy_at = 0.0
        self.ready = asyncio.Event()
        self._publisher = Publisher(nc, window=settings.publish_window, timeout_s=settings.request_timeout_s)
        part = (telemetry or Telemetry("worker")).part("worker")
        store = EventStore(nc, self._publisher, settings, part.appends)
        self._reach = Reachability(settings.lease_s)
        share = LogShare(settings.tenant_log_lines_bytes, settings.log_share_s())
        self._reporter = Reporter(nc, share, self._publisher, buffer_bytes=settings.log_buffer_bytes)
        shown = part.counter("switchyard_previews")
        self._previews = PreviewSender(nc, lambda outcome, count: shown.labels(outcome).inc(count))
        self._kinds = Kinds(nc, self._publisher, settings)
        self._dispatcher = Dispatcher(
            nc, settings,
            record=lambda: self._registration.record, weights=self._weights,
            free=self._free, room=self._instances.room, start=self._start,
        )  # fmt: skip
        self._start_room = StartRoom(nc, store, settings, wake=self._dispatcher.wake)
        observe(part, nc, self._slots, self._instances, self._standing)
        timeout_s, self._files = settings.request_timeout_s, Files.of(nc, settings)
        passing = Passing(nc, timeout_s=timeout_s)
        leasing = Leasing(nc, store, self._dispatcher.puller, self._reach, settings, passing)
        self._lacking = leasing.lacking
        index = Index(nc, self._publisher, timeout_s=timeout_s)
        delegations = Delegations(store, self._dispatcher.tokens, index, settings)
        means = Means(
            worker=WorkerId(worker_id), leasing=leasing, store=store, reporter=self._reporter,
            previews=self._previews, files=self._files, settings=settings,
            quota=WorkerQuota(nc, timeout_s=timeout_s), stopping=self._stopping, delegations=delegations,
            parts=Parts(store, self._files),
        )  # fmt: skip
        self._renewals = Renewals(nc, leasing, self._dispatcher.tokens, settings)
        self._attempts = Attempts(
            lambda: self._registration.record, means, self._slots, self._renewals,
            tokens=self._dispatcher.tokens, patience=self._patience, freed=self._freed, lost=self._slots_lost,
        )  # fmt: skip
        self._attaching = Attaching(
            nc, connectors, delegations, store, self._renewals, settings, worker=WorkerId(worker_id),
            serves=self._serves, watch=self._watch,
        )  # fmt: skip
        self._group: asyncio.TaskGroup
        self._registration: Registration

    def _standing(self) -> Standing:
        started = self.ready.is_set()
        seen = started and self._registration.is_seen
        return Standing(started, self._stopping.is_set(), seen, self._start_room.is_open)

    def _serves(self, tenant: str) -> bool:
        return self._registration.record.runs_for(tenant)

    def stop(self) -> None:
        """Begin to drain: no new jobs, a grace period for running ones, then release them."""
        self._patient = False
        self.is_worn = self.is_worn and self.gone
        if self._grace is not None:
            self._grace.reschedule(asyncio.get_running_loop().time() + self._settings.drain_grace_s)
        self._begin_to_drain()

    def retire(self) -> None:
        """Begin to drain, and give running attempts all the time they need."""
        self._patient = True
        self._begin_to_drain()

    def _begin_to_drain(self) -> None:
        self._stopping.set()
        self._dispatcher.stopped = self._attaching.stopped = True
        self._dispatcher.wake()

    def declare(self, capabilities: dict[str, Any]) -> None:
        """Change what the operator declares; it holds for every lease from now on."""
        self._abilities.declare(capabilities)

    async def serve(self, tenancy: Tenancy) -> None:
        """Change whose jobs the worker runs; it holds for every lease from now on, those under way go on."""
        self._registration.change(tenant=tenancy.alone, tenants=tenancy.several, excluded=tenancy.excluded)
        await self._dispatcher.rematch()

    async def run(self) -> None:
        """Work until `stop` is called and the worker has drained."""
        install(asyncio.get_running_loop())
        with ours(), kept():
            await self._run()

    async def _run(self) -> None:
        collect_less_often()
        await self._publisher.start()
        await self._dispatcher.start()
        await self._dispatcher.tokens.load()
        await self._kinds.load()
        self._abilities.watch()
        self._registration = await self._register()
        await self._dispatcher.load()
        await self._start_room.load()
        heard = [
            await self._nc.subscribe(subjects.ALL_CANCEL_REQUESTS, cb=self._on_cancel_request),
            await self._nc.subscribe(subjects.ALL_LANE_PAUSES, cb=self._on_lane_pause),
            await self._nc.subscribe(subjects.offers_to(self.id), cb=self._dispatcher.on_offer),
        ]
        try:
            async with self._files, asyncio.TaskGroup() as background:
                tasks = [
                    background.create_task(work)
                    for work in (
                        self._registration.run(),
                        self._renewals.vigil.run(self._registration),
                        self._reporter.run(),
                        self._previews.run(),
                        self._renewals.run(),
                        self._dispatcher.follow_lanes(),
                        self._dispatcher.tokens.run(),
                        self._start_room.run(),
                        self._kinds.run(),
                        self._abilities.follow(self._registration, self._dispatcher),
                        self._abilities.follow_machine(),
                        self._end_when_idle(),
                        follow_orders(self._nc, self.id, self._instances, self._lacking, self._settings),
                        self._obey(),
                    )
                ]
                self.ready.set()
                ids = [connector.id for connector in self._instances]
                log.info("worker_started", worker=self.id, kinds=list(self._instances.kinds), connectors=ids)
                async with asyncio.TaskGroup() as self._group:
                    draining = self._group.create_task(self._drain())
                    await self._attaching.look()
                    attaching = self._group.create_task(self._attaching.run())
                    async with self._patience.limited():
                        await self._dispatcher.run()
                    self._has_picked.set()
                    attaching.cancel()
                    await draining
                for task in tasks:
                    task.cancel()
        finally:
            await self._close(heard)
        self.gone = True
        log.info("worker_stopped", worker=self.id)

    # --- Slots

    def _free(self) -> int:
        may_take = not self._paused and self._registration.is_seen and self._start_room.is_open
        return self._slots.free if may_take else 0

    def _limit(self, instance: str) -> int | None:
        """A connector may set a limit below the worker's slots; a higher one would cost looks at lanes."""
        slots = self._instances[instance].slots
        return None if slots is None or slots >= self._settings.slots else slots

    def _refit(self, instance: str) -> None:
        self._dispatcher.refit(self._instances[instance].kind)

    def _weights(self, kind: str) -> dict[str, int]:
        return self._kinds.of(kind).weights

    def _start(self, work: Work, lane: LaneKey) -> None:
        connector = self._instances.choose(lane, work.delivery.times)
        if connector is None:
            raise AssertionError("the lane has room")
        self._take(connector)
        self._group.create_task(self._attempts.run(work, connector))

    def _watch(self, lease: Lease, found: Delegated, connector: BackendConnector) -> None:
        """What is at work already takes a slot, though none may be free."""
        self._take(connector)
        self._group.create_task(self._attempts.watch(lease, found, connector))

    def _take(self, connector: Connector) -> None:
        self._slots.take(connector.id)
        self._busy_at = asyncio.get_running_loop().time()

    def _freed(self) -> None:
        self._busy_at = asyncio.get_running_loop().time()
        self._slot_freed.set()
        self._dispatcher.wake()

    def _slots_lost(self, lost: int) -> None:
        """Code does not end, or has ended after all: with too much of it the worker restarts."""
        self._registration.change(lost_slots=lost)
        if lost >= self._settings.lost_slots and not self._stopping.is_set():
            log.warning("worker_worn", worker=self.id, effect="it takes no more jobs, and restarts")
            self.is_worn = True
            self.retire()

    async def _end_when_idle(self) -> None:
        """End after so long without a job, if that is wished; one that comes just then is run to its end."""
        if self._idle_s is None:
            return
        loop = asyncio.get_running_loop()
        self._busy_at = loop.time()
        while (left_s := self._busy_at + self._idle_s - loop.time()) > 0 or self._slots.running:
            if self._slots.running:
                self._slot_freed.clear()
                await self._slot_freed.wait()
            else:
                await asyncio.sleep(left_s)
        if not self._stopping.is_set():
            log.info("worker_idle", worker=self.id, idle_s=self._idle_s, effect="it ends")
            self.retire()

    # --- What operators ask of it

    async def _obey(self) -> None:
        """Pause, resume or drain as operators wish, until cancelled."""
        wishes = controls.wishes(self._nc, self.id, timeout_s=self._settings.request_timeout_s)
        async for wish in wishes:
            if self._stopping.is_set():
                continue
            if wish == "draining":
                self.stop()
                continue
            if self._paused is not (wish == "paused"):
                self._paused = not self._paused
                self._registration.change(state="paused" if self._paused else "running")
                self._dispatcher.wake()
                log.info("worker_paused" if self._paused else "worker_resumed", worker=self.id)

    async def _on_lane_pause(self, message: Any) -> None:
        """Look at the lanes again: a resumed consumer does not answer the pulls that it had waiting.

        Tried on nats-server 2.15.1: they were left until the next message came or they ran out.
        """
        self._dispatcher.puller.forget_wait(message.subject.rpartition(".")[2])
        self._dispatcher.wake()

    async def _on_cancel_request(self, message: Any) -> None:
        await self._renewals.cancel_requested(message.subject.split(".", 2)[1])

    # --- Start and end

    async def _register(self) -> Registration:
        found = await self._abilities.find()
        record = new_record(
            worker_id=WorkerId(self.id),
            kinds=self._instances.kinds,
            capabilities=found.capabilities,
            instances=found.instances,
            connectors=tuple(Offered(one.id, one.kind, one.slots) for one in self._instances),
            tenancy=self._tenancy,
            slots=self._settings.slots,
            lease_s=self._settings.lease_s,
        )
        vigil = self._renewals.vigil
        registration = Registration(
            self._publisher, record, self._renewals.held, self._reach, seen_again=self._dispatcher.wake,
            elsewhere=vigil.stands, changed=vigil.changed, loads=self._slots.loads,
        )  # fmt: skip
        await registration.beat()
        return registration

    async def _drain(self) -> None:
        """After `stop`: give running attempts the grace period, then release them."""
        await self._stopping.wait()
        self._registration.change(state="draining")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(
                None if self._patient else self._settings.drain_grace_s
            ) as self._grace:
                if self._patient:
                    await self._has_picked.wait()  # until then a job may still start
                while self._slots.running:
                    self._slot_freed.clear()
                    await self._slot_freed.wait()
        self._grace = None
        self._renewals.drain()
        self._patience.lose(LAST_SETTLE_S)

    async def _close(self, heard: Sequence[Subscription]) -> None:
        await at_most(FAREWELL_S, self._stop_hearing(heard), "messages on their way, which come again")
        for connector in self._instances:
            await connector_calls.close(connector)
        await at_most(FAREWELL_S, self._say_goodbye(), "the record, which expires")
        await at_most(FAREWELL_S, self._publisher.close(), "the inbox")

    async def _stop_hearing(self, heard: Sequence[Subscription]) -> None:
        with contextlib.suppress(nats.errors.Error):
            if not self._nc.is_closed:
                for subscription in heard:
                    await subscription.unsubscribe()
            await self._dispatcher.stop()

    async def _say_goodbye(self) -> None:
        await self._reporter.flush()
        await self._registration.leave()
        with contextlib.suppress(SwitchyardError):  # else the keeper does it
            timeout_s = self._settings.request_timeout_s
            await controls.forget_worker(self._nc, self._publisher, self.id, timeout_s=timeout_s)
