"""The life of a job: its state, and the two functions that connect commands, state and events.

`decide` says which event, if any, a command makes of a state; `evolve` says which state an event makes.
Time, ids and jitter arrive in the command. A command that finds its effect already there gives no event;
one that the state does not allow raises `ConflictError`.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final, TypeVar, assert_never

import msgspec

from events.commands import (
    Accept,
    AnyCommand,
    Archive,
    Claim,
    ClaimReview,
    Complete,
    ConfirmCancel,
    Discard,
    Fail,
    FailDependency,
    LoseLease,
    Propose,
    Redrive,
    Reject,
    Release,
    ReleaseReview,
    RenewClaim,
    Reprioritise,
    RequestCancel,
    Requeue,
    Submit,
    TakeLease,
    Unblock,
    Wake,
)
from events.errors import ConflictError
from events.history import (
    Accepted,
    AnyEvent,
    Archived,
    Blocked,
    Cancelled,
    CancelRequested,
    Claimed,
    ClaimRenewed,
    Dead,
    Expired,
    Failed,
    Leased,
    Proposed,
    Queued,
    Rejected,
    ReviewClaimed,
    ReviewReleased,
    Scheduled,
    Submitted,
    Succeeded,
)
from events.retry import RetryPolicy, retry_delay_s
from events.spec import (
    FINAL,
    WAITING,
    Ageing,
    Cancellation,
    DependencyFailure,
    JobError,
    JobSpec,
    Lease,
    Review,
    Status,
)

LOST_LEASES_ARE_POISON: Final = 2
STILL_WAITING: Final = frozenset({"reprioritised", "aged", "requeued", "shared"})
"""Causes that put a job into a lane again in which, or in another of its kind, it has been waiting."""


class Job(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the events of a job add up to; the payload stays in the first event.

    Args:
        seq: sequence of the last event.
        claimable_seq: sequence of the newest event that put the job into a lane.
        claimable_at: when that was.
        queued_at: since when it waits; a change of its priority does not begin that anew.
        own_priority: the one it was given, which every new turn begins with; `priority` may have aged.
        payload_seq: sequence of the event that changed its payload; 0 when the first event's counts.
        failures: what counts against `max_attempts`.
        lost: leases lost in a row.
        failed_worker: who failed or lost the last attempt.
        worker: who runs or ran the last attempt.
        archived_as: the final status that an archived job had.
        ended_by: the fence whose result the job has.
    """

    id: str = ""
    status: Status = Status.ABSENT
    seq: int = 0
    kind: str = ""
    tenant: str = ""
    lane: str = ""
    priority: int = 50
    own_priority: int = 50
    labels: dict[str, str] = {}
    max_attempts: int = 3
    retry: RetryPolicy = RetryPolicy()
    attempt_timeout_s: float | None = None
    queue_timeout_s: float | None = None
    ageing: Ageing | None = None
    start_at: datetime | None = None
    deadline_at: datetime | None = None
    depends_on: tuple[str, ...] = ()
    max_rejections: int = 3
    shared_lane: str = ""
    shared_after_s: float = 0.0
    request_hash: str = ""
    claimable_seq: int = 0
    claimable_at: datetime | None = None
    payload_seq: int = 0
    attempt: int = 0
    failures: int = 0
    lost: int = 0
    failed_worker: str | None = None
    lease: Lease | None = None
    worker: str | None = None
    retry_at: datetime | None = None
    cancellation: Cancellation | None = None
    review: Review | None = None
    rejections: int = 0
    feedback: Any = None
    result: Any = None
    artifacts: tuple[dict[str, Any], ...] = ()
    usage: dict[str, float] = {}
    error: JobError | None = None
    reason: str | None = None
    created_at: datetime | None = None
    queued_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    archived_as: Status | None = None
    ended_by: int = 0
    on_dependency_failure: DependencyFailure = DependencyFailure.DEAD


