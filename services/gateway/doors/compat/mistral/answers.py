"""What the door for Mistral's clients answers, as structs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The body of an answer."""


class Fault(Answer, frozen=True, kw_only=True):
    """What is wrong with a request, and where: `body`, `query` or `header`, and the path in it."""

    loc: Sequence[str | int]
    msg: str
    type: str


class RefusalAnswer(Answer, frozen=True, kw_only=True):
    """A refusal; `detail` says where a request is at fault."""

    object: str = "error"
    message: str
    type: str
    param: str | None = None
    code: str | None = None
    detail: Sequence[Fault] = ()


class File(Answer, frozen=True, kw_only=True):
    """A file; the clients read its size by either name."""

    id: str
    object: str = "file"
    bytes: int
    size_bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    sample_type: str
    source: str
    num_lines: None = None
    mimetype: str
    deleted: bool = False


class Files(Answer, frozen=True, kw_only=True):
    """A page of files; `total` is null where there are too many to be counted."""

    object: str = "list"
    data: Sequence[File]
    total: int | None


class Deleted(Answer, frozen=True, kw_only=True):
    """Something that is gone."""

    id: str
    object: str
    deleted: bool = True


class Address(Answer, frozen=True, kw_only=True):
    """Where a file can be had without a key, for a while."""

    url: str


class Dimensions(Answer, frozen=True, kw_only=True):
    """How large a page is, in dots."""

    dpi: int
    height: int
    width: int


class Image(Answer, frozen=True, kw_only=True):
    """An image of a page; where it stands is null where that is not known."""

    id: str
    top_left_x: int | None
    top_left_y: int | None
    bottom_right_x: int | None
    bottom_right_y: int | None
    image_base64: str
    image_annotation: None = None


class Page(Answer, frozen=True, kw_only=True):
    """A page, counted from 0."""

    index: int
    markdown: str
    images: Sequence[Image]
    dimensions: Dimensions | None


class Usage(Answer, frozen=True, kw_only=True):
    """What was read."""

    pages_processed: int
    doc_size_bytes: int | None


class Ocr(Answer, frozen=True, kw_only=True):
    """A document that was read."""

    pages: Sequence[Page]
    model: str
    usage_info: Usage
    document_annotation: None = None


class BatchFault(Answer, frozen=True, kw_only=True):
    """Why a file is none of a batch."""

    message: str
    count: int = 1


class Batch(Answer, frozen=True, kw_only=True):
    """A batch job; times are seconds since 1970."""

    id: str
    object: str = "batch"
    input_files: Sequence[str]
    endpoint: str
    model: str | None
    metadata: Mapping[str, str] | None
    errors: Sequence[BatchFault]
    status: str
    created_at: int
    started_at: int | None
    completed_at: int | None
    total_requests: int
    completed_requests: int
    succeeded_requests: int
    failed_requests: int
    output_file: str | None
    error_file: str | None
    outputs: Sequence[Any] | None = None


class Batches(Answer, frozen=True, kw_only=True):
    """A page of batch jobs."""

    object: str = "list"
    data: Sequence[Batch]
    total: int


class Capabilities(Answer, frozen=True, kw_only=True):
    """What a model does."""

    completion_chat: bool = False
    ocr: bool = False


class Model(Answer, frozen=True, kw_only=True):
    """A model that may be asked for."""

    id: str
    object: str = "model"
    type: str = "base"
    created: int = 0
    owned_by: str = "switchyard"
    capabilities: Capabilities


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
