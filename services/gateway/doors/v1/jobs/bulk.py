"""`POST /v1/jobs/bulk`: newline-delimited JSON in, one answer per line out, in order, at the same time.

Appends are pipelined: up to `bulk_in_flight` lines are on their way to the log or not yet answered. A client
that breaks off has submitted the lines it got answers for and at most that many beyond them.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Final

import msgspec
from aiohttp import hdrs, web

from switchyard.events.errors import LimitError, SwitchyardError
from switchyard.services import clock
from switchyard.services.access.principal import Caller
from switchyard.services.gateway.app_keys import METRICS, SETTINGS, SUBMITTER
from switchyard.services.gateway.doors.v1.answers.jobs import LineAnswer, LineError
from switchyard.services.gateway.doors.v1.parts import H_TRACE, SUBMIT
from switchyard.services.gateway.http.callers import check_plain, media_type
from switchyard.services.gateway.http.problems import UnsupportedMediaTypeError, problem_of
from switchyard.services.gateway.http.routes import Call, Lasts, Media, Route
from switchyard.services.gateway.metrics import Metrics
from switchyard.services.intake.request import BulkLine, parse_line
from switchyard.services.intake.submitter import Pending, Submitted, Submitter
from switchyard.services.settings import Settings

NDJSON: Final = "application/x-ndjson"
MEDIA_TYPES: Final = frozenset({NDJSON, "application/ndjson", "application/jsonl", "application/x-jsonlines"})
YIELD_LINES: Final = 64
REFUSED_LINES: Final = 8
"""As many lines that are taken in take as long as one that is refused."""


async def bulk(call: Call[None]) -> web.StreamResponse:
    """Submit many jobs.

    Raises:
        UnsupportedMediaTypeError: the body is not of a type for lines.
    """
    request = call.request
    check_plain(request)
    if hdrs.CONTENT_TYPE in request.headers and media_type(request) not in MEDIA_TYPES:
        raise UnsupportedMediaTypeError(
            f"Content-Type: application/x-ndjson was expected, not {media_type(request)}",
            field="Content-Type",
        )
    response = web.StreamResponse(headers={"Content-Type": NDJSON})
    await response.prepare(request)
    if request.transport is not None:
        # Answers wait in the kernel or not at all: what is not sent counts as in flight.
        request.transport.set_write_buffer_limits(high=0)
    await _Bulk(
        request, response, call.part(SUBMITTER), call.caller, call.part(SETTINGS), call.part(METRICS)
    ).run()
    return response


ROUTES: Final = (
    Route(
        method="POST", path="/v1/jobs/bulk", handler=bulk, summary="Submit many jobs, a line each",
        roles=SUBMIT, body=Media(NDJSON, BulkLine), headers=(H_TRACE,),
        answers={200: Media(NDJSON, LineAnswer)}, lasts=Lasts.BODY,
    ),
)  # fmt: skip


class _Line:
    """A line from its parsing to its answer; `begun` is its append, `settling` looks into a failed one."""

    __slots__ = ("answer", "begun", "index", "settling")

    def __init__(self, index: int, begun: Pending | None, answer: bytes) -> None:
        self.index = index
        self.begun = begun
        self.answer = answer
        self.settling: asyncio.Task[None] | None = None


class _Bulk:
    """One bulk submission: a reader that parses and appends, and a writer that answers in order."""

    def __init__(
        self, request: web.Request, response: web.StreamResponse, submitter: Submitter, caller: Caller,
        settings: Settings, metrics: Metrics,
    ) -> None:  # fmt: skip
        self._request = request
        self._response = response
        self._submitter = submitter
        self._caller = caller
        self._limit = settings.bulk_in_flight
        self._line_bytes = settings.bulk_line_bytes
        self._idle_s = settings.bulk_idle_s
        self._metrics = metrics
        self._lines: deque[_Line] = deque()
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._read_all = False
        self._too_slow = False
        self._statuses: Counter[int] = Counter()

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                reader = tasks.create_task(self._read())
                try:
                    await self._write(tasks)
                    await self._response.write_eof()
                    if self._too_slow and self._request.transport is not None:
                        self._request.transport.close()  # what it may still send is not waited for
                except (ConnectionError, TimeoutError):
                    # The client broke off or does not read: nothing more is taken from it.
                    reader.cancel()
                    if self._request.transport is not None:
                        self._request.transport.abort()
        finally:
            for line in self._lines:  # appended, but nobody is there to answer
                if line.begun is not None:
                    line.begun.seq.add_done_callback(_forget)
            for status, count in self._statuses.items():
                self._metrics.bulk_lines.labels(str(status)).inc(count)

    # --- In

    async def _read(self) -> None:
        index = since = 0
        try:
            async for lines in self._split():
                now = clock.now()
                for line in lines:
                    while len(self._lines) >= self._limit:
                        self._arrived.set()
                        self._room.clear()
                        await self._room.wait()
                        now = clock.now()
                    begun = await self._begin(index, line, now)
                    self._lines.append(begun)
                    index += 1
                    since += REFUSED_LINES if begun.begun is None else 1
                    if since >= YIELD_LINES:
                        since = 0
                        self._arrived.set()
                        await asyncio.sleep(0)  # so that the broker gets what is there
                self._arrived.set()
        except TimeoutError:
            late = LimitError(f"no line came for {self._idle_s:g} s", status=408, code="too_slow")
            self._lines.append(_Line(index, None, self._error(index, late)))
            self._too_slow = True
        except (ConnectionError, web.RequestPayloadError):
            pass  # the client broke off; writing to it shows the same
        finally:
            self._read_all = True
            self._arrived.set()

    async def _split(self) -> AsyncIterator[list[bytes | None]]:
        """The lines that are not blank, as they come; None for one that is too long."""
        rest = b""
        skipping = False
        while True:
            async with asyncio.timeout(self._idle_s):
                chunk = await self._request.content.readany()
            if not chunk:
                break
            first, *others = (rest + chunk).split(b"\n")
            if not others:
                rest = b"" if skipping else first
                found = []
            else:
                rest = others.pop()
                # The end of a line that was too long was answered with its beginning.
                whole = others if skipping else [first, *others]
                found = [self._checked(line) for line in whole if line.strip()]
                skipping = False
            if len(rest) > self._line_bytes:
                found.append(None)
                rest, skipping = b"", True
            yield found
        if rest.strip():
            yield [rest]

    def _checked(self, line: bytes) -> bytes | None:
        return line if len(line) <= self._line_bytes else None

    async def _begin(self, index: int, line: bytes | None, now: datetime) -> _Line:
        try:
            if line is None:
                raise LimitError(
                    f"the line is longer than {self._line_bytes} bytes", status=413, code="line_too_large"
                )
            request = parse_line(line)
            begun = await self._submitter.begin(request, line, self._caller, request.idempotency_key, now)
        except SwitchyardError as error:
            return _Line(index, None, self._error(index, error))
        if isinstance(begun, Submitted):
            return _Line(index, None, self._success(index, 200, begun.job.id, begun.job.seq))
        return _Line(index, begun, b"")

    # --- Out

    async def _write(self, tasks: asyncio.TaskGroup) -> None:
        lines = self._lines
        while True:
            if not lines:
                if self._read_all:
                    return
                self._arrived.clear()
                await self._arrived.wait()
                continue
            await self._settled(lines[0], tasks)
            answers = []
            while lines and (lines[0].answer or self._acknowledged(lines[0])):
                answers.append(lines.popleft().answer)
            async with asyncio.timeout(self._idle_s):
                await self._response.write(b"".join(answers))
                await self._request.writer.drain()
            self._room.set()

    async def _settled(self, line: _Line, tasks: asyncio.TaskGroup) -> None:
        """Wait until the line has its answer."""
        if line.answer or line.begun is None:
            return
        if line.settling is None:
            await asyncio.wait([line.begun.seq])
            if self._acknowledged(line):
                return
            # Settling needs reads: all lines that failed by now do theirs side by side.
            for other in self._lines:
                if other.answer or other.begun is None or other.settling or not other.begun.seq.done():
                    continue
                if not self._acknowledged(other):
                    other.settling = tasks.create_task(self._settle(other, other.begun))
        if line.settling is not None:
            await line.settling

    async def _settle(self, line: _Line, begun: Pending) -> None:
        """Find out what became of an append that was not simply acknowledged."""
        try:
            job, event = await self._submitter.finish(begun)
        except SwitchyardError as error:
            line.answer = self._error(line.index, error)
        else:
            line.answer = self._success(line.index, 201 if event else 200, job.id, job.seq)

    def _acknowledged(self, line: _Line) -> bool:
        """Write the line's answer if its append was acknowledged by now."""
        begun = line.begun
        if begun is None or not begun.seq.done():
            return False
        try:
            seq = begun.seq.result()
        except (SwitchyardError, asyncio.CancelledError):
            return False
        line.answer = self._success(line.index, 201, begun.job.id, seq)
        return True

    def _success(self, index: int, status: int, job_id: str, seq: int) -> bytes:
        self._statuses[status] += 1
        return b'{"index":%d,"status":%d,"id":"%b","seq":%d}\n' % (index, status, job_id.encode(), seq)

    def _error(self, index: int, error: SwitchyardError) -> bytes:
        problem = problem_of(error)
        self._statuses[problem.status] += 1
        line_error = LineError(**problem.brief())
        return msgspec.json.encode(LineAnswer(index=index, status=problem.status, error=line_error)) + b"\n"


def _forget(future: asyncio.Future[int]) -> None:
    """Take an outcome that nobody waits for, so that the event loop does not report it."""
    if not future.cancelled():
        future.exception()
