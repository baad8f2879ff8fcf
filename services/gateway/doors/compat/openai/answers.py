"""What the door for OpenAI's clients answers, as structs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The body of an answer."""


class Fault(Answer, frozen=True, kw_only=True):
    """What went wrong; `param` names the field at fault."""

    message: str
    type: str
    param: str | None
    code: str | None


class RefusalAnswer(Answer, frozen=True, kw_only=True):
    """A refusal."""

    error: Fault


class File(Answer, frozen=True, kw_only=True):
    """A file."""

    id: str
    object: str = "file"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: str = "processed"
    status_details: None = None


class Page(Answer, frozen=True, kw_only=True):
    """What pages of all lists have."""

    object: str = "list"
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool = False


class Files(Page, frozen=True, kw_only=True):
    """A page of files."""

    data: Sequence[File]


class Deleted(Answer, frozen=True, kw_only=True):
    """A file that is gone."""

    id: str
    object: str = "file"
    deleted: bool = True


class BatchFault(Answer, frozen=True, kw_only=True):
    """Why a file is none of a batch."""

    code: str
    message: str
    line: int | None
    param: str | None = None


class BatchFaults(Answer, frozen=True, kw_only=True):
    """All that is known of that."""

    object: str = "list"
    data: Sequence[BatchFault]


class Counts(Answer, frozen=True, kw_only=True):
    """The lines of a batch."""

    total: int
    completed: int
    failed: int


class Batch(Answer, frozen=True, kw_only=True):
    """A batch; times are seconds since 1970."""

    id: str
    object: str = "batch"
    endpoint: str
    errors: BatchFaults | None
    input_file_id: str
    completion_window: str
    status: str
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None = None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None = None
    cancelled_at: int | None
    request_counts: Counts
    metadata: Mapping[str, str] | None


class Batches(Page, frozen=True, kw_only=True):
    """A page of batches."""

    data: Sequence[Batch]


class Model(Answer, frozen=True, kw_only=True):
    """A model that may be asked for."""

    id: str
    object: str = "model"
    created: int = 0
    owned_by: str = "switchyard"


class Models(Answer, frozen=True, kw_only=True):
    """Those that are known."""

    object: str = "list"
    data: Sequence[Model]


class Completion(Answer, frozen=True, kw_only=True):
    """A completion, as the server that has made it says it."""

    choices: Sequence[Any]


class Embeddings(Answer, frozen=True, kw_only=True):
    """Embeddings, as the server that has made them says them."""

    data: Sequence[Any]
