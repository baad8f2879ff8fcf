"""One example of every event, command and state; all tests of the event core use these."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec

from switchyard.events import subjects
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
    Reprioritise,
    RequestCancel,
    Requeue,
    Retry,
    Submit,
    TakeLease,
    Unblock,
    Wake,
)
from switchyard.events.encoding.codec import event_name, place_of
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
from switchyard.events.job import Job, decide, evolve
from switchyard.events.retry import RetryPolicy
from switchyard.events.values import Ageing, Backend, JobError, JobSpec, Part, ReviewRules, Status
from switchyard.events.vocabulary.ids import Fence, JobId, LaneId, Revision, Seq, WorkerId

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
JOB_ID = JobId("01940000-0000-7000-8000-000000000001")
PART_ID = JobId("01940000-0000-7000-8000-000000000002")
ERROR = JobError("no_vram", "out of memory")
FATAL = JobError("bad_input", "the file is empty", retryable=False)

BACKEND = Backend("comfyui", "gpu-a:8188", "prompt-1")

SPEC = JobSpec(
    kind="simulate",
    tenant="acme",
    lane=LaneId("simulate-000000000000"),
    payload={"duration_s": 1.5},
    priority=75,
    labels={"team": "red"},
    retry=RetryPolicy(base_s=1.0),
    deadline_at=NOW + timedelta(days=1),
    request_hash="ab" * 32,
)

EVENTS: tuple[AnyEvent, ...] = (
    Submitted(at=NOW, job=SPEC),
    Scheduled(at=NOW, start_at=LATER, job=SPEC),
    Blocked(at=NOW, depends_on=(JOB_ID,), job=SPEC),
    Queued(at=NOW, cause="lease_lost", lane=SPEC.lane, priority=75, failed_worker=WorkerId("gpu-1")),
    Leased(at=NOW, worker=WorkerId("gpu-1"), attempt=1, revision=Revision(3)),
    Claimed(at=NOW, worker=WorkerId("curl-1"), attempt=1, expires_at=LATER, revision=Revision(2)),
    ClaimRenewed(at=NOW, fence=Fence(7), expires_at=LATER),
    Failed(at=NOW, fence=Fence(7), error=ERROR, retry_at=LATER),
    Parted(
        at=NOW, fence=Fence(7), parts=(Part(PART_ID, "page-1", "convert"), Part(JOB_ID, "0", "simulate")),
        policy="all", plan={"file": "f"}, usage={"pages": 2.0},
    ),
    Proposed(at=NOW, fence=Fence(7), result={"patch": "…"}, artifacts=({"file": "f"},), usage={"turns": 3.0}),
    ReviewClaimed(at=NOW, reviewer="ann", expires_at=LATER),
    ReviewReleased(at=NOW, cause="expired"),
    Accepted(at=NOW, reviewer="ann"),
    Rejected(at=NOW, reviewer="ann", reason="no tests", lane=SPEC.lane, priority=75, feedback={"see": 1}),
    CancelRequested(at=NOW, by="user:ann", force_at=LATER, reason="wrong file", deadline=False),
    Succeeded(at=NOW, fence=Fence(7), result={"echo": 1}, artifacts=({"file": "f"},), usage={"pages": 2.0}),
    Cancelled(at=NOW, cause="confirmed", by="user:ann", reason="wrong file"),
    Expired(at=NOW, cause="waiting"),
    Dead(at=NOW, reason="not_retryable", error=FATAL),
    Archived(at=NOW, status=Status.SUCCEEDED, summary={"kind": "simulate", "tenant": "acme"}),
    Repaired(
        at=NOW, state={"status": "queued", "kind": "simulate", "tenant": "acme", "attempt": 2},
        by="user:root", reason="a stranger's message", lane=SPEC.lane, priority=75,
    ),
)  # fmt: skip

OTHER_FORMS: dict[str, AnyEvent] = {
    "submitted-ageing": Submitted(
        at=NOW, job=JobSpec("simulate", "acme", LaneId("l"), queue_timeout_s=60.0, ageing=Ageing(30.0, 5, 90))
    ),
    "queued-aged": Queued(at=NOW, cause="aged", lane=SPEC.lane, priority=80, wake_at=LATER),
    "queued-redriven": Queued(
        at=NOW, cause="redriven", lane=SPEC.lane, priority=90, payload={"duration_s": 0.5}
    ),
    "rejected-ageing": Rejected(
        at=NOW, reviewer="ann", reason="no tests", lane=SPEC.lane, priority=75, wake_at=LATER
    ),
    "submitted-review": Submitted(
        at=NOW,
        job=JobSpec(
            "simulate", "acme", LaneId("l"), max_rejections=2,
            review=ReviewRules(("lint", "tests"), deadline_s=60.0, on_deadline="reject", four_eyes=False),
        ),
    ),
    "proposed-checked": Proposed(
        at=NOW, fence=Fence(7), result={"pages": 3}, by="user:ann", checks={"lint": True, "tests": False},
        due_at=LATER, passed=False,
    ),
    "proposed-passed": Proposed(at=NOW, fence=Fence(7), by="user:ann", checks={"lint": True}, passed=True),
    "repaired-cancelled": Repaired(
        at=NOW, state={"status": "cancelled", "kind": "simulate", "tenant": "acme"}, by="user:root"
    ),
    "claim_renewed-backend": ClaimRenewed(at=NOW, fence=Fence(7), expires_at=LATER, backend=BACKEND),
    "archived-discarded": Archived(
        at=NOW, status=Status.DEAD, summary={"kind": "simulate", "tenant": "acme"}, by="user:ann",
        reason="nobody needs it",
    ),
}  # fmt: skip
"""Events with fields that came later, and are left out where they say nothing, by the golden file's name."""


