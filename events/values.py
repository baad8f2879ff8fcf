"""The values that commands, events and the folded state share."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from switchyard.events.numbers import (
    FenceNumber,
    Int64,
    PositiveSeconds,
    RevisionNumber,
    Seconds,
    SizeBytes,
    Time,
)
from switchyard.events.retry import RetryPolicy
from switchyard.events.vocabulary.causes import DependencyFailure, ReviewDeadline
from switchyard.events.vocabulary.ids import JobId, LaneId, Revision, Seq, WorkerId


class Status(StrEnum):
    """Where a job stands; `ABSENT` before its first event."""

    ABSENT = "absent"
    SCHEDULED = "scheduled"
    BLOCKED = "blocked"
    QUEUED = "queued"
    RUNNING = "running"
    RETRYING = "retrying"
    REVIEW = "review"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    DEAD = "dead"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    ARCHIVED = "archived"


RESULT_ARTIFACT: Final = "result.json"
"""The artifact that a result too large for an event is stored as."""

ERASED: Final = "erased"
"""Why a job was archived whose content was erased, and the outcome in the line of the ledger that says so."""

MAX_PRIORITY: Final = 100

DAMAGED: Final = "damaged"
"""What lists and counts put a damaged job under; it keeps the state before."""

FINAL = frozenset({Status.SUCCEEDED, Status.DEAD, Status.CANCELLED, Status.EXPIRED, Status.ARCHIVED})
WAITING = frozenset({Status.SCHEDULED, Status.BLOCKED, Status.QUEUED, Status.RETRYING, Status.REVIEW})


class Ageing(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a job that waits in its lane rises, so that nothing starves.

    Args:
        every_s: seconds between two rises.
        step: how much each rise adds to the priority.
        max: where it ends; a job of that priority or a higher one does not rise.
    """

    every_s: PositiveSeconds
    step: Int64 = 1
    max: Int64 = 100


