"""How jobs end without a result."""

from __future__ import annotations

from datetime import datetime

from switchyard.events.events import Cancelled, Dead, Expired
from switchyard.events.state import Job
from switchyard.events.values import JobError
from switchyard.events.vocabulary.causes import LOST, DeadReason, EndCause, QueuedCause


def dead(now: datetime, reason: DeadReason, message: str) -> Dead:
    """The end of a job that no attempt has an error for."""
    return Dead(at=now, reason=reason, error=JobError(reason, message, retryable=False))


def lost_at_last(now: datetime, cause: QueuedCause, message: str) -> Dead:
    """The end of a job whose last attempt lost its lease."""
    return Dead(at=now, reason=DeadReason.FAILURES_SPENT, error=JobError(cause, message), attempt_end=cause)


def loss(event: Dead) -> str:
    """The `QueuedCause` by which a dead job's last attempt lost its lease; "" where it did not.

    A handler may give its errors any code; in logs that do not say more, the code is all there is.
    """
    unsaid = QueuedCause.LEASE_LOST if event.reason == DeadReason.POISON else event.error.code
    ended = event.attempt_end or unsaid
    return ended if ended in LOST else ""


def stopped(job: Job, now: datetime, cause: EndCause) -> Cancelled | Expired:
    """The end of a job that was being cancelled; the deadline's own end has a name of its own."""
    if job.cancellation is None:
        return Cancelled(at=now, cause=cause)
    if job.cancellation.deadline:
        return Expired(at=now, cause=cause)
    return Cancelled(at=now, cause=cause, by=job.cancellation.by, reason=job.cancellation.reason)
