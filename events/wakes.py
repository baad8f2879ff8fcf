"""When time has something to do with a job."""

from __future__ import annotations

from datetime import datetime

from switchyard.events.events import Expired
from switchyard.events.numbers import later
from switchyard.events.state import Job
from switchyard.events.values import Status
from switchyard.events.vocabulary.causes import EndCause


def next_wake(job: Job) -> datetime | None:
    """When `Wake` has something to do next, or None when it never has."""
    if job.damage is not None:
        return None
    times: list[datetime | None] = []
    match job.status:
        case Status.SCHEDULED:
            times = [job.start_at, job.deadline_at]
        case Status.BLOCKED:
            times = [job.deadline_at]
        case Status.QUEUED:
            times = [job.deadline_at, queue_deadline(job), next_rise(job), shared_at(job)]
        case Status.RETRYING:
            times = [job.retry_at, job.deadline_at]
        case Status.RUNNING:
            times = [job.lease.expires_at if job.lease else None, job.deadline_at]
        case Status.CANCELLING:
            times = [
                job.lease.expires_at if job.lease else None,
                job.cancellation.force_at if job.cancellation else None,
            ]
        case Status.REVIEW:
            times = [job.deadline_at]
            if job.review:
                passed_at = job.review.at if job.review.passed else None
                times += [job.review.expires_at, job.review.due_at, passed_at]
        case _:
            pass
    return min((time for time in times if time is not None), default=None)


def queue_deadline(job: Job) -> datetime | None:
    """When a job that has never started has waited too long."""
    if job.queue_timeout_s is None or job.queued_at is None or job.attempt:
        return None
    return later(job.queued_at, job.queue_timeout_s)


def too_late(job: Job, now: datetime) -> Expired | None:
    """The end of a waiting job whose time is over, whoever comes to it first."""
    if job.deadline_at is not None and job.deadline_at <= now:
        return Expired(at=now, cause=EndCause.WAITING)
    deadline = queue_deadline(job)
    return Expired(at=now, cause=EndCause.NOT_STARTED) if deadline is not None and deadline <= now else None


def next_rise(job: Job) -> datetime | None:
    """When the priority of a waiting job rises next."""
    if job.ageing is None or job.claimable_at is None or job.priority >= job.ageing.max:
        return None
    return later(job.claimable_at, job.ageing.every_s)


def shared_at(job: Job) -> datetime | None:
    """When a loosely isolated job stops waiting for its tenant's own workers."""
    if not job.shared_lane or job.lane == job.shared_lane or job.queued_at is None:
        return None
    return later(job.queued_at, job.shared_after_s)