def encode(event: AnyEvent) -> bytes:
    """The body of an event, also of one that would be refused."""
    return msgspec.json.encode(event)


def subject_of(event: AnyEvent, job_id: str = JOB_ID) -> str:
    """Where an event stands, also one that would be refused."""
    place = place_of(event)
    if place is None:
        return subjects.job_event(JobId(job_id), event_name(event))
    return subjects.claimable_event(JobId(job_id), event_name(event), *place)


def run(*commands: AnyCommand, job: Job | None = None) -> Job:
    """The state after the commands, each appended with the next sequence."""
    job = job or Job(id=JOB_ID)
    for command in commands:
        event = decide(job, command)
        if event is not None:
            job = evolve(job, event, Seq(job.seq + 1))
    return job


SUBMIT = Submit(now=NOW, job=SPEC)
LEASE = TakeLease(now=NOW, worker=WorkerId("gpu-1"), revision=Revision(3))
CLAIM = Claim(now=NOW, worker=WorkerId("curl-1"), revision=Revision(2), expires_at=LATER)

QUEUED = run(SUBMIT)
RUNNING = run(SUBMIT, LEASE)
CLAIMED = run(SUBMIT, CLAIM)
FENCE = Fence(RUNNING.seq)
RETRYING = run(Fail(now=NOW, fence=FENCE, error=ERROR), job=RUNNING)
FAN_OUT = FanOut(now=NOW, fence=FENCE, parts=(("a", "convert"), ("b", "simulate")))
PARTED = run(FAN_OUT, job=RUNNING)
JOINING = run(Unblock(now=NOW), LEASE, job=PARTED)
REVIEW = run(Propose(now=NOW, fence=FENCE, result=1), job=RUNNING)
CANCELLING = run(RequestCancel(now=NOW, by="user:ann", grace_s=10), job=RUNNING)
SUCCEEDED = run(Complete(now=NOW, fence=FENCE, result=1), job=RUNNING)
DEAD = run(Fail(now=NOW, fence=FENCE, error=FATAL), job=RUNNING)
CANCELLED = run(RequestCancel(now=NOW, by="user:ann", grace_s=10), job=QUEUED)
SUBMIT_LATER = Submit(now=NOW, job=JobSpec("simulate", "acme", LaneId("l"), start_at=LATER))
SUBMIT_BLOCKED = Submit(now=NOW, job=JobSpec("simulate", "acme", LaneId("l"), depends_on=(JOB_ID,)))
SCHEDULED = run(SUBMIT_LATER)
BLOCKED = run(SUBMIT_BLOCKED)
CLAIMED_REVIEW = run(ClaimReview(now=NOW, reviewer="bob", expires_at=LATER), job=REVIEW)
EXPIRED = run(Wake(now=NOW + timedelta(days=2)), job=QUEUED)
AGEING = run(
    Submit(
        now=NOW,
        job=JobSpec(
            "simulate",
            "acme",
            LaneId("l"),
            queue_timeout_s=90.0,
            ageing=Ageing(every_s=60.0, step=20, max=80),
        ),
    )
)
ARCHIVED = run(Archive(now=NOW), job=SUCCEEDED)
DAMAGE = Unreadable("hello", "there is no event named 'hello'")
NEWER = Unreadable("succeeded", "version 2 of succeeded is not known", newer=True)

