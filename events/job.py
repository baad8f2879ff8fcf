"""The life of a job: what a command makes of its state.

`decide` says which event, if any, a command makes of a state; `evolve`, of `switchyard.events.state` what
follows. Time, ids and jitter arrive in the command. A command that finds its effect already there gives no
event; one that the state does not allow raises `ConflictError`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, TypeVar, assert_never

import msgspec

from switchyard.events import allowed, wakes
from switchyard.events.commands import (
    Accept,
    AnyCommand,
    Archive,
    Claim,
    ClaimReview,
    Complete,
    ConfirmCancel,
    Delegate,
    Discard,
    Fail,
    FailDependency,
    FanOut,
    LoseBackend,
    LoseLease,
    Loss,
    Propose,
    Redrive,
    RefusePart,
    Reject,
    Release,
    ReleaseReview,
    RenewClaim,
    RenewDelegated,
    Repair,
    Reprioritise,
    RequestCancel,
    Requeue,
    Retry,
    Submit,
    TakeLease,
    Unblock,
    Wake,
)
from switchyard.events.encoding.damage import decide_damaged, refuse_whole
from switchyard.events.errors import ConflictError
from switchyard.events.events import (
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
from switchyard.events.numbers import later
from switchyard.events.outcome import timed_out
from switchyard.events.retry import MAX_RELEASES, release_delay_s, retry_delay_s
from switchyard.events.rules import backends, parts
from switchyard.events.rules.ends import dead, lost_at_last, stopped
from switchyard.events.rules.erasable import without_content
from switchyard.events.state import Job, evolve, summary
from switchyard.events.values import FINAL, WAITING, JobError, Lease, Review, ReviewRules, Status
from switchyard.events.vocabulary.causes import (
    STILL_WAITING,
    DeadReason,
    EndCause,
    QueuedCause,
    ReviewDeadline,
    ReviewReleasedCause,
)
from switchyard.events.vocabulary.ids import Fence, LaneId, WorkerId
from switchyard.events.vocabulary.refusals import RefusalCode

__all__ = ["Job", "decide", "evolve"]

RULE_CHECKS: Final = "rule:auto_accept"
RULE_DEADLINE: Final = "rule:deadline"


def decide(job: Job, command: AnyCommand) -> AnyEvent | None:
    """The event that the command makes of this state, or None when its effect is already there.

    Raises:
        ConflictError: the state does not allow the command.
        InvalidError: the job can be erased, and its content would stand in an event; see `without_content`.
        ForbiddenError: code `four_eyes`; somebody would accept what they proposed.
        PreconditionFailedError: another proposal than the one that was meant waits for a reviewer.
        NewerVersionError: a newer version of the program wrote the job's log.
    """
    if job.damage is not None:
        return decide_damaged(job, command)
    if job.erasable:
        command = without_content(job, command)
    now, status = command.now, job.status
    match command:
        case Submit(job=spec):
            if status is not Status.ABSENT:
                raise allowed.refused(job, "submit")
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
            return _queued(job, now, QueuedCause.UNBLOCKED)
        case FailDependency():
            return parts.failed(job, command)
        case FanOut():
            return parts.parted(job, command)
        case RefusePart():
            return parts.refused(job, command)
        case TakeLease(worker=worker, revision=revision):
            if status is not Status.QUEUED:
                raise allowed.refused(job, "lease")
            leased = Leased(at=now, worker=worker, attempt=job.attempt + 1, revision=revision)
            return wakes.too_late(job, now) or leased
        case Claim(worker=worker, revision=revision, expires_at=expires_at):
            if status is not Status.QUEUED:
                raise allowed.refused(job, "claim")
            return wakes.too_late(job, now) or Claimed(
                at=now, worker=worker, attempt=job.attempt + 1, expires_at=expires_at, revision=revision
            )
        case RenewClaim(fence=fence, expires_at=expires_at):
            lease = allowed.current_lease(job, fence, "renew")
            if lease.expires_at is None:
                message = f"the lease of job {job.id} is held, not timed"
                raise ConflictError(message, code=RefusalCode.NOT_TIMED)
            return ClaimRenewed(at=now, fence=fence, expires_at=expires_at)
        case Delegate():
            return backends.delegated(job, command)
        case RenewDelegated():
            return backends.renewed(job, command)
        case Complete(fence=fence):
            if job.ended_by == fence:
                return None
            allowed.current_lease(job, fence, "complete")
            return Succeeded(
                at=now, fence=fence, result=command.result, artifacts=command.artifacts, usage=command.usage
            )
        case Fail(fence=fence, error=error, jitter=jitter):
            allowed.current_lease(job, fence, "fail")
            if status is Status.CANCELLING:
                return stopped(job, now, EndCause.FAILED)
            return _failed(job, now, fence, error, jitter)
        case Release(fence=fence):
            allowed.current_lease(job, fence, "release")
            if status is Status.CANCELLING:
                return stopped(job, now, EndCause.RELEASED)
            return _released(job, command) if command.by_handler else _queued(job, now, QueuedCause.RELEASED)
        case LoseLease(fence=fence):
            if job.lease is None or job.lease.fence != fence or job.lease.expires_at is not None:
                return None  # a timed lease needs no holder: it ends at its time
            return _lease_lost(job, command, QueuedCause.LEASE_LOST)
        case LoseBackend(fence=fence, backend=backend):
            lost = backends.is_with(job, fence, backend)
            return _lease_lost(job, command, QueuedCause.LEASE_LOST) if lost else None
        case ConfirmCancel(fence=fence):
            allowed.current_lease(job, fence, "confirm the cancel of")
            if status is not Status.CANCELLING:
                raise allowed.refused(job, "confirm the cancel of")
            return stopped(job, now, EndCause.CONFIRMED)
        case RequestCancel(by=by, reason=reason, grace_s=grace_s):
            if status in (Status.CANCELLED, Status.CANCELLING):
                return None
            if status in WAITING:
                return Cancelled(at=now, cause=EndCause.REQUESTED, by=by, reason=reason)
            if status is not Status.RUNNING:
                raise allowed.refused(job, "cancel")
            return CancelRequested(at=now, by=by, force_at=later(now, grace_s), reason=reason)
        case Propose(fence=fence):
            allowed.current_lease(job, fence, "propose a result for")
            if status is Status.CANCELLING:
                return stopped(job, now, EndCause.RELEASED)
            rules = job.review_rules or ReviewRules()
            due_at = None if rules.deadline_s is None else later(now, rules.deadline_s)
            passed = bool(rules.checks) and all(command.checks.get(check) for check in rules.checks)
            return Proposed(
                at=now, fence=fence, result=command.result, artifacts=command.artifacts, usage=command.usage,
                by=command.by, checks=command.checks, due_at=due_at, passed=passed,
            )  # fmt: skip
        case ClaimReview(reviewer=reviewer, expires_at=expires_at):
            review = allowed.claimed_review(job, reviewer, "claim the review of")
            if review.reviewer == reviewer and review.expires_at == expires_at:
                return None
            return ReviewClaimed(at=now, reviewer=reviewer, expires_at=expires_at)
        case ReleaseReview(reviewer=reviewer):
            if allowed.claimed_review(job, reviewer, "release the review of").reviewer is None:
                return None
            return ReviewReleased(at=now, cause=ReviewReleasedCause.RELEASED)
        case Accept(reviewer=reviewer):
            allowed.check_accepts(job, command)
            return Accepted(at=now, reviewer=reviewer)
        case Reject(reviewer=reviewer, reason=reason, feedback=feedback):
            allowed.check_rejects(job, command)
            return _rejected(job, now, reviewer, reason, feedback)
        case Wake():
            return _due(job, command)
        case Reprioritise(priority=priority):
            if status is not Status.QUEUED:
                raise allowed.refused(job, "reprioritise")
            same = job.priority == priority
            return None if same else _moved(job, now, QueuedCause.REPRIORITISED, job.lane, priority)
        case Requeue(claimable_seq=claimable_seq):
            if status is not Status.QUEUED or job.claimable_seq != claimable_seq:
                return None
            return _queued(job, now, QueuedCause.REQUEUED)
        case Retry():
            if status is Status.RUNNING or (status is Status.QUEUED and job.failed_worker is None):
                return None
            if status not in (Status.QUEUED, Status.RETRYING):
                raise allowed.refused(job, "retry")
            return wakes.too_late(job, now) or _queued(job, now, QueuedCause.RETRIED)
        case Redrive(payload=payload, size_bytes=size_bytes):
            if status is not Status.DEAD:
                raise allowed.refused(job, "redrive")
            priority = job.own_priority if command.priority is None else command.priority
            return _timed(job, Queued(
                at=now, cause=QueuedCause.REDRIVEN, lane=job.lane, priority=priority, payload=payload,
                size_bytes=size_bytes,
            ))  # fmt: skip
        case Discard(by=by, reason=reason):
            if job.archived_as is Status.DEAD:
                return None
            if status is not Status.DEAD:
                raise allowed.refused(job, "discard")
            return Archived(at=now, status=status, summary=summary(job), by=by, reason=reason)
        case Archive(by=by, reason=reason):
            if status is Status.ARCHIVED:
                return None
            if status not in FINAL:
                raise allowed.refused(job, "archive")
            return Archived(at=now, status=status, summary=summary(job), by=by, reason=reason)
        case Repair():
            raise refuse_whole(job)
        case _:
            assert_never(command)


def _queued(job: Job, now: datetime, cause: QueuedCause, *, failed_worker: WorkerId | None = None) -> Queued:
    priority = job.priority if cause in STILL_WAITING else job.own_priority
    lane = job.shared_lane if job.shared_lane and job.attempt else job.lane
    return _timed(job, Queued(at=now, cause=cause, lane=lane, priority=priority, failed_worker=failed_worker))


def _moved(job: Job, now: datetime, cause: QueuedCause, lane: LaneId, priority: int) -> Queued:
    return _timed(job, Queued(at=now, cause=cause, lane=lane, priority=priority))


_Claimable = TypeVar("_Claimable", Queued, Rejected)


def _timed(job: Job, event: _Claimable) -> _Claimable:
    """The event with the time at which something is due in the lane: its timer then needs no other read."""
    # The wake-ups of a dead job are gone.
    again = isinstance(event, Queued) and event.cause == QueuedCause.REDRIVEN and job.deadline_at is not None
    if job.ageing is None and job.queue_timeout_s is None and not job.shared_lane and not again:
        return event
    return msgspec.structs.replace(event, wake_at=wakes.next_wake(evolve(job, event, job.seq)))


def _failed(job: Job, now: datetime, fence: Fence, error: JobError, jitter: float) -> Failed | Dead:
    failures = job.failures + 1
    if not error.retryable or failures >= job.max_attempts:
        reason = DeadReason.FAILURES_SPENT if error.retryable else DeadReason.NOT_RETRYABLE
        return Dead(at=now, reason=reason, error=error, attempt_end=EndCause.FAILED)
    retry_at = later(now, retry_delay_s(job.retry, failures, jitter))
    return Failed(at=now, fence=fence, error=error, retry_at=retry_at)


def _claim_expired(job: Job, lease: Lease, expires_at: datetime, wake: Wake) -> AnyEvent:
    """A timed lease that was kept to the end of the attempt's time has timed out; before that it is lost."""
    timeout_s = job.attempt_timeout_s or wake.attempt_timeout_s
    if timeout_s is None or job.started_at is None or expires_at < later(job.started_at, timeout_s):
        return _lease_lost(job, wake, QueuedCause.CLAIM_EXPIRED)
    return _failed(job, wake.now, lease.fence, timed_out(timeout_s), wake.jitter)


