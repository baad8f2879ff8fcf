"""The lines of output of running attempts, as they are stored: in order, and before the end of their job."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from switchyard.events import subjects
from switchyard.events.encoding.codec import FINAL_EVENTS
from switchyard.events.errors import UnavailableError
from switchyard.events.vocabulary.ids import JobId
from switchyard.services.broker.reader import last_message
from switchyard.services.gateway.live.index import LiveEvent

if TYPE_CHECKING:
    from switchyard.services.gateway.live.feed import LiveFeed

log = structlog.get_logger()

ENDS: Final = FINAL_EVENTS | {"archived"}
LINES_S: Final = 2.0  # for the last lines of a job that has ended
RETRY_S: Final = 0.25


class LogLines:
    """Reads the lines of output; one per feed."""

    def __init__(self, feed: LiveFeed) -> None:
        self._feed = feed
        self._seq: int | None = None
        self._seen = asyncio.Event()
        self._lag = False

    def clear(self) -> None:
        """Begin at the end the next time."""
        self._seq = None

    async def pin(self) -> int:
        """Decide after which line of output to begin: before the feed is reported ready.

        Raises:
            UnavailableError: the broker does not answer.
        """
        state = await self._feed.log_state(subjects.LOGS)
        if self._seq is None or self._seq > state.last_seq:
            self._seq = state.last_seq
        return self._seq

    async def follow(self) -> None:
        """Hand out lines as they come, without end."""
        feed, seq = self._feed, None
        while seq is None:
            try:
                seq = await self.pin()
            except UnavailableError:
                await asyncio.sleep(RETRY_S)
        async with feed.follow(subjects.LOGS, seq + 1) as batches:
            async for batch in batches:
                for stored in batch:
                    if feed.index.log_readers:
                        await feed.reports.saw_log_line(stored)
                    self._seq = stored.seq
                self._lag = False
                self._seen.set()

    async def before(self, event: LiveEvent) -> None:
        """Wait for the lines that were stored before the end of their job: who listens may stop at that.

        Lines that do not come are not waited for a second time.
        """
        feed = self._feed
        if self._lag or event.name not in ENDS:
            return
        await feed.labels.learn([event])
        readers = feed.index.find(event.job_id, event.tenant, event.kind, event.labels)
        if not any(entry.request.logs for entry in readers):
            return
        try:
            async with asyncio.timeout(LINES_S):
                line = await last_message(
                    feed.nc, subjects.LOGS, subjects.log(JobId(event.job_id)), timeout_s=LINES_S
                )
                while line is not None and (self._seq or 0) < line.seq:
                    self._seen.clear()
                    await self._seen.wait()
        except (UnavailableError, TimeoutError):
            self._lag = True
            log.warning("log_lines_lag", job=event.job_id)
