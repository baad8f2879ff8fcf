"""One attempt under a held lease, step by step: its handler runs, may be interrupted, and its end is settled.

The handler is foreign code and runs in a task of its own. Whatever it raises is this attempt's failure. One
that is interrupted has a grace and is asked again within it; then the attempt is abandoned: it ends as its
interruption demands, and the code runs on unheard in a slot that is lost.

| interrupted by | the code has stopped | it still runs |
|---|---|---|
| timeout | failed `timeout` | failed `timeout`, which says so |
| cancel | cancelled, confirmed | cancelled by force, when its time has come |
| drain | released | released |
| a lost lease | nothing | nothing |
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog
from msgspec.structs import replace

from switchyard._worker.contained import Ended, Foreign, StillRunning
from switchyard.events.commands import AnyCommand, Complete, ConfirmCancel, Fail, Propose, Release
from switchyard.events.errors import NewerVersionError, UnavailableError
from switchyard.events.outcome import exception_text, failure_of, timed_out, trace_of
from switchyard.events.values import JobError
from switchyard.events.vocabulary.ids import Fence, WorkerId
from switchyard.services import clock
from switchyard.services.connectors.protocol import (
    BusyError,
    Connector,
    FatalError,
    Outcome,
    RetryableError,
    traceback_of,
)
from switchyard.services.dispatch.leasing import Interruption, Lease, Leasing, jitter
from switchyard.services.dispatch.references import resolved_payload
from switchyard.services.event_store import EventStore
from switchyard.services.files import Files
from switchyard.services.files.reservations import WorkerQuota
from switchyard.services.settings import Settings
from switchyard.services.worker.attempts.attempt import HeldAttempt
from switchyard.services.worker.reporting import Reporter

log = structlog.get_logger()

SETTLE_PAUSE_S: Final = 0.5
HURRY: Final = 0.6
"""The part of the grace after which a connector is asked again: its own, half of it, is over then."""


@dataclass(frozen=True, slots=True)
class Means:
    """What all attempts of a worker share.

    Args:
        worker: its id.
        leasing: settles leases.
        store: reads what a payload refers to.
        reporter: sends progress and lines.
        files: inputs and artifacts.
        quota: what tenants may keep of those.
        settings: limits and timeouts.
        stopping: set when the worker drains.
    """

    worker: WorkerId
    leasing: Leasing
    store: EventStore
    reporter: Reporter
    files: Files
    quota: WorkerQuota
    settings: Settings
    stopping: asyncio.Event


@dataclass(frozen=True, slots=True)
class Left:
    """Code that outlived its attempt.

    Args:
        code: done when it has ended after all.
        late: how many of its calls and results were dropped.
    """

    code: Ended
    late: Callable[[], int]


class AttemptRun:
    """A lease and what runs under it.

    Args:
        lease: held.
        connector: that of the job's kind.
        means: the worker's.
        abandoned: called once if the code does not end.
    """

    def __init__(
        self,
        lease: Lease,
        connector: Connector,
        means: Means,
        *,
        abandoned: Callable[[AttemptRun, Left], None],
    ) -> None:
        self.lease = lease
        self.interruption: Interruption | None = None
        self.is_abandoned = False
        self._connector = connector
        self._means = means
        self._abandoned = abandoned
        self._wake = asyncio.Event()
        self._let_go = asyncio.Event()
        self._grace_s = means.settings.cancel_grace_s
        self.timeout_s = lease.spec.attempt_timeout_s or means.settings.attempt_timeout_s

    @property
    def kind(self) -> str:
        """The job's kind."""
        return self._connector.kind

    @property
    def instance(self) -> str:
        """The id of the connector that runs it."""
        return self._connector.id

    def interrupt(self, why: Interruption) -> None:
        """Stop the handler; the first reason stands, except that a lost lease outdoes all others."""
        if self.interruption is None or why is Interruption.LOST:
            self.interruption = why
        self._wake.set()
        if why in (Interruption.LOST, Interruption.DRAIN):
            self._let_go.set()

    # --- Run

    async def run(self) -> AnyCommand | None:
        """Run the connector; the command that its end amounts to, or None when the lease is another's."""
        means, lease = self._means, self.lease
        attempt = HeldAttempt(
            lease.job, lease.spec,
            worker=means.worker, reporter=means.reporter, files=means.files, quota=means.quota,
            settings=means.settings,
        )  # fmt: skip
        timer = asyncio.get_running_loop().call_later(self.timeout_s, self.interrupt, Interruption.TIMEOUT)
        work: Foreign | None = None
        try:
            if self.interruption is not None:
                return self._interrupted(still_runs=False)
            work = Foreign(lambda: self._outcome(attempt))
            left = await self._until_ended(work, attempt)
            if left is not None:
                return await self._give_up(left)
            if work.error is None:
                return _success(lease.fence, work.value)
            return await self._failed(work.error)
        finally:
            timer.cancel()
            if work is not None:
                work.forget()
            await attempt.close()

    async def _outcome(self, attempt: HeldAttempt) -> Outcome:
        attempt.payload = await resolved_payload(self._means.store, self.lease.spec)
        return await attempt.stored(await self._connector.run(attempt))

    async def _until_ended(self, work: Foreign, attempt: HeldAttempt) -> Left | None:
        """Wait for the handler and, once it is interrupted, for as long as it has; what is left of it."""
        try:
            work.task.add_done_callback(lambda _: self._wake.set())
            await self._wake.wait()
            ended = work.task.done() or await self._stopped(work)
        except asyncio.CancelledError:  # the worker fails: what its attempts hold is to be given back
            await self._stopped(work)
            raise
        if not ended:
            return Left(work.task, lambda: attempt.late + int(work.task.done() and work.error is None))
        if isinstance(work.error, StillRunning):
            error = work.error
            return Left(error.code, lambda: attempt.late + error.late())
        return None

    async def _stopped(self, work: Foreign) -> bool:
        return await work.stop(self._grace_s, first_s=HURRY * self._grace_s)

    # --- Its end

    async def _failed(self, error: BaseException) -> AnyCommand | None:
        """What an error of the connector amounts to."""
        job, fence = self.lease.job.id, self.lease.fence
        match error:
            case asyncio.CancelledError() if self.interruption is not None:
                return self._interrupted(still_runs=False)
            case BusyError():
                log.info("attempt_released", job=job, code=error.code)
                return Release(now=clock.now(), fence=fence, by_handler=True, jitter=jitter())
            case UnavailableError():
                # A file could not be read or stored while the broker was away: that is not the job's failure.
                log.warning("attempt_released", job=job, error=str(error))
                return Release(now=clock.now(), fence=fence, by_handler=True, jitter=jitter())
            case RetryableError() | FatalError():
                retryable = isinstance(error, RetryableError)
                failed = failure_of(error.code, error.message, retryable=retryable)
                return _failure(fence, replace(failed, traceback=traceback_of(error)))
            case _:
                # Whatever a connector raises is this attempt's failure, never the worker's.
                # Its traceback is cut first: a long message would hold up the loop while it is laid out.
                trace = trace_of(error)
                log.error("connector_failed", job=job, kind=self._connector.kind, exception=trace)
                failed = JobError("internal", exception_text(error), traceback=traceback_of(error))
                return _failure(fence, failed)

    def _interrupted(self, *, still_runs: bool) -> AnyCommand | None:
        now, fence = clock.now(), self.lease.fence
        match self.interruption:
            case Interruption.CANCEL:
                return None if still_runs else ConfirmCancel(now=now, fence=fence)
            case Interruption.TIMEOUT:
                late = timed_out(self.timeout_s)
                if still_runs:
                    message = f"{late.message}; its code did not stop when it was asked to, and still runs"
                    late = replace(late, message=message)
                return _failure(fence, late)
            case Interruption.DRAIN:
                return Release(now=now, fence=fence)
            case _:
                return None

    async def _give_up(self, left: Left) -> AnyCommand | None:
        """End the attempt while its code still runs."""
        self.is_abandoned = True
        self._abandoned(self, left)
        if self.interruption is Interruption.CANCEL:
            # Nobody may say that it has stopped. The lease is kept until the job is cancelled by force, so
            # that no other worker takes its message for a lost one's.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._grace_s + self._means.settings.lease_s):
                    await self._let_go.wait()
        return self._interrupted(still_runs=True)

    async def settle(self, command: AnyCommand) -> None:
        """Record the outcome, however long the broker is away; a draining worker gives up after a while.

        What it gives up is decided by the log: its lease ends with its heartbeat.
        """
        means = self._means
        while True:
            try:
                await means.leasing.settle(self.lease, command, worker=means.worker)
            except UnavailableError as error:
                log.warning("outcome_waits", job=self.lease.job.id, error=str(error))
                if means.stopping.is_set():
                    return
                newer = isinstance(error, NewerVersionError)
                await asyncio.sleep(means.settings.heartbeat_s if newer else SETTLE_PAUSE_S)
            else:
                return


def _success(fence: Fence, outcome: Outcome) -> AnyCommand:
    now, result = clock.now(), outcome.result
    artifacts, usage = outcome.artifacts, outcome.usage
    if outcome.checks is None:
        return Complete(now=now, fence=fence, result=result, artifacts=artifacts, usage=usage)
    return Propose(
        now=now, fence=fence, result=result, artifacts=artifacts, usage=usage, checks=outcome.checks
    )


def _failure(fence: Fence, error: JobError) -> Fail:
    return Fail(now=clock.now(), fence=fence, error=error, jitter=jitter())
