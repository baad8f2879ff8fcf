"""An attempt on local files, for tests of connectors."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from switchyard._worker.given.spawning import Part, Policy, Spawns
from switchyard.connectors import as_fatal
from switchyard.services.connectors.protocol import FatalError, Outcome


@dataclass
class LocalAttempt:
    """An `Attempt` of `switchyard.services.connectors.protocol` in one directory; keeps what it receives."""

    directory: Path
    payload: dict[str, Any] = field(default_factory=dict)
    number: int = 1
    job_id: str = "0190d3f1-6f55-7b0e-9a6b-3f7c3d1f0a11"
    tenant: str = "acme"
    worker: str = "worker-1"
    feedback: Any = None
    grace_s: float = 0.2
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    reports: list[dict[str, Any]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    lines_left_out: int = 0
    delegated: list[tuple[str, float | None]] = field(default_factory=list)
    seen_times: int = 0
    previews: list[tuple[bytes, str]] = field(default_factory=list)
    saved: dict[str, bytes] = field(default_factory=dict)
    depth: int = 0
    parts: tuple[Part, ...] = ()
    spawns: Spawns = field(default_factory=lambda: Spawns(joins=False, depth=0))
    awaited_stage: str | None = None
    reported: asyncio.Event = field(default_factory=asyncio.Event)
    """Set by the first report, or the first of the awaited stage."""

    @property
    def scratch(self) -> Path:
        path = self.directory / f"scratch-{self.number}"
        path.mkdir(exist_ok=True)
        return path

    def offer(self, path: Path, *, name: str | None = None, media_type: str = "") -> str:
        """Make a local file an input; its id."""
        file_id = str(uuid.uuid4())
        self.files[file_id] = {"path": path, "name": path.name if name is None else name, "type": media_type}
        return file_id

    def progress(
        self, fraction: float, *, stage: str = "", message: str = "", eta_s: float | None = None
    ) -> None:
        self.reports.append({"fraction": fraction, "stage": stage, "message": message, "eta_s": eta_s})
        if self.awaited_stage in (None, stage):
            self.reported.set()

    def log(self, line: str) -> None:
        self.lines.append(line)

    async def delegate(self, remote_id: str = "", *, lease_s: float | None = None) -> None:
        self.delegated.append((remote_id, lease_s))

    def seen(self) -> None:
        self.seen_times += 1

    @property
    def joins(self) -> bool:
        return bool(self.parts)

    async def spawn(
        self,
        kind: str,
        payload: Mapping[str, Any],
        *,
        name: str | None = None,
        requires: Mapping[str, Any] | None = None,
        prefers: Mapping[str, Any] | None = None,
    ) -> str:
        with as_fatal():
            return self.spawns.add(kind, payload, name, requires, prefers)

    def join(self, policy: Policy = "all", *, usage: Mapping[str, float] | None = None) -> Outcome:
        with as_fatal():
            return Outcome(usage=dict(usage or {}), join=self.spawns.join(policy))

    def left_out(self, lines: int) -> None:
        self.lines_left_out += lines

    def preview(self, data: bytes, media_type: str) -> None:
        self.previews.append((data, media_type))

    def previews_dropped(self, why: str, count: int) -> None:
        """An attempt of a test drops none."""

    async def fetch(self, file_id: str, to: Path) -> dict[str, Any]:
        if file_id not in self.files:
            raise FatalError("file_not_found", f"there is no file {file_id}")
        file = self.files[file_id]
        data: bytes = await asyncio.to_thread(file["path"].read_bytes)
        await asyncio.to_thread(to.write_bytes, data)
        return {"id": file_id, "name": file["name"], "type": file["type"]} | _measured(data)

    async def save(
        self, name: str, data: Path | bytes | AsyncIterator[bytes], *, media_type: str
    ) -> dict[str, Any]:
        if isinstance(data, Path):
            body = await asyncio.to_thread(data.read_bytes)
        elif isinstance(data, bytes):
            body = data
        else:
            body = b"".join([chunk async for chunk in data])
        self.saved[name] = body
        return {"file": str(uuid.uuid4()), "name": name, "type": media_type} | _measured(body)


def _measured(data: bytes) -> dict[str, Any]:
    return {"size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def workers() -> list[psutil.Process]:
    """The processes that do the work of a connector; a broker and a fork server that tests share are none."""
    return [child for child in psutil.Process().children() if not _is_shared(child)]


def _is_shared(child: psutil.Process) -> bool:
    return child.name() == "nats-server" or any("multiprocessing." in word for word in child.cmdline())
