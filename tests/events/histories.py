"""Jobs of every kind in every state, each with the commands that led there: what `decide` is tried on."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

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
from switchyard.events.errors import RejectedError
from switchyard.events.events import AnyEvent
from switchyard.events.job import Job, decide, evolve
from switchyard.events.retry import MAX_RELEASES, RetryPolicy
from switchyard.events.values import Ageing, Backend, JobSpec, ReviewRules, Status
from switchyard.events.vocabulary.causes import DependencyFailure, JoinPolicy, ReviewDeadline
from switchyard.events.vocabulary.ids import Fence, LaneId, Revision, Seq, WorkerId
from tests.events.examples import ERROR, FATAL, JOB_ID, NOW

HOUR: Final = timedelta(hours=1)
BACKENDS: Final = (
    Backend("comfyui", "gpu-a"),
    Backend("comfyui", "gpu-a", "p1"),
    Backend("comfyui", "gpu-b"),
)
DEPTH: Final = 5
"""Events of the longest life."""


def _spec(**rules: Any) -> JobSpec:
    return JobSpec("simulate", "acme", LaneId("l"), retry=RetryPolicy(base_s=60.0, jitter=0.0), **rules)


SPECS: Final = (
    _spec(),
    _spec(max_attempts=1, max_rejections=1),
    _spec(start_at=NOW + HOUR, deadline_at=NOW + 6 * HOUR),
    _spec(depends_on=(JOB_ID,), start_at=NOW + HOUR),
    _spec(depends_on=(JOB_ID,), deadline_at=NOW + 6 * HOUR),
    _spec(depends_on=(JOB_ID,), on_dependency_failure=DependencyFailure.CANCEL),
    _spec(depends_on=(JOB_ID,), on_dependency_failure=DependencyFailure.RUN),
    _spec(depends_on=(JOB_ID,), on_dependency_failure=DependencyFailure.WAIT),
    _spec(deadline_at=NOW + 2 * HOUR, queue_timeout_s=1800.0),
    _spec(queue_timeout_s=1800.0),
    _spec(parent=JOB_ID, depth=8),
    _spec(ageing=Ageing(every_s=60.0, step=10, max=80)),
    _spec(shared_lane="shared", shared_after_s=60.0, isolation="loose:acme"),
    _spec(review=ReviewRules(("lint",), deadline_s=1800.0, on_deadline=ReviewDeadline.ACCEPT)),
    _spec(review=ReviewRules(deadline_s=1800.0, on_deadline=ReviewDeadline.REJECT), max_rejections=1),
    _spec(review=ReviewRules(deadline_s=1800.0, on_deadline=ReviewDeadline.REJECT)),
    _spec(review=ReviewRules(deadline_s=1800.0)),
)


class Step(NamedTuple):
    """A command to a job, and what came of it: an event, None when ignored, or the refusal."""

    job: Job
    command: AnyCommand
    came: AnyEvent | RejectedError | None


def asked(job: Job, now: datetime) -> Iterator[AnyCommand]:
    """Every command in the forms that can make a difference, with the fence that the job has."""
    fence = job.lease.fence if job.lease else job.ended_by or job.parted_by or Fence(1)
    yield from (Submit(now=now, job=spec) for spec in (SPECS if job.status is Status.ABSENT else SPECS[:1]))
    yield Unblock(now=now)
    yield FailDependency(now=now, dependency=JOB_ID, outcome=Status.DEAD)
    yield TakeLease(now=now, worker=WorkerId("gpu-1"), revision=Revision(1))
    yield Claim(now=now, worker=WorkerId("curl-1"), revision=Revision(1), expires_at=now + HOUR / 2)
    yield RenewClaim(now=now, fence=fence, expires_at=now + HOUR)
    for policy in JoinPolicy:
        yield FanOut(now=now, fence=fence, parts=(("a", "convert"), ("b", "convert")), policy=policy)
    yield RefusePart(now=now, part=job.parts[-1].id if job.parts else JOB_ID, code="gone", message="no file")
    yield Complete(now=now, fence=fence, result=1)
    yield Fail(now=now, fence=fence, error=ERROR)
    yield Fail(now=now, fence=fence, error=FATAL)
    yield Release(now=now, fence=fence)
    yield Release(now=now, fence=fence, by_handler=True)
    yield LoseLease(now=now, fence=fence, poison_after=2)
    yield LoseLease(now=now, fence=fence, poison_after=9)
    yield LoseLease(now=now, fence=fence, blamed=False, innocent_max=2)
    for backend in BACKENDS:
        until = now + HOUR / 2
        yield Delegate(now=now, fence=fence, backend=backend, expires_at=until)
        yield RenewDelegated(now=now, fence=fence, backend=backend, expires_at=until)
        yield LoseBackend(now=now, fence=fence, backend=backend, poison_after=2)
        yield LoseBackend(now=now, fence=fence, backend=backend, poison_after=9)
    yield ConfirmCancel(now=now, fence=fence)
    yield RequestCancel(now=now, by="user:ann", grace_s=600.0)
    yield Propose(now=now, fence=fence, result=2, by="user:ann")
    yield Propose(now=now, fence=fence, result=2, by="user:ann", checks={"lint": True})
    for reviewer in ("user:ann", "user:bob"):
        yield ClaimReview(now=now, reviewer=reviewer, expires_at=now + HOUR / 2)
        yield ReleaseReview(now=now, reviewer=reviewer)
        yield Accept(now=now, reviewer=reviewer)
        yield Reject(now=now, reviewer=reviewer, reason="no tests")
    yield Wake(now=now)
    yield Wake(now=now, attempt_timeout_s=60.0)
    yield Reprioritise(now=now, priority=10)
    yield Reprioritise(now=now, priority=job.priority)
    yield Requeue(now=now, claimable_seq=job.claimable_seq)
    yield Requeue(now=now, claimable_seq=Seq(job.claimable_seq + 1))
    yield Retry(now=now)
    yield Redrive(now=now)
    yield Discard(now=now, by="user:ann")
    yield Archive(now=now)
    yield Archive(now=now, by="user:ann")
    yield Repair(now=now, by="user:ann")


def steps() -> list[Step]:
    """Every command in every job that commands lead to, one of each kind of job; the same at every call."""
    if not _STEPS:
        _STEPS.extend(_walk())
    return _STEPS


_STEPS: Final[list[Step]] = []


def _walk() -> Iterator[Step]:
    at_hand = [(Job(id=JOB_ID), NOW), (_given_back(), NOW + 99 * HOUR)]
    seen: set[object] = set()
    for _ in range(DEPTH):
        found: list[tuple[Job, datetime]] = []
        for job, last in at_hand:
            for now in (last, last + HOUR, last + 9 * HOUR):
                for command in asked(job, now):
                    came = answer(job, command)
                    yield Step(job, command, came)
                    if came is None or isinstance(came, RejectedError):
                        continue
                    after = evolve(job, came, Seq(job.seq + 1))
                    if (kind := _kind(after)) not in seen:
                        seen.add(kind)
                        found.append((after, now))
        at_hand = found


def _given_back() -> Job:
    """A running job whose handlers have given it back as often as they may."""
    job, now = Job(id=JOB_ID), NOW
    job = _after(job, Submit(now=now, job=SPECS[0]))
    while job.releases < MAX_RELEASES - 1:
        job = _after(job, TakeLease(now=now, worker=WorkerId("gpu-1"), revision=Revision(1)))
        job = _after(job, Release(now=now, fence=Fence(job.seq), by_handler=True))
        if job.status is Status.SCHEDULED:
            now = job.start_at or now
            job = _after(job, Wake(now=now))
    return _after(job, TakeLease(now=now, worker=WorkerId("gpu-1"), revision=Revision(1)))


def _after(job: Job, command: AnyCommand) -> Job:
    event = decide(job, command)
    assert event is not None
    return evolve(job, event, Seq(job.seq + 1))


def answer(job: Job, command: AnyCommand) -> AnyEvent | RejectedError | None:
    """What comes of a command."""
    try:
        return decide(job, command)
    except RejectedError as refusal:
        return refusal


def _kind(job: Job) -> object:
    """What two jobs have in common that are decided alike, as far as this walk needs to know."""
    lease = job.lease and (job.lease.expires_at is not None, job.lease.backend)
    review = job.review and (job.review.reviewer, job.review.passed, job.review.due_at is not None)
    end = job.cancellation and job.cancellation.deadline
    return (
        job.status, job.archived_as, job.max_attempts, job.deadline_at is not None,
        job.on_dependency_failure,
        job.review_rules, job.ageing, job.queue_timeout_s, job.shared_lane,
        job.lane, job.max_rejections,
        lease, review, end, min(job.failures, 1), min(job.lost, 1),
        min(job.innocent, 1), min(job.releases, 1), min(job.rejections, 1), bool(job.ended_by),
        bool(job.parted_by), bool(job.parts), job.join_policy, bool(job.depth),
    )  # fmt: skip
