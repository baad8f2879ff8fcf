"""What can have happened to a job, in the order of its life; the subject's third token names the event.

Causes and reasons are those of `switchyard.events.vocabulary.causes`, and `str` here: a later version may
have written another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from switchyard.events.numbers import FenceNumber, Int64, RevisionNumber, SizeBytes, Time
from switchyard.events.values import Backend, JobError, JobSpec, Part, Status
from switchyard.events.vocabulary.ids import JobId, LaneId, Revision, WorkerId


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="v", tag=1):
    """Something that happened; `at` is the writer's time, the body's `v` the version of its form."""

    at: Time


class Submitted(Event, frozen=True):
    """The job is in its lane."""

    job: JobSpec


class Scheduled(Event, frozen=True):
    """The job waits for its start time, or to come again after it was given back.

    Args:
        start_at: when it comes into its lane.
        job: what was submitted, when it is the first event.
    """

    start_at: Time
    job: JobSpec | None = None


class Blocked(Event, frozen=True):
    """The job waits for other jobs; `job` stands in it when it is the first event."""

    depends_on: tuple[JobId, ...]
    job: JobSpec | None = None


class Queued(Event, frozen=True):
    """The job is in its lane again.

    Args:
        cause: a `QueuedCause`.
        failed_worker: who failed or lost the last attempt.
        wake_at: when something is due while it waits: the next rise of its priority, or the end of its time.
        payload: what it runs with from now on, if that was changed.
        size_bytes: that of that payload.
        blameless: whether the lease was lost through no fault of the job's.
        by_handler: whether the work itself gave the attempt back.
    """

    cause: str
    lane: LaneId
    priority: Int64
    failed_worker: WorkerId | None = None
    wake_at: Time | None = None
    payload: Any = None
    size_bytes: SizeBytes = 0
    blameless: bool = False
    by_handler: bool = False


class Leased(Event, frozen=True):
    """An attempt started under a held lease; this event's sequence is its fence."""

    worker: WorkerId
    attempt: Int64
    revision: RevisionNumber = Revision(0)


class Claimed(Event, frozen=True):
    """An attempt started under a timed lease; this event's sequence is its fence.

    Args:
        worker: who started it.
        attempt: which it is.
        expires_at: when the lease ends.
        revision: that of what the worker declares.
    """

    worker: WorkerId
    attempt: Int64
    expires_at: Time
    revision: RevisionNumber = Revision(0)


class ClaimRenewed(Event, frozen=True):
    """A timed lease was prolonged, or a lease became one.

    Args:
        fence: that of the lease.
        expires_at: when it ends now.
        backend: who carries the attempt on by itself from now on, if that has changed.
    """

    fence: FenceNumber
    expires_at: Time
    backend: Backend | None = None


class Failed(Event, frozen=True):
    """The attempt failed; another follows at `retry_at`."""

    fence: FenceNumber
    error: JobError
    retry_at: Time


class Parted(Event, frozen=True):
    """The attempt ended in parts: jobs that this one waits for, before an attempt joins them.

    Args:
        fence: that of its lease.
        parts: the jobs, in order.
        policy: a `JoinPolicy`.
        plan: the stored artifact that says what each of them is to do.
        usage: what the attempt used, by unit.
    """

    fence: FenceNumber
    parts: tuple[Part, ...]
    policy: str
    plan: dict[str, Any] = {}
    usage: dict[str, float] = {}


class Proposed(Event, frozen=True):
    """The attempt's result waits for a reviewer.

    Args:
        by: who proposed it in the worker's name, where that is known.
        checks: which checks it passed and which it did not.
        due_at: when the job's own rule decides, if nobody has.
        passed: whether its checks make it accepted at once.
    """

    fence: FenceNumber
    result: Any = None
    artifacts: tuple[dict[str, Any], ...] = ()
    usage: dict[str, float] = {}
    by: str = ""
    checks: dict[str, bool] = {}
    due_at: Time | None = None
    passed: bool = False


class ReviewClaimed(Event, frozen=True):
    """A reviewer took the review."""

    reviewer: str
    expires_at: Time


class ReviewReleased(Event, frozen=True):
    """The review is free again; `cause` is a `ReviewReleasedCause`."""

    cause: str


