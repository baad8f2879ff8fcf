"""What a handler asks for, and who carries it out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol


@dataclass(frozen=True, slots=True)
class InputFile:
    """An input file, as it lies at `path` now."""

    path: Path
    id: str
    name: str
    type: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Artifact:
    """A stored artifact; `file` is the id to download it by, and to name it as an input of another job."""

    file: str
    name: str
    type: str
    size_bytes: int
    sha256: str


class Facts(NamedTuple):
    """What is known of an attempt when it begins.

    Args:
        attempt: its number, counted from 1.
        feedback: what a reviewer said of the last proposal, if there was one.
        parts: name, id and kind of each part that it joins; None where it joins none.
        depth: how many jobs are above its own, each a part of the next.
    """

    job_id: str
    tenant: str
    attempt: int
    worker: str
    feedback: Any = None
    parts: tuple[tuple[str, str, str], ...] | None = None
    depth: int = 0


class Surroundings(Protocol):
    """Who carries out what a handler asks for: a worker, or a test."""

    @property
    def facts(self) -> Facts:
        """What is known of the attempt."""

    @property
    def scratch(self) -> Path:
        """A directory of the attempt's own."""

    def progress(self, fraction: float, *, stage: str, message: str, eta_s: float | None) -> None:
        """Take a report of progress."""

    def log(self, line: str) -> None:
        """Take a line of output."""

    def preview(self, data: bytes, media_type: str) -> None:
        """Take a preview."""

    def previews_dropped(self, why: str, count: int) -> None:
        """Take notice of previews that were dropped on their way."""

    async def fetch(self, file_id: str, to: Path) -> dict[str, Any]:
        """Write an input file to `to`; its `{"id", "name", "type", "size_bytes", "sha256"}`."""

    async def save(
        self, name: str, data: Path | bytes | AsyncIterator[bytes], *, media_type: str
    ) -> dict[str, Any]:
        """Store an artifact; its `{"file", "name", "type", "size_bytes", "sha256"}`."""

    async def outcome(self, part_id: str) -> dict[str, Any]:
        """How a part ended: `{"status", "result", "artifacts", "error"}`."""


class SyncSurroundings(Protocol):
    """The same for a handler that blocks; each call may come from its thread."""

    @property
    def facts(self) -> Facts:
        """What is known of the attempt."""

    @property
    def scratch(self) -> Path:
        """A directory of the attempt's own."""

    @property
    def cancelled(self) -> bool:
        """Whether the attempt is to stop."""

    def progress(self, fraction: float, *, stage: str, message: str, eta_s: float | None) -> None:
        """Take a report of progress."""

    def log(self, line: str) -> None:
        """Take a line of output."""

    def preview(self, data: bytes, media_type: str) -> None:
        """Take a preview."""

    def fetch(self, file_id: str, to: Path) -> dict[str, Any]:
        """Write an input file to `to`."""

    def save(self, name: str, data: Path | bytes, *, media_type: str) -> dict[str, Any]:
        """Store an artifact."""

    def outcome(self, part_id: str) -> dict[str, Any]:
        """How a part ended."""
