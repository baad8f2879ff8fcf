"""Timed leases: what workers that do not speak NATS may do, and what is left when a lease is gone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from switchyard.events.allowed import allowed_commands
from switchyard.events.commands import (
    AnyCommand,
    Complete,
    ConfirmCancel,
    Fail,
    Propose,
    Release,
    RenewClaim,
    RenewDelegated,
    Wake,
)
from switchyard.events.encoding.damage import refuse_damaged
from switchyard.events.encoding.envelope import Recorded
from switchyard.events.errors import ConflictError, InvalidError, NotFoundError
from switchyard.events.events import Dead, Unreadable
from switchyard.events.job import RULE_CHECKS, Job
from switchyard.events.values import Backend, JobError, Status
from switchyard.events.vocabulary.causes import DeadReason
from switchyard.services import clock
from switchyard.services.access.lease_tickets import LeaseTokens
from switchyard.services.access.principal import Caller
from switchyard.services.access.ticket_claims import LeaseClaims, OutcomeClaims
from switchyard.services.dispatch.backends.delegations import Delegations
from switchyard.services.dispatch.leasing import jitter
from switchyard.services.dispatch.rest.asked import ClaimRequest
from switchyard.services.dispatch.rest.claiming import Claimed, Claiming, Nothing
from switchyard.services.dispatch.rest.stale import StaleLeaseError
from switchyard.services.dispatch.rest.timed import Offer
from switchyard.services.dispatch.rest.workers import RestWorkers
from switchyard.services.files import FileInfo
from switchyard.services.gateway.operations.files import Incoming
from switchyard.services.gateway.operations.jobs import Jobs
from switchyard.services.gateway.operations.outcomes import Outcomes

ENDED_BY: Final = {
    "succeed": {"succeeded"},
    "fail": {"failed", "dead", "cancelled", "expired"},
    "release": {"queued", "scheduled", "dead", "cancelled", "expired"},
    "propose": {"proposed", "cancelled", "expired"},
    "part": {"parted", "cancelled", "expired"},
}
"""From verb to the events that it ends a lease with."""
SHOWN_SINCE: Final = 50


class Leases:
    """Claims jobs for callers, and takes what the holders of leases say.

    Args:
        jobs: the job's own operations.
        claiming: finds jobs and leases them.
        tokens: signs and checks what a lease is known by.
        workers: who holds leases.
        outcomes: keeps what attempts leave.
        delegations: where attempts are that were left to back ends.
    """

    def __init__(
        self,
        jobs: Jobs,
        claiming: Claiming,
        tokens: LeaseTokens,
        workers: RestWorkers,
        outcomes: Outcomes,
        delegations: Delegations,
    ) -> None:
        self.claiming = claiming
        self.delegations = delegations
        self.outcomes = outcomes
        self._jobs = jobs
        self._tokens = tokens
        self.workers = workers
        self._settings = jobs.settings

    # --- The claim

    async def claim(
        self,
        caller: Caller,
        asked: ClaimRequest,
        raw: bytes,
        *,
        key: str | None,
        alive: Callable[[], bool],
        lease_max_s: float | None = None,
        offer: Offer | None = None,
    ) -> Claimed | Nothing:
        """A job under a timed lease, or nothing when none came in time or it was not wanted.

        Args:
            caller: a worker's.
            asked: what for.
            raw: that as it came.
            key: its idempotency key.
            alive: whether anybody still waits for the answer.
            lease_max_s: the longest lease, where that is another than elsewhere.
            offer: asks for the worker's word on a job; without, none is needed.

        Raises:
            RejectedError, UnavailableError: as for `Claiming.claim`.
        """
        return await self.claiming.claim(
            caller, asked, raw, idempotency_key=key, alive=alive, lease_max_s=lease_max_s, offer=offer
        )

    def token(self, claims: LeaseClaims) -> str:
        """What the holder of a lease shows."""
        return self._tokens.sign(claims)

    def held(self, caller: Caller, lease: str, token: str | None) -> LeaseClaims:
        """The lease that a caller holds.

        Args:
            caller: a worker's.
            lease: its id.
            token: what the claim answered.

        Raises:
            ForbiddenError: the token is not the lease's.
            NotFoundError: the lease is for another tenant's job.
        """
        claims = self._tokens.check(token, lease)
        if not caller.is_admin and caller.tenant != claims.tenant:
            raise NotFoundError(f"there is no lease {claims.id}", field="id")
        return claims

    # --- What the holder says

    async def renew(self, caller: Caller, claims: LeaseClaims, lease_s: float | None) -> tuple[Job, datetime]:
        """Prolong a lease: the job, and until when.

        One that has become a back end's is prolonged at half its time, so that its holder may ask often.

        Raises:
            InvalidError: the time is too long.
            StaleLeaseError: the lease is gone.
            ConflictError: the attempt's time is over.
        """
        settings = self._settings
        lease_s = lease_s or claims.lease_s
        if lease_s > settings.timed_lease_max_s:
            message = f"lease_s: at most {settings.timed_lease_max_s:g} was expected"
            raise InvalidError(message, field="lease_s")
        now = clock.now()
        before = await self.loaded(claims)
        ends_at = attempt_ends_at(before, settings.attempt_timeout_s)
        grace = timedelta(seconds=settings.cancel_grace_s)
        expires_at = min(now + timedelta(seconds=lease_s), ends_at + grace) if ends_at else now
        if expires_at <= now and before.lease is not None and before.lease.fence == claims.fence:
            raise ConflictError(
                f"lease {claims.id} cannot be prolonged: the attempt's time is over", code="attempt_timeout",
                allowed=("succeed", "fail", "release", "propose"),
            )  # fmt: skip
        command: AnyCommand = RenewClaim(now=now, fence=claims.fence, expires_at=expires_at)
        alive_until = None
        if (backend := backend_of(before, claims)) is not None:
            command = RenewDelegated(
                now=now, fence=claims.fence, backend=backend, expires_at=expires_at,
                attempt_timeout_s=settings.attempt_timeout_s,
            )  # fmt: skip
            alive_until = now + timedelta(seconds=min(lease_s, claims.lease_s))
        job, _ = await self._answered(
            claims, self._jobs.transition(caller, before, command, actor=f"worker:{claims.worker}")
        )
        if backend is not None and job.lease is not None and job.lease.expires_at is not None:
            expires_at = job.lease.expires_at
        await self.claiming.prolonged(claims, before, expires_at, alive_until=alive_until)
        return job, expires_at

    async def succeed(
        self,
        caller: Caller,
        claims: LeaseClaims,
        *,
        result: Any,
        artifacts: list[str],
        usage: dict[str, float],
        is_deaf: bool = False,
    ) -> Job:
        """Take a result; the job after it.

        Args:
            caller: who hands it in.
            claims: the lease.
            result: what has come out.
            artifacts: names of stored files.
            usage: by unit.
            is_deaf: whether the worker hears of no cancel: a result then only says that it has stopped.

        Raises:
            RejectedError: an artifact is not there.
            StaleLeaseError, UnavailableError: the lease is gone, or the broker does not answer.
        """
        job = await self.loaded(claims)
        if is_deaf and job.status is Status.CANCELLING:
            stop = ConfirmCancel(now=clock.now(), fence=claims.fence)
            return await self.end(caller, claims, job, stop, "release")
        result, references = await self.kept(caller, job, claims, result, artifacts)
        command = Complete(
            now=clock.now(), fence=claims.fence, result=result, artifacts=references, usage=usage
        )
        return await self.end(caller, claims, job, command, "succeed")

    async def propose(
        self,
        caller: Caller,
        claims: LeaseClaims,
        *,
        result: Any,
        artifacts: list[str],
        usage: dict[str, float],
        checks: dict[str, bool],
    ) -> Job:
        """Take a result for a reviewer, or for the checks that it passed; raises as `succeed`."""
        job = await self.loaded(claims)
        result, references = await self.kept(caller, job, claims, result, artifacts)
        command = Propose(
            now=clock.now(), fence=claims.fence, result=result, artifacts=references, usage=usage,
            by=caller.actor, checks=checks,
        )  # fmt: skip
        return await self.end(caller, claims, job, command, "propose")

    async def fail(self, caller: Caller, claims: LeaseClaims, error: JobError) -> Job:
        """Take a failure; another attempt follows where one is left. Raises as `succeed`."""
        job = await self.loaded(claims)
        command = Fail(now=clock.now(), fence=claims.fence, error=error, jitter=jitter())
        return await self.end(caller, claims, job, command, "fail")

    async def release(self, caller: Caller, claims: LeaseClaims) -> Job:
        """Take the job back uncounted, or the word that it has stopped. Raises as `succeed`."""
        job = await self.loaded(claims)
        command: AnyCommand = Release(now=clock.now(), fence=claims.fence, by_handler=True, jitter=jitter())
        if job.status is Status.CANCELLING:
            command = ConfirmCancel(now=clock.now(), fence=claims.fence)
        return await self.end(caller, claims, job, command, "release")

    async def artifact(
        self,
        claims: LeaseClaims,
        name: str,
        opened: Callable[[], Awaitable[Incoming]],
        *,
        announced: int,
        api_key: str = "",
    ) -> FileInfo:
        """Store a file of the attempt.

        Args:
            claims: the lease.
            name: its name.
            opened: begins to take it, once there is room.
            announced: bytes that it has at least, as far as its sender says.
            api_key: the id of the API key by which it comes, or "".

        Raises:
            StaleLeaseError: the lease is gone, or goes while the file comes; nothing is kept then.
            RejectedError, StorageFullError, UnavailableError: as for `TenantFiles.receive`.
        """

        async def still_held() -> Job:
            job = await self._jobs.store.load(claims.job)
            check(job, claims, "store an artifact of")
            return job

        try:
            job = await still_held()
            return await self.outcomes.artifact(
                job, claims, name, opened, announced=announced, before_commit=still_held, api_key=api_key
            )
        except ConflictError as error:
            raise await self.stale(claims, error) from None

    async def running(self, claims: LeaseClaims, verb: str) -> Job:
        """The job, whose lease is still this one.

        Raises:
            StaleLeaseError: it is not.
            NewerVersionError: a newer version of the program wrote the job's log.
        """
        job = await self.loaded(claims)
        try:
            check(job, claims, verb)
        except ConflictError as error:
            raise await self.stale(claims, error) from None
        return job

    def let_go(self, claims: LeaseClaims) -> None:
        """Have the worker free for other jobs: somebody else carries this one on."""
        self.workers.ended(claims.worker, claims.fence)

    def watches(self, claims: LeaseClaims, lease_s: float) -> None:
        """A worker looks after an attempt of a back end, and counts as alive for so many seconds."""
        until = clock.now() + timedelta(seconds=lease_s)
        self.workers.holds(claims.worker, claims.fence, claims.job, until)

    async def loaded(self, claims: LeaseClaims) -> Job:
        """The job, at least as it was when the lease was granted."""
        return await self._jobs.store.load(claims.job, at_least=claims.fence)

    async def stale(self, claims: LeaseClaims, error: ConflictError) -> StaleLeaseError:
        """The error of a lease that is gone, with what has happened since."""
        since = await self._jobs.store.history(claims.job, after=claims.fence, limit=SHOWN_SINCE)
        self.workers.ended(claims.worker, claims.fence)
        return StaleLeaseError(error, since)

    async def kept(
        self, caller: Caller, job: Job, claims: LeaseClaims, result: Any, names: list[str]
    ) -> tuple[Any, tuple[dict[str, Any], ...]]:
        """A result and the references to its artifacts, as events have them; raises as `Outcomes.kept`."""
        # Nothing is stored for a lease that is gone or a damaged job: the command says so, or is done.
        if job.damage is None and job.lease is not None and job.lease.fence == claims.fence:
            return await self.outcomes.kept(job, claims, result, names, caller.key)
        return None, ()

    async def _answered(self, claims: LeaseClaims, saying: Awaitable[Any]) -> Any:
        try:
            return await saying
        except ConflictError as error:
            raise await self.stale(claims, error) from None

    async def end(
        self, caller: Caller, claims: LeaseClaims, before: Job, command: AnyCommand, verb: str
    ) -> Job:
        """End the attempt with a command; the job after it. Raises as `succeed`."""
        try:
            job, event = await self._jobs.transition(caller, before, command, actor=f"worker:{claims.worker}")
        except ConflictError as error:
            return await self._ended_before(claims, error, verb)
        if event is not None:  # else this call had been here before, and its places may be another's by now
            await self.claiming.ended(claims, before)
            if (backend := backend_of(before, claims)) is not None:
                fields = msgspec.structs.asdict(claims)
                await self.delegations.forget(OutcomeClaims(**fields, backend=backend))
        if job.review is not None and job.review.passed:
            # A keeper does it where this gateway dies before.
            wake = Wake(now=clock.now(), cancel_grace_s=self._settings.cancel_grace_s)
            job, _ = await self._jobs.store.transition(job, wake, actor=RULE_CHECKS, trace=caller.trace)
        return job

    async def _ended_before(self, claims: LeaseClaims, error: ConflictError, verb: str) -> Job:
        """The job, when this very call has ended the lease before.

        Raises:
            StaleLeaseError: something else has.
        """
        since = await self._jobs.store.history(claims.job, after=claims.fence, limit=SHOWN_SINCE)
        ends = (entry for entry in since if not isinstance(entry.event, Unreadable))
        end = next((entry for entry in ends if entry.name not in ("claim_renewed", "cancel_requested")), None)
        if end is not None and _is_end_by(verb, end) and end.actor == f"worker:{claims.worker}":
            return await self._jobs.store.load(claims.job, at_least=end.seq)
        self.workers.ended(claims.worker, claims.fence)
        raise StaleLeaseError(error, since) from None


def _is_end_by(verb: str, end: Recorded) -> bool:
    if isinstance(end.event, Dead):
        return verb == ("release" if end.event.reason == DeadReason.RELEASED_TOO_OFTEN else "fail")
    return end.name in ENDED_BY[verb]


def backend_of(job: Job, claims: LeaseClaims) -> Backend | None:
    """The back end that has the attempt of a lease, if one does."""
    lease = job.lease
    return None if lease is None or lease.fence != claims.fence else lease.backend


def check(job: Job, claims: LeaseClaims, verb: str) -> None:
    """Let the holder of a lease pass.

    Raises:
        ConflictError: it is not the job's lease any more, or the job is damaged.
        NewerVersionError: a newer version of the program wrote the job's log.
    """
    if job.damage is not None:
        raise refuse_damaged(job)
    allowed = allowed_commands(job.status)
    if job.lease is None:
        message = f"cannot {verb} job {job.id}: it is {job.status.value}"
        raise ConflictError(message, code="illegal_transition", allowed=allowed)
    if job.lease.fence != claims.fence:
        message = f"cannot {verb} job {job.id}: lease {claims.fence} is lost; lease {job.lease.fence} runs it"
        raise ConflictError(message, code="lease_lost", allowed=allowed)


def attempt_ends_at(job: Job, timeout_s: float) -> datetime | None:
    """When the attempt's time is over; its lease may last for as long as a stop may take."""
    if job.started_at is None:
        return None
    return job.started_at + timedelta(seconds=job.attempt_timeout_s or timeout_s)