class Accepted(Event, frozen=True):
    """The proposed result is the job's result."""

    reviewer: str


class Rejected(Event, frozen=True):
    """The job is in its lane again, with what the reviewer said."""

    reviewer: str
    reason: str
    lane: LaneId
    priority: Int64
    feedback: Any = None
    wake_at: Time | None = None


class CancelRequested(Event, frozen=True):
    """The holder is asked to stop; at `force_at` the lease is taken away."""

    by: str
    force_at: Time
    reason: str = ""
    deadline: bool = False


class Succeeded(Event, frozen=True):
    """The job has its result."""

    fence: FenceNumber
    result: Any = None
    artifacts: tuple[dict[str, Any], ...] = ()
    usage: dict[str, float] = {}


class Cancelled(Event, frozen=True):
    """The job was ended before it had a result.

    Args:
        cause: an `EndCause`.
        by: who asked for it.
        reason: what they said, or which job died.
    """

    cause: str
    by: str = ""
    reason: str = ""


class Expired(Event, frozen=True):
    """A deadline passed.

    Args:
        cause: an `EndCause`.
    """

    cause: str


class Dead(Event, frozen=True):
    """The job will not be tried again.

    Args:
        reason: a `DeadReason`.
        error: what the last attempt said.
        attempt_end: how that ended: "failed", or the `QueuedCause` by which its lease was lost; "" where no
            attempt has brought the end, and in logs of versions that did not say.
    """

    reason: str
    error: JobError
    attempt_end: str = ""


class Archived(Event, frozen=True):
    """The job's history was folded into this summary; the events before it are purged.

    Args:
        by: who discarded or archived it, if somebody did.
        reason: what they said.
    """

    status: Status
    summary: dict[str, Any]
    by: str = ""
    reason: str = ""


class Repaired(Event, frozen=True):
    """A damaged job was given a state again; it holds all of that state, so nothing before it counts.

    Args:
        state: the job, as `switchyard.events.state.Job`.
        by: who repaired it.
        reason: what they said.
        lane: where it waits again, if it does.
        priority: at which priority.
    """

    state: dict[str, Any]
    by: str
    reason: str = ""
    lane: LaneId = LaneId("")
    priority: Int64 = 50


class Unreadable(msgspec.Struct, frozen=True):
    """What stands in the place of an event that cannot be read; it is never written.

    Args:
        event: the event's name, as its subject has it.
        reason: what is wrong with it.
        newer: whether a newer version of the program wrote it.
        tenant: whose job it is, as the headers say; "" where they do not.
        kind: the job's kind, as the headers say.
        fields: what a newer version wrote.
    """

    event: str
    reason: str
    newer: bool = False
    tenant: str = ""
    kind: str = ""
    fields: dict[str, Any] = {}

    @property
    def at(self) -> None:
        """When it happened is not known."""
        return


AnyEvent = (
    Submitted | Scheduled | Blocked | Queued | Leased | Claimed | ClaimRenewed | Failed | Proposed
    | ReviewClaimed | ReviewReleased | Accepted | Rejected | CancelRequested | Succeeded | Cancelled
    | Expired | Dead | Archived | Repaired | Parted
)  # fmt: skip

EVENTS: Final[Mapping[str, type[AnyEvent]]] = {
    "submitted": Submitted,
    "scheduled": Scheduled,
    "blocked": Blocked,
    "queued": Queued,
    "leased": Leased,
    "claimed": Claimed,
    "claim_renewed": ClaimRenewed,
    "failed": Failed,
    "proposed": Proposed,
    "review_claimed": ReviewClaimed,
    "review_released": ReviewReleased,
    "accepted": Accepted,
    "rejected": Rejected,
    "cancel_requested": CancelRequested,
    "succeeded": Succeeded,
    "cancelled": Cancelled,
    "expired": Expired,
    "dead": Dead,
    "archived": Archived,
    "repaired": Repaired,
    "parted": Parted,
}
"""Every event by the name that it is stored under.

The names stand in the subjects of logs that are kept for years, in streams' filters, in the API and in read
models. A class may be renamed. A name here never: no version would find its old events again.
"""
NAMES: Final[Mapping[type[AnyEvent], str]] = {event_type: name for name, event_type in EVENTS.items()}
