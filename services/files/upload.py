"""The chunks of one upload on their way to the broker."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Final

from switchyard.events import subjects
from switchyard.events.errors import InvalidError, LimitError, UnavailableError
from switchyard.services.broker.publisher import Publisher
from switchyard.services.files.info import CHUNK_BYTES, CHUNKS_PER_ENTRY
from switchyard.services.ids import new_id

CHUNKS_IN_FLIGHT: Final = 16


class Upload:
    """Stores a body in chunks, at most `CHUNKS_IN_FLIGHT` of them unacknowledged.

    Args:
        publisher: an open publisher.
        owner: the name of the file that the chunks are to belong to; a sweep looks it up.
        ttl_s: seconds after which the broker removes a chunk.
    """

    def __init__(self, publisher: Publisher, *, owner: str, ttl_s: float) -> None:
        self.nuid = new_id()
        self.size_bytes = 0
        self.chunks = 0
        self.index: list[int] = []
        self.digest = hashlib.sha256()
        self._publisher = publisher
        self._subject = subjects.file_chunks(self.nuid)
        self._headers = {subjects.H_FILE: owner, **ttl(ttl_s)}
        self._in_flight: deque[asyncio.Future[int]] = deque()
        self._acknowledged = 0
        self._last_seq = 0

    async def take(self, body: AsyncIterator[bytes], sha256: str | None) -> None:
        """Store a body, cut and joined to chunks whatever its blocks, until all of it is acknowledged.

        Raises:
            InvalidError: its digest is not `sha256`.
            UnavailableError, PublishRefusedError, AckLostError: a chunk is not stored.
        """
        rest = bytearray()
        async for block in body:
            rest += block
            while len(rest) >= CHUNK_BYTES:
                await self._send(bytes(memoryview(rest)[:CHUNK_BYTES]))
                del rest[:CHUNK_BYTES]
        if rest:
            await self._send(bytes(rest))
        found = self.digest.hexdigest()
        if sha256 is not None and found != sha256:
            message = f"the body's SHA-256 is {found}, but {sha256} was announced"
            raise InvalidError(message, code="digest_mismatch", field="Content-Digest")
        while self._in_flight:
            await self._acknowledge()

    async def settle(self, timeout_s: float) -> None:
        """Wait until nothing is on its way, whatever became of it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await asyncio.gather(*self._in_flight, return_exceptions=True)

    async def _send(self, chunk: bytes) -> None:
        if len(self._in_flight) >= CHUNKS_IN_FLIGHT:
            await self._acknowledge()
        self.digest.update(chunk)
        headers = {subjects.H_CHUNK: str(self.chunks), **self._headers}
        self._in_flight.append(await self._publisher.send(self._subject, chunk, headers))
        self.size_bytes += len(chunk)
        self.chunks += 1

    async def _acknowledge(self) -> None:
        seq = await self._in_flight[0]
        self._in_flight.popleft()
        if seq <= self._last_seq:
            raise UnavailableError("the broker stored chunks out of their order")
        if self._acknowledged % CHUNKS_PER_ENTRY == 0:
            self.index.append(seq)
        self._acknowledged += 1
        self._last_seq = seq


async def limited(
    body: AsyncIterator[bytes], max_bytes: int, on_bytes: Callable[[int], None] | None
) -> AsyncIterator[bytes]:
    """The blocks of a body up to `max_bytes`; `on_bytes` sees the size of each before it is passed on.

    Raises:
        LimitError: there are more.
    """
    total = 0
    async for block in body:
        total += len(block)
        if total > max_bytes:
            message = f"a file has at most {max_bytes} bytes; this one has more"
            raise LimitError(message, status=413, code="file_too_large")
        if on_bytes is not None:
            on_bytes(len(block))
        yield block


def ttl(seconds: float) -> dict[str, str]:
    """The header that makes the broker remove a message; it counts in whole seconds, from 1 on."""
    return {subjects.H_TTL: f"{max(1, math.ceil(seconds))}s"}
