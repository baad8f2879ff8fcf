"""Hears that jobs end, so that nobody has to ask about each again and again.

What is heard is a hint: an event that the log refuses is published all the same. Whoever is hinted looks.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from switchyard.events.encoding.codec import FINAL_EVENTS
from switchyard.events.vocabulary.ids import JobId

PENDING_BYTES: Final = 64 * 1024 * 1024
PENDING: Final = 65_536
ENDS: Final = FINAL_EVENTS | {"archived"}


class Open:
    """The jobs of one batch that have not ended, by the number of their line."""

    def __init__(self, changed: asyncio.Event) -> None:
        self.lines: dict[JobId, int] = {}
        self.hinted: dict[JobId, int] = {}
        """Those that may have ended, and how often that was looked at."""
        self._changed = changed

    def hint(self, job_id: JobId) -> None:
        """It may have ended."""
        self.hinted[job_id] = 0
        self._changed.set()

    def add(self, job_id: JobId, line: int) -> None:
        """It is there."""
        self.lines[job_id] = line

    def end(self, job_id: JobId) -> None:
        """It has ended."""
        self.lines.pop(job_id, None)
        self.hinted.pop(job_id, None)

    def settled(self, cursor: int) -> int:
        """Up to which line all have ended, of those up to a line."""
        return min((*self.lines.values(), cursor + 1)) - 1


class Ends:
    """Passes on which jobs end.

    Args:
        nc: an open connection.
    """

    def __init__(self, nc: Client) -> None:
        self._nc = nc
        self._all: set[Open] = set()
        self._heard: list[Subscription] = []
        self._changing = asyncio.Lock()

    @asynccontextmanager
    async def hinting(self, jobs: Open) -> AsyncIterator[None]:
        """Hint these while the block lasts; who follows none hears nothing."""
        self._all.add(jobs)
        try:
            await self._listen()
            yield
        finally:
            self._all.discard(jobs)
            if not self._all:
                await self._stop()

    async def _listen(self) -> None:
        async with self._changing:
            if self._heard:
                return
            for name in sorted(ENDS):
                self._heard.append(
                    await self._nc.subscribe(
                        f"job.*.{name}", cb=self._on_end, pending_msgs_limit=PENDING,
                        pending_bytes_limit=PENDING_BYTES,
                    )
                )  # fmt: skip

    async def _stop(self) -> None:
        async with self._changing:
            heard, self._heard = ([], self._heard) if self._all else (self._heard, [])
            for one in heard:
                if not self._nc.is_closed:
                    await one.unsubscribe()

    async def _on_end(self, message: Msg) -> None:
        job_id = JobId(message.subject.split(".", 2)[1])
        for jobs in self._all:
            if job_id in jobs.lines:
                jobs.hint(job_id)
