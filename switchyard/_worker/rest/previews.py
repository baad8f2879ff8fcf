"""The previews of an attempt under a timed lease: the latest waits until the one before is sent."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from switchyard._worker.previews import TOO_FAST, TOO_LARGE, UNSENT, Previews, scaled
from switchyard.errors import ApiError, UnreachableError
from switchyard.events.encoding.preview import Preview

log = logging.getLogger("switchyard.worker")


class Send(Protocol):
    """Says something as the holder of the lease."""

    async def __call__(self, verb: str, *, headers: dict[str, str], body: bytes, again: bool) -> bytes:
        """The answer."""


class LeasePreviews:
    """Takes and sends the previews of one attempt.

    Args:
        job_id: whose they are.
        wake: called when there is something to send.
    """

    def __init__(self, job_id: str, wake: Callable[[], None]) -> None:
        self._job_id = job_id
        self._wake = wake
        self._previews = Previews(self._replace, self.drop)
        self._next: Preview | None = None
        self._dropped: Counter[str] = Counter()

    def take(self, data: bytes, media_type: str) -> None:
        """Take a preview in the place of one that was not sent yet.

        Raises:
            InvalidError: code `invalid_preview`.
        """
        self._previews.take(data, media_type)

    def drop(self, why: str, count: int = 1) -> None:
        """Count what is not shown."""
        self._dropped[why] += count

    def _replace(self, preview: Preview) -> None:
        if self._next is not None:
            self.drop(TOO_FAST)
        self._next = preview
        self._wake()

    async def flush(self, send: Send) -> None:
        """Send what there is; what is lost in an outage is not sent again."""
        preview, self._next = self._next, None
        if preview is None:
            return
        small = await asyncio.to_thread(scaled, preview)
        if small is None:
            self.drop(TOO_LARGE)
            return
        try:
            await send("preview", headers={"Content-Type": small.media_type}, body=small.data, again=False)
        except (ApiError, UnreachableError) as error:
            # The gateway of the version before knows no previews: that is not worth a warning each time.
            self.drop(UNSENT)
            log.debug("a preview of job %s was lost: %s", self._job_id, error)

    def close(self) -> None:
        """Say how many were dropped."""
        if self._dropped:
            log.info("previews of job %s were dropped: %s", self._job_id, dict(self._dropped))
