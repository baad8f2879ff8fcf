"""Attempts that back ends carry on by themselves: left to them, and what is heard of them afterwards.

Nobody holds such an attempt. Any gateway takes any report of it; one that comes again, or after the attempt's
end, changes nothing and is answered with the job as it is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from switchyard.events.commands import (
    AnyCommand,
    Complete,
    ConfirmCancel,
    Fail,
    Release,
)
from switchyard.events.errors import ConflictError, InvalidError
from switchyard.events.job import Job
from switchyard.events.rules.backends import is_with
from switchyard.events.values import Backend, JobError, Status
from switchyard.events.vocabulary.refusals import RefusalCode
from switchyard.services import clock
from switchyard.services.access.outcome_tickets import OutcomeTokens
from switchyard.services.access.principal import Caller
from switchyard.services.access.ticket_claims import LeaseClaims, OutcomeClaims
from switchyard.services.dispatch.backends.delegations import Source
from switchyard.services.dispatch.leasing import jitter
from switchyard.services.dispatch.rest.found import watched_s
from switchyard.services.files import FileInfo
from switchyard.services.gateway.operations.files import Incoming
from switchyard.services.gateway.operations.leases import Leases, backend_of
from switchyard.services.settings import Settings


class Backends:
    """Leaves attempts to back ends, and takes what is heard of them.

    Args:
        leases: whose attempts they were, and what is done with them.
        tokens: signs and checks what back ends report with.
        settings: limits.
    """

    def __init__(self, leases: Leases, tokens: OutcomeTokens, settings: Settings) -> None:
        self._delegations = leases.delegations
        self._leases = leases
        self._settings = settings
        self._tokens = tokens

    def claims(self, token: str) -> OutcomeClaims:
        """What a back end's token says.

        Raises:
            UnauthenticatedError: it is none.
        """
        return self._tokens.check(token)

    async def delegate(
        self,
        caller: Caller,
        lease: LeaseClaims,
        backend: Backend,
        lease_s: float | None,
        *,
        watched: bool,
    ) -> tuple[OutcomeClaims, Job, str]:
        """Leave an attempt to a back end: what it is known by there, the job, and the token to report with.

        Args:
            caller: a worker's.
            lease: what it holds.
            backend: who carries the attempt on.
            lease_s: seconds from one sign of life to the next; None for those of the lease. Those of an
                attempt that is watched are more, so that others have time when its watcher is gone.
            watched: whether the worker looks after it, and others are to find it when the worker is gone.
                Where it has and does no more, they may at once.

        Raises:
            InvalidError: the time is too long.
            StaleLeaseError: the lease is gone.
            ConflictError: another back end has the attempt, or the job is to stop.
        """
        settings = self._settings
        if lease_s is not None and lease_s > settings.timed_lease_max_s:
            message = f"lease_s: at most {settings.timed_lease_max_s:g} was expected"
            raise InvalidError(message, field="lease_s")
        if watched:
            lease_s = max(lease_s or settings.timed_lease_s, watched_s(lease.lease_s, settings))
        else:
            lease_s = lease_s or lease.lease_s
        claims = OutcomeClaims(
            job=lease.job, fence=lease.fence, attempt=lease.attempt, worker=lease.worker, tenant=lease.tenant,
            lease_s=lease_s, places=lease.places, backend=backend,
        )  # fmt: skip
        before = await self._leases.running(lease, "delegate")
        try:
            job = await self._delegations.delegate(
                claims, before, actor=f"worker:{lease.worker}", source=_source(caller),
                watcher=lease.worker if watched else None,
            )  # fmt: skip
        except ConflictError as error:
            if error.code == RefusalCode.LEASE_LOST:
                raise await self._leases.stale(lease, error) from None
            raise
        if watched:
            self._leases.watches(claims, lease.lease_s)
        else:
            self._leases.let_go(claims)
            if backend_of(before, lease) is not None:
                await self._delegations.let_go(claims, lease.worker)
        return claims, job, self._tokens.sign(claims)

    async def attempt(self, job: Job, backend: Backend) -> OutcomeClaims:
        """The attempt that a back end has, for a report that brings no token.

        Its places under limits are those that were noted when it was left there. Where nothing was noted they
        come back when its lease is over.

        Args:
            job: whose running attempt is meant.
            backend: which has it.

        Raises:
            UnavailableError: the broker does not answer.
        """
        lease = job.lease
        if lease is None:
            raise AssertionError("a job whose attempt a back end has is leased")
        noted = await self._delegations.noted(job.id, lease.fence, backend)
        if noted is not None:
            return noted
        return OutcomeClaims(
            job=job.id, fence=lease.fence, attempt=lease.attempt, worker=lease.worker, tenant=job.tenant,
            lease_s=self._settings.timed_lease_s, places=(), backend=backend,
        )  # fmt: skip

    # --- What is heard

    async def seen(
        self, caller: Caller, claims: OutcomeClaims, progress: dict[str, Any] | None = None
    ) -> Job:
        """The back end is at work: prolong the lease when half of its time is over, show how far it is."""
        before = await self._leases.loaded(claims)
        job = await self._delegations.seen(claims, before, source=_source(caller))
        if progress is not None and is_with(job, claims.fence, claims.backend):
            await self._leases.outcomes.progress(job, progress)
        return job

    async def check_running(self, claims: OutcomeClaims) -> None:
        """Refuse an attempt that has ended.

        Raises:
            StaleLeaseError: it has.
            UnavailableError: the broker does not answer.
        """
        await self._leases.running(claims, "store an artifact of")

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

    async def cancelled(self, caller: Caller, claims: OutcomeClaims, job: Job) -> Job:
        """The work of a job that is to stop has stopped; raises as `succeed`."""
        return await self._ended(caller, claims, job, ConfirmCancel(now=clock.now(), fence=claims.fence))

    async def lost(self, caller: Caller, claims: OutcomeClaims) -> Job:
        """The back end is gone, or knows nothing of the work; nobody is to blame. Raises as `succeed`."""
        job = await self._leases.loaded(claims)
        return await self._ended(caller, claims, job, self._delegations.lost(claims))

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
        job, recorded = await self._delegations.end(claims, before, command, source=_source(caller))
        if recorded:
            self._leases.let_go(claims)
        return job


def _source(caller: Caller) -> Source:
    """Who reports; a back end with a token of its own is a caller without actor, and gets its own name."""
    return Source(caller.trace, caller.key, caller.actor)
