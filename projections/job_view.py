"""The job as the API shows it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from switchyard.events.job import Job
from switchyard.events.values import JobError, Review, Status

PROGRESS_FIELDS = ("fraction", "stage", "message", "eta_s")


def job_view(
    job: Job, progress: Mapping[str, Any] | None = None, *, traceback: bool = False
) -> dict[str, Any]:
    """The job's JSON.

    Args:
        job: folded from its log or read from the read model, which is the same.
        progress: the latest report of its running attempt.
        traceback: whether its error has one, if there is one; too long for lists.
    """
    return {
        "id": job.id,
        "kind": job.kind,
        "tenant": job.tenant,
        "state": job.status.value,
        "priority": job.priority,
        "labels": job.labels,
        "attempt": job.attempt,
        "failures": job.failures,
        "max_attempts": job.max_attempts,
        "depends_on": job.depends_on,
        "key": job.key or None,
        "worker": job.worker,
        "progress": progress and {name: progress.get(name) for name in PROGRESS_FIELDS},
        "result": job.result,
        "artifacts": job.artifacts,
        "usage": job.usage,
        "error": job.error and error_view(job.error, traceback=traceback),
        "reason": job.reason,
        "releases": job.releases,
        "next_attempt_at": time_view(next_attempt_at(job)),
        "rejections": job.rejections,
        "feedback": job.feedback,
        "review": job.review and review_view(job.review),
        "damage": job.damage
        and {
            "seq": job.damage.seq,
            "event": job.damage.event,
            "reason": job.damage.reason,
            "newer_version": job.damage.newer,
        },
        "archived_as": job.archived_as and job.archived_as.value,
        "created_at": time_view(job.created_at),
        "started_at": time_view(job.started_at),
        "ended_at": time_view(job.ended_at),
        "seq": job.seq,
    }


def next_attempt_at(job: Job) -> datetime | None:
    """When a job comes to its lane that waits for a time: its start, a retry, after it was given back."""
    match job.status:
        case Status.SCHEDULED:
            return job.start_at
        case Status.RETRYING:
            return job.retry_at
        case _:
            return None


def error_view(error: JobError, *, traceback: bool = False) -> dict[str, Any]:
    """Why an attempt failed."""
    view = {"code": error.code, "message": error.message, "retryable": error.retryable}
    return {**view, "traceback": error.traceback} if traceback and error.traceback else view


def review_view(review: Review) -> dict[str, Any]:
    """A result that waits for a reviewer."""
    return {
        "result": review.result,
        "artifacts": review.artifacts,
        "usage": review.usage,
        "worker": review.worker,
        "by": review.by,
        "checks": review.checks,
        "proposed_at": time_view(review.at),
        "due_at": time_view(review.due_at),
        "reviewer": review.reviewer,
        "expires_at": time_view(review.expires_at),
    }


def time_view(at: datetime | None) -> str | None:
    """A time as the API shows it."""
    return None if at is None else at.isoformat().replace("+00:00", "Z")