def decide(job: Job, command: AnyCommand) -> AnyEvent | None:
    """The event that the command makes of this state, or None when its effect is already there.

    Raises:
        ConflictError: the state does not allow the command.
    """
    now = command.now
    status = job.status
    match command:
        case Submit(job=spec):
            if status is not Status.ABSENT:
                raise _refused(job, "submit")
            if spec.depends_on:
                return Blocked(at=now, depends_on=spec.depends_on, job=spec)
            if spec.start_at is not None and spec.start_at > now:
                return Scheduled(at=now, start_at=spec.start_at, job=spec)
            return Submitted(at=now, job=spec)
        case Unblock():
            if status is not Status.BLOCKED:
                return None
            if job.start_at is not None and job.start_at > now:
                return Scheduled(at=now, start_at=job.start_at)
            return _queued(job, now, "unblocked")
        case FailDependency(dependency=dependency, outcome=outcome):
            if status is not Status.BLOCKED or job.on_dependency_failure is DependencyFailure.RUN:
                return None
            message = f"job {dependency}, which it waits for, is {outcome.value}"
            if job.on_dependency_failure is DependencyFailure.CANCEL:
                return Cancelled(at=now, cause="dependency_died", reason=message)
            error = JobError("dependency_died", message, retryable=False)
            return Dead(at=now, reason="dependency_died", error=error)
        case TakeLease(worker=worker, revision=revision):
            if status is not Status.QUEUED:
                raise _refused(job, "lease")
            return Leased(at=now, worker=worker, attempt=job.attempt + 1, revision=revision)
        case Claim(worker=worker, revision=revision, expires_at=expires_at):
            if status is not Status.QUEUED:
                raise _refused(job, "claim")
            attempt = job.attempt + 1
            return Claimed(at=now, worker=worker, attempt=attempt, expires_at=expires_at, revision=revision)
        case RenewClaim(fence=fence, expires_at=expires_at):
            lease = _current(job, fence, "renew")
            if lease.expires_at is None:
                raise ConflictError(f"the lease of job {job.id} is held, not timed", code="not_timed")
            return ClaimRenewed(at=now, fence=fence, expires_at=expires_at)
        case Complete(fence=fence):
            if job.ended_by == fence:
                return None
            _current(job, fence, "complete")
            return Succeeded(
                at=now, fence=fence, result=command.result, artifacts=command.artifacts, usage=command.usage
            )
        case Fail(fence=fence, error=error, jitter=jitter):
            _current(job, fence, "fail")
            if status is Status.CANCELLING:
                return _stopped(job, now, "failed")
            failures = job.failures + 1
            if not error.retryable:
                return Dead(at=now, reason="not_retryable", error=error)
            if failures >= job.max_attempts:
                return Dead(at=now, reason="failures_spent", error=error)
            delay = timedelta(seconds=retry_delay_s(job.retry, failures, jitter))
            return Failed(at=now, fence=fence, error=error, retry_at=now + delay)
        case Release(fence=fence, cause=cause):
            _current(job, fence, "release")
            if status is Status.CANCELLING:
                return _stopped(job, now, "released")
            return _queued(job, now, cause)
        case LoseLease(fence=fence):
            if job.lease is None or job.lease.fence != fence:
                return None
            return _lease_lost(job, now, "lease_lost")
        case ConfirmCancel(fence=fence):
            _current(job, fence, "confirm the cancel of")
            if status is not Status.CANCELLING:
                raise _refused(job, "confirm the cancel of")
            return _stopped(job, now, "confirmed")
        case RequestCancel(by=by, reason=reason, grace_s=grace_s):
            if status in (Status.CANCELLED, Status.CANCELLING):
                return None
            if status in WAITING:
                return Cancelled(at=now, cause="requested", by=by, reason=reason)
            if status is not Status.RUNNING:
                raise _refused(job, "cancel")
            force_at = now + timedelta(seconds=grace_s)
            return CancelRequested(at=now, by=by, force_at=force_at, reason=reason)
        case Propose(fence=fence):
            _current(job, fence, "propose a result for")
            if status is Status.CANCELLING:
                return _stopped(job, now, "released")
            return Proposed(
                at=now, fence=fence, result=command.result, artifacts=command.artifacts, usage=command.usage
            )
        case ClaimReview(reviewer=reviewer, expires_at=expires_at):
            review = _review(job, reviewer, "claim the review of")
            if review.reviewer == reviewer and review.expires_at == expires_at:
                return None
            return ReviewClaimed(at=now, reviewer=reviewer, expires_at=expires_at)
        case ReleaseReview(reviewer=reviewer):
            if _review(job, reviewer, "release the review of").reviewer is None:
                return None
            return ReviewReleased(at=now, cause="released")
        case Accept(reviewer=reviewer):
            _review(job, reviewer, "accept")
            return Accepted(at=now, reviewer=reviewer)
        case Reject(reviewer=reviewer, reason=reason, feedback=feedback):
            _review(job, reviewer, "reject")
            if job.rejections + 1 >= job.max_rejections:
                error = JobError("rejected_too_often", reason, retryable=False)
                return Dead(at=now, reason="rejected_too_often", error=error)
            rejected = Rejected(
                at=now, reviewer=reviewer, reason=reason,
                lane=job.lane, priority=job.own_priority, feedback=feedback,
            )  # fmt: skip
            return _timed(job, rejected)
        case Wake():
            return _due(job, command)
        case Reprioritise(priority=priority):
            if status is not Status.QUEUED:
                raise _refused(job, "reprioritise")
            if job.priority == priority:
                return None
            return _timed(job, Queued(at=now, cause="reprioritised", lane=job.lane, priority=priority))
        case Requeue(claimable_seq=claimable_seq):
            if status is not Status.QUEUED or job.claimable_seq != claimable_seq:
                return None
            return _queued(job, now, "requeued")
        case Redrive(payload=payload):
            if status is not Status.DEAD:
                raise _refused(job, "redrive")
            priority = job.own_priority if command.priority is None else command.priority
            return _timed(
                job, Queued(at=now, cause="redriven", lane=job.lane, priority=priority, payload=payload)
            )
        case Discard(by=by, reason=reason):
            if job.archived_as is Status.DEAD:
                return None
            if status is not Status.DEAD:
                raise _refused(job, "discard")
            return Archived(at=now, status=status, summary=_summary(job), by=by, reason=reason)
        case Archive():
            if status is Status.ARCHIVED:
                return None
            if status not in FINAL:
                raise _refused(job, "archive")
            return Archived(at=now, status=status, summary=_summary(job))
        case _:
            assert_never(command)