class ReviewRules(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a proposed result is judged.

    Args:
        checks: a proposal that passed all of these is accepted at once; none are never.
        deadline_s: seconds after the proposal at which `on_deadline` is done; None for no deadline.
        on_deadline: a `ReviewDeadline`.
        four_eyes: whether nobody may accept what they proposed.
    """

    checks: tuple[str, ...] = ()
    deadline_s: Seconds | None = None
    on_deadline: str = ReviewDeadline.EXPIRE
    four_eyes: bool = True


class Part(msgspec.Struct, frozen=True, omit_defaults=True):
    """A job that another one has spawned, and waits for.

    Args:
        id: the job's id.
        name: what the other one calls it.
        kind: that of the job.
    """

    id: JobId
    name: str
    kind: str


class JobSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was submitted; it stands in the job's first event and never changes.

    Args:
        kind: which connector runs it.
        tenant: whose job it is.
        lane: the lane that its kind, requirement, preference and isolation give.
        payload: the connector's input; at most 512 KiB as JSON.
        priority: 0 to 100, higher first.
        labels: the submitter's own names and values.
        requires: what a worker must have.
        prefers: what ranks the workers that fit.
        isolation: `none`, `loose:<tenant>` or `strict:<tenant>`.
        max_attempts: failures after which the job is dead.
        retry: delays between attempts.
        attempt_timeout_s: seconds that one attempt may take, or None for the worker's default.
        start_at: not before this time.
        deadline_at: not after this time.
        depends_on: ids of jobs that must end first.
        max_rejections: reviews that may reject it before it is dead.
        limits: `<tenant>.<name>` of each limit on jobs at once or starts a minute that it counts against.
        fair_share: whether its lane is its tenant's own, so that workers can share themselves out fairly.
        shared_lane: where it goes when the tenant's own workers have not taken it in time.
        shared_after_s: seconds in the queue after which it goes there.
        queue_timeout_s: seconds from its first queueing within which the first attempt has to start.
        ageing: how its priority rises while it waits, if it does.
        request_hash: SHA-256 of the canonical request, to distinguish a repeated submission from another one.
        on_dependency_failure: what becomes of it when one of those does not succeed.
        review: how a proposed result is judged, if not by any reviewer in any time.
        size_bytes: that of the submission as it came; 0 in events from before it was noted.
        key: the id of the API key that submitted it, or "".
        operation: the word for the way it came by, as its line in the ledger has it, or "".
        needs: what a worker must have beside what its lane says: canonical, and looked at before each start.
        workflow: the template that its payload was made from, as `name@version`, or "".
        inputs: what was filled into that, with what was drawn for it.
        erasable: whether its content can be erased: the payload then only names the file that it stands in.
        erase_s: seconds after its end at which it is erased by itself; None for when it is archived.
        parent: the job that it is a part of, or "".
        depth: how many jobs are above it, each a part of the next.
    """

    kind: str
    tenant: str
    lane: LaneId
    payload: Any = None
    priority: Int64 = 50
    labels: dict[str, str] = {}
    requires: dict[str, Any] = {}
    prefers: dict[str, Any] = {}
    isolation: str = "none"
    max_attempts: Int64 = 3
    retry: RetryPolicy = RetryPolicy()
    attempt_timeout_s: Seconds | None = None
    start_at: Time | None = None
    deadline_at: Time | None = None
    depends_on: tuple[JobId, ...] = ()
    max_rejections: Int64 = 3
    limits: tuple[str, ...] = ()
    fair_share: bool = False
    shared_lane: LaneId = LaneId("")
    shared_after_s: Seconds = 0.0
    queue_timeout_s: Seconds | None = None
    ageing: Ageing | None = None
    request_hash: str = ""
    on_dependency_failure: DependencyFailure = DependencyFailure.DEAD
    review: ReviewRules | None = None
    size_bytes: SizeBytes = 0
    key: str = ""
    operation: str = ""
    needs: dict[str, Any] = {}
    workflow: str = ""
    inputs: dict[str, Any] = {}
    erasable: bool = False
    erase_s: Seconds | None = None
    parent: JobId = JobId("")
    depth: Int64 = 0


class JobError(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why an attempt or a job failed: a word for programs, a sentence for people.

    Args:
        code: the word.
        message: the sentence.
        retryable: whether another attempt may succeed.
        traceback: where in the handler it came about, innermost call last; files, lines and functions.
    """

    code: str
    message: str
    retryable: bool = True
    traceback: str = ""


BackendName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.:-]{1,100}\Z")]
RemoteId = Annotated[str, Meta(pattern=r"^[\x21-\x7e]{0,200}\Z")]


class Backend(msgspec.Struct, frozen=True, omit_defaults=True):
    """What carries an attempt on by itself, whoever started it there.

    Args:
        kind: a kind of back end, such as `comfyui`.
        id: which of them.
        remote_id: what it calls the work; "" until that is known.
    """

    kind: BackendName
    id: BackendName
    remote_id: RemoteId = ""

    def is_at(self, other: Backend) -> bool:
        """Whether both are the same one, whatever it calls the work."""
        return (self.kind, self.id) == (other.kind, other.id)


class Lease(msgspec.Struct, frozen=True, omit_defaults=True):
    """The right of one worker to run one attempt.

    Args:
        worker: who holds it.
        fence: the sequence of the event that granted it; every later write is decided against it.
        attempt: which attempt it is, counted from 1.
        revision: the capability revision that the match was made with.
        expires_at: when a timed lease ends; None when it is held through the broker.
        backend: who carries the attempt on by itself, if anybody does; the lease is timed then.
    """

    worker: WorkerId
    fence: FenceNumber
    attempt: Int64
    revision: RevisionNumber = Revision(0)
    expires_at: Time | None = None
    backend: Backend | None = None


class Cancellation(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who asked for a running job to end, and when it is ended by force."""

    by: str
    force_at: Time
    reason: str = ""
    deadline: bool = False


class Review(msgspec.Struct, frozen=True, omit_defaults=True):
    """A result that waits for a reviewer.

    Args:
        result: what was proposed.
        worker: who proposed it.
        artifacts: references to what the attempt stored.
        usage: what the attempt used, by unit.
        reviewer: who has claimed the review, if anyone.
        expires_at: when that claim ends.
        by: who proposed it in the worker's name, where that is known.
        checks: which checks it passed and which it did not.
        at: when it was proposed.
        due_at: when its time is over.
        passed: whether its checks make it accepted at once.
    """

    result: Any
    worker: WorkerId
    artifacts: tuple[dict[str, Any], ...] = ()
    usage: dict[str, float] = {}
    reviewer: str | None = None
    expires_at: Time | None = None
    by: str = ""
    checks: dict[str, bool] = {}
    at: Time | None = None
    due_at: Time | None = None
    passed: bool = False


class Damage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why nothing can be said of a job any more: an event of it that cannot be read.

    Args:
        seq: the event's sequence.
        event: its name, as its subject has it.
        reason: what is wrong with it.
        newer: whether a newer version of the program wrote it; then only that version may continue.
    """

    seq: Seq
    event: str
    reason: str
    newer: bool = False
