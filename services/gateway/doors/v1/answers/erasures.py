"""Answers about erasures."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Self

from switchyard.services.files.erasures import Erasure
from switchyard.services.gateway.doors.v1.answers.base import Answer
from switchyard.services.gateway.doors.v1.answers.jobs import Refusal


class ErasureAnswer(Answer, frozen=True, kw_only=True):
    """The certificate of an erasure; `erased_at` is null while it is under way."""

    job: str
    tenant: str
    kind: str
    scopes: Sequence[str]
    by: str
    reason: str
    requested_at: datetime
    erased_at: datetime | None
    keys: int

    @classmethod
    def of(cls, erasure: Erasure) -> Self:
        """As it is shown."""
        return cls(**{name: getattr(erasure, name) for name in erasure.__struct_fields__})


class ErasurePage(Answer, frozen=True, kw_only=True):
    """Certificates, in the order in which they were written."""

    erasures: Sequence[ErasureAnswer]
    cursor: str | None


class ErasedAnswer(Answer, frozen=True, kw_only=True):
    """What a bulk erasure has come to, or would with `dry_run`."""

    erased: Sequence[str]
    skipped: int
    refused: Sequence[Refusal]
    dry_run: bool
    cursor: str | None
