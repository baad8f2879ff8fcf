"""Attempts that back ends carry on by themselves: left to them, and what is heard of them afterwards.

Nobody holds such an attempt. Any gateway takes any report of it; one that comes again, or after the attempt's
end, changes nothing and is answered with the job as it is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from switchyard.events.commands import (
    AnyCommand,
    Complete,
    ConfirmCancel,
    Delegate,
    Fail,
    LoseBackend,
    Release,
    RenewDelegated,
)
from switchyard.events.errors import ConflictError, InvalidError
from switchyard.events.job import Job
from switchyard.events.rules.backends import is_with
from switchyard.events.values import Backend, JobError, Status
from switchyard.events.vocabulary.refusals import RefusalCode
from switchyard.services import clock
from switchyard.services.access.lease_tickets import LeaseClaims
from switchyard.services.access.outcome_tickets import OutcomeClaims, OutcomeTokens
from switchyard.services.access.principal import Caller
from switchyard.services.dispatch.leasing import jitter
from switchyard.services.files import FileInfo
from switchyard.services.gateway.operations.files import Incoming
from switchyard.services.gateway.operations.jobs import Jobs
from switchyard.services.gateway.operations.leases import Leases


class Backends:
    """Leaves attempts to back ends, and takes what is heard of them.

    Args:
        jobs: the job's own operations.
        leases: whose attempts they were.
        tokens: signs and checks what back ends report with.
    """

    def __init__(self, jobs: Jobs, leases: Leases, tokens: OutcomeTokens) -> None:
        self._jobs = jobs
        self._leases = leases
        self._settings = jobs.settings
        self._tokens = tokens

    def claims(self, token: str) -> OutcomeClaims:
        """What a back end's token says.

        Raises:
            UnauthenticatedError: it is none.
        """
        return self._tokens.check(token)

    async def delegate(
        self, caller: Caller, lease: LeaseClaims, backend: Backend, lease_s: float | None
    ) -> tuple[Job, str]:
        """Leave an attempt to a back end: the job, and the token to report with.

        Args:
            caller: a worker's.
            lease: what it holds.
            backend: who carries the attempt on.
            lease_s: seconds from one sign of life to the next; None for those of the lease.

        Raises:
            InvalidError: the time is too long.
            StaleLeaseError: the lease is gone.
            ConflictError: another back end has the attempt, or the job is to stop.
        """
        lease_s = lease_s or lease.lease_s
        if lease_s > self._settings.timed_lease_max_s:
            message = f"lease_s: at most {self._settings.timed_lease_max_s:g} was expected"
            raise InvalidError(message, field="lease_s")
        claims = OutcomeClaims(
            job=lease.job, fence=lease.fence, attempt=lease.attempt, worker=lease.worker, tenant=lease.tenant,
            lease_s=lease_s, places=lease.places, backend=backend,
        )  # fmt: skip
        before = await self._leases.running(lease, "delegate")
        now = clock.now()
        command = Delegate(
            now=now, fence=lease.fence, backend=backend, expires_at=now + timedelta(seconds=lease_s),
            attempt_timeout_s=self._settings.attempt_timeout_s,
        )  # fmt: skip
        try:
            job, _ = await self._jobs.transition(caller, before, command, actor=f"worker:{lease.worker}")
        except ConflictError as error:
            if error.code == RefusalCode.LEASE_LOST:
                raise await self._leases.stale(lease, error) from None
            raise
        await self._leases.keep_places(claims, before, job)
        self._leases.let_go(claims)
        return job, self._tokens.sign(claims)

    # --- What is heard

    async def seen(
        self, caller: Caller, claims: OutcomeClaims, progress: dict[str, Any] | None = None
    ) -> Job:
        """The back end is at work: prolong the lease when half of its time is over, show how far it is."""
        now = clock.now()
        command = RenewDelegated(
            now=now, fence=claims.fence, backend=claims.backend,
            expires_at=now + timedelta(seconds=claims.lease_s),
            attempt_timeout_s=self._settings.attempt_timeout_s,
        )  # fmt: skip
        before = await self._leases.loaded(claims)
        job, _ = await self._said(caller, claims, before, command)
        if progress is not None and is_with(job, claims.fence, claims.backend):
            await self._leases.outcomes.progress(job, progress)
        await self._leases.keep_places(claims, before, job)
        return job

    async def succeed(
        self,
        caller: Caller,
        claims: OutcomeClaims,
        *,
        result: Any,
        artifacts: list[str],
        usage: dict[str, float],
    ) -> Job:
        """Take a result.

        Raises:
            RejectedError: an artifact is not there, or the job is damaged.
            UnavailableError: the broker does not answer.
        """
        job = await self._leases.loaded(claims)
        result, references = await self._leases.kept(caller, job, claims, result, artifacts)
        command = Complete(
            now=clock.now(), fence=claims.fence, result=result, artifacts=references, usage=usage
        )
        return await self._ended(caller, claims, job, command)

    async def fail(self, caller: Caller, claims: OutcomeClaims, error: JobError) -> Job:
        """Take a failure; raises as `succeed`."""
        job = await self._leases.loaded(claims)
        command = Fail(now=clock.now(), fence=claims.fence, error=error, jitter=jitter())
        return await self._ended(caller, claims, job, command)

    async def stopped(self, caller: Caller, claims: OutcomeClaims) -> Job:
        """The work has stopped, as was wished, or the back end gives it back; raises as `succeed`."""
        job = await self._leases.loaded(claims)
        command: AnyCommand = Release(now=clock.now(), fence=claims.fence, by_handler=True, jitter=jitter())
        if job.status is Status.CANCELLING:
            command = ConfirmCancel(now=clock.now(), fence=claims.fence)
        return await self._ended(caller, claims, job, command)

    async def lost(self, caller: Caller, claims: OutcomeClaims) -> Job:
        """The back end is gone, or knows nothing of the work; nobody is to blame. Raises as `succeed`."""
        settings = self._settings
        command = LoseBackend(
            now=clock.now(), fence=claims.fence, backend=claims.backend, blamed=False,
            poison_after=settings.poison_losses, innocent_max=settings.innocent_losses,
        )  # fmt: skip
        return await self._ended(caller, claims, await self._leases.loaded(claims), command)

    async def artifact(
        self,
        claims: OutcomeClaims,
        name: str,
        opened: Callable[[], Awaitable[Incoming]],
        *,
        announced: int,
    ) -> FileInfo:
        """Store a file of the attempt, as `Leases.artifact`."""
        return await self._leases.artifact(claims, name, opened, announced=announced)

    async def _ended(self, caller: Caller, claims: OutcomeClaims, before: Job, command: AnyCommand) -> Job:
        after, recorded = await self._said(caller, claims, before, command)
        if recorded:  # else its places may be another's by now
            await self._leases.claiming.ended(claims, before)
        return after

    async def _said(
        self, caller: Caller, claims: OutcomeClaims, before: Job, command: AnyCommand
    ) -> tuple[Job, bool]:
        """The job after what was said of it, and whether that was recorded.

        It counts while the attempt is with that back end, and is passed over afterwards.

        Raises:
            ConflictError: the job is damaged.
            UnavailableError: the broker does not answer.
        """
        if before.damage is None and not is_with(before, claims.fence, claims.backend):
            return before, False
        try:
            actor = actor_of(claims.backend)
            job, event = await self._jobs.transition(caller, before, command, actor=actor)
        except ConflictError as error:
            if error.code == RefusalCode.DAMAGED:
                raise
            return await self._leases.loaded(claims), False  # it has ended meanwhile
        return job, event is not None


def actor_of(backend: Backend) -> str:
    """A back end's name in the events that it causes."""
    return f"backend:{backend.kind}.{backend.id}"
