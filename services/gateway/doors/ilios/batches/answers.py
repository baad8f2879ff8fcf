"""What the routes of batches answer; times are ISO 8601 in UTC with milliseconds."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import UNSET, UnsetType

from switchyard.services.gateway.doors.ilios.answers import Answer


class SubmittedDocument(Answer, frozen=True, kw_only=True):
    """A document of a batch that was sent."""

    id: str
    file_name: str
    file_size: int
    status: str


class SubmittedBatch(Answer, frozen=True, kw_only=True):
    """A batch whose documents are all stored."""

    batch_id: str
    status: str
    total_documents: int
    documents: Sequence[SubmittedDocument]
    status_url: str
    mistral_batch_job_id: str | UnsetType = UNSET


class Progress(Answer, frozen=True, kw_only=True):
    """How many documents stand where."""

    total: int
    pending: int
    processing: int
    completed: int
    failed: int


class DocumentDetail(Answer, frozen=True, kw_only=True):
    """A document of a batch."""

    id: str
    file_name: str
    status: str
    error: str | None
    processed_at: str | None


class BatchStatus(Answer, frozen=True, kw_only=True):
    """Where a batch stands; `documents` with `details=true`."""

    batch_id: str
    status: str
    progress: Progress
    created_at: str
    completed_at: str | None
    download_url: str | UnsetType = UNSET
    documents: Sequence[DocumentDetail] | UnsetType = UNSET