def _released(job: Job, release: Release) -> Queued | Scheduled | Dead:
    """What comes of a job whose handler gave it back: it makes room for others, the longer the more often."""
    now, releases = release.now, job.releases + 1
    if releases >= MAX_RELEASES:
        return dead(now, DeadReason.RELEASED_TOO_OFTEN, f"{releases} attempts in a row gave the job back")
    delay_s = release_delay_s(releases, release.jitter)
    if delay_s:
        return Scheduled(at=now, start_at=later(now, delay_s))
    return msgspec.structs.replace(_queued(job, now, QueuedCause.RELEASED), by_handler=True)


def _waited(job: Job, now: datetime) -> Queued | Expired | None:
    """What time brings to a job in its lane; rises that were missed are made up for at once."""
    if (late := wakes.too_late(job, now)) is not None:
        return late
    rise, shared_at = wakes.next_rise(job), wakes.shared_at(job)
    if shared_at is not None and shared_at <= now:
        return _moved(job, now, QueuedCause.SHARED, job.shared_lane, job.priority)
    if rise is None or rise > now or job.ageing is None or job.claimable_at is None:
        return None
    rises = int((now - job.claimable_at).total_seconds() / job.ageing.every_s)
    priority = min(job.ageing.max, job.priority + max(1, rises) * job.ageing.step)
    return _moved(job, now, QueuedCause.AGED, job.lane, priority)


