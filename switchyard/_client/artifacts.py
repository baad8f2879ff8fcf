"""The artifacts of jobs, for both clients: `client.artifacts`."""

from __future__ import annotations

import asyncio
import os
import secrets
from builtins import list as list_  # `AsyncArtifacts.list` hides it
from collections.abc import Callable, Coroutine
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from switchyard._client import files
from switchyard._client.transport import LOST, Transport
from switchyard.errors import ApiError
from switchyard.models import Model

CHUNK_BYTES = 256 * 1024
PAGE = 100


class Artifact(Model, frozen=True):
    """A file that a job has left.

    `width` and `height` are in pixels; `metadata` is what the result says of it; `url`, `thumbnail` and
    `expires_at` are None where there is no such thing, or no longer.
    """

    file: str
    name: str
    type: str
    size_bytes: int
    sha256: str
    width: int | None = None
    height: int | None = None
    attempt: int = 0
    metadata: dict[str, Any] | None = None
    expires_at: datetime | None = None
    url: str | None = None
    thumbnail: str | None = None


class Thumbnail(Model, frozen=True):
    """A small image."""

    data: bytes
    media_type: str


class _Page(msgspec.Struct):
    artifacts: list_[Artifact]
    cursor: str | None


class AsyncArtifacts:
    """The files that jobs have left."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def list(self, job_id: str) -> list_[Artifact]:
        """All artifacts of a job, in the order of its result; those of one in review too.

        Raises:
            GoneError: it was archived without them.
        """
        found: list_[Artifact] = []
        cursor: str | None = ""
        while cursor is not None:
            params = {"limit": str(PAGE)} | ({"cursor": cursor} if cursor else {})
            raw = await self._transport.call("GET", _path(job_id, "/artifacts"), params=params)
            page = msgspec.json.decode(raw, type=_Page)
            found += page.artifacts
            cursor = page.cursor
        return found

    async def download(self, artifact: Artifact, to: Path | str) -> Path:
        """Write an artifact's bytes to a path, which appears when they are all there and right."""
        return await files.download(self._transport, quote(artifact.file, safe=""), Path(to))

    async def thumbnail(self, artifact: Artifact, side: int = 256) -> Thumbnail:
        """A small image of an artifact that is one; its longer side has at most so many pixels.

        Raises:
            ApiError: status 415, there is none; 501, the gateway makes none.
        """
        path = f"/v1/files/{quote(artifact.file, safe='')}"
        pauses = self._transport.pauses()
        while True:
            try:
                params = {"thumbnail": str(side)}
                async with self._transport.open("GET", path, params=params) as answer:
                    return Thumbnail(data=await answer.read(), media_type=answer.content_type)
            except (ApiError, *LOST) as error:
                missing = isinstance(error, ApiError) and error.code == "thumbnails_unavailable"
                if missing or not pauses.another(error):
                    if isinstance(error, ApiError):
                        raise
                    raise self._transport.unreachable(error) from error
                failed: Exception = error
            await pauses.wait(failed)

    async def zip(self, job_id: str, to: Path | str) -> Path:
        """Write all artifacts of a job as one archive to a path, which appears when it is whole.

        It is made while it is sent, so one that breaks off is begun again from its beginning.

        Raises:
            ConflictError: the job has not ended, or without a result.
        """
        target = Path(to)
        part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        pauses = self._transport.pauses()
        try:
            while True:
                try:
                    await self._zip(job_id, part)
                    break
                except (ApiError, *LOST) as error:
                    if not pauses.another(error):
                        if isinstance(error, ApiError):
                            raise
                        raise self._transport.unreachable(error) from error
                    failed: Exception = error
                await pauses.wait(failed)
            await asyncio.to_thread(os.replace, part, target)
        finally:
            await asyncio.to_thread(part.unlink, missing_ok=True)
        return target

    async def _zip(self, job_id: str, part: Path) -> None:
        with await asyncio.to_thread(part.open, "wb") as target:
            async with self._transport.open(
                "GET", _path(job_id, "/artifacts.zip"), timeout=files.limits(self._transport)
            ) as answer:
                async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
                    await asyncio.to_thread(target.write, chunk)


class SyncArtifacts:
    """`AsyncArtifacts` for programs without asyncio: the same arguments, the same errors."""

    def __init__(self, run: Callable[[Coroutine[Any, Any, Any]], Any], artifacts: AsyncArtifacts) -> None:
        self._run = run
        self._artifacts = artifacts

    def list(self, job_id: str) -> list_[Artifact]:
        """All artifacts of a job; see `AsyncArtifacts.list`."""
        found: list_[Artifact] = self._run(self._artifacts.list(job_id))
        return found

    def download(self, artifact: Artifact, to: Path | str) -> Path:
        """Write an artifact's bytes to a path, which appears when they are all there and right."""
        path: Path = self._run(self._artifacts.download(artifact, to))
        return path

    def thumbnail(self, artifact: Artifact, side: int = 256) -> Thumbnail:
        """A small image of an artifact; see `AsyncArtifacts.thumbnail`."""
        small: Thumbnail = self._run(self._artifacts.thumbnail(artifact, side))
        return small

    def zip(self, job_id: str, to: Path | str) -> Path:
        """Write all artifacts of a job as one archive; see `AsyncArtifacts.zip`."""
        path: Path = self._run(self._artifacts.zip(job_id, to))
        return path


def _path(job_id: str, rest: str) -> str:
    return f"/v1/jobs/{quote(job_id, safe='')}{rest}"
