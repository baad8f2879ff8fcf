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

One that was left to a back end is only watched here. To interrupt it ends the watching; with a drain the
attempt goes on, and otherwise the connector is asked to stop the back end's work.
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
from switchyard.events.commands import AnyCommand, Complete, ConfirmCancel, Fail, FanOut, Propose, Release
from switchyard.events.errors import NewerVersionError, UnavailableError
from switchyard.events.outcome import exception_text, failure_of, timed_out, trace_of
from switchyard.events.values import JobError
from switchyard.events.vocabulary.causes import JoinPolicy
from switchyard.events.vocabulary.ids import Fence, WorkerId
from switchyard.services import clock
from switchyard.services.connectors.protocol import (
    BackendConnector,
    BackendLostError,
    BusyError,
    Connector,
    FatalError,
    Outcome,
    RetryableError,
    traceback_of,
)
from switchyard.services.dispatch.backends.delegations import Delegations
from switchyard.services.dispatch.leasing import Interruption, Lease, Leasing, jitter
from switchyard.services.dispatch.parts.joining import Parts
from switchyard.services.dispatch.references import resolved_payload
from switchyard.services.dispatch.reports.reporter import Reporter
from switchyard.services.event_store import EventStore
from switchyard.services.files import Files
from switchyard.services.files.reservations import WorkerQuota
from switchyard.services.settings import Settings
from switchyard.services.worker.attempts.attempt import HeldAttempt
from switchyard.services.worker.attempts.delegated import Delegated, claims_of, leave
from switchyard.services.worker.attempts.previews import PreviewSender

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
        previews: sends those.
        files: inputs and artifacts.
        quota: what tenants may keep of those.
        settings: limits and timeouts.
        stopping: set when the worker drains.
        delegations: what is done with attempts that are left to back ends.
        parts: reads those of jobs.
    """

    worker: WorkerId
    leasing: Leasing
    store: EventStore
    reporter: Reporter
    previews: PreviewSender
    files: Files
    quota: WorkerQuota
    settings: Settings
    stopping: asyncio.Event
    delegations: Delegations
    parts: Parts


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
        left: called once the attempt is left to a back end.
        found: the attempt as it was found at its back end; None for one that begins.
    """

    def __init__(
        self,
        lease: Lease,
        connector: Connector,
        means: Means,
        *,
        abandoned: Callable[[AttemptRun, Left], None],
        left: Callable[[AttemptRun], None],
        found: Delegated | None = None,
    ) -> None:
        self.lease = lease
        self.interruption: Interruption | None = None
        self.is_abandoned = False
        self._connector = connector
        self._means = means
        self._abandoned = abandoned
        self._left = left
        self._found = found
        self.delegated = found
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

    @property
    def end_without_command(self) -> str:
        """What happened to an attempt that ended here without an outcome."""
        match self.interruption:
            case Interruption.DRAIN:
                return "left"  # its back end carries it on, for the next one to watch
            case Interruption.CANCEL:
                return "not_stopped"  # nobody may say that it has: the job is cancelled by force
            case _:
                return "lost"

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
            settings=means.settings, previews=means.previews, parts=means.parts,
            delegate=self._delegate, seen=self._seen,
        )  # fmt: skip
        timer = asyncio.get_running_loop().call_later(self._left_s(), self.interrupt, Interruption.TIMEOUT)
        work: Foreign | None = None
        try:
            if self.interruption is not None:
                return await self._after_watching(attempt, still_runs=False)
            work = Foreign(lambda: self._outcome(attempt))
            left = await self._until_ended(work, attempt)
            if left is not None:
                return await self._give_up(left, attempt)
            if work.error is None:
                return _success(lease.fence, work.value)
            return await self._failed(work.error, attempt)
        finally:
            timer.cancel()
            if work is not None:
                work.forget()
            await attempt.close()

    def _left_s(self) -> float:
        """Seconds of the attempt's time that are left."""
        if self._found is None or self.lease.job.started_at is None:
            return self.timeout_s
        return max(0.0, self.timeout_s - (clock.now() - self.lease.job.started_at).total_seconds())

    async def _outcome(self, attempt: HeldAttempt) -> Outcome:
        attempt.payload = await resolved_payload(self._means.store, self._means.files, self.lease.spec)
        if self.delegated is None:
            try:
                return await attempt.stored(await self._connector.run(attempt))
            except UnavailableError:
                if self.delegated is None:
                    raise
                await asyncio.sleep(SETTLE_PAUSE_S)
        return await self._watched(attempt)

    async def _watched(self, attempt: HeldAttempt) -> Outcome:
        """What comes of work at the back end; a broker that is away does not end it."""
        connector, left = self._connector, self.delegated
        if left is None or not isinstance(connector, BackendConnector):
            raise AssertionError("only a back end's connector leaves work there")
        while True:
            try:
                return await attempt.stored(await connector.attach(attempt, left.remote_id))
            except UnavailableError as error:
                log.warning("outcome_waits", job=self.lease.job.id, error=str(error))
                await asyncio.sleep(SETTLE_PAUSE_S)

    # --- Work of a back end

    def _seen(self) -> None:
        if self.delegated is not None:
            self.delegated.seen()

    async def _delegate(self, remote_id: str, lease_s: float | None) -> None:
        """Leave the attempt to the connector's back end, however long the broker is away."""
        if not isinstance(self._connector, BackendConnector):
            raise FatalError("no_back_end", f"connector {self._connector.id} is no BackendConnector")
        means, backend = self._means, self._connector.backend
        claims = claims_of(self.lease, backend, remote_id, lease_s, means.settings)
        job = await leave(means.delegations, claims, self.lease.job, means.worker)
        if self.delegated is None:
            self.delegated = Delegated(means.delegations, claims, job, means.worker)
            await means.leasing.left(self.lease, job)
            self._left(self)
        else:
            self.lease.job = job
            self.delegated.learn(job)

    async def _after_watching(self, attempt: HeldAttempt, *, still_runs: bool) -> AnyCommand | None:
        """What an interruption amounts to, once nothing of the connector's runs here."""
        left, connector = self.delegated, self._connector
        if left is None or not isinstance(connector, BackendConnector):
            return self._interrupted(still_runs=still_runs)
        if self.interruption is Interruption.DRAIN:
            await left.let_go()
            return None
        work = Foreign(lambda: connector.stop(attempt, left.remote_id))
        await asyncio.wait([work.task], timeout=self._grace_s)
        stopped = await work.stop(1.0) and work.error is None
        if not stopped:
            error = str(work.error or "it takes too long")
            log.warning("backend_not_stopped", job=self.lease.job.id, error=error)
            work.forget()
        return self._interrupted(still_runs=still_runs or not stopped)

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

    async def _failed(self, error: BaseException, attempt: HeldAttempt) -> AnyCommand | None:
        """What an error of the connector amounts to."""
        job, fence = self.lease.job.id, self.lease.fence
        match error:
            case asyncio.CancelledError() if self.interruption is not None:
                return await self._after_watching(attempt, still_runs=False)
            case BackendLostError() if self.delegated is not None:
                log.info("backend_lost", job=job, code=error.code)
                return self.delegated.lost()
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
                shown = None if self.lease.spec.erasable else trace
                log.error("connector_failed", job=job, kind=self._connector.kind, exception=shown)
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

    async def _give_up(self, left: Left, attempt: HeldAttempt) -> AnyCommand | None:
        """End the attempt while its code still runs."""
        self.is_abandoned = True
        self._abandoned(self, left)
        if self.delegated is not None:
            return await self._after_watching(attempt, still_runs=False)
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
                if self.delegated is not None:
                    await self.delegated.settle(command)
                else:
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
    if (join := outcome.join) is not None:
        parts = tuple((part["name"], part["kind"]) for part in join.parts)
        policy, plan = JoinPolicy(join.policy), artifacts[0]
        return FanOut(
            now=now, fence=fence, parts=parts, policy=policy, plan=plan, usage=usage, kept=join.kept
        )
    if outcome.checks is None:
        return Complete(now=now, fence=fence, result=result, artifacts=artifacts, usage=usage)
    return Propose(
        now=now, fence=fence, result=result, artifacts=artifacts, usage=usage, checks=outcome.checks
    )


def _failure(fence: Fence, error: JobError) -> Fail:
    return Fail(now=clock.now(), fence=fence, error=error, jitter=jitter())