def next_wake(job: Job) -> datetime | None:
    """When `Wake` has something to do next, or None when it never has."""
    times: list[datetime | None] = []
    match job.status:
        case Status.SCHEDULED:
            times = [job.start_at, job.deadline_at]
        case Status.BLOCKED:
            times = [job.deadline_at]
        case Status.QUEUED:
            times = [job.deadline_at, _queue_deadline(job), _next_rise(job), _shared_at(job)]
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
            times = [job.review.expires_at if job.review else None, job.deadline_at]
        case _:
            pass
    return min((time for time in times if time is not None), default=None)


def allowed_commands(status: Status) -> tuple[str, ...]:
    """The commands that a caller may give in this state, for the answer to one that it may not."""
    return _ALLOWED[status]


_ALLOWED: Final[dict[Status, tuple[str, ...]]] = {
    Status.ABSENT: ("submit",),
    Status.SCHEDULED: ("cancel",),
    Status.BLOCKED: ("cancel",),
    Status.QUEUED: ("lease", "claim", "cancel", "reprioritise"),
    Status.RUNNING: ("complete", "fail", "release", "propose", "renew", "cancel"),
    Status.RETRYING: ("cancel",),
    Status.REVIEW: ("claim_review", "release_review", "accept", "reject", "cancel"),
    Status.CANCELLING: ("complete", "fail", "release", "confirm_cancel", "renew"),
    Status.SUCCEEDED: ("archive",),
    Status.DEAD: ("redrive", "discard", "archive"),
    Status.CANCELLED: ("archive",),
    Status.EXPIRED: ("archive",),
    Status.ARCHIVED: (),
}


def _refused(job: Job, verb: str) -> ConflictError:
    allowed = allowed_commands(job.status)
    named = ", ".join(allowed) or "nothing"
    message = f"cannot {verb} job {job.id}: it is {job.status.value}, which allows {named}"
    return ConflictError(message, code="illegal_transition", allowed=allowed)


def _current(job: Job, fence: int, verb: str) -> Lease:
    """The job's lease, if it is the one that the fence names."""
    if job.lease is None:
        raise _refused(job, verb)
    if job.lease.fence != fence:
        message = f"cannot {verb} job {job.id}: lease {fence} is lost; lease {job.lease.fence} runs it now"
        raise ConflictError(message, code="lease_lost", allowed=allowed_commands(job.status))
    return job.lease


def _review(job: Job, reviewer: str, verb: str) -> Review:
    if job.status is not Status.REVIEW or job.review is None:
        raise _refused(job, verb)
    if job.review.reviewer not in (None, reviewer):
        message = f"cannot {verb} job {job.id}: {job.review.reviewer} has claimed its review"
        raise ConflictError(message, code="review_claimed", allowed=allowed_commands(job.status))
    return job.review


