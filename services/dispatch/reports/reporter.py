"""Progress and log lines of running attempts, sent without ever making the handler wait."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Final, NamedTuple

import nats.errors
import orjson
import structlog
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import SwitchyardError, UnavailableError
from switchyard.events.vocabulary.ids import JobId
from switchyard.services import clock
from switchyard.services.broker.publisher import AckLostError, Publisher
from switchyard.services.dispatch.log_share import LogShare
from switchyard.services.ids import new_id
from switchyard.services.settings import MIB

log = structlog.get_logger()

PACE_S: Final = 0.1
RETRY_S: Final = 0.5
AT_ONCE: Final = 256  # lines in flight; transitions need the rest of the publisher's window
BUFFER_BYTES: Final = 64 * MIB
LINE_BYTES: Final = 400  # of a line's place, beside its text


class _Line(NamedTuple):
    subject: str
    body: bytes
    id: str


class Reporter:
    """One per worker: conflates progress per job, keeps log lines in order until the broker has them.

    Args:
        nc: an open connection.
        share: how many lines each tenant may have.
        publisher: that of that connection.
        buffer_bytes: the size of lines that the broker does not have yet.
    """

    def __init__(
        self, nc: Client, share: LogShare, publisher: Publisher, *, buffer_bytes: int = BUFFER_BYTES
    ) -> None:
        self._nc = nc
        self._share = share
        self._publisher = publisher
        self._buffer_bytes = buffer_bytes
        self._progress: dict[str, dict[str, Any]] = {}
        self._lines: deque[_Line] = deque()
        self._bytes = 0
        self._taken = self._sent = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._sending = asyncio.Lock()
        self._wake = asyncio.Event()

    def progress(self, job_id: JobId, report: dict[str, Any]) -> None:
        """Replace the job's unsent progress."""
        self._progress[job_id] = report
        self._wake.set()

    def log(self, job_id: JobId, line: dict[str, Any], *, always: bool = False) -> bool:
        """Queue a log line, which is sent until the broker has it; False when it is left out.

        Args:
            job_id: whose output it is.
            line: with the tenant, whose share it counts against.
            always: whether it is taken in when there is no room.
        """
        try:
            body = orjson.dumps({**line, "at": clock.now()})
        except TypeError as error:
            log.warning("report_left_out", subject=subjects.log(job_id), error=str(error))
            return False
        room = self._bytes + len(body) + LINE_BYTES <= self._buffer_bytes
        fits = len(body) <= self._nc.max_payload - LINE_BYTES
        if not fits or not (always or (room and self._share.take(line["tenant"], len(body)))):
            return False
        self._lines.append(_Line(subjects.log(job_id), body, new_id()))
        self._bytes += len(body) + LINE_BYTES
        self._taken += 1
        self._wake.set()
        return True

    def forget(self, job_id: JobId) -> None:
        """Drop unsent progress of an attempt that has ended."""
        self._progress.pop(job_id, None)

    async def sent(self, timeout_s: float) -> None:
        """Return when the broker has all lines that were queued until now, or after a while."""
        if self._sent >= self._taken or not self._nc.is_connected:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((self._taken, future))
        await asyncio.wait([future], timeout=timeout_s)

    async def run(self) -> None:
        """Send until cancelled: at once when idle, then at most ten times a second."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if not await self.flush():
                self._wake.set()
                await asyncio.sleep(RETRY_S)
            await asyncio.sleep(PACE_S)

    async def flush(self) -> bool:
        """Send what is there; False when lines have to wait. Progress lost in an outage is not sent again."""
        progress, self._progress = self._progress, {}
        try:
            for job_id, report in progress.items():
                await self._send_progress(JobId(job_id), report)
        except nats.errors.Error:
            return not self._lines
        async with self._sending:
            while self._lines:
                if not await self._send_some():
                    return False
        return True

    async def _send_progress(self, job_id: JobId, report: dict[str, Any]) -> None:
        """Send one report; one that cannot be sent is left out, and holds up no other."""
        subject = subjects.progress(job_id)
        try:
            await self._nc.publish(subject, orjson.dumps({**report, "at": clock.now()}))
        except (TypeError, nats.errors.MaxPayloadError) as error:
            log.warning("report_left_out", subject=subject, error=str(error))

    async def _send_some(self) -> bool:
        """Send the first lines; those from the first on that the broker may not have stay queued."""
        lines = [self._lines[index] for index in range(min(AT_ONCE, len(self._lines)))]
        answers = []
        try:
            for line in lines:
                # A line that is sent again is stored once.
                headers = {subjects.H_MSG_ID: line.id}
                answers.append(await self._publisher.send(line.subject, line.body, headers))
        except UnavailableError:
            pass
        results = await asyncio.gather(*answers, return_exceptions=True)
        for result in results:
            if isinstance(result, UnavailableError | AckLostError):
                return False
            if isinstance(result, SwitchyardError):
                log.warning("log_line_rejected", error=str(result))
            elif isinstance(result, BaseException):
                raise result
            self._done(self._lines.popleft())
        return len(results) == len(lines)

    def _done(self, line: _Line) -> None:
        self._bytes -= len(line.body) + LINE_BYTES
        self._sent += 1
        while self._waiting and self._waiting[0][0] <= self._sent:
            future = self._waiting.popleft()[1]
            if not future.done():
                future.set_result(None)
