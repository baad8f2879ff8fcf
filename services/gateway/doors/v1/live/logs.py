"""`GET /v1/jobs/{id}/logs`: what a job has printed, and with `follow` what it prints."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from contextlib import aclosing
from typing import Final

from aiohttp import hdrs, web
from msgspec import UNSET, UnsetType

from switchyard.events.errors import NotFoundError, UnavailableError
from switchyard.events.job import Job
from switchyard.events.values import FINAL
from switchyard.services.access.errors import UnauthenticatedError
from switchyard.services.gateway.app_keys import JOBS, LIVE, SETTINGS
from switchyard.services.gateway.doors.v1.answers.base import Answer, Moment
from switchyard.services.gateway.doors.v1.live.sse import HEADERS, LAST, send
from switchyard.services.gateway.doors.v1.parts import NO_SUCH, READ, TENANT, page_limit
from switchyard.services.gateway.http.callers import PRINCIPAL, json_response
from switchyard.services.gateway.http.identity import secret_of
from switchyard.services.gateway.http.query import Query, wide_scope, wrong
from switchyard.services.gateway.http.routes import Call, Lasts, Media, OneOf, Parameter, Route
from switchyard.services.gateway.live.admission import DOOR, NORMAL
from switchyard.services.gateway.live.messages import Item, message
from switchyard.services.gateway.live.session import Session
from switchyard.services.gateway.operations.output.lines import (
    JobLines,
    Line,
    Page,
    cursor_of,
    line_of,
    place_of,
)

MOST_ATTEMPT: Final = 2**31 - 1
ENDED_S: Final = 60.0
LINES_S: Final = 5.0  # for the last lines of a job that has ended; then they are looked for again
RETRY_S: Final = 0.5


class LineShown(Answer, frozen=True, kw_only=True):
    """A line of output; one that stands for others that were too many has their number as `left_out`."""

    cursor: str
    attempt: int
    at: Moment
    line: str
    left_out: int | UnsetType = UNSET


class LogPage(Answer, frozen=True, kw_only=True):
    """Lines of a job, oldest first.

    `after` is what to ask for next, null where there is no more now; `cursor` is where `follow` goes on.
    """

    lines: Sequence[LineShown]
    left_out: int
    after: str | None
    cursor: str


class LogSession(Session):
    """A connection that brings lines alone; each has its own place, and the feed's means nothing to it."""

    def cursor(self) -> str | None:
        """None: a heartbeat moves no place."""
        return None


async def logs(call: Call[None]) -> web.StreamResponse:
    """A page of lines, or a stream of server-sent events."""
    query = call.query
    job = await call.part(JOBS).current(call.named("id"), wide_scope(call.caller, query))
    attempt = _whole(query, "attempt", most=MOST_ATTEMPT)
    tail = _whole(query, "tail", most=call.part(SETTINGS).page_size_max)
    follows = query.flag("follow") and call.request.method != hdrs.METH_HEAD
    field, after = "after", query.text("after")
    if follows and (resumed := call.request.headers.get(LAST)):
        field, after = LAST, resumed
        tail = None  # what it asked for at first
    if tail is not None and after is not None:
        raise wrong("tail", str(tail), "no tail together with after")
    lines = JobLines(call.part(LIVE))
    async with asyncio.timeout(call.part(SETTINGS).answer_s):
        log_id = await lines.log_id()
        start = 0 if after is None else place_of(after, log_id, field)
        if tail is not None:
            page = await lines.tail(job.id, count=tail, attempt=attempt)
        elif follows:
            page = Page([], start, more=True)
        else:
            page = await lines.page(job.id, after=start, limit=page_limit(call), attempt=attempt)
    if follows:
        return await _follow(call, job, lines, log_id, page, attempt)
    body = LogPage(
        lines=[_shown(log_id, line) for line in page.lines],
        left_out=sum(line.left_out for line in page.lines),
        after=cursor_of(log_id, page.seq) if page.more else None,
        cursor=cursor_of(log_id, page.seq),
    )
    return json_response(body, headers={hdrs.CACHE_CONTROL: "no-store"})


