"""What a handler reports while it works: its latest progress, and lines."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

import orjson

from switchyard.errors import ApiError, UnreachableError

log = logging.getLogger("switchyard.worker")

MAX_LINES: Final = 10_000
LINES_AT_ONCE: Final = 500


class Say(Protocol):
    """Says something as the holder of the lease."""

    async def __call__(self, verb: str, *, json: dict[str, Any], again: bool) -> bytes:
        """The answer."""


class LeaseReports:
    """Takes and sends the reports of one attempt.

    Args:
        job_id: whose they are.
        wake: called when there is something to send.
        obey: called with each answer, which may say that the attempt is to stop.
    """

    def __init__(self, job_id: str, wake: Callable[[], None], obey: Callable[[dict[str, Any]], None]) -> None:
        self._job_id = job_id
        self._wake = wake
        self._obey = obey
        self._progress: dict[str, Any] | None = None
        self._lines: deque[str] = deque()
        self._left_out = 0

    def progress(self, fraction: float, *, stage: str, message: str, eta_s: float | None) -> None:
        """Replace the unsent progress."""
        self._progress = {"fraction": fraction, "stage": stage, "message": message, "eta_s": eta_s}
        self._wake()

    def log(self, line: str) -> None:
        """Queue a line; one too many is only counted."""
        if len(self._lines) < MAX_LINES:
            self._lines.append(line)
        else:
            self._left_out += 1
        self._wake()

    async def flush(self, say: Say) -> None:
        """Send what there is; reports lost in an outage are not sent again."""
        progress, self._progress = self._progress, None
        try:
            if progress is not None:
                self._obey(orjson.loads(await say("progress", json=progress, again=False)))
            while self._lines:
                lines = [self._lines.popleft() for _ in range(min(LINES_AT_ONCE, len(self._lines)))]
                if self._left_out and not self._lines:
                    lines.append(f"… {self._left_out} lines were left out")
                    self._left_out = 0
                self._obey(orjson.loads(await say("logs", json={"lines": lines}, again=False)))
        except (ApiError, UnreachableError) as error:
            log.warning("reports of job %s were lost: %s", self._job_id, error)
