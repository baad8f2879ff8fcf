"""The artifacts of a job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from switchyard.services.gateway.doors.v1.answers.base import Answer


class ArtifactAnswer(Answer, frozen=True, kw_only=True):
    """A file that a job has left; `sha256` in hex, width and height in pixels.

    `url` and `expires_at` are null where the file is there no longer, `thumbnail` where none can be made.
    """

    file: str
    name: str
    type: str
    size_bytes: int
    sha256: str
    width: int | None
    height: int | None
    attempt: int
    metadata: Mapping[str, Any] | None
    expires_at: datetime | None
    url: str | None
    thumbnail: str | None


class ArtifactPage(Answer, frozen=True, kw_only=True):
    """Artifacts in the order of the result; `total` and `size_bytes` are of all."""

    artifacts: Sequence[ArtifactAnswer]
    total: int
    size_bytes: int
    zip: str
    cursor: str | None