DELEGATED = run(
    Delegate(now=NOW, fence=FENCE, backend=BACKEND, expires_at=NOW + timedelta(minutes=1)), job=RUNNING
)

STATES: tuple[Job, ...] = (
    Job(id=JOB_ID), QUEUED, RUNNING, CLAIMED, RETRYING, REVIEW, CANCELLING, SUCCEEDED, DEAD, CANCELLED,
    SCHEDULED, BLOCKED, EXPIRED, ARCHIVED, CLAIMED_REVIEW, AGEING, DELEGATED,
    PARTED, JOINING,
)  # fmt: skip


def commands(job: Job, now: datetime = NOW) -> tuple[AnyCommand, ...]:
    """Every command there is, with the fence that the job has."""
    fence = job.lease.fence if job.lease else FENCE
    return (
        Submit(now=now, job=SPEC), SUBMIT_LATER, SUBMIT_BLOCKED,
        Unblock(now=now), FailDependency(now=now, dependency=JOB_ID, outcome=Status.DEAD),
        TakeLease(now=now, worker=WorkerId("gpu-2"), revision=Revision(1)),
        Claim(
            now=now, worker=WorkerId("curl-2"), revision=Revision(1), expires_at=now + timedelta(minutes=5)
        ),
        RenewClaim(now=now, fence=fence, expires_at=now + timedelta(minutes=9)),
        Delegate(now=now, fence=fence, backend=BACKEND, expires_at=now + timedelta(minutes=3)),
        RenewDelegated(now=now, fence=fence, backend=BACKEND, expires_at=now + timedelta(minutes=9)),
        LoseBackend(now=now, fence=fence, backend=BACKEND),
        FanOut(now=now, fence=fence, parts=(("a", "convert"),)),
        RefusePart(now=now, part=job.parts[0].id if job.parts else PART_ID, code="gone", message="no file"),
        Complete(now=now, fence=fence, result={"n": 1}), Fail(now=now, fence=fence, error=ERROR),
        Fail(now=now, fence=fence, error=FATAL), Release(now=now, fence=fence),
        LoseLease(now=now, fence=fence), ConfirmCancel(now=now, fence=fence),
        RequestCancel(now=now, by="user:ann", grace_s=5), Propose(now=now, fence=fence, result=2),
        ClaimReview(now=now, reviewer="bob", expires_at=now + timedelta(minutes=5)),
        ReleaseReview(now=now, reviewer="bob"), Accept(now=now, reviewer="bob"),
        Reject(now=now, reviewer="bob", reason="no"), Wake(now=now), Reprioritise(now=now, priority=10),
        Requeue(now=now, claimable_seq=job.claimable_seq), Retry(now=now), Redrive(now=now),
        Redrive(now=now, payload={"n": 2}, priority=20, size_bytes=7),
        Discard(now=now, by="user:ann"), Archive(now=now),
    )  # fmt: skip
