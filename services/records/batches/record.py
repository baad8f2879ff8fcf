"""What is known of a batch, and the lines of it that no job was made of."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from switchyard.events import subjects
from switchyard.events.numbers import Time
from switchyard.events.subjects import JOB_ID
from switchyard.events.vocabulary.ids import JobId
from switchyard.services.broker.bucket import Form, Gone, Key, Lasting, json_values, lasting_values
from switchyard.services.ids import id_for_key

LABEL_BATCH: Final = "batch"
LABEL_LINE: Final = "batch_line"
"""The labels of a batch's jobs, which their lines may not set."""
MAX_BYTES: Final = 256 * 1024
MOST_LINES: Final = 10**7
Lines = Annotated[int, Meta(ge=0, le=MOST_LINES)]


class BatchState(StrEnum):
    """Where a batch stands."""

    VALIDATING = "validating"
    IN_PROGRESS = "in_progress"
    CANCELLING = "cancelling"
    FINALIZING = "finalizing"
    FAILED = "failed"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


ENDED: Final = frozenset({
    BatchState.FAILED, BatchState.COMPLETED, BatchState.CANCELLED, BatchState.EXPIRED,
})  # fmt: skip


class Fault(msgspec.Struct, frozen=True):
    """Why a batch's file is none; `line` is counted from 1, 0 for the file as a whole."""

    line: int
    code: str
    message: str


class Refusal(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why no job was made of a line.

    Args:
        line: which of the file, counted from 1.
        code: a word for programs.
        message: a sentence for people.
        field: the path of the field at fault, or "".
    """

    line: int
    code: str
    message: str
    field: str = ""


class Compat(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What there is to a batch that a client of another service has made, whose lines have its form.

    Args:
        form: which; one that is not known here makes the batch one of a newer version.
        endpoint: the path that each line asks.
        window: how long it may take, as the client has said it.
        kinds: kinds by the models and endpoints that the settings name them for.
        metadata: what the client keeps with it.
        model: what lines are for that name none.
        inputs: the files that the batch's one was made of.
    """

    form: Literal["openai", "mistral"]
    endpoint: str
    window: str = ""
    kinds: dict[str, str] = {}
    metadata: dict[str, str] = {}
    model: str = ""
    inputs: tuple[str, ...] = ()


class Batch(Lasting, frozen=True, kw_only=True, omit_defaults=True):
    """A batch.

    Args:
        created_by: who made it.
        key: the id of the API key by which it was made, or "".
        kinds: the kinds that this key is for; None for all.
        jobs_per_day: how many jobs this key may submit in a day; None for any number.
        request_hash: distinguishes a repeated request from another one with the same idempotency key.
        input: the file that it was made from.
        defaults: fields of a submission for each line that does not say them.
        window: most of its jobs that have not ended, at once.
        deadline_at: what has not ended by then does so without a result.
        plan: the checked copy of the file, of which the keeper works; "" until it is checked.
        lines: how many lines with something in them it has.
        cursor: the last line that was taken in, counted from 1 in the file.
        cursor_bytes: where in the plan the next line begins.
        taken: how many lines were taken in.
        refused: how many of those made no job.
        settled: the jobs of all lines up to this one have ended.
        faults: what is wrong with the file.
        stopped: why no more lines are taken in: `cancelled`, `expired`, or "".
        stopped_by: who cancelled it.
        waits_for: why no line is taken in at this time, or "".
        owner: which keeper carries it on, or "".
        owned_until: when another may, unless that one says more.
        results: the file of the lines with a result, or "".
        errors: the file of the lines without one, or "".
        succeeded: how many lines have a result.
        failed: how many have none.
        compat: whose form its lines have; None for ours.
    """

    tenant: str
    id: str
    state: BatchState = BatchState.VALIDATING
    name: str = ""
    created_at: Time
    created_by: str
    key: str = ""
    kinds: tuple[str, ...] | None = None
    jobs_per_day: int | None = None
    request_hash: str = ""
    input: str
    defaults: dict[str, Any] = {}  # noqa: RUF012 - msgspec copies it
    window: Annotated[int, Meta(ge=1, le=MOST_LINES)]
    deadline_at: Time
    plan: str = ""
    lines: Lines = 0
    cursor: Lines = 0
    cursor_bytes: Annotated[int, Meta(ge=0, le=2**53)] = 0
    taken: Lines = 0
    refused: Lines = 0
    settled: Lines = 0
    faults: tuple[Fault, ...] = ()
    stopped: str = ""
    stopped_by: str = ""
    waits_for: str = ""
    owner: str = ""
    owned_until: Time | None = None
    results: str = ""
    errors: str = ""
    succeeded: Lines = 0
    failed: Lines = 0
    compat: Compat | None = None
    started_at: Time | None = None
    ended_at: Time | None = None

    @property
    def has_ended(self) -> bool:
        """Whether nothing of it changes any more."""
        return self.state in ENDED


def line_key(batch: str, line: int) -> str:
    """The idempotency key of a line's job; a client's key has no such characters."""
    return f"batch\0{batch}\0{line}"


def line_job_id(tenant: str, batch: str, line: int) -> JobId:
    """The id of the one job that a line makes: a UUID of version 5."""
    return id_for_key(tenant, line_key(batch, line))


def _is_key(key: Key) -> None:
    if not subjects.is_name(key[0]) or JOB_ID.fullmatch(key[1]) is None:
        raise ValueError("a tenant and the id of a batch were expected")


def _belongs(key: Key, batch: Batch) -> None:
    if key != (batch.tenant, batch.id):
        raise ValueError("it stands under another id than its own")


BATCHES: Final = Form(
    name=subjects.BUCKET_BATCHES, parts=("tenant", "id"), values=lasting_values(Batch), check=_is_key,
    belongs=_belongs, gone=Gone("DEL", rolls_up=True, ttl_s=60), max_bytes=MAX_BYTES,
)  # fmt: skip
REFUSALS: Final = Form(
    name=subjects.BUCKET_BATCH_REFUSALS, parts=("tenant", "batch", "line"),
    values=json_values(tuple[Refusal, ...]), check=_is_key, gone=Gone("DEL", rolls_up=True, ttl_s=60),
)  # fmt: skip
