"""A job as both generations show it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from switchyard.events.job import Job
from switchyard.events.values import Status
from switchyard.services.gateway.doors.emp import names, wire
from switchyard.services.gateway.doors.emp.results import as_object

PENDING: Final = frozenset({Status.QUEUED, Status.SCHEDULED, Status.BLOCKED, Status.RETRYING})
_ENDED: Final = {
    Status.SUCCEEDED: "completed", Status.DEAD: "failed", Status.EXPIRED: "failed",
    Status.CANCELLED: "cancelled", Status.CANCELLING: "cancelled",
}  # fmt: skip


def status_of(job: Job, generation: str, *, reported: bool = False) -> str:
    """The word for where a job stands.

    A job whose cancelling has begun is cancelled: that cannot be taken back.

    Args:
        job: it.
        generation: whose word.
        reported: whether its attempt has said anything yet.
    """
    if job.damage is not None:
        return "failed"
    status = job.archived_as or job.status
    if status in PENDING:
        return "pending"
    if status in _ENDED:
        return _ENDED[status]
    if generation == names.TYPESCRIPT:
        return "in_progress" if reported else "assigned"
    return "processing" if reported else "claimed"


def percent(job: Job, progress: Mapping[str, Any] | None) -> int | None:
    """How far a job is, of 100; None where nothing is known."""
    if job.status is Status.SUCCEEDED:
        return 100
    fraction = None if progress is None else progress.get("fraction")
    return None if fraction is None else round(fraction * 100)


def error_of(job: Job) -> str | None:
    """Why a job has failed, or what went wrong last."""
    if job.damage is not None:
        return f"the job is damaged: {job.damage.reason}"
    if job.status is Status.EXPIRED:
        return job.reason or "its deadline passed"
    return None if job.error is None else job.error.message


def message_of(job: Job, progress: Mapping[str, Any] | None) -> str | None:
    """What is said about where a job stands."""
    if job.status is Status.CANCELLING:
        return "Job cancelled; its worker has not stopped yet"
    if job.status is Status.CANCELLED:
        return f"Job cancelled: {job.reason}" if job.reason else "Job cancelled"
    return error_of(job) or (progress or {}).get("message") or None


def status_fields(
    job: Job, generation: str, progress: Mapping[str, Any] | None, result: Any
) -> dict[str, Any]:
    """What `response_job_status` says beside its type."""
    return {
        "job_id": names.sent_id(job), "status": status_of(job, generation, reported=progress is not None),
        "progress": percent(job, progress), "worker_id": worker_of(job),
        "started_at": None if job.started_at is None else wire.seconds(job.started_at),
        "completed_at": None if job.ended_at is None else wire.seconds(job.ended_at),
        "result": as_object(result), "message": message_of(job, progress),
    }  # fmt: skip


def worker_of(job: Job) -> str | None:
    """Who runs or ran the last attempt, as its peers know it."""
    return names.worker_of(job.worker) if job.worker else None


def job_ts(
    job: Job, progress: Mapping[str, Any] | None, *, result: Any = None, payload: Any = None
) -> dict[str, Any]:
    """A job of the TypeScript generation, as its status and its REST show it."""
    priority = job.labels.get(names.PRIORITY)
    shown = {
        "id": names.sent_id(job), "service_required": names.type_of(job), "job_type": names.type_of(job),
        "status": status_of(job, names.TYPESCRIPT, reported=progress is not None),
        "priority": job.own_priority if priority is None else int(priority), "payload": payload,
        "customer_id": job.labels.get(names.CUSTOMER), "workflow_id": job.labels.get("emp-workflow"),
        "worker_id": worker_of(job), "created_at": _iso(job.created_at), "assigned_at": _iso(job.started_at),
        "started_at": _iso(job.started_at), "completed_at": _iso(job.ended_at), "retry_count": job.failures,
        "max_retries": job.max_attempts - 1, "progress": percent(job, progress), "result": result,
        "error": error_of(job), "client_id": job.labels.get(names.CLIENT),
    }  # fmt: skip
    return {name: value for name, value in shown.items() if value is not None}


def _iso(at: Any) -> str | None:
    return None if at is None else wire.iso(at)
