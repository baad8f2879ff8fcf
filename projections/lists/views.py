"""Jobs as lists show them: in brief, whole, or some of their fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from msgspec import UNSET, Struct, UnsetType

from switchyard.events.job import Job
from switchyard.projections.job_view import (
    ArtifactView,
    DamageView,
    ErrorView,
    JobView,
    PartView,
    ProgressView,
    ReviewView,
    damage_view,
    job_view,
    next_attempt_at,
    progress_view,
)
from switchyard.projections.lists.brief import Brief


class ListedJob(Struct, frozen=True, kw_only=True):
    """A job in a list; what was not asked for is left out.

    By default that is what may be large: `inputs`, `result`, `artifacts`, `usage`, `feedback`, `review` and
    `parts`.
    """

    id: str
    kind: str | UnsetType = UNSET
    tenant: str | UnsetType = UNSET
    state: str | UnsetType = UNSET
    priority: int | UnsetType = UNSET
    labels: Mapping[str, str] | UnsetType = UNSET
    attempt: int | UnsetType = UNSET
    failures: int | UnsetType = UNSET
    max_attempts: int | UnsetType = UNSET
    depends_on: Sequence[str] | UnsetType = UNSET
    parent: str | UnsetType | None = UNSET
    parts: Sequence[PartView] | UnsetType = UNSET
    workflow: str | UnsetType | None = UNSET
    inputs: Mapping[str, Any] | UnsetType = UNSET
    key: str | UnsetType | None = UNSET
    worker: str | UnsetType | None = UNSET
    progress: ProgressView | UnsetType | None = UNSET
    result: Any = UNSET
    artifacts: Sequence[ArtifactView] | UnsetType = UNSET
    usage: Mapping[str, float] | UnsetType = UNSET
    error: ErrorView | UnsetType | None = UNSET
    reason: str | UnsetType | None = UNSET
    releases: int | UnsetType = UNSET
    next_attempt_at: datetime | UnsetType | None = UNSET
    rejections: int | UnsetType = UNSET
    feedback: Any = UNSET
    review: ReviewView | UnsetType | None = UNSET
    damage: DamageView | UnsetType | None = UNSET
    archived_as: str | UnsetType | None = UNSET
    created_at: datetime | UnsetType | None = UNSET
    updated_at: datetime | UnsetType | None = UNSET
    started_at: datetime | UnsetType | None = UNSET
    ended_at: datetime | UnsetType | None = UNSET
    seq: int | UnsetType = UNSET


FIELDS: Final = JobView.__struct_fields__
"""All that may be asked for by name."""
LARGE: Final = frozenset({"inputs", "result", "artifacts", "usage", "feedback", "review", "parts"})


def brief_view(job: Brief, progress: Mapping[str, Any] | None, names: frozenset[str] | None) -> ListedJob:
    """A job in brief.

    Args:
        job: as it was read.
        progress: the latest report of its running attempt.
        names: the fields that are wanted, none of them large; None for all that are not.
    """
    error = job.error
    fields: dict[str, Any] = {
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
        "parent": job.parent or None,
        "workflow": job.workflow or None,
        "key": job.key or None,
        "worker": job.worker,
        "progress": progress_view(progress) if progress else None,
        "error": None if error is None else ErrorView(error.code, error.message, error.retryable),
        "reason": job.reason,
        "releases": job.releases,
        "next_attempt_at": next_attempt_at(job),
        "rejections": job.rejections,
        "damage": None if job.damage is None else damage_view(job.damage),
        "archived_as": job.archived_as and job.archived_as.value,
        "created_at": job.created_at,
        "updated_at": job.changed_at,
        "started_at": job.started_at,
        "ended_at": job.ended_at,
        "seq": job.seq,
    }
    return _of(fields, names)


def listed_view(job: Job, progress: Mapping[str, Any] | None, names: frozenset[str] | None) -> ListedJob:
    """A job with the fields that are wanted, as it is shown by itself; with all where that is None."""
    view = job_view(job, progress)
    return _of({name: getattr(view, name) for name in FIELDS}, names)


def _of(fields: dict[str, Any], names: frozenset[str] | None) -> ListedJob:
    if names is not None:
        fields = {name: value for name, value in fields.items() if name == "id" or name in names}
    return ListedJob(**fields)
