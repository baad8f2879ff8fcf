"""What the door answers over HTTP, as structs; each has the fields of both generations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The body of an answer."""


class RefusalAnswer(Answer, frozen=True, kw_only=True):
    """What went wrong: `detail` for the Python generation, the rest for the other."""

    detail: str
    error: str
    code: str
    field: str | UnsetType = UNSET
    success: bool = False
    timestamp: str


class SubmitAnswer(Answer, frozen=True, kw_only=True):
    """The job that a submission stands for."""

    job_id: str
    message: str
    success: bool = True
    timestamp: str


class JobAnswer(Answer, frozen=True, kw_only=True):
    """A job: for the Python generation at the top, times in RFC 3339; for the other one as `job`."""

    job_id: str
    status: str
    job_type: str
    client_id: str | None
    worker_id: str | None
    created_at: str | None
    claimed_at: str | None
    completed_at: str | None
    position: int | None
    display_position: int | None
    position_description: str | None
    progress: float | None
    result: Any
    error: str | None
    payload: Any
    failures: int
    job: dict[str, Any]
    success: bool = True
    timestamp: str


class JobsAnswer(Answer, frozen=True, kw_only=True):
    """Some jobs, the newest first; `total` is how many are in the answer."""

    jobs: Sequence[dict[str, Any]]
    total: int
    success: bool = True
    timestamp: str


class HealthAnswer(Answer, frozen=True, kw_only=True):
    """Somebody is there."""

    status: str = "healthy"
    timestamp: str
