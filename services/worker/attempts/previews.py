"""The previews of a worker's attempts: the latest of each job is made small enough, and published."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import nats.errors
from nats.aio.client import Client

from switchyard._worker.previews import TOO_FAST, TOO_LARGE, UNSENT, scaled
from switchyard.events import subjects
from switchyard.events.encoding.preview import Preview
from switchyard.events.vocabulary.ids import JobId
from switchyard.services.dispatch.previews import packed

SENT = "sent"


class PreviewSender:
    """One per worker: never makes an attempt wait, and keeps one preview of each.

    Args:
        nc: an open connection.
        count: called with what became of previews, and of how many.
    """

    def __init__(self, nc: Client, count: Callable[[str, int], None]) -> None:
        self._nc = nc
        self.count = count
        self._waiting: dict[JobId, tuple[Preview, dict[str, Any]]] = {}
        self._wake = asyncio.Event()

    def show(self, job_id: JobId, preview: Preview, stamp: dict[str, Any]) -> None:
        """Queue a preview in the place of the job's one that was not sent yet.

        Args:
            job_id: whose it is.
            preview: an image of a type that may be shown.
            stamp: fence, attempt, tenant and kind.
        """
        if job_id in self._waiting:
            self.count(TOO_FAST, 1)
        self._waiting[job_id] = preview, stamp
        self._wake.set()

    def forget(self, job_id: JobId) -> None:
        """Drop what an attempt that has ended has not sent."""
        if self._waiting.pop(job_id, None) is not None:
            self.count(UNSENT, 1)

    async def run(self) -> None:
        """Send until cancelled, one after another: to make one smaller takes a processor for a while."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                job_id = next(iter(self._waiting))
                preview, stamp = self._waiting.pop(job_id)
                self.count(await self._send(job_id, preview, stamp), 1)

    async def _send(self, job_id: JobId, preview: Preview, stamp: dict[str, Any]) -> str:
        """What became of it; what is lost in an outage is not sent again."""
        if not self._nc.is_connected:
            return UNSENT
        small = await asyncio.to_thread(scaled, preview)
        if small is None:
            return TOO_LARGE
        try:
            await self._nc.publish(subjects.preview(job_id), packed(small, stamp))
        except nats.errors.Error:
            return UNSENT
        return SENT