def _queued(job: Job, now: datetime, cause: str, *, failed_worker: str | None = None) -> Queued:
    priority = job.priority if cause in STILL_WAITING else job.own_priority
    lane = job.shared_lane if job.shared_lane and job.attempt else job.lane
    return _timed(job, Queued(at=now, cause=cause, lane=lane, priority=priority, failed_worker=failed_worker))


_Claimable = TypeVar("_Claimable", Queued, Rejected)


def _timed(job: Job, event: _Claimable) -> _Claimable:
    """The event with the time at which something is due in the lane: its timer then needs no other read."""
    if job.ageing is None and job.queue_timeout_s is None and not job.shared_lane:
        return event
    return _change(event, wake_at=next_wake(evolve(job, event, job.seq)))


def _queue_deadline(job: Job) -> datetime | None:
    """When a job that has never started has waited too long."""
    if job.queue_timeout_s is None or job.queued_at is None or job.attempt:
        return None
    return job.queued_at + timedelta(seconds=job.queue_timeout_s)


def _next_rise(job: Job) -> datetime | None:
    """When the priority of a waiting job rises next."""
    if job.ageing is None or job.claimable_at is None or job.priority >= job.ageing.max:
        return None
    return job.claimable_at + timedelta(seconds=job.ageing.every_s)


def _waited(job: Job, now: datetime) -> Queued | Expired | None:
    """What time brings to a job in its lane; rises that were missed are made up for at once."""
    deadline, rise, shared_at = _queue_deadline(job), _next_rise(job), _shared_at(job)
    if deadline is not None and deadline <= now:
        return Expired(at=now, cause="not_started")
    if shared_at is not None and shared_at <= now:
        return _timed(job, Queued(at=now, cause="shared", lane=job.shared_lane, priority=job.priority))
    if rise is None or rise > now or job.ageing is None or job.claimable_at is None:
        return None
    rises = int((now - job.claimable_at).total_seconds() / job.ageing.every_s)
    priority = min(job.ageing.max, job.priority + max(1, rises) * job.ageing.step)
    return _timed(job, Queued(at=now, cause="aged", lane=job.lane, priority=priority))


def _stopped(job: Job, now: datetime, cause: str) -> Cancelled | Expired:
    """The end of a job that was being cancelled; the deadline's own end has a name of its own."""
    if job.cancellation is None:
        return Cancelled(at=now, cause=cause)
    if job.cancellation.deadline:
        return Expired(at=now, cause=cause)
    return Cancelled(at=now, cause=cause, by=job.cancellation.by, reason=job.cancellation.reason)


def _lease_lost(job: Job, now: datetime, cause: str) -> Queued | Dead | Cancelled | Expired:
    """A lost lease is a failure; lost twice in a row, the job itself is taken for the reason."""
    if job.status is Status.CANCELLING:
        return _stopped(job, now, "lease_lost")
    worker = job.lease.worker if job.lease else None
    if job.lost + 1 >= LOST_LEASES_ARE_POISON:
        message = f"{job.lost + 1} attempts in a row lost their worker, the last one {worker}"
        return Dead(at=now, reason="poison", error=JobError("poison", message, retryable=False))
    if job.failures + 1 >= job.max_attempts:
        message = f"the lease of attempt {job.attempt} on {worker} was lost"
        return Dead(at=now, reason="failures_spent", error=JobError(cause, message))
    return _queued(job, now, cause, failed_worker=worker)


def _shared_at(job: Job) -> datetime | None:
    """When a loosely isolated job stops waiting for its tenant's own workers."""
    if not job.shared_lane or job.lane == job.shared_lane or job.queued_at is None:
        return None
    return job.queued_at + timedelta(seconds=job.shared_after_s)