def _lease_lost(job: Job, loss: Loss, cause: QueuedCause) -> Queued | Dead | Cancelled | Expired:
    """A lost lease is a failure if the job may be the reason; again and again, it is taken for the reason."""
    now = loss.now
    if job.status is Status.CANCELLING:
        return stopped(job, now, EndCause.LEASE_LOST)
    worker = job.lease.worker if job.lease else None
    if not loss.blamed:
        if job.innocent + 1 < loss.innocent_max:
            queued = _queued(job, now, cause, failed_worker=worker)
            return msgspec.structs.replace(queued, blameless=True)
        message = f"{job.innocent + 1} attempts lost workers that ran other jobs too, the last one {worker}"
        return lost_at_last(now, cause, message)
    if job.lost + 1 >= loss.poison_after:
        message = f"{job.lost + 1} attempts in a row lost their worker, the last one {worker}"
        return msgspec.structs.replace(dead(now, DeadReason.POISON, message), attempt_end=cause)
    if job.failures + 1 >= job.max_attempts:
        message = f"the lease of attempt {job.attempt} on {worker} was lost"
        return lost_at_last(now, cause, message)
    return _queued(job, now, cause, failed_worker=worker)


def _rejected(job: Job, now: datetime, reviewer: str, reason: str, feedback: Any = None) -> Rejected | Dead:
    if job.rejections + 1 >= job.max_rejections:
        return dead(now, DeadReason.REJECTED_TOO_OFTEN, reason)
    return _timed(job, Rejected(
        at=now, reviewer=reviewer, reason=reason, lane=job.lane, priority=job.own_priority, feedback=feedback
    ))  # fmt: skip


