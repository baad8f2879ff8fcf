"""Timed leases, and what their holders get to know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import UNSET, UnsetType

from switchyard.events.job import Job
from switchyard.services.access.ticket_claims import LeaseClaims, OutcomeClaims
from switchyard.services.dispatch.rest.claiming import Claimed
from switchyard.services.dispatch.rest.found import FoundAttempt
from switchyard.services.gateway.doors.v1.answers.base import Answer


class LeaseGranted(Answer, frozen=True, kw_only=True):
    """A new lease; `token` is what its holder shows."""

    id: str
    token: str
    fence: int
    attempt: int
    worker: str
    revision: int
    expires_at: datetime | None
    timeout_s: float


class PartShown(Answer, frozen=True, kw_only=True):
    """A part of a job."""

    id: str
    name: str
    kind: str


class PartOutcomeAnswer(Answer, frozen=True, kw_only=True):
    """How a part ended; `error` has `code` and `message`."""

    status: str
    result: Any
    artifacts: Sequence[Mapping[str, Any]]
    error: Mapping[str, str] | None


class LeasedJob(Answer, frozen=True, kw_only=True):
    """A job as the worker that leased it sees it."""

    id: str
    kind: str
    tenant: str
    state: str
    payload: Mapping[str, Any]
    labels: Mapping[str, str]
    priority: int
    requires: Mapping[str, Any]
    attempt: int
    failures: int
    max_attempts: int
    rejections: int
    feedback: Any
    attempt_timeout_s: float | None
    deadline_at: datetime | None
    created_at: datetime | None
    depth: int
    parts: Sequence[PartShown] | None


class ClaimAnswer(Answer, frozen=True, kw_only=True):
    """What a claim has come to."""

    lease: LeaseGranted
    job: LeasedJob


class BackendShown(Answer, frozen=True, kw_only=True):
    """A back end that carries an attempt on."""

    kind: str
    id: str
    remote_id: str


class FoundAttemptAnswer(ClaimAnswer, frozen=True, kw_only=True):
    """An attempt that is at a back end; its lease is renewed with `lease_s`, and has `timeout_s` left."""

    backend: BackendShown
    lease_s: float


class FoundAnswer(Answer, frozen=True, kw_only=True):
    """What a worker is to look after from now on; `more` says that others are left."""

    attempts: list[FoundAttemptAnswer]
    more: bool


class JobState(Answer, frozen=True, kw_only=True):
    """Which job, and its state."""

    id: str
    state: str


class CancelWish(Answer, frozen=True, kw_only=True):
    """Who wants the attempt to stop, and until when it may."""

    by: str
    reason: str
    force_at: datetime | None


class LeaseNotice(Answer, frozen=True, kw_only=True):
    """What a holder gets back whenever it reports something."""

    job: JobState
    cancel_requested: bool
    cancel: CancelWish | None
    lines_dropped: int | UnsetType = UNSET


class LeaseRenewed(Answer, frozen=True, kw_only=True):
    """A lease that continues."""

    id: str
    fence: int
    attempt: int
    worker: str
    expires_at: datetime


class RenewAnswer(Answer, frozen=True, kw_only=True):
    """What a renewal has come to."""

    lease: LeaseRenewed
    job: JobState
    cancel_requested: bool
    cancel: CancelWish | None


class DelegateAnswer(Answer, frozen=True, kw_only=True):
    """An attempt that a back end carries on; `outcome` is the path that it reports to.

    `lease_s` are the seconds from one sign of life to the next, as granted.
    """

    lease: LeaseRenewed
    lease_s: float
    backend: BackendShown
    outcome: str
    job: JobState


def claim_answer(claimed: Claimed, token: str, timeout_s: float) -> ClaimAnswer:
    """A job under a lease.

    Args:
        claimed: both.
        token: what the holder shows.
        timeout_s: seconds that the attempt may take.
    """
    job, claims = claimed.job, claimed.claims
    return ClaimAnswer(
        lease=LeaseGranted(
            id=claims.id,
            token=token,
            fence=claims.fence,
            attempt=claims.attempt,
            worker=claims.worker,
            revision=claimed.revision,
            expires_at=job.lease.expires_at if job.lease else None,
            timeout_s=timeout_s,
        ),
        job=LeasedJob(
            id=job.id,
            kind=job.kind,
            tenant=job.tenant,
            state=job.status.value,
            payload=claimed.payload,
            labels=job.labels,
            priority=job.priority,
            requires=claimed.spec.requires,
            attempt=job.attempt,
            failures=job.failures,
            max_attempts=job.max_attempts,
            rejections=job.rejections,
            feedback=job.feedback,
            attempt_timeout_s=job.attempt_timeout_s,
            deadline_at=job.deadline_at,
            created_at=job.created_at,
            depth=job.depth,
            parts=_parts(job) if job.parted_by else None,
        ),
    )


def _parts(job: Job) -> list[PartShown]:
    return [PartShown(id=part.id, name=part.name, kind=part.kind) for part in job.parts]


def found_answer(found: FoundAttempt, token: str, timeout_s: float) -> FoundAttemptAnswer:
    """An attempt at its back end; the arguments are those of `claim_answer`."""
    answer, backend = claim_answer(found.claimed, token, timeout_s), found.backend
    return FoundAttemptAnswer(
        lease=answer.lease, job=answer.job, lease_s=found.lease_s,
        backend=BackendShown(kind=backend.kind, id=backend.id, remote_id=backend.remote_id),
    )  # fmt: skip


def renew_answer(claims: LeaseClaims, job: Job, expires_at: datetime) -> RenewAnswer:
    """A lease that lasts until `expires_at`."""
    wish = cancel_wish(job)
    return RenewAnswer(
        lease=LeaseRenewed(
            id=claims.id, fence=claims.fence, attempt=claims.attempt, worker=claims.worker,
            expires_at=expires_at,
        ),
        job=JobState(id=job.id, state=job.status.value),
        cancel_requested=wish is not None,
        cancel=wish,
    )  # fmt: skip


def delegate_answer(claims: OutcomeClaims, job: Job, token: str) -> DelegateAnswer:
    """A lease that has become a back end's; `token` is what that reports with."""
    lease = job.lease
    if lease is None or lease.backend is None or lease.expires_at is None:
        raise AssertionError("a delegated attempt has a timed lease that names its back end")
    backend = lease.backend
    return DelegateAnswer(
        lease=LeaseRenewed(
            id=claims.id, fence=claims.fence, attempt=claims.attempt, worker=claims.worker,
            expires_at=lease.expires_at,
        ),
        lease_s=claims.lease_s,
        backend=BackendShown(kind=backend.kind, id=backend.id, remote_id=backend.remote_id),
        outcome=f"/v1/outcomes/{token}",
        job=JobState(id=job.id, state=job.status.value),
    )  # fmt: skip


def notice(job: Job, *, dropped: int = 0) -> LeaseNotice:
    """Whether the holder is to stop; `dropped` is how many lines were not kept."""
    wish = cancel_wish(job)
    return LeaseNotice(
        job=JobState(id=job.id, state=job.status.value),
        cancel_requested=wish is not None,
        cancel=wish,
        lines_dropped=dropped or UNSET,
    )


def cancel_wish(job: Job) -> CancelWish | None:
    """Who wants the attempt to stop, if anybody does."""
    asked = job.cancellation
    if asked is None:
        return None
    return CancelWish(by=asked.by, reason=asked.reason, force_at=asked.force_at)
