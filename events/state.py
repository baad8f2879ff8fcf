"""The state of a job, and what each event makes of it.

`evolve` is total: it takes every event in every state, as they stand in the log. An event that cannot be
read, or cannot be applied, takes its sequence, or the guard would refuse every later write; the state before
it stays, and the job is damaged. Later events then count only as sequences, until one holds a whole state.
"""

from __future__ import annotations

from typing import Any, Final, assert_never

import msgspec

from switchyard.events.events import (
    NAMES,
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
    Parted,
    Proposed,
    Queued,
    Rejected,
    Repaired,
    ReviewClaimed,
    ReviewReleased,
    Scheduled,
    Submitted,
    Succeeded,
    Unreadable,
)
from switchyard.events.numbers import Time
from switchyard.events.retry import RetryPolicy
from switchyard.events.subjects import is_name
from switchyard.events.values import (
    DAMAGED,
    Ageing,
    Cancellation,
    Damage,
    JobError,
    JobSpec,
    Lease,
    Part,
    Review,
    ReviewRules,
    Status,
)
from switchyard.events.vocabulary.causes import FAILED, LOST, STILL_WAITING, DependencyFailure, QueuedCause
from switchyard.events.vocabulary.ids import Fence, JobId, LaneId, Seq, WorkerId


class Job(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the events of a job add up to; the payload stays in the first event.

    Args:
        seq: sequence of the last event.
        claimable_seq: sequence of the newest event that put the job into a lane.
        claimable_at: when that was.
        changed_at: when its last event happened; that it was archived does not count.
        queued_at: since when it waits; a change of its priority does not change that.
        own_priority: the one it was given, which every new turn begins with; `priority` may have aged.
        payload_seq: sequence of the event that changed its payload; 0 when the first event's counts.
        failures: what counts against `max_attempts`.
        lost: leases lost in a row for which the job may be the reason.
        releases: attempts in a row that the work itself gave back.
        innocent: leases lost for which it cannot be, since it was submitted or redriven.
        failed_worker: who failed or lost the last attempt.
        worker: who runs or ran the last attempt.
        archived_as: the final status that an archived job had.
        ended_by: the fence whose result the job has.
        review_rules: how a proposed result is judged.
        damage: why nothing more can be said of it; the rest is the state before that.
        size_bytes: that of its submission, and of each payload that a redrive brought.
        key: the id of the API key that submitted it, or "".
        operation: the word for the way it came by, or "".
        workflow: the template that its payload was made from, as `name@version`, or "".
        inputs: what was filled into that.
        erasable: whether its content can be erased, and so stands in no event.
        erase_s: seconds after its end at which it is erased by itself, if that was wanted.
        parent: the job that it is a part of, or "".
        depth: how many jobs are above it, each a part of the next.
        parts: what it has ended in, the last time that it did.
        parted_by: the fence of the attempt that did; 0 where none has since it was submitted or redriven.
        join_policy: what becomes of it when a part does not succeed.
        redriven_seq: sequence of the event that gave it its last new start; 0 for none.
    """

    id: JobId = JobId("")
    status: Status = Status.ABSENT
    seq: Seq = Seq(0)
    kind: str = ""
    tenant: str = ""
    lane: LaneId = LaneId("")
    priority: int = 50
    own_priority: int = 50
    labels: dict[str, str] = {}
    max_attempts: int = 3
    retry: RetryPolicy = RetryPolicy()
    attempt_timeout_s: float | None = None
    queue_timeout_s: float | None = None
    ageing: Ageing | None = None
    start_at: Time | None = None
    deadline_at: Time | None = None
    depends_on: tuple[JobId, ...] = ()
    max_rejections: int = 3
    shared_lane: LaneId = LaneId("")
    shared_after_s: float = 0.0
    request_hash: str = ""
    claimable_seq: Seq = Seq(0)
    claimable_at: Time | None = None
    payload_seq: Seq = Seq(0)
    attempt: int = 0
    failures: int = 0
    lost: int = 0
    releases: int = 0
    innocent: int = 0
    failed_worker: WorkerId | None = None
    lease: Lease | None = None
    worker: WorkerId | None = None
    retry_at: Time | None = None
    cancellation: Cancellation | None = None
    review: Review | None = None
    rejections: int = 0
    feedback: Any = None
    result: Any = None
    artifacts: tuple[dict[str, Any], ...] = ()
    usage: dict[str, float] = {}
    error: JobError | None = None
    reason: str | None = None
    created_at: Time | None = None
    queued_at: Time | None = None
    started_at: Time | None = None
    ended_at: Time | None = None
    archived_as: Status | None = None
    changed_at: Time | None = None
    ended_by: Fence = Fence(0)
    on_dependency_failure: DependencyFailure = DependencyFailure.DEAD
    review_rules: ReviewRules | None = None
    damage: Damage | None = None
    size_bytes: int = 0
    key: str = ""
    operation: str = ""
    workflow: str = ""
    inputs: dict[str, Any] = {}
    erasable: bool = False
    erase_s: float | None = None
    parent: JobId = JobId("")
    depth: int = 0
    parts: tuple[Part, ...] = ()
    parted_by: Fence = Fence(0)
    join_policy: str = ""
    redriven_seq: Seq = Seq(0)

    @property
    def waits_for(self) -> tuple[JobId, ...]:
        """The jobs that have to end before it goes on while it is blocked: its parts or dependencies."""
        return tuple(part.id for part in self.parts) if self.parted_by else self.depends_on

    @property
    def shown_state(self) -> str:
        """The state that lists and counts put it under."""
        return self.status.value if self.damage is None else DAMAGED


_change = msgspec.structs.replace
REASON_CHARS: Final = 1000


def evolve(job: Job, event: AnyEvent | Unreadable, seq: Seq) -> Job:
    """The state after the event; total, so it takes every event in every state.

    Args:
        job: the state before.
        event: what happened.
        seq: the event's sequence in the log.
    """
    if job.damage is not None and not isinstance(event, Repaired | Archived):
        return _change(job, seq=seq)
    if job.status is Status.ABSENT and not _is_first(event):
        name = _name(event)
        return _damaged(job, Unreadable(name, "it cannot be the first event of a job"), seq)
    try:
        after = _after(job, event, seq)
    except Exception as error:  # noqa: BLE001 - whatever an event does to one reader, it does to all alike
        name = _name(event)
        why = f"it cannot be applied: {type(error).__name__}: {error}"
        return _damaged(job, Unreadable(name, why[:REASON_CHARS]), seq)
    # That it is archived is no news of the job: it reads as before.
    ended_at = after.ended_at if isinstance(event, Archived) else None
    return _change(after, changed_at=ended_at or event.at or job.changed_at)


def _damaged(job: Job, event: Unreadable, seq: Seq) -> Job:
    damage = Damage(seq, event.event, event.reason, event.newer)
    return _change(
        job, seq=seq, damage=damage, tenant=job.tenant or event.tenant, kind=job.kind or event.kind
    )


def _name(event: AnyEvent | Unreadable) -> str:
    """As its subject has it."""
    return event.event if isinstance(event, Unreadable) else NAMES[type(event)]


def _is_first(event: AnyEvent | Unreadable) -> bool:
    """Whether it can be the first of a job: it says what the job is, or that nobody can."""
    return isinstance(event, Submitted | Archived | Repaired | Unreadable) or (
        isinstance(event, Scheduled | Blocked) and event.job is not None
    )


def _after(job: Job, event: AnyEvent | Unreadable, seq: Seq) -> Job:
    match event:
        case Submitted(at=at, job=spec):
            return _first(job, spec, at, seq, Status.QUEUED)
        # The arms of nearly every job come first: they are tried in order.
        case Leased(at=at, worker=worker, attempt=attempt, revision=revision):
            lease = Lease(worker, Fence(seq), attempt, revision)
            return _change(
                job, seq=seq, status=Status.RUNNING, attempt=attempt, lease=lease, worker=worker,
                started_at=at, retry_at=None,
            )  # fmt: skip
        case Succeeded(at=at, fence=fence, result=result, artifacts=artifacts, usage=usage):
            return _change(
                job, seq=seq, status=Status.SUCCEEDED, result=result, artifacts=artifacts, usage=usage,
                lease=None, ended_at=at, error=None, lost=0, cancellation=None, ended_by=fence,
            )  # fmt: skip
        case Scheduled(at=at, job=spec, start_at=start_at):
            job = job if spec is None else _first(job, spec, at, seq, Status.SCHEDULED)
            releases = job.releases + (job.lease is not None)  # given back by its handler
            return _change(
                job, seq=seq, status=Status.SCHEDULED, start_at=start_at, lease=None, releases=releases
            )
        case Blocked(at=at, job=spec, depends_on=depends_on):
            job = job if spec is None else _first(job, spec, at, seq, Status.BLOCKED)
            return _change(job, seq=seq, status=Status.BLOCKED, depends_on=depends_on)
        case Queued(at=at, cause=cause, lane=lane, priority=priority):
            is_lost = cause in LOST
            innocent, lost = is_lost and event.blameless, is_lost and not event.blameless
            if cause == QueuedCause.REDRIVEN:
                job = _redriven(job, event, seq)
            elif cause == QueuedCause.RETRIED:
                job = _change(job, failed_worker=None)
            elif cause == QueuedCause.REPRIORITISED:
                job = _change(job, own_priority=priority)
            return _change(
                job, seq=seq, status=Status.QUEUED, lane=lane, priority=priority, claimable_seq=seq,
                claimable_at=at, queued_at=job.queued_at if cause in STILL_WAITING else at,
                lease=None, retry_at=None, failed_worker=event.failed_worker or job.failed_worker,
                failures=job.failures + lost, lost=job.lost + lost, innocent=job.innocent + innocent,
                reason=None, cancellation=None, ended_at=None,
                releases=0 if lost else job.releases + event.by_handler,
            )  # fmt: skip
        case Claimed(at=at, worker=worker, attempt=attempt, expires_at=expires_at, revision=revision):
            lease = Lease(worker, Fence(seq), attempt, revision, expires_at)
            return _change(
                job, seq=seq, status=Status.RUNNING, attempt=attempt, lease=lease, worker=worker,
                started_at=at, retry_at=None,
            )  # fmt: skip
        case ClaimRenewed(expires_at=expires_at, backend=backend):
            lease_now = job.lease and _change(
                job.lease, expires_at=expires_at, backend=backend or job.lease.backend
            )
            return _change(job, seq=seq, lease=lease_now)
        case Failed(error=error, retry_at=retry_at):
            return _change(
                job, seq=seq, status=Status.RETRYING, failures=job.failures + 1, lost=0, releases=0,
                error=error, retry_at=retry_at, failed_worker=job.lease and job.lease.worker, lease=None,
            )  # fmt: skip
        case Parted(fence=fence, parts=parts, policy=policy):
            return _change(
                job, seq=seq, status=Status.BLOCKED, lease=None, lost=0, releases=0, error=None,
                parts=parts, parted_by=fence, join_policy=policy,
            )  # fmt: skip
        case Proposed(at=at, result=result, artifacts=artifacts, usage=usage):
            review = Review(
                result, job.lease.worker if job.lease else WorkerId(""), artifacts, usage,
                by=event.by, checks=event.checks, at=at, due_at=event.due_at, passed=event.passed,
            )  # fmt: skip
            return _change(job, seq=seq, status=Status.REVIEW, review=review, lease=None, lost=0, releases=0)
        case ReviewClaimed(reviewer=reviewer, expires_at=expires_at):
            claimed = job.review and _change(job.review, reviewer=reviewer, expires_at=expires_at)
            return _change(job, seq=seq, review=claimed)
        case ReviewReleased():
            free = job.review and _change(job.review, reviewer=None, expires_at=None)
            return _change(job, seq=seq, review=free)
        case Accepted(at=at):
            review_now = job.review or Review(None, WorkerId(""))
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
            failures = job.failures + (reason in FAILED)
            return _change(_ended(job, seq, at, Status.DEAD, reason), error=error, failures=failures)
        case Archived(status=status):
            return _archived(job, event, seq, status)
        case Unreadable():
            return _damaged(job, event, seq)
        case Repaired():
            return _repaired(job, event, seq)
        case _:
            assert_never(event)


def _first(job: Job, spec: JobSpec, at: Time, seq: Seq, status: Status) -> Job:
    return Job(
        id=job.id, status=status, seq=seq, kind=spec.kind, tenant=spec.tenant, lane=spec.lane,
        priority=spec.priority, own_priority=spec.priority, labels=spec.labels,
        max_attempts=spec.max_attempts, retry=spec.retry, attempt_timeout_s=spec.attempt_timeout_s,
        queue_timeout_s=spec.queue_timeout_s, ageing=spec.ageing,
        start_at=spec.start_at, deadline_at=spec.deadline_at,
        depends_on=spec.depends_on, max_rejections=spec.max_rejections, request_hash=spec.request_hash,
        shared_lane=spec.shared_lane, shared_after_s=spec.shared_after_s,
        claimable_seq=seq if status is Status.QUEUED else Seq(0), created_at=at,
        claimable_at=at if status is Status.QUEUED else None,
        queued_at=at if status is Status.QUEUED else None,
        on_dependency_failure=spec.on_dependency_failure, review_rules=spec.review,
        size_bytes=spec.size_bytes, key=spec.key, operation=spec.operation, workflow=spec.workflow,
        inputs=spec.inputs, erasable=spec.erasable, erase_s=spec.erase_s,
        parent=spec.parent, depth=spec.depth,
    )  # fmt: skip


def _redriven(job: Job, event: Queued, seq: Seq) -> Job:
    """The state before its new start; a deadline that has passed would end it at once, and is gone."""
    passed = job.deadline_at is not None and job.deadline_at <= event.at
    return _change(
        job, own_priority=event.priority, payload_seq=job.payload_seq if event.payload is None else seq,
        failures=0, lost=0, releases=0, innocent=0, rejections=0, failed_worker=None, error=None,
        deadline_at=None if passed else job.deadline_at, size_bytes=job.size_bytes + event.size_bytes,
        parted_by=Fence(0), redriven_seq=seq,
    )  # fmt: skip


def _ended(job: Job, seq: Seq, at: Time, status: Status, reason: str) -> Job:
    return _change(
        job, seq=seq, status=status, lease=None, review=None, retry_at=None, ended_at=at, reason=reason
    )


def _repaired(job: Job, event: Repaired, seq: Seq) -> Job:
    """The state that the event holds, whatever was before; one that waits in a lane waits from now on."""
    known = _change(_known(job, event.state), seq=seq, damage=None)
    if known.status is not Status.QUEUED:
        return known
    if not event.lane:
        raise ValueError("it waits in no lane")
    return _change(
        known, lane=event.lane, priority=event.priority, claimable_seq=seq,
        claimable_at=event.at, queued_at=event.at,
    )  # fmt: skip


def _archived(job: Job, event: Archived, seq: Seq, status: Status) -> Job:
    """The state of the summary alone, so that a job reads the same before and after its log is purged."""
    return _change(_known(job, event.summary), seq=seq, status=Status.ARCHIVED, archived_as=status)


def _known(job: Job, fields: dict[str, Any]) -> Job:
    """The job that these fields describe; its names stand in subjects and headers of all that follows."""
    known = msgspec.convert({**fields, "id": job.id}, Job, strict=False)
    for name in (known.kind, known.tenant, known.lane, known.shared_lane):
        if name and not is_name(name):
            raise ValueError(f"{name[:64]!r} is no name")
    return known


def summary(job: Job) -> dict[str, Any]:
    """What stays of a job that is archived."""
    """What an archived job is still known by."""
    fields = msgspec.structs.asdict(job)
    kept = ("kind", "tenant", "lane", "priority", "labels", "request_hash", "key", "max_attempts", "attempt",
            "workflow", "erasable", "failures", "worker", "reason", "error", "usage", "created_at",
            "queued_at", "started_at", "ended_at")  # fmt: skip
    summary: dict[str, Any] = msgspec.to_builtins({name: fields[name] for name in kept})
    return summary