async def _follow(
    call: Call[None], job: Job, lines: JobLines, log_id: str, begun: Page, attempt: int | None
) -> web.StreamResponse:
    request, door = call.request, call.request.app[DOOR]
    token = secret_of(request)
    if token is None:
        raise UnauthenticatedError(
            "this needs the header Authorization: Bearer <token or key>", code="token_missing"
        )
    response = web.StreamResponse(headers=HEADERS)
    session: LogSession
    async with door.place(), door.session_of(request[PRINCIPAL], token, LogSession) as session:
        sending = _Following(call, session, job, lines, log_id, attempt)
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(sending.run(begun))
            try:
                await send(request, response, session, door)
            finally:
                task.cancel()
    return response


class _Following:
    """Brings a reader the lines of a job until that has ended and all of them are sent."""

    def __init__(
        self, call: Call[None], session: LogSession, job: Job, lines: JobLines, log_id: str,
        attempt: int | None,
    ) -> None:  # fmt: skip
        self._jobs = call.part(JOBS)
        self._feed = call.part(LIVE)
        self._session = session
        self._job = job
        self._lines = lines
        self._log_id = log_id
        self._attempt = attempt
        self._last: int | None = None
        self._seq = 0
        self._done = asyncio.Event()

    async def run(self, begun: Page) -> None:
        """Queue what there is and what comes, until everything is queued."""
        for line in begun.lines:
            await self._put(line)
        self._seq = begun.seq
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(self._read())
            await self._ended()
            self._end_if_done()
            while not self._done.is_set():
                try:
                    async with asyncio.timeout(LINES_S):
                        await self._done.wait()
                except TimeoutError:  # they may have been removed
                    with contextlib.suppress(UnavailableError):
                        self._last = await self._lines.last_seq(self._job.id)
                    self._end_if_done()
            reading.cancel()

    async def _read(self) -> None:
        async with aclosing(self._lines.follow(self._job.id, self._seq)) as found:
            async for stored in found:
                line = line_of(stored, self._attempt)
                if line is not None:
                    await self._put(line)
                self._seq = stored.seq
                self._end_if_done()

    async def _ended(self) -> None:
        """Wait for the end of the job, and learn which line is its last."""
        job = self._job
        while self._last is None:
            try:
                if job.status not in FINAL:
                    await self._feed.wait_final(job.id, job.seq, ENDED_S)
                    job = await self._jobs.current(job.id, None)
                if job.status in FINAL or job.damage is not None:
                    self._job, self._last = job, await self._lines.last_seq(job.id)
            except UnavailableError:
                await asyncio.sleep(RETRY_S)
            except NotFoundError:  # its summary is gone
                self._last = 0

    def _end_if_done(self) -> None:
        if self._last is not None and self._seq >= self._last and not self._done.is_set():
            self._done.set()
            self._session.put(message("ended", job_id=self._job.id, state=self._job.status.value))
            self._session.end(NORMAL, "ended")

    async def _put(self, line: Line) -> None:
        await self._session.room()
        shown = _shown(self._log_id, line)
        left_out = line.left_out or None
        item = message("log", attempt=shown.attempt, at=shown.at, line=shown.line, left_out=left_out)
        self._session.put(Item(item.type, item.body, shown.cursor))


def _shown(log_id: str, line: Line) -> LineShown:
    return LineShown(
        cursor=cursor_of(log_id, line.seq), attempt=line.attempt, at=line.at, line=line.text,
        left_out=line.left_out or UNSET,
    )  # fmt: skip


def _whole(query: Query, name: str, *, most: int) -> int | None:
    return None if query.text(name) is None else query.integer(name, default=1, least=1, most=most)


ROUTES: Final[Sequence[Route]] = (
    Route(
        method="GET", path="/v1/jobs/{id}/logs", handler=logs, summary="Read what a job has printed",
        roles=READ,
        query=(
            TENANT, Parameter("attempt", "integer"), Parameter("tail", "integer"),
            Parameter("follow", "boolean"), Parameter("after"), Parameter("limit", "integer"),
        ),
        headers=(LAST,), answers={200: OneOf((LogPage, Media("text/event-stream")))},
        answer_headers=("Cache-Control",), errors=NO_SUCH, lasts=Lasts.BODY,
    ),
)  # fmt: skip