def _due(job: Job, wake: Wake) -> AnyEvent | None:
    now = wake.now
    status = job.status
    lease = job.lease
    if status is Status.CANCELLING:
        if job.cancellation is not None and job.cancellation.force_at <= now:
            return _stopped(job, now, "forced")
        if lease is not None and lease.expires_at is not None and lease.expires_at <= now:
            return _stopped(job, now, "lease_lost")
        return None
    if job.deadline_at is not None and job.deadline_at <= now and status not in FINAL:
        if status is Status.RUNNING:
            force_at = now + timedelta(seconds=wake.cancel_grace_s)
            return CancelRequested(at=now, by="deadline", force_at=force_at, deadline=True)
        return Expired(at=now, cause="waiting") if status in WAITING else None
    if status is Status.QUEUED:
        return _waited(job, now)
    if status is Status.SCHEDULED and job.start_at is not None and job.start_at <= now:
        return _queued(job, now, "start_due")
    if status is Status.RETRYING and job.retry_at is not None and job.retry_at <= now:
        return _queued(job, now, "retry_due", failed_worker=job.failed_worker)
    if status is Status.RUNNING and lease is not None and lease.expires_at is not None:
        return _lease_lost(job, now, "claim_expired") if lease.expires_at <= now else None
    if status is Status.REVIEW and job.review is not None and job.review.expires_at is not None:
        return ReviewReleased(at=now, cause="expired") if job.review.expires_at <= now else None
    return None


def _summary(job: Job) -> dict[str, Any]:
    """What an archived job is still known by."""
    fields = msgspec.structs.asdict(job)
    kept = ("kind", "tenant", "lane", "priority", "labels", "request_hash", "max_attempts", "attempt",
            "failures", "worker", "reason", "error", "usage", "created_at", "started_at",
            "ended_at")  # fmt: skip
    summary: dict[str, Any] = msgspec.to_builtins({name: fields[name] for name in kept})
    return summary


_change = msgspec.structs.replace


def evolve(job: Job, event: AnyEvent, seq: int) -> Job:
    """The state after the event; total, so it takes every event in every state.

    Args:
        job: the state before.
        event: what happened.
        seq: the event's sequence in the log.
    """
    match event:
        case Submitted(at=at, job=spec):
            return _first(job, spec, at, seq, Status.QUEUED)
        # The arms of nearly every job come first: they are tried in order.
        case Leased(at=at, worker=worker, attempt=attempt, revision=revision):
            lease = Lease(worker, seq, attempt, revision)
            return _change(
                job,
                seq=seq,
                status=Status.RUNNING,
                attempt=attempt,
                lease=lease,
                worker=worker,
                started_at=at,
                retry_at=None,
            )
        case Succeeded(at=at, fence=fence, result=result, artifacts=artifacts, usage=usage):
            return _change(
                job, seq=seq, status=Status.SUCCEEDED, result=result, artifacts=artifacts, usage=usage,
                lease=None, ended_at=at, error=None, lost=0, cancellation=None, ended_by=fence,
            )  # fmt: skip
        case Scheduled(at=at, job=spec, start_at=start_at):
            job = job if spec is None else _first(job, spec, at, seq, Status.SCHEDULED)
            return _change(job, seq=seq, status=Status.SCHEDULED, start_at=start_at)
        case Blocked(at=at, job=spec, depends_on=depends_on):
            job = job if spec is None else _first(job, spec, at, seq, Status.BLOCKED)
            return _change(job, seq=seq, status=Status.BLOCKED, depends_on=depends_on)
        case Queued(at=at, cause=cause, lane=lane, priority=priority):
            lost = cause in ("lease_lost", "claim_expired")
            if cause == "redriven":
                job = _redriven(job, event, seq)
            elif cause == "reprioritised":
                job = _change(job, own_priority=priority)
            return _change(
                job, seq=seq, status=Status.QUEUED, lane=lane, priority=priority, claimable_seq=seq,
                claimable_at=at, queued_at=job.queued_at if cause in STILL_WAITING else at,
                lease=None, retry_at=None, failed_worker=event.failed_worker or job.failed_worker,
                failures=job.failures + lost, lost=job.lost + lost,
                reason=None, cancellation=None, ended_at=None,
            )  # fmt: skip
        case Claimed(at=at, worker=worker, attempt=attempt, expires_at=expires_at, revision=revision):
            lease = Lease(worker, seq, attempt, revision, expires_at)
            return _change(
                job,
                seq=seq,
                status=Status.RUNNING,
                attempt=attempt,
                lease=lease,
                worker=worker,
                started_at=at,
                retry_at=None,
            )
        case ClaimRenewed(expires_at=expires_at):
            lease_now = job.lease and _change(job.lease, expires_at=expires_at)
            return _change(job, seq=seq, lease=lease_now)
        case Failed(error=error, retry_at=retry_at):
            return _change(
                job, seq=seq, status=Status.RETRYING, failures=job.failures + 1, lost=0, error=error,
                retry_at=retry_at, failed_worker=job.lease and job.lease.worker, lease=None,
            )  # fmt: skip
        case Proposed(result=result, artifacts=artifacts, usage=usage):
            review = Review(result, job.lease.worker if job.lease else "", artifacts, usage)
            return _change(job, seq=seq, status=Status.REVIEW, review=review, lease=None, lost=0)
        case ReviewClaimed(reviewer=reviewer, expires_at=expires_at):
            claimed = job.review and _change(job.review, reviewer=reviewer, expires_at=expires_at)
            return _change(job, seq=seq, review=claimed)
        case ReviewReleased():
            free = job.review and _change(job.review, reviewer=None, expires_at=None)
            return _change(job, seq=seq, review=free)
        case Accepted(at=at):
            review_now = job.review or Review(None, "")
            return _change(
                job, seq=seq, status=Status.SUCCEEDED, result=review_now.result,
                artifacts=review_now.artifacts, usage=review_now.usage, review=None, ended_at=at, error=None,
            )  # fmt: skip
        case Rejected(at=at, lane=lane, priority=priority, feedback=feedback):
            return _change(
                job, seq=seq, status=Status.QUEUED, lane=lane, priority=priority, claimable_seq=seq,
                claimable_at=at, queued_at=at, review=None, rejections=job.rejections + 1, feedback=feedback,
            )  # fmt: skip
        case CancelRequested(by=by, force_at=force_at, reason=reason, deadline=deadline):
            cancellation = Cancellation(by, force_at, reason, deadline)
            return _change(job, seq=seq, status=Status.CANCELLING, cancellation=cancellation)
        case Cancelled(at=at, cause=cause):
            return _ended(job, seq, at, Status.CANCELLED, cause)
        case Expired(at=at, cause=cause):
            return _ended(job, seq, at, Status.EXPIRED, cause)
        case Dead(at=at, reason=reason, error=error):
            failures = job.failures + (reason in ("not_retryable", "failures_spent", "poison"))
            return _change(_ended(job, seq, at, Status.DEAD, reason), error=error, failures=failures)
        case Archived(status=status):
            return _archived(job, event, seq, status)
        case _:
            assert_never(event)


