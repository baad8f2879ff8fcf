"""Reviews: results that attempts have proposed, and the people or agents who judge them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from switchyard.events.commands import Accept, AnyCommand, ClaimReview, Reject, ReleaseReview
from switchyard.events.errors import InvalidError
from switchyard.events.events import Rejected
from switchyard.events.job import Job, decide
from switchyard.events.values import Status
from switchyard.services import clock
from switchyard.services.access.principal import Caller
from switchyard.services.gateway.operations.jobs import Jobs


class Reviews:
    """Judges results for reviewers; each call answers the job after it, or raises as `Jobs.transition`."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    async def list(
        self, tenant: str | None, filters: Mapping[str, Any], *, min_seq: int
    ) -> tuple[list[Job], str | None, int]:
        """A page of the jobs that wait for a reviewer, as `Jobs.list`."""
        return await self._jobs.list(tenant, {**filters, "states": [Status.REVIEW.value]}, min_seq=min_seq)

    async def claim(self, caller: Caller, job: Job, lease_s: float | None) -> Job:
        """Keep the review for the caller, for a time; again to keep it longer.

        Raises:
            InvalidError: the time is too long.
        """
        settings = self._jobs.settings
        lease_s = lease_s or settings.review_lease_s
        if lease_s > settings.timed_lease_max_s:
            message = f"lease_s: at most {settings.timed_lease_max_s:g} was expected"
            raise InvalidError(message, field="lease_s")
        self._jobs.shares.room.start()
        now = clock.now()
        expires_at = now + timedelta(seconds=lease_s)
        return await self._judged(
            caller, job, ClaimReview(now=now, reviewer=caller.actor, expires_at=expires_at)
        )

    async def release(self, caller: Caller, job: Job) -> Job:
        """Leave the review to others."""
        return await self._judged(caller, job, ReleaseReview(now=clock.now(), reviewer=caller.actor))

    async def accept(self, caller: Caller, job: Job, attempts: tuple[int, ...] | None) -> Job:
        """The proposed result is the job's, if it is of one of some attempts; None for any.

        Raises:
            PreconditionFailedError: it is of another attempt.
        """
        command = Accept(now=clock.now(), reviewer=caller.actor, attempts=attempts)
        return await self._judged(caller, job, command)

    async def reject(
        self, caller: Caller, job: Job, reason: str, feedback: Any, attempts: tuple[int, ...] | None
    ) -> Job:
        """Send the job back, or end it when it was rejected too often, as for `accept`."""
        command = Reject(
            now=clock.now(), reviewer=caller.actor, reason=reason, feedback=feedback, attempts=attempts
        )
        ahead = decide(job, command)
        if isinstance(ahead, Rejected):
            await self._jobs.ensure_lane(job, ahead.priority, checked=False)
        return await self._judged(caller, job, command)

    async def _judged(self, caller: Caller, job: Job, command: AnyCommand) -> Job:
        return (await self._jobs.transition(caller, job, command)).job
