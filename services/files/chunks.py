"""Reads the chunks of a stored file, each checked for its place and size."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final

from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import NotFoundError, SwitchyardError
from switchyard.services.broker.reader import Stored, read_range
from switchyard.services.files.info import CHUNK_BYTES, CHUNKS_PER_ENTRY, FileInfo
from switchyard.services.files.keys import TAG_BYTES, LockedError

CHUNKS_PER_READ: Final = 8  # what a reader holds at most: 1 MiB
# A replica may be a moment behind the leader that acknowledged the upload.
LAG_RETRIES_S: Final = (0.05, 0.4)


class DamagedFileError(SwitchyardError):
    """A stored file lacks a chunk, or its bytes are not those that were stored."""


class Chunks:
    """Reads them.

    Args:
        nc: an open connection.
        current: what is known of a tenant's file now.
        timeout_s: seconds to wait for any answer of the broker.
    """

    def __init__(
        self, nc: Client, current: Callable[[str, str], Awaitable[FileInfo]], *, timeout_s: float
    ) -> None:
        self._nc = nc
        self._current = current
        self._timeout_s = timeout_s

    async def read(self, info: FileInfo, first: int, last: int) -> AsyncGenerator[tuple[int, bytes], None]:
        """Chunks by number, as they were before they were locked.

        Raises:
            NotFoundError: the file was deleted or replaced meanwhile.
            DamagedFileError: they are not what was stored.
            UnavailableError: the broker does not answer.
        """
        number = first - first % CHUNKS_PER_ENTRY
        seq = info.index[number // CHUNKS_PER_ENTRY]
        while number <= last:
            batch = await self._batch(info, seq, min(CHUNKS_PER_READ, last - number + 1))
            for message in batch:
                size = min(CHUNK_BYTES, info.size_bytes - number * CHUNK_BYTES)
                size += 0 if info.lock is None else TAG_BYTES
                if message.headers.get(subjects.H_CHUNK) != str(number) or len(message.data) != size:
                    raise DamagedFileError(f"file {info.id} lacks its chunk {number} of {info.chunks}")
                if number >= first:
                    yield number, _plain(info, number, message.data)
                number += 1
            seq = batch[-1].seq + 1

    async def _batch(self, info: FileInfo, seq: int, count: int) -> list[Stored]:
        for wait_s in (*LAG_RETRIES_S, None):
            batch = await read_range(
                self._nc,
                subjects.FILES,
                subjects.file_chunks(info.nuid),
                start=seq,
                limit=count,
                timeout_s=self._timeout_s,
            )
            if len(batch) == count:
                return batch
            if wait_s is not None:
                await asyncio.sleep(wait_s)
        if (await self._current(info.tenant, info.id)).nuid != info.nuid:
            raise NotFoundError(f"file {info.id} was replaced while it was read")
        raise DamagedFileError(f"file {info.id} lacks some of its {info.chunks} chunks")


def _plain(info: FileInfo, number: int, stored: bytes) -> bytes:
    try:
        return stored if info.lock is None else info.lock.open_chunk(number, stored)
    except LockedError as error:
        raise DamagedFileError(f"chunk {number} of file {info.id}: {error}") from None