def _first(job: Job, spec: JobSpec, at: datetime, seq: int, status: Status) -> Job:
    return Job(
        id=job.id, status=status, seq=seq, kind=spec.kind, tenant=spec.tenant, lane=spec.lane,
        priority=spec.priority, own_priority=spec.priority, labels=spec.labels,
        max_attempts=spec.max_attempts, retry=spec.retry, attempt_timeout_s=spec.attempt_timeout_s,
        queue_timeout_s=spec.queue_timeout_s, ageing=spec.ageing,
        start_at=spec.start_at, deadline_at=spec.deadline_at,
        depends_on=spec.depends_on, max_rejections=spec.max_rejections, request_hash=spec.request_hash,
        shared_lane=spec.shared_lane, shared_after_s=spec.shared_after_s,
        claimable_seq=seq if status is Status.QUEUED else 0, created_at=at,
        claimable_at=at if status is Status.QUEUED else None,
        queued_at=at if status is Status.QUEUED else None,
        on_dependency_failure=spec.on_dependency_failure,
    )  # fmt: skip


def _redriven(job: Job, event: Queued, seq: int) -> Job:
    """The state before its new start; a deadline that has passed would end it at once, and is gone."""
    passed = job.deadline_at is not None and job.deadline_at <= event.at
    return _change(
        job, own_priority=event.priority, payload_seq=job.payload_seq if event.payload is None else seq,
        failures=0, lost=0, rejections=0, failed_worker=None, error=None,
        deadline_at=None if passed else job.deadline_at,
    )  # fmt: skip


def _ended(job: Job, seq: int, at: datetime, status: Status, reason: str) -> Job:
    return _change(
        job, seq=seq, status=status, lease=None, review=None, retry_at=None, ended_at=at, reason=reason
    )


def _archived(job: Job, event: Archived, seq: int, status: Status) -> Job:
    """The state of the summary alone, so that a job reads the same before and after its log is purged."""
    known = msgspec.convert({**event.summary, "id": job.id}, Job, strict=False)
    return _change(known, seq=seq, status=Status.ARCHIVED, archived_as=status)
