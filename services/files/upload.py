"""The chunks of one upload on their way to the broker."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from switchyard.events import subjects
from switchyard.events.errors import LimitError, UnavailableError
from switchyard.services.broker.publisher import Publisher
from switchyard.services.files.info import CHUNKS_PER_ENTRY
from switchyard.services.files.keys import Lock
from switchyard.services.files.place import Intake

CHUNKS_IN_FLIGHT: Final = 16


class Upload(Intake):
    """Stores chunks, at most `CHUNKS_IN_FLIGHT` of them unacknowledged.

    Args:
        publisher: an open publisher.
        purge: removes the chunks of an upload.
        owner: the name of the file that the chunks are to belong to; a sweep looks it up.
        ttl_s: seconds after which the broker removes a chunk.
        settle_s: seconds to wait for what is on its way when all is to be discarded.
        lock: locks every chunk, of a file that can be erased.
    """

    def __init__(
        self,
        publisher: Publisher,
        purge: Callable[[str], Awaitable[None]],
        *,
        owner: str,
        ttl_s: float,
        settle_s: float,
        lock: Lock | None = None,
    ) -> None:
        super().__init__(owner=owner, lock=lock)
        self._publisher = publisher
        self._purge = purge
        self._settle_s = settle_s
        self._subject = subjects.file_chunks(self.nuid)
        self._headers = {subjects.H_FILE: owner, **ttl(ttl_s)}
        self._in_flight: deque[asyncio.Future[int]] = deque()
        self._acknowledged = 0
        self._last_seq = 0

    async def send(self, stored: bytes) -> None:
        """Publish a chunk, as soon as fewer than `CHUNKS_IN_FLIGHT` are on their way."""
        if len(self._in_flight) >= CHUNKS_IN_FLIGHT:
            await self._acknowledge()
        headers = {subjects.H_CHUNK: str(self.chunks), **self._headers}
        self._in_flight.append(await self._publisher.send(self._subject, stored, headers))

    async def finish(self) -> None:
        """Wait until the broker has acknowledged them all."""
        while self._in_flight:
            await self._acknowledge()

    async def discard(self) -> None:
        """Wait until nothing is on its way, whatever became of it, and purge what came."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settle_s):
                await asyncio.gather(*self._in_flight, return_exceptions=True)
        await self._purge(self.nuid)

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
