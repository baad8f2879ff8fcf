"""What the document door answers, as structs; times are ISO 8601 in UTC with milliseconds, as there."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType


class Answer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The body of an answer."""


class Metadata(Answer, frozen=True, kw_only=True):
    """How a document was converted; `engine`, `warnings` and `stored` are added."""

    model: str
    temperature: float
    extracted_pages: int
    processing_time_ms: int
    file_name: str
    file_size: int
    mime_type: str
    engine: str
    warnings: Sequence[str]
    stored: bool | UnsetType = UNSET


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """A quarter of the text's characters: how there tokens are estimated, too."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Converted(Answer, frozen=True, kw_only=True):
    """A document with its text; `stored` says that it had been converted before."""

    id: str
    content: str
    metadata: Metadata
    usage: Tokens
    download_url: str
    stored: bool | UnsetType = UNSET


class Waiting(Answer, frozen=True, kw_only=True):
    """A document whose conversion takes longer than a request waits."""

    id: str
    status: str
    file_name: str
    file_size: int
    status_url: str
    message: str


class UploadAddress(Answer, frozen=True, kw_only=True):
    """Where the bytes of a document are to be put."""

    id: str
    upload_url: str
    s3_key: str = msgspec.field(name="s3Key")
    expires_in: int


class Confirmed(Answer, frozen=True, kw_only=True):
    """A document whose bytes have come."""

    id: str
    status: str
    message: str


class Taken(Answer, frozen=True, kw_only=True):
    """A document that was sent in a form."""

    id: str
    status: str
    file_name: str
    file_size: int
    upload_url: str
    message: str


class DocumentStatus(Answer, frozen=True, kw_only=True):
    """Where a document stands."""

    id: str
    status: str
    file_name: str
    file_size: int
    created_at: str
    processed_at: str | UnsetType = UNSET
    download_url: str | UnsetType = UNSET
    error: str | UnsetType = UNSET


class DocumentAnswer(Answer, frozen=True, kw_only=True):
    """A document with its text."""

    id: str
    file_name: str
    content: str
    metadata: Metadata
    created_at: str
    processed_at: str


class Totals(Answer, frozen=True, kw_only=True):
    """What was used; pages and micro-cents are added."""

    total_documents: int
    total_operations: int
    total_input_tokens: int
    total_output_tokens: int
    total_cost_cents: int
    total_cost_usd: str = msgspec.field(name="totalCostUSD")
    total_pages: float
    total_cost_micro_cents: int


class Filters(Answer, frozen=True, kw_only=True):
    """Between which times."""

    start_date: str | UnsetType = UNSET
    end_date: str | UnsetType = UNSET


class Summary(Answer, frozen=True, kw_only=True):
    """What was used, and what of it is meant."""

    summary: Totals
    filters: Filters


class Share(Answer, frozen=True, kw_only=True):
    """What an operation has used."""

    operation: str
    count: int
    total_input_tokens: int
    total_output_tokens: int
    total_cost_cents: int
    total_cost_usd: str = msgspec.field(name="totalCostUSD")


class Breakdown(Answer, frozen=True, kw_only=True):
    """What was used, by operation."""

    breakdown: Sequence[Share]


def iso(at: datetime | None) -> str:
    """A time as clients read it; that of 1970 where there is none."""
    at = datetime.fromtimestamp(0, UTC) if at is None else at.astimezone(UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def fields(answer: Any) -> dict[str, Any]:
    """An answer as plain values, by the names of the wire."""
    found: dict[str, Any] = msgspec.to_builtins(answer)
    return found
