"""What may be asked of a job; `switchyard.events.job.decide` turns each into at most one event."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from switchyard.events.values import Backend, JobError, JobSpec, Status
from switchyard.events.vocabulary.causes import JoinPolicy
from switchyard.events.vocabulary.ids import Fence, JobId, Revision, Seq, WorkerId


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """Something that somebody wants to happen; `now` is the caller's time."""

    now: datetime


class Submit(Command, frozen=True):
    """Take a new job in; `blocked` when it has to wait for other jobs."""

    job: JobSpec


class Unblock(Command, frozen=True):
    """All jobs that this one waits for have ended as they had to."""


class FailDependency(Command, frozen=True):
    """A job that this one waits for ended without success; `outcome` is how."""

    dependency: JobId
    outcome: Status


class TakeLease(Command, frozen=True):
    """Start an attempt under a held lease."""

    worker: WorkerId
    revision: Revision


class Claim(Command, frozen=True):
    """Start an attempt under a timed lease."""

    worker: WorkerId
    revision: Revision
    expires_at: datetime


class RenewClaim(Command, frozen=True):
    """Prolong a timed lease."""

    fence: Fence
    expires_at: datetime


class OfBackend(Command, frozen=True, kw_only=True):
    """What concerns an attempt that a back end carries on by itself.

    Args:
        fence: that of its lease.
        backend: who does.
        expires_at: when the lease is to end.
        attempt_timeout_s: how long an attempt may take of a job that does not say so itself; the lease never
            goes beyond.
    """

    fence: Fence
    backend: Backend
    expires_at: datetime
    attempt_timeout_s: float | None = None


class Delegate(OfBackend, frozen=True, kw_only=True):
    """Leave the attempt to a back end, or note what that calls the work; whoever started it may go."""


class RenewDelegated(OfBackend, frozen=True, kw_only=True):
    """Prolong the lease, because the back end was seen at work; ignored in the first half of its time."""


class Complete(Command, frozen=True):
    """End the attempt with a result."""

    fence: Fence
    result: Any = None
    artifacts: tuple[dict[str, Any], ...] = ()
    usage: dict[str, float] = {}


class Fail(Command, frozen=True):
    """End the attempt with an error; `jitter` is a random number of 0 to 1."""

    fence: Fence
    error: JobError
    jitter: float = 0.0


class Release(Command, frozen=True):
    """Give the attempt back without counting it as a failure.

    Args:
        by_handler: whether the work itself asked for it: it then comes again later and later.
        jitter: a random number of 0 to 1.
    """

    fence: Fence
    by_handler: bool = False
    jitter: float = 0.0


class Loss(Command, frozen=True, kw_only=True):
    """What a lost lease is judged by.

    Args:
        blamed: whether the job may be the reason: it ran alone on its worker.
        poison_after: leases lost in a row with blame after which the job is dead.
        innocent_max: leases lost without blame after which the job is dead.
    """

    blamed: bool = True
    poison_after: int = 2
    innocent_max: int = 10


class LoseLease(Loss, frozen=True, kw_only=True):
    """The holder is gone; with blame the attempt counts as a failure."""

    fence: Fence


class LoseBackend(Loss, frozen=True, kw_only=True):
    """The back end is gone, or knows nothing of the work; the attempt ends as with a lost worker."""

    fence: Fence
    backend: Backend


class ConfirmCancel(Command, frozen=True):
    """The holder has stopped the work."""

    fence: Fence


class RequestCancel(Command, frozen=True):
    """End the job; a running one has `grace_s` seconds to stop."""

    by: str
    grace_s: float
    reason: str = ""


class Propose(Command, frozen=True):
    """End the attempt with a result that a reviewer has to accept.

    Args:
        by: who proposes it in the worker's name, where that is known.
        checks: which checks it passed and which it did not.
    """

    fence: Fence
    result: Any = None
    artifacts: tuple[dict[str, Any], ...] = ()
    usage: dict[str, float] = {}
    by: str = ""
    checks: dict[str, bool] = {}


class FanOut(Command, frozen=True, kw_only=True):
    """End the attempt in parts, which are jobs of their own; the next attempt joins them.

    Args:
        parts: name and kind of each, in order.
        policy: what becomes of the job when one of them does not succeed.
        plan: the stored artifact that says what each of them is to do.
        usage: what this attempt used.
        kept: parts of the time before a redrive that have succeeded and stand for those of the same names.
    """

    fence: Fence
    parts: tuple[tuple[str, str], ...]
    policy: JoinPolicy = JoinPolicy.ALL
    plan: dict[str, Any] = {}
    usage: dict[str, float] = {}
    kept: dict[str, JobId] = {}


class RefusePart(Command, frozen=True):
    """A part of the job cannot be submitted."""

    part: JobId
    code: str
    message: str


class ClaimReview(Command, frozen=True):
    """Take a review."""

    reviewer: str
    expires_at: datetime


class ReleaseReview(Command, frozen=True):
    """Give a review back."""

    reviewer: str


class Judge(Command, frozen=True, kw_only=True):
    """Judge the proposed result.

    Args:
        reviewer: who does.
        attempts: those whose proposals are meant: another's is left as it is; None for any.
    """

    reviewer: str
    attempts: tuple[int, ...] | None = None


class Accept(Judge, frozen=True, kw_only=True):
    """Accept the proposed result."""


class Reject(Judge, frozen=True, kw_only=True):
    """Send the job back for another attempt."""

    reason: str
    feedback: Any = None


class Wake(Loss, frozen=True):
    """Do what is due by now: start, retry, age, end a claim, expire, force a cancel.

    Args:
        attempt_timeout_s: how long an attempt may take of a job that does not say so itself.
    """

    cancel_grace_s: float = 30.0
    attempt_timeout_s: float | None = None
    jitter: float = 0.0


class Reprioritise(Command, frozen=True):
    """Move a queued job to another priority."""

    priority: int


class Requeue(Command, frozen=True):
    """Put a queued job into its lane again, because its work message is missing."""

    claimable_seq: Seq


class Retry(Command, frozen=True):
    """Have the next attempt of a job that failed at once, by any worker: also by the one that failed it."""


class Redrive(Command, frozen=True):
    """Give a dead job a new start with all of its attempts.

    Args:
        payload: what it runs with from now on; None for what it had.
        priority: its own from now on; None for the one it had.
        size_bytes: that of the payload, if there is one.
    """

    payload: Any = None
    priority: int | None = None
    size_bytes: int = 0


class Discard(Command, frozen=True):
    """Archive a dead job, because nobody wants it any more."""

    by: str
    reason: str = ""


class Repair(Command, frozen=True):
    """Give a damaged job a state again.

    Args:
        to: queued, dead or cancelled; None for the state before the damage where that can simply continue.
    """

    by: str
    reason: str = ""
    to: Status | None = None


class Archive(Command, frozen=True):
    """Fold a final job's history into a summary."""

    by: str = ""
    reason: str = ""


AnyCommand = (
    Submit | Unblock | FailDependency | TakeLease | Claim | RenewClaim | Complete | Fail | Release | LoseLease
    | ConfirmCancel | RequestCancel | Propose | ClaimReview | ReleaseReview | Accept | Reject | Wake
    | Reprioritise | Requeue | Retry | Redrive | Discard | Repair | Archive | Delegate | RenewDelegated
    | LoseBackend | FanOut | RefusePart
)  # fmt: skip
