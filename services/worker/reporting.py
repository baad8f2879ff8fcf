"""Progress and log lines of running attempts, sent without ever making the handler wait."""

from __future__ import annotations

import asyncio
from collections import deque
from datetime import UTC, datetime
from typing import Any

import nats.errors
import orjson
import structlog
from nats.aio.client import Client

from events import subjects
from services.log_share import LogShare

log = structlog.get_logger()

PACE_S = 0.1
MAX_LINES = 10_000


class Reporter:
    """One per worker: conflates progress per job, keeps log lines in order up to a limit.

    Args:
        nc: an open connection.
        share: how many lines each tenant may have.
    """

    def __init__(self, nc: Client, share: LogShare) -> None:
        self._nc = nc
        self._share = share
        self._progress: dict[str, dict[str, Any]] = {}
        self._lines: deque[tuple[str, dict[str, Any]]] = deque(maxlen=MAX_LINES)
        self._wake = asyncio.Event()

    def progress(self, job_id: str, report: dict[str, Any]) -> None:
        """Replace the job's unsent progress."""
        self._progress[job_id] = report
        self._wake.set()

    def log(self, job_id: str, line: dict[str, Any]) -> None:
        """Queue a log line."""
        self._lines.append((job_id, line))
        self._wake.set()

    def forget(self, job_id: str) -> None:
        """Drop unsent progress of an attempt that has ended."""
        self._progress.pop(job_id, None)

    async def run(self) -> None:
        """Send until cancelled: at once when idle, then at most ten times a second."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self.flush()
            await asyncio.sleep(PACE_S)

    async def flush(self) -> None:
        """Send what is there; reports lost in an outage are not transitions and are not sent again.

        Lines of a tenant that has had too many are dropped.
        """
        progress, self._progress = self._progress, {}
        try:
            for job_id, report in progress.items():
                await self._send(subjects.progress(job_id), report)
            while self._lines:
                job_id, line = self._lines.popleft()
                await self._send(subjects.log(job_id), line, limited=True)
        except nats.errors.Error:
            return

    async def _send(self, subject: str, report: dict[str, Any], *, limited: bool = False) -> None:
        """Send one report; one that cannot be sent is left out, and holds up no other."""
        try:
            body = orjson.dumps({**report, "at": datetime.now(UTC)})
            if not limited or self._share.take(report["tenant"], len(body)):
                await self._nc.publish(subject, body)
        except (TypeError, nats.errors.MaxPayloadError) as error:
            log.warning("report_left_out", subject=subject, error=str(error))
