"""What the gateway says, typed; fields that a later gateway adds are skipped."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Literal, TypedDict

import msgspec

FINAL_STATES: Final = frozenset({"succeeded", "dead", "cancelled", "expired", "archived"})
State = Literal[
    "scheduled", "blocked", "queued", "running", "retrying", "review", "cancelling",
    "succeeded", "dead", "cancelled", "expired", "archived", "absent",
]  # fmt: skip


class Options(TypedDict, total=False):
    """All that a submission may say beside kind and payload; `docs/api.md` describes each."""

    priority: int
    labels: dict[str, str]
    max_attempts: int
    retry: dict[str, float]
    attempt_timeout_s: float
    queue_timeout_s: float
    ageing: dict[str, float]
    run_at: datetime
    start_at: datetime
    delay_s: float
    deadline_at: datetime
    deadline_s: float
    requires: dict[str, Any]
    prefers: dict[str, Any]
    isolation: Literal["none", "loose", "strict"]
    limits: list[str]
    depends_on: list[str]
    on_dependency_failure: Literal["dead", "cancel", "run", "wait"]
    max_rejections: int
    review: dict[str, Any]
    derive: bool
    erasable: bool
    erase_s: float


class Submission(Options, total=False):
    """One line of a bulk submission: of a kind with its payload, or of a workflow with its inputs."""

    kind: str
    payload: dict[str, Any]
    workflow: str
    inputs: dict[str, Any]
    idempotency_key: str


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """What all of them share."""


class JobError(Model, frozen=True):
    """Why the last attempt failed; `traceback` says where, if that is known."""

    code: str
    message: str
    retryable: bool
    traceback: str = ""


class Damage(Model, frozen=True):
    """Why nothing more happens to a job: a message of its log that cannot be read.

    Args:
        seq: its sequence.
        event: its name.
        reason: what is wrong with it.
        newer_version: whether a newer version of Switchyard wrote it.
    """

    seq: int
    event: str
    reason: str
    newer_version: bool = False


class Progress(Model, frozen=True):
    """How far a running attempt is; `fraction` is of 0 to 1."""

    fraction: float
    stage: str | None = None
    message: str | None = None
    eta_s: float | None = None
    attempt: int | None = None


class Part(Model, frozen=True):
    """A job that another one has ended in, with what that calls it."""

    id: str
    name: str
    kind: str


class Job(Model, frozen=True):
    """A job as it was when the gateway answered; `seq` is the sequence of its last event.

    A damaged job has `damage`, and the state before that: `absent` where there was none. `releases` counts
    the attempts in a row that gave it back; `next_attempt_at` is when one that waits for a time comes again.

    What was asked for, `payload` and what follows, is there when a job is read by itself. A list has its jobs
    without `result`, `artifacts`, `usage` and `inputs` too, unless it is asked for all.
    """

    id: str
    kind: str
    tenant: str
    state: State
    seq: int
    priority: int
    attempt: int
    failures: int
    max_attempts: int
    labels: dict[str, str] = {}
    releases: int = 0
    next_attempt_at: datetime | None = None
    depends_on: list[str] = []
    parent: str | None = None
    parts: list[Part] = []
    worker: str | None = None
    progress: Progress | None = None
    result: Any = None
    artifacts: list[dict[str, Any]] = []
    usage: dict[str, float] = {}
    workflow: str | None = None
    inputs: dict[str, Any] = {}
    error: JobError | None = None
    reason: str | None = None
    damage: Damage | None = None
    archived_as: State | None = None
    key: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    queued_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    start_at: datetime | None = None
    deadline_at: datetime | None = None
    payload: Any = None
    requires: dict[str, Any] | None = None
    prefers: dict[str, Any] | None = None
    isolation: str | None = None
    limits: list[str] | None = None
    attempt_timeout_s: float | None = None
    queue_timeout_s: float | None = None
    links: dict[str, Any] = {}

    @property
    def ended(self) -> bool:
        """Whether nothing more happens to it by itself."""
        return self.state in FINAL_STATES

    @property
    def succeeded(self) -> bool:
        """Whether it ended well, archived since or not."""
        return "succeeded" in (self.state, self.archived_as)


class Event(Model, frozen=True):
    """One thing that happened to a job; `unreadable` says why where it cannot be read."""

    seq: int
    type: str
    at: datetime | None
    job_id: str
    actor: str
    data: dict[str, Any]
    unreadable: str | None = None
    key: str | None = None
    actor_tenant: str | None = None


class File(Model, frozen=True):
    """A stored file."""

    id: str
    name: str
    type: str
    size_bytes: int
    sha256: str
    created_at: datetime
    expires_at: datetime | None = None
    key: str | None = None


class Key(Model, frozen=True):
    """An API key, without its secret.

    Args:
        prefix: with which its secret begins, where we made that.
        rate: `{"per_minute", "burst"}`, or None for any number of requests.
        spend: `{"jobs_per_day"}`, or None for any number of jobs.
        earlier_until: until when its earlier secrets still count.
        last_used_at: at most a minute late.
    """

    id: str
    tenant: str
    name: str
    roles: list[str]
    created_at: datetime
    created_by: str
    prefix: str | None = None
    kinds: list[str] | None = None
    rate: dict[str, int] | None = None
    spend: dict[str, int] | None = None
    expires_at: datetime | None = None
    expired: bool = False
    rotated_at: datetime | None = None
    earlier_until: list[datetime] = []
    last_used_at: datetime | None = None


class Identity(Model, frozen=True):
    """Whom a token or key stands for.

    Args:
        tenant: for which it acts.
        home: the tenant that it belongs to.
        actor: its name in events.
        name: the `sub` of a token, or the name of a key.
        roles: with those that they imply.
        identified_by: `token`, `api_key` or `scope_key`.
        key: the id of its API key.
        kinds: which its key is bound to; None for any.
        expires_at: None for ever.
    """

    tenant: str
    home: str
    actor: str
    name: str
    roles: list[str]
    identified_by: str
    key: str | None = None
    kinds: list[str] | None = None
    expires_at: datetime | None = None


class NewKey(Key, frozen=True, kw_only=True):
    """An API key with its secret `key`, which is shown this once."""

    key: str


class BulkAnswer(Model, frozen=True):
    """What became of one line of a bulk submission.

    Args:
        index: that of the line, from 0.
        status: 201 for a new job, 200 for one known by its key, else that of the error.
        idempotency_key: the line's own or the one made for it: with it the line can be sent again.
    """

    index: int
    status: int
    id: str | None = None
    seq: int | None = None
    error: dict[str, Any] | None = None
    idempotency_key: str = ""


class UsageRow(Model, frozen=True):
    """A sum of what was used of one unit.

    Args:
        amount: a decimal number of units, exact to the millionth; `decimal.Decimal` reads it.
        attempts: those that used some.
        cost_micro_cents: millionths of a cent.
        day: as in `2026-01-31`; like those that follow, only where it was asked for.
    """

    unit: str
    amount: str
    attempts: int = 0
    cost_micro_cents: int = 0
    day: str | None = None
    tenant: str | None = None
    key: str | None = None
    kind: str | None = None
    operation: str | None = None
    engine: str | None = None
    outcome: str | None = None


class Bill(Model, frozen=True):
    """What was billed from one day to another."""

    since: str
    until: str
    usage: list[UsageRow]
    total_micro_cents: int


class WorkflowEntry(Model, frozen=True):
    """A workflow in a list, as its newest version is."""

    name: str
    latest: int
    kind: str
    title: str = ""
    updated_at: datetime | None = None


class Workflow(Model, frozen=True):
    """A version of a workflow.

    Args:
        inputs: what a submission may say, by name, as it was put.
        job: what else a job gets where its submission does not say.
        schema: the JSON Schema of the inputs.
        example: a submission.
    """

    name: str
    version: int
    latest: int
    kind: str
    payload: dict[str, Any]
    title: str = ""
    description: str = ""
    inputs: dict[str, Any] = {}
    job: dict[str, Any] = {}
    count: dict[str, int] | None = None
    created_at: datetime | None = None
    created_by: str = ""
    schema: dict[str, Any] = {}
    example: dict[str, Any] = {}


class WorkflowBatch(Model, frozen=True):
    """The jobs that one submission made; all have the label `batch`."""

    batch: str
    workflow: str
    jobs: list[Job]


# --- Live messages


class Transition(Model, frozen=True, tag_field="type", tag="event"):
    """Something happened; `cursor` is where a stream resumes after it."""

    event: Event
    cursor: str


class ProgressReport(Model, frozen=True, tag_field="type", tag="progress"):
    """A running attempt has come further."""

    job_id: str
    progress: Progress


class LogLine(Model, frozen=True, tag_field="type", tag="log"):
    """A line of a running attempt's output."""

    job_id: str
    attempt: int
    at: datetime
    line: str


class PreviewShown(Model, frozen=True, tag_field="type", tag="preview"):
    """A running attempt has shown an image of what it has so far."""

    job_id: str
    attempt: int
    at: datetime
    media_type: str
    data: bytes


class CaughtUp(Model, frozen=True, tag_field="type", tag="caught_up"):
    """All that lay behind has been sent; what follows is new."""

    cursor: str


class Resync(Model, frozen=True, tag_field="type", tag="resync"):
    """Events are missing: read the state you need, the stream continues from `head`."""

    reason: str
    head: str

    @property
    def cursor(self) -> str:
        """Where the stream continues."""
        return self.head


LiveMessage = Transition | ProgressReport | LogLine | PreviewShown | CaughtUp | Resync
