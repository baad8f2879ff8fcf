"""A job as RunPod's clients know it."""

from __future__ import annotations

from typing import Any, Final

from msgspec import UNSET, UnsetType

from switchyard.events.job import Job
from switchyard.events.values import Status
from switchyard.services.gateway.doors.compat.jobs import (
    between_s,
    end_of,
    failure_of,
    left_by,
    output_of,
)
from switchyard.services.gateway.doors.compat.runpod.answers import JobAnswer

NAME: Final = "runpod"
"""The label `compat` of what comes by this door."""
TIMED_OUT: Final = "timeout"
RUNNING: Final = frozenset({Status.RUNNING, Status.CANCELLING, Status.REVIEW})
ENDS: Final = {
    Status.SUCCEEDED: "COMPLETED", Status.CANCELLED: "CANCELLED", Status.EXPIRED: "TIMED_OUT",
}  # fmt: skip
FAILED: Final = "FAILED"


def status_of(job: Job) -> str:
    """The word for where a job stands."""
    end = end_of(job)
    if end is None:
        if job.damage is not None:
            return FAILED
        return "IN_PROGRESS" if job.status in RUNNING else "IN_QUEUE"
    if end is Status.DEAD and job.error is not None and job.error.code == TIMED_OUT:
        return "TIMED_OUT"
    return ENDS.get(end, FAILED)


def shown(job: Job, origin: str) -> JobAnswer:
    """A job, with its output where it has one."""
    return JobAnswer(**fields_of(job, origin))


def fields_of(job: Job, origin: str) -> dict[str, Any]:
    """What is shown of a job."""
    word = status_of(job)
    ended = end_of(job) is not None
    return {
        "id": job.id,
        "status": word,
        "delay_time": _ms(between_s(job.created_at, job.started_at)),
        "execution_time": _ms(between_s(job.started_at, job.ended_at)) if ended else UNSET,
        "output": output_of(job, origin) if job.status is Status.SUCCEEDED else UNSET,
        "error": UNSET if word == "CANCELLED" else failure_of(job) or UNSET,
        "worker_id": job.worker or UNSET,
        "artifacts": left_by(job, origin) or UNSET,
    }


def _ms(seconds: float | None) -> int | UnsetType:
    return UNSET if seconds is None else round(seconds * 1000)
