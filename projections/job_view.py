"""The job as the API shows it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from events.job import Job

PROGRESS_FIELDS = ("fraction", "stage", "message", "eta_s")


def job_view(job: Job, progress: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The job's JSON.

    Args:
        job: folded from its log or read from the read model, which is the same.
        progress: the latest report of its running attempt.
    """
    error = job.error
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
        "worker": job.worker,
        "progress": progress and {name: progress.get(name) for name in PROGRESS_FIELDS},
        "result": job.result,
        "artifacts": job.artifacts,
        "usage": job.usage,
        "error": error and {"code": error.code, "message": error.message, "retryable": error.retryable},
        "reason": job.reason,
        "archived_as": job.archived_as and job.archived_as.value,
        "created_at": _time(job.created_at),
        "started_at": _time(job.started_at),
        "ended_at": _time(job.ended_at),
        "seq": job.seq,
    }


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat().replace("+00:00", "Z")
