"""An attempt that a back end carries on, as the worker that watches it has it: renewed while it is seen."""

from __future__ import annotations

import asyncio
import re
from typing import Final

import structlog

from switchyard.events.commands import AnyCommand
from switchyard.events.errors import ConflictError, SwitchyardError, UnavailableError, UnwritableError
from switchyard.events.job import Job
from switchyard.events.values import Backend
from switchyard.events.vocabulary.ids import WorkerId
from switchyard.services.access.ticket_claims import OutcomeClaims
from switchyard.services.connectors.protocol import FatalError, RetryableError
from switchyard.services.dispatch.backends.delegations import Delegations
from switchyard.services.dispatch.leasing import Lease, failed_by
from switchyard.services.dispatch.limit_tokens import kept_while_running
from switchyard.services.dispatch.renewal import Interruption
from switchyard.services.settings import Settings

log = structlog.get_logger()

SETTLE_PAUSE_S: Final = 0.5
LEASES: Final = 4
"""How many leases of a worker one of a back end lasts at least."""
REMOTE_ID: Final = re.compile(r"[\x21-\x7e]{0,200}")


def claims_of(
    lease: Lease, backend: Backend, remote_id: str, lease_s: float | None, settings: Settings
) -> OutcomeClaims:
    """What an attempt is known by from when it is left to a back end.

    Args:
        lease: held.
        backend: the connector's.
        remote_id: what that calls the work.
        lease_s: seconds from one sign of life to the next, as far as the connector says.
        settings: the times.

    Raises:
        FatalError: code `invalid_remote_id`.
    """
    if REMOTE_ID.fullmatch(remote_id) is None:
        raise FatalError("invalid_remote_id", "expected at most 200 printable characters without blanks")
    if lease.job.lease is None:
        raise AssertionError("an attempt runs under a lease")
    # Whoever takes over sees this worker's heartbeat go first, and has to have time then.
    lasts_s = max(lease_s or settings.timed_lease_s, LEASES * settings.lease_s)
    grant = lease.work.grant
    return OutcomeClaims(
        job=lease.job.id, fence=lease.fence, attempt=lease.job.lease.attempt, worker=lease.job.lease.worker,
        tenant=lease.spec.tenant, backend=Backend(backend.kind, backend.id, remote_id),
        lease_s=lasts_s, places=() if grant is None else tuple(kept_while_running(grant)),
    )  # fmt: skip


async def leave(delegations: Delegations, claims: OutcomeClaims, before: Job, worker: WorkerId) -> Job:
    """Leave an attempt to its back end, however long the broker is away; the job then.

    Raises:
        RetryableError: the lease is gone, the job is to stop, or it has another id there.
    """
    while True:
        try:
            return await delegations.delegate(claims, before, actor=f"worker:{worker}", watcher=worker)
        except UnavailableError as error:
            log.warning("delegation_waits", job=claims.job, error=str(error))
            await asyncio.sleep(SETTLE_PAUSE_S)
        except ConflictError as error:
            raise RetryableError(error.code, error.message) from error


class Delegated:
    """What a worker knows of it.

    Args:
        delegations: what is done with such attempts.
        claims: the attempt, and its back end.
        job: as last known.
        worker: who watches.
    """

    def __init__(self, delegations: Delegations, claims: OutcomeClaims, job: Job, worker: WorkerId) -> None:
        self._delegations = delegations
        self._claims = claims
        self._job = job
        self._worker = worker
        self._is_seen = True
        self._looking = asyncio.Lock()

    @property
    def remote_id(self) -> str:
        """What the back end calls the work; "" until that is known."""
        lease = self._job.lease
        return "" if lease is None or lease.backend is None else lease.backend.remote_id

    def seen(self) -> None:
        """The back end is at work."""
        self._is_seen = True

    def learn(self, job: Job) -> None:
        """The job has come so far."""
        self._job = job

    async def look(self) -> Interruption | None:
        """Prolong the lease if the back end was seen since the last look; why to watch no more, if so."""
        async with self._looking:
            claims = self._claims
            try:
                self._job, why = await self._delegations.look(claims, self._job, seen=self._is_seen)
            except UnavailableError as error:
                log.warning("renewal_failed", job=claims.job, error=str(error))
                return None
            except SwitchyardError as error:
                log.warning("renewal_refused", job=claims.job, error=str(error))
                return Interruption.LOST
            self._is_seen = False
            return why

    def lost(self) -> AnyCommand:
        """What ends the attempt when the back end is gone, or does not know it."""
        return self._delegations.lost(self._claims)

    async def settle(self, command: AnyCommand) -> bool:
        """Record how it ended; whether that was new.

        Raises:
            UnavailableError: the broker does not answer; the caller tries again.
        """
        claims = self._claims
        try:
            self._job, recorded = await self._delegations.end(claims, self._job, command)
        except UnwritableError as error:
            log.warning("outcome_unwritable", job=claims.job, fence=claims.fence, error=error.message)
            return await self.settle(failed_by(error, claims.fence))
        except UnavailableError:
            raise
        except SwitchyardError as error:
            log.info("outcome_rejected", job=claims.job, fence=claims.fence, error=str(error))
            return False
        if not recorded:
            log.info("outcome_ignored", job=claims.job, fence=claims.fence)
        return recorded

    async def let_go(self) -> None:
        """Watch it no more: others may at once."""
        try:
            await self._delegations.let_go(self._claims, self._worker)
        except SwitchyardError as error:
            # Then they may when this worker's heartbeat is gone.
            log.info("backend_not_let_go", job=self._claims.job, error=str(error))
