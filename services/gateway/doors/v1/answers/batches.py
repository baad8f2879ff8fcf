"""Answers about batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from switchyard.events.values import Status
from switchyard.services.gateway.doors.v1.answers.base import Answer
from switchyard.services.gateway.doors.v1.answers.jobs import Explanation
from switchyard.services.records.batches.record import Batch

FAILED: Final = (Status.DEAD, Status.CANCELLED, Status.EXPIRED)


class BatchFault(Answer, frozen=True, kw_only=True):
    """Why a batch's file is none; line 0 stands for the file as a whole."""

    line: int
    code: str
    message: str


class BatchLines(Answer, frozen=True, kw_only=True):
    """How far a batch has come, in lines; `jobs` counts its jobs by state."""

    total: int
    waiting: int
    open: int
    succeeded: int
    failed: int
    refused: int
    jobs: Mapping[str, int]


class BatchOut(Answer, frozen=True, kw_only=True):
    """A batch."""

    id: str
    tenant: str
    state: str
    name: str
    input: str
    job: Mapping[str, Any]
    window: int
    lines: BatchLines
    waits_for: str | None
    faults: Sequence[BatchFault]
    results: str | None
    errors: str | None
    created_at: datetime
    created_by: str
    started_at: datetime | None
    deadline_at: datetime
    ended_at: datetime | None
    key: str | None


class BatchPage(Answer, frozen=True, kw_only=True):
    """Batches, newest first."""

    batches: Sequence[BatchOut]
    cursor: str | None


class BatchExplanation(Answer, frozen=True, kw_only=True):
    """Why a batch waits, and why one of its jobs does; null where none does."""

    batch: str
    state: str
    waits_for: str | None
    job: str | None
    explained: Explanation | None


def batch_answer(batch: Batch, jobs: Mapping[str, int] | None) -> BatchOut:
    """A batch as clients see it.

    Args:
        batch: its record.
        jobs: its jobs by state; None where they are not known.
    """
    return BatchOut(
        id=batch.id, tenant=batch.tenant, state=batch.state.value, name=batch.name, input=batch.input,
        job=batch.defaults, window=batch.window, lines=_lines(batch, jobs or {}),
        waits_for=batch.waits_for or None,
        faults=[BatchFault(line=one.line, code=one.code, message=one.message) for one in batch.faults],
        results=batch.results or None, errors=batch.errors or None, created_at=batch.created_at,
        created_by=batch.created_by, started_at=batch.started_at, deadline_at=batch.deadline_at,
        ended_at=batch.ended_at, key=batch.key or None,
    )  # fmt: skip


def _lines(batch: Batch, jobs: Mapping[str, int]) -> BatchLines:
    succeeded = jobs.get(Status.SUCCEEDED, 0)
    failed = sum(jobs.get(state, 0) for state in FAILED) + batch.refused
    if batch.has_ended:
        succeeded, failed = batch.succeeded, batch.failed
    waiting = max(0, batch.lines - batch.taken) if not batch.has_ended else 0
    left = 0 if batch.has_ended else max(0, batch.lines - waiting - succeeded - failed)
    return BatchLines(
        total=batch.lines, waiting=waiting, open=left, succeeded=succeeded, failed=failed,
        refused=batch.refused, jobs=jobs,
    )  # fmt: skip
