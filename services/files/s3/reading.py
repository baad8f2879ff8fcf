"""Bytes of an object as fast as they are taken, from where they stopped when a connection breaks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Final

import structlog

from switchyard.events.errors import NotFoundError
from switchyard.services.files.chunks import DamagedFileError
from switchyard.services.files.info import CHUNK_BYTES, FileInfo
from switchyard.services.files.keys import TAG_BYTES, LockedError
from switchyard.services.files.s3.client import S3Error

log = structlog.get_logger()

READ_BYTES: Final = 256 * 1024
PAUSES_S: Final = (0.2, 1.0, 3.0, 8.0)
"""Before further tries without a byte between them."""


class GoneError(S3Error):
    """There is no such object, or other bytes in its place."""


Open = Callable[[FileInfo, int, int], contextlib.AbstractAsyncContextManager[AsyncIterator[bytes]]]
"""Opens the bytes of a file's object from a place to before another.

Raises:
    GoneError: it has none.
    S3Error: it cannot be reached.
"""


class Reading:
    """Reads files.

    Args:
        opened: opens an object.
        current: what is known of a tenant's file now.
    """

    def __init__(self, opened: Open, current: Callable[[str, str], Awaitable[FileInfo]]) -> None:
        self._opened = opened
        self._current = current

    async def read(self, info: FileInfo, first: int, last: int) -> AsyncGenerator[tuple[int, bytes], None]:
        """Chunks by number, as they were before they were locked.

        Raises:
            NotFoundError: the file was deleted or replaced meanwhile.
            DamagedFileError: they are not what was stored.
            S3Error: they cannot be had now.
        """
        longer = 0 if info.lock is None else TAG_BYTES
        number, rest = first, bytearray()
        start = first * (CHUNK_BYTES + longer)
        end = min((last + 1) * (CHUNK_BYTES + longer), info.size_bytes + info.chunks * longer)
        async with contextlib.aclosing(self._bytes(info, start, end)) as blocks:
            async for block in blocks:
                rest += block
                while number <= last:
                    size = min(CHUNK_BYTES, info.size_bytes - number * CHUNK_BYTES) + longer
                    if len(rest) < size:
                        break
                    yield number, _plain(info, number, bytes(memoryview(rest)[:size]))
                    del rest[:size]
                    number += 1

    async def _bytes(self, info: FileInfo, start: int, end: int) -> AsyncGenerator[bytes, None]:
        tries = 0
        while start < end:
            error = S3Error(f"S3 breaks file {info.id} off at byte {start}")
            try:
                async with self._opened(info, start, end) as blocks:
                    async for block in blocks:
                        if len(block) > end - start:
                            raise DamagedFileError(f"S3 has more bytes of file {info.id} than were stored")
                        start, tries = start + len(block), 0
                        yield block
                if start == end:
                    return
            except GoneError as gone:
                await self._find_missing(info, gone)
            except S3Error as broken:
                error = broken
            if tries == len(PAUSES_S):
                raise error
            log.info("s3_read_again", file=info.id, at_byte=start, error=str(error))
            await asyncio.sleep(PAUSES_S[tries])
            tries += 1

    async def _find_missing(self, info: FileInfo, gone: GoneError) -> None:
        if (await self._current(info.tenant, info.id)).nuid != info.nuid:
            raise NotFoundError(f"file {info.id} was replaced while it was read") from gone
        raise DamagedFileError(f"S3 lacks the bytes of file {info.id}: {gone}") from gone


def _plain(info: FileInfo, number: int, stored: bytes) -> bytes:
    try:
        return stored if info.lock is None else info.lock.open_chunk(number, stored)
    except LockedError as error:
        raise DamagedFileError(f"chunk {number} of file {info.id}: {error}") from None
