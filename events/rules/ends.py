"""How jobs end without a result."""

from __future__ import annotations

from datetime import datetime

from switchyard.events.events import Cancelled, Dead, Expired
from switchyard.events.state import Job
from switchyard.events.values import JobError
from switchyard.events.vocabulary.causes import DeadReason, EndCause


def dead(now: datetime, reason: DeadReason, message: str) -> Dead:
    """The end of a job that no attempt has an error for."""
    return Dead(at=now, reason=reason, error=JobError(reason, message, retryable=False))


def stopped(job: Job, now: datetime, cause: EndCause) -> Cancelled | Expired:
    """The end of a job that was being cancelled; the deadline's own end has a name of its own."""
    if job.cancellation is None:
        return Cancelled(at=now, cause=cause)
    if job.cancellation.deadline:
        return Expired(at=now, cause=cause)
    return Cancelled(at=now, cause=cause, by=job.cancellation.by, reason=job.cancellation.reason)