def _judged(job: Job, review: Review, now: datetime) -> Accepted | Rejected | Dead | Expired | None:
    """What the job's own rules and time make of a proposal."""
    if review.passed:
        return Accepted(at=now, reviewer=RULE_CHECKS)
    if review.due_at is None or review.due_at > now:
        return None
    match (job.review_rules or ReviewRules()).on_deadline:
        case ReviewDeadline.ACCEPT:
            return Accepted(at=now, reviewer=RULE_DEADLINE)
        case ReviewDeadline.REJECT:
            return _rejected(job, now, RULE_DEADLINE, "the review's time is over")
        case _:
            return Expired(at=now, cause=EndCause.NOT_REVIEWED)


def _due(job: Job, wake: Wake) -> AnyEvent | None:
    now, status, lease = wake.now, job.status, job.lease
    if status is Status.CANCELLING:
        if job.cancellation is not None and job.cancellation.force_at <= now:
            return stopped(job, now, EndCause.FORCED)
        if lease is not None and lease.expires_at is not None and lease.expires_at <= now:
            return stopped(job, now, EndCause.LEASE_LOST)
        return None
    if job.deadline_at is not None and job.deadline_at <= now and status not in FINAL:
        if status is Status.RUNNING:
            force_at = later(now, wake.cancel_grace_s)
            return CancelRequested(at=now, by="deadline", force_at=force_at, deadline=True)
        return Expired(at=now, cause=EndCause.WAITING) if status in WAITING else None
    if status is Status.QUEUED:
        return _waited(job, now)
    if status is Status.SCHEDULED and job.start_at is not None and job.start_at <= now:
        return _queued(job, now, QueuedCause.START_DUE)
    if status is Status.RETRYING and job.retry_at is not None and job.retry_at <= now:
        return _queued(job, now, QueuedCause.RETRY_DUE, failed_worker=job.failed_worker)
    if status is Status.RUNNING and lease is not None and lease.expires_at is not None:
        return _claim_expired(job, lease, lease.expires_at, wake) if lease.expires_at <= now else None
    if status is Status.REVIEW and job.review is not None:
        if (judged := _judged(job, job.review, now)) is not None:
            return judged
        if job.review.expires_at is not None and job.review.expires_at <= now:
            return ReviewReleased(at=now, cause=ReviewReleasedCause.EXPIRED)
    return None
