"""The job as the API shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from switchyard.events.job import Job
from switchyard.events.values import Damage, JobError, Review, Status
from switchyard.projections.lists.brief import Brief


class ProgressView(msgspec.Struct, frozen=True):
    """How far an attempt says that it is; `eta_s` is seconds."""

    fraction: float | None
    stage: str | None
    message: str | None
    eta_s: float | None


class ErrorView(msgspec.Struct, frozen=True):
    """Why an attempt failed; the traceback is left out where there is none, and in lists."""

    code: str
    message: str
    retryable: bool
    traceback: str | msgspec.UnsetType = msgspec.UNSET


class ArtifactView(msgspec.Struct, frozen=True):
    """A file that a job has left, as its event names it; `sha256` in hex."""

    file: str
    name: str
    type: str
    size_bytes: int
    sha256: str


class ReviewView(msgspec.Struct, frozen=True):
    """A result that waits for a reviewer."""

    result: Any
    artifacts: Sequence[ArtifactView]
    usage: Mapping[str, float]
    worker: str | None
    by: str
    checks: Mapping[str, bool]
    proposed_at: datetime | None
    due_at: datetime | None
    reviewer: str | None
    expires_at: datetime | None


class DamageView(msgspec.Struct, frozen=True):
    """What of a job's log cannot be read."""

    seq: int
    event: str
    reason: str
    newer_version: bool


class PartView(msgspec.Struct, frozen=True):
    """A part of a job."""

    id: str
    name: str
    kind: str


class JobView(msgspec.Struct, frozen=True):
    """A job; every field is always there."""

    id: str
    kind: str
    tenant: str
    state: str
    priority: int
    labels: Mapping[str, str]
    attempt: int
    failures: int
    max_attempts: int
    depends_on: Sequence[str]
    parent: str | None
    parts: Sequence[PartView]
    workflow: str | None
    inputs: Mapping[str, Any]
    key: str | None
    worker: str | None
    progress: ProgressView | None
    result: Any
    artifacts: Sequence[ArtifactView]
    usage: Mapping[str, float]
    error: ErrorView | None
    reason: str | None
    releases: int
    next_attempt_at: datetime | None
    rejections: int
    feedback: Any
    review: ReviewView | None
    damage: DamageView | None
    archived_as: str | None
    created_at: datetime | None
    updated_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    seq: int


def job_view(job: Job, progress: Mapping[str, Any] | None = None, *, traceback: bool = False) -> JobView:
    """The job as clients see it.

    Args:
        job: folded from its log or read from the read model, which is the same.
        progress: the latest report of its running attempt.
        traceback: whether its error has one, if there is one; too long for lists.
    """
    return JobView(
        id=job.id,
        kind=job.kind,
        tenant=job.tenant,
        state=job.status.value,
        priority=job.priority,
        labels=job.labels,
        attempt=job.attempt,
        failures=job.failures,
        max_attempts=job.max_attempts,
        depends_on=job.depends_on,
        parent=job.parent or None,
        parts=job.parts,  # type: ignore[arg-type]  # as events have them, field by field
        workflow=job.workflow or None,
        inputs=job.inputs,
        key=job.key or None,
        worker=job.worker,
        progress=progress_view(progress) if progress else None,
        result=job.result,
        artifacts=job.artifacts,  # type: ignore[arg-type]  # as events have them, field by field
        usage=job.usage,
        error=None if job.error is None else error_view(job.error, traceback=traceback),
        reason=job.reason,
        releases=job.releases,
        next_attempt_at=next_attempt_at(job),
        rejections=job.rejections,
        feedback=job.feedback,
        review=None if job.review is None else review_view(job.review),
        damage=None if job.damage is None else damage_view(job.damage),
        archived_as=job.archived_as and job.archived_as.value,
        created_at=job.created_at,
        updated_at=job.changed_at,
        started_at=job.started_at,
        ended_at=job.ended_at,
        seq=job.seq,
    )


def next_attempt_at(job: Job | Brief) -> datetime | None:
    """When a job comes to its lane that waits for a time: its start, a retry, after it was given back."""
    match job.status:
        case Status.SCHEDULED:
            return job.start_at
        case Status.RETRYING:
            return job.retry_at
        case _:
            return None


def progress_view(progress: Mapping[str, Any]) -> ProgressView:
    """The latest report of an attempt; what it did not say is None."""
    return ProgressView(*(progress.get(name) for name in ProgressView.__struct_fields__))


def error_view(error: JobError, *, traceback: bool = False) -> ErrorView:
    """Why an attempt failed."""
    trace = error.traceback if traceback and error.traceback else msgspec.UNSET
    return ErrorView(error.code, error.message, error.retryable, trace)


def damage_view(damage: Damage) -> DamageView:
    """What of a job's log cannot be read."""
    return DamageView(damage.seq, damage.event, damage.reason, damage.newer)


def review_view(review: Review) -> ReviewView:
    """A result that waits for a reviewer."""
    return ReviewView(
        result=review.result,
        artifacts=review.artifacts,  # type: ignore[arg-type]  # as events have them, field by field
        usage=review.usage,
        worker=review.worker,
        by=review.by,
        checks=review.checks,
        proposed_at=review.at,
        due_at=review.due_at,
        reviewer=review.reviewer,
        expires_at=review.expires_at,
    )


def time_view(at: datetime | None) -> str | None:
    """A time as the API shows it, where it stands within a text; structs write theirs so by themselves."""
    return None if at is None else at.isoformat().replace("+00:00", "Z")
