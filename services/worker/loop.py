"""The worker process: registers, finds work, runs it attempt by attempt, and drains when told to stop."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.subscription import Subscription

from events import subjects
from events.commands import AnyCommand, Complete, ConfirmCancel, Fail, Propose, Release
from events.errors import InvalidError, NewerVersionError, SwitchyardError, UnavailableError
from events.json_value import encoded
from events.outcome import exception_text, failure_of, trace_of
from events.spec import JobError
from services import controls
from services.connectors.protocol import BusyError, Connector, FatalError, Outcome, RetryableError
from services.ending import FAREWELL_S, Patience, at_most
from services.event_store import EventStore
from services.files import Files
from services.garbage import collect_less_often
from services.kinds import Kinds
from services.log_share import LogShare
from services.publisher import Publisher
from services.reachability import Reachability
from services.settings import Settings
from services.worker.attempt import HeldAttempt
from services.worker.dispatch import Dispatcher
from services.worker.lease import Interruption, Lease, Leasing, jitter
from services.worker.references import resolved_payload
from services.worker.registration import Registration
from services.worker.registry import declarable, new_record
from services.worker.reporting import Reporter
from services.worker.tokens import kept_while_running
from services.worker.vigil import Vigil
from services.worker.work import Work

log = structlog.get_logger()

SETTLE_PAUSE_S = 0.5
LAST_SETTLE_S = 2.0  # of a worker that has drained: what is not recorded then is decided by the log
RENEWALS_AT_ONCE = 64
BUSY_PAUSE_S = 1.0


class _Running:
    """A lease with the task that runs it."""

    __slots__ = ("handling", "interruption", "lease", "task")

    def __init__(self, lease: Lease, task: asyncio.Task[None]) -> None:
        self.lease = lease
        self.task = task
        self.handling = False
        self.interruption: Interruption | None = None

    def interrupt(self, why: Interruption) -> None:
        """Stop the handler; the first reason stands, except that a lost lease outdoes all others."""
        if self.interruption is None:
            self.interruption = why
            if self.handling:
                self.task.cancel()
        elif why is Interruption.LOST:
            self.interruption = why


class Worker:
    """Runs jobs of the connectors' kinds, `settings.slots` at once.

    Args:
        nc: an open connection.
        connectors: one per kind.
        worker_id: unique to this run of the process.
        capabilities: what the operator declares beside what the connectors find.
        tenant: whom the worker is dedicated to; None to work for all.
        settings: limits and timeouts.
    """

    def __init__(
        self,
        nc: Client,
        connectors: Sequence[Connector],
        settings: Settings,
        *,
        worker_id: str,
        capabilities: dict[str, Any] | None = None,
        tenant: str | None = None,
    ) -> None:
        self.id = worker_id
        self._tenant = tenant
        self._nc = nc
        self._settings = settings
        self._connectors = {connector.kind: connector for connector in connectors}
        self._capabilities = capabilities or {}
        self._running: dict[int, _Running] = {}
        self._busy = 0
        self._busy_by_kind: Counter[str] = Counter()
        self._paused = False
        self._stopping = asyncio.Event()
        self._patient = False
        self._grace: asyncio.Timeout | None = None
        self._patience = Patience()
        self.gone = False
        self._slot_freed = asyncio.Event()
        self.ready = asyncio.Event()
        self._publisher = Publisher(nc, window=settings.publish_window, timeout_s=settings.request_timeout_s)
        self._store = EventStore(nc, self._publisher, settings)
        self._files = Files(nc, timeout_s=settings.request_timeout_s)
        self._reach = Reachability(settings.lease_s)
        self._reporter = Reporter(nc, LogShare(settings.tenant_log_lines_bytes))
        self._kinds = Kinds(nc, self._publisher, settings)
        self._dispatcher = Dispatcher(
            nc, settings,
            record=lambda: self._registration.record, weights=self._weights,
            free=self._free, room=self._room, start=self._start,
        )  # fmt: skip
        self._changed = asyncio.Event()
        self._leasing = Leasing(nc, self._store, self._dispatcher.puller, self._reach, settings)
        self._vigil = Vigil(nc, settings, self._on_look)
        self._attempts: asyncio.TaskGroup
        self._registration: Registration

    def stop(self) -> None:
        """Begin to drain: no new jobs, a grace period for running ones, then release them."""
        self._patient = False
        if self._grace is not None:
            self._grace.reschedule(asyncio.get_running_loop().time() + self._settings.drain_grace_s)
        self._begin_to_drain()

    def retire(self) -> None:
        """Begin to drain, and give running attempts all the time they need."""
        self._patient = True
        self._begin_to_drain()

    def _begin_to_drain(self) -> None:
        self._stopping.set()
        self._dispatcher.stopped = True
        self._dispatcher.wake()

    def declare(self, capabilities: dict[str, Any]) -> None:
        """Change what the operator declares; it holds for every lease from now on."""
        self._capabilities = capabilities
        self._changed.set()

    async def run(self) -> None:
        """Work until `stop` is called and the worker has drained."""
        collect_less_often()
        await self._publisher.start()
        await self._dispatcher.start()
        await self._dispatcher.tokens.load()
        await self._kinds.load()
        for connector in self._connectors.values():
            connector.watch(self._changed.set)
        self._registration = await self._register()
        await self._dispatcher.load()
        heard = [
            await self._nc.subscribe(subjects.ALL_CANCEL_REQUESTS, cb=self._on_cancel_request),
            await self._nc.subscribe(subjects.ALL_LANE_PAUSES, cb=self._on_lane_pause),
        ]
        try:
            async with asyncio.TaskGroup() as background:
                tasks = [
                    background.create_task(work)
                    for work in (
                        self._registration.run(),
                        self._vigil.run(self._registration),
                        self._reporter.run(),
                        self._renew_all(),
                        self._dispatcher.follow_lanes(),
                        self._dispatcher.tokens.run(),
                        self._kinds.run(),
                        self._follow_capabilities(),
                        self._obey(),
                    )
                ]
                self.ready.set()
                log.info("worker_started", worker=self.id, kinds=sorted(self._connectors))
                async with asyncio.TaskGroup() as self._attempts:
                    draining = self._attempts.create_task(self._drain())
                    async with self._patience.limited():
                        await self._dispatcher.run()
                    await draining
                for task in tasks:
                    task.cancel()
        finally:
            await self._close(heard)
        self.gone = True
        log.info("worker_stopped", worker=self.id)

    # --- Slots

    def _free(self) -> int:
        may_take = not self._paused and self._registration.is_seen
        return self._settings.slots - self._busy if may_take else 0

    def _room(self, kind: str) -> int:
        """How many more attempts a kind may have; a connector may set a limit below the worker's slots."""
        limit: int | None = getattr(self._connectors.get(kind), "slots", None)
        return self._settings.slots if limit is None else max(0, limit - self._busy_by_kind[kind])

    def _weights(self, kind: str) -> dict[str, int]:
        return self._kinds.of(kind).weights

    def _held(self) -> dict[int, str]:
        held = self._running.items()
        return {fence: running.lease.job.id for fence, running in held if self._vigil.may_renew(fence)}

    def _start(self, work: Work, kind: str) -> None:
        self._busy += 1
        self._busy_by_kind[kind] += 1
        if not self._room(kind):
            self._dispatcher.refit(kind)
        self._attempts.create_task(self._attempt(work, kind))

    def _ended(self, kind: str) -> None:
        had_room = self._room(kind)
        self._busy -= 1
        self._busy_by_kind[kind] -= 1
        if not had_room:
            self._dispatcher.refit(kind)
        self._slot_freed.set()
        self._dispatcher.wake()

    # --- One attempt, step by step

    async def _attempt(self, work: Work, kind: str) -> None:
        lease = None
        try:
            async with self._patience.limited():
                lease = await self._leasing.take(work, self._registration.record)
            if lease is None:
                return
            task = asyncio.current_task()
            if task is None:
                raise AssertionError("an attempt is a task")
            running = _Running(lease, task)
            self._running[lease.fence] = running
            self._keep(lease, self._timeout_s(lease) + self._settings.cancel_grace_s)
            try:
                command = await self._handle(running)
                if command is not None:
                    self._keep(lease, None)  # however long the broker is away
                    async with self._patience.limited():
                        await self._settle(lease, command)
            finally:
                self._vigil.ended(lease.fence)
                del self._running[lease.fence]
        finally:
            if work.grant is not None:
                await self._dispatcher.tokens.end(work.grant, started=lease is not None)
            self._ended(kind)

    def _timeout_s(self, lease: Lease) -> float:
        return lease.spec.attempt_timeout_s or self._settings.attempt_timeout_s

    def _keep(self, lease: Lease, for_s: float | None) -> None:
        """Have the lease renewed for so long at most."""
        tokens = () if lease.work.grant is None else kept_while_running(lease.work.grant)
        self._vigil.holds(lease.fence, lease.job.id, lease.job.seq, lease.work.reply, tokens, for_s)

    async def _handle(self, running: _Running) -> AnyCommand | None:
        """Run the connector; the command that its end amounts to, or None when the lease is another's."""
        lease = running.lease
        spec, fence = lease.spec, lease.fence
        attempt = HeldAttempt(
            lease.job, spec,
            worker=self.id, reporter=self._reporter, files=self._files, settings=self._settings,
        )  # fmt: skip
        timeout_s = self._timeout_s(lease)
        timer = asyncio.get_running_loop().call_later(timeout_s, running.interrupt, Interruption.TIMEOUT)
        try:
            if running.interruption is not None:
                return self._interrupted(running, timeout_s)
            running.handling = True
            try:
                attempt.payload = await resolved_payload(self._store, spec)
                outcome = await attempt.stored(await self._connectors[spec.kind].run(attempt))
            finally:
                running.handling = False
            return _success(fence, outcome)
        except asyncio.CancelledError:
            if running.interruption is None:
                raise
            running.task.uncancel()
            return self._interrupted(running, timeout_s)
        except BusyError as error:
            log.info("attempt_released", job=lease.job.id, code=error.code)
            await asyncio.sleep(BUSY_PAUSE_S)
            return Release(now=datetime.now(UTC), fence=fence)
        except UnavailableError as error:
            # A file could not be read or stored while the broker was away: that is not the job's failure.
            log.warning("attempt_released", job=lease.job.id, error=str(error))
            await asyncio.sleep(BUSY_PAUSE_S)
            return Release(now=datetime.now(UTC), fence=fence)
        except (RetryableError, FatalError) as error:
            retryable = isinstance(error, RetryableError)
            return _failure(fence, failure_of(error.code, error.message, retryable=retryable))
        except Exception as error:  # noqa: BLE001
            # A connector is foreign code: whatever it raises is this attempt's failure, never the worker's.
            # Its traceback is cut first: a long message would hold up the loop while it is laid out.
            trace = trace_of(error)
            log.error("connector_failed", job=lease.job.id, kind=spec.kind, exception=trace)  # noqa: TRY400
            return _failure(fence, JobError("internal", exception_text(error)))
        finally:
            timer.cancel()
            await attempt.close()

    def _interrupted(self, running: _Running, timeout_s: float) -> AnyCommand | None:
        now = datetime.now(UTC)
        fence = running.lease.fence
        match running.interruption:
            case Interruption.CANCEL:
                return ConfirmCancel(now=now, fence=fence)
            case Interruption.TIMEOUT:
                error = JobError("timeout", f"the attempt took longer than {timeout_s:g} s")
                return _failure(fence, error)
            case Interruption.DRAIN:
                return Release(now=now, fence=fence)
            case _:
                return None

    async def _settle(self, lease: Lease, command: AnyCommand) -> None:
        """Record the outcome, however long the broker is away; a draining worker gives up after a while.

        What it gives up is decided by the log: its lease ends with its heartbeat.
        """
        while True:
            try:
                await self._leasing.settle(lease, command, worker=self.id)
            except UnavailableError as error:
                log.warning("outcome_waits", job=lease.job.id, error=str(error))
                if self._stopping.is_set():
                    return
                newer = isinstance(error, NewerVersionError)
                await asyncio.sleep(self._settings.heartbeat_s if newer else SETTLE_PAUSE_S)
            else:
                return

    # --- Renewal and cancellation

    async def _renew_all(self) -> None:
        """Renew every held lease three times within its length, until cancelled."""
        gate = asyncio.Semaphore(RENEWALS_AT_ONCE)
        while True:
            await asyncio.sleep(self._settings.heartbeat_s)
            if self._vigil.stands():
                continue
            async with asyncio.TaskGroup() as group:
                for running in list(self._running.values()):
                    group.create_task(self._renew(running, gate))

    async def _renew(self, running: _Running, gate: asyncio.Semaphore) -> None:
        async with gate:
            if running.lease.fence not in self._running or not self._vigil.may_renew(running.lease.fence):
                return
            why = await self._leasing.renew(running.lease)
            if running.lease.work.grant is not None and why is not Interruption.LOST:
                await self._dispatcher.tokens.renew(running.lease.work.grant)
        if why is not None and running.lease.fence in self._running:
            self._interrupt(running, why)

    def _interrupt(self, running: _Running, why: Interruption) -> None:
        log.info("attempt_interrupted", job=running.lease.job.id, why=why.value)
        running.interrupt(why)

    async def _on_look(self, fence: int, lost: bool) -> None:  # noqa: FBT001 - as `Vigil` says it
        """The vigil has found that a handler has to stop."""
        running = self._running.get(fence)
        if running is None:
            return
        if lost:
            self._interrupt(running, Interruption.LOST)
        else:
            await self._renew(running, asyncio.Semaphore(1))

    async def _obey(self) -> None:
        """Pause, go on or drain as operators wish, until cancelled."""
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
        job_id = message.subject.split(".", 2)[1]
        for running in list(self._running.values()):
            if running.lease.job.id == job_id:
                await self._renew(running, asyncio.Semaphore(1))

    # --- Start and end

    async def _found_capabilities(self) -> dict[str, Any]:
        """What the connectors find and the operator declares.

        Raises:
            InvalidError: it is no JSON, or too large.
        """
        capabilities: dict[str, Any] = {}
        for connector in self._connectors.values():
            capabilities.update(await asyncio.to_thread(connector.capabilities))
        return declarable(capabilities | self._capabilities, self._settings.worker_capabilities_bytes)

    async def _follow_capabilities(self) -> None:
        """Tell everybody when a connector has gained or lost an ability, until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                capabilities = await self._found_capabilities()
            except InvalidError as error:
                log.warning("capabilities_refused", error=str(error), effect="those declared before stay")
                continue
            if encoded(capabilities) != encoded(self._registration.record.capabilities):
                self._registration.change(capabilities=capabilities)
                await self._dispatcher.rematch()
                log.info("capabilities_changed", revision=self._registration.record.revision)

    async def _register(self) -> Registration:
        record = new_record(
            worker_id=self.id,
            kinds=tuple(sorted(self._connectors)),
            capabilities=await self._found_capabilities(),
            tenant=self._tenant,
            slots=self._settings.slots,
            lease_s=self._settings.lease_s,
        )
        registration = Registration(
            self._publisher, record, self._held, self._reach, seen_again=self._dispatcher.wake,
            elsewhere=self._vigil.stands, changed=self._vigil.changed,
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
                while self._busy:
                    self._slot_freed.clear()
                    await self._slot_freed.wait()
        self._grace = None
        for running in list(self._running.values()):
            running.interrupt(Interruption.DRAIN)
        self._patience.lose(LAST_SETTLE_S)

    async def _close(self, heard: Sequence[Subscription]) -> None:
        await at_most(FAREWELL_S, self._stop_hearing(heard), "messages on their way, which come again")
        for connector in self._connectors.values():
            await connector.close()
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


def _success(fence: int, outcome: Outcome) -> AnyCommand:
    now, result = datetime.now(UTC), outcome.result
    artifacts, usage = outcome.artifacts, outcome.usage
    if outcome.checks is None:
        return Complete(now=now, fence=fence, result=result, artifacts=artifacts, usage=usage)
    return Propose(
        now=now, fence=fence, result=result, artifacts=artifacts, usage=usage, checks=outcome.checks
    )


def _failure(fence: int, error: JobError) -> Fail:
    return Fail(now=datetime.now(UTC), fence=fence, error=error, jitter=jitter())
