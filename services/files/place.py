"""Where the bytes of files lie: in the broker, or in S3; every user of `Files` works with either.

What is known of a file is always in the broker, and says where its bytes are: a file exists once that is
written. So bytes without it belong to no file, whatever has happened, and are swept.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Protocol

from switchyard.events.errors import InvalidError
from switchyard.services.files.info import CHUNK_BYTES, FileInfo, Remote
from switchyard.services.files.keys import Lock
from switchyard.services.ids import new_id


class Place(Protocol):
    """Keeps bytes of files in chunks of `CHUNK_BYTES`, each locked by itself where the file can be erased."""

    async def check_room(self, size_bytes: int, reserve: float) -> int:
        """After how many bytes to look again, given that there is room for so many.

        Raises:
            StorageFullError: there is none.
            UnavailableError: it cannot be asked.
        """

    async def upload(self, *, owner: str, ttl_s: float, max_bytes: int, lock: Lock | None) -> Intake:
        """Begin an upload.

        Args:
            owner: the name of the file that the bytes are to belong to; a sweep looks it up.
            ttl_s: seconds after which the bytes may go.
            max_bytes: the most that come.
            lock: locks every chunk, of a file that can be erased.

        Raises:
            UnavailableError: it cannot be reached.
        """

    def read(self, info: FileInfo, first: int, last: int) -> AsyncGenerator[tuple[int, bytes], None]:
        """Chunks by number, as they were before they were locked, as fast as they are taken.

        Raises:
            NotFoundError: the file was deleted or replaced meanwhile.
            DamagedFileError: they are not what was stored.
            UnavailableError: it cannot be reached.
        """

    async def remove(self, nuid: str, owner: str, remote: Remote | None) -> None:
        """Remove the bytes of an upload, if there are any.

        Raises:
            UnavailableError: it cannot be reached.
        """

    async def sweep(self, *, older_than_s: float) -> int:
        """Remove bytes that belong to no file, of uploads that began so long ago; how many uploads.

        Raises:
            UnavailableError: it cannot be reached.
        """


class Intake(ABC):
    """Stores a body, cut and joined to chunks whatever its blocks.

    Args:
        owner: the name of the file that the chunks are to belong to.
        lock: locks every chunk, of a file that can be erased.
    """

    def __init__(self, *, owner: str, lock: Lock | None = None) -> None:
        self.nuid = new_id() if lock is None else lock.nuid
        self.lock = lock
        self.owner = owner
        self.size_bytes = 0
        self.chunks = 0
        self.index: list[int] = []
        self.remote: Remote | None = None
        self.digest = hashlib.sha256()

    async def take(self, body: AsyncIterator[bytes], sha256: str | None) -> None:
        """Store a body until all of it is acknowledged.

        Raises:
            InvalidError: its digest is not `sha256`.
            UnavailableError, PublishRefusedError, AckLostError: a chunk is not stored.
        """
        rest = bytearray()
        async for block in body:
            rest += block
            while len(rest) >= CHUNK_BYTES:
                await self._chunk(bytes(memoryview(rest)[:CHUNK_BYTES]))
                del rest[:CHUNK_BYTES]
        if rest:
            await self._chunk(bytes(rest))
        found = self.digest.hexdigest()
        if sha256 is not None and found != sha256:
            message = f"the body's SHA-256 is {found}, but {sha256} was announced"
            raise InvalidError(message, code="digest_mismatch", field="Content-Digest")
        await self.finish()

    async def _chunk(self, chunk: bytes) -> None:
        self.digest.update(chunk)
        await self.send(chunk if self.lock is None else self.lock.chunk(self.chunks, chunk))
        self.size_bytes += len(chunk)
        self.chunks += 1

    @abstractmethod
    async def send(self, stored: bytes) -> None:
        """Store chunk number `chunks`; it need not be acknowledged when this returns."""

    @abstractmethod
    async def finish(self) -> None:
        """Wait until all chunks are acknowledged."""

    @abstractmethod
    async def discard(self) -> None:
        """Remove what was stored, and what is on its way; what stays behind is swept."""
