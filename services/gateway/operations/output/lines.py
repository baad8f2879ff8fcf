"""The log lines of a job: pages of those that are kept, and those that come, without a gap between them."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final, NamedTuple

import msgspec
import structlog
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.vocabulary.ids import JobId
from switchyard.services.broker.part_reader import read_few
from switchyard.services.broker.reader import Stored, follow, last_message
from switchyard.services.dispatch.log_lines import left_out_in
from switchyard.services.gateway.http.query import wrong
from switchyard.services.gateway.live.feed import LiveFeed

log = structlog.get_logger()

PAGE: Final = 256  # lines of 16 KiB at most
MOST_LOOKED_AT: Final = 10_000
"""Lines that are looked at for one page: some 100 ms, most of it in the broker."""
_CURSOR: Final = re.compile(r"([0-9a-f]{1,64}):([0-9]{1,18})")
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class _Stored(msgspec.Struct, frozen=True):
    line: str = ""
    attempt: int = 0
    at: str = ""


_DECODER: Final = msgspec.json.Decoder(_Stored)


class Line(NamedTuple):
    """A line of output.

    Args:
        seq: its place among the lines of all jobs.
        attempt: which has printed it.
        at: when it was passed on, as it is shown.
        text: the line; control characters of a terminal are left in it.
        left_out: how many lines it stands for that were too many; 0 for one of the attempt's own.
    """

    seq: int
    attempt: int
    at: str
    text: str
    left_out: int


class Page(NamedTuple):
    """Lines, the place of the last that was looked at, and whether there are more."""

    lines: list[Line]
    seq: int
    more: bool


class JobLines:
    """Reads log lines; one per gateway.

    Args:
        feed: whose connection is used, and which bounds how many reads there are at once.
    """

    def __init__(self, feed: LiveFeed) -> None:
        self._feed = feed
        self._timeout_s = feed.settings.request_timeout_s

    @property
    def _nc(self) -> Client:
        return self._feed.nc

    async def log_id(self) -> str:
        """Which log of lines this is: another one has other places.

        Raises:
            UnavailableError: the broker does not answer.
        """
        return (await self._feed.log_state(subjects.LOGS)).stream_id

    async def page(self, job_id: JobId, *, after: int, limit: int, attempt: int | None = None) -> Page:
        """Lines after a place, oldest first.

        Args:
            job_id: whose.
            after: the place.
            limit: most lines.
            attempt: only those of one attempt. No more than so many lines are looked at, so that a page may
                have fewer while there are more.

        Raises:
            UnavailableError: the broker does not answer.
        """
        lines: list[Line] = []
        looked, seq = 0, after
        while True:
            wanted = PAGE if attempt is not None else min(PAGE, limit - len(lines))
            found = await self._read(job_id, seq, wanted)
            for stored in found:
                seq = stored.seq
                line = line_of(stored, attempt)
                if line is not None:
                    lines.append(line)
                if len(lines) == limit:
                    last = await last_message(
                        self._nc, subjects.LOGS, subjects.log(job_id), timeout_s=self._timeout_s
                    )
                    return Page(lines, seq, last is not None and last.seq > seq)
            looked += len(found)
            if len(found) < wanted:
                return Page(lines, seq, more=False)
            if looked >= MOST_LOOKED_AT:
                return Page(lines, seq, more=True)

    async def tail(self, job_id: JobId, *, count: int, attempt: int | None = None) -> Page:
        """The last lines, oldest first.

        The broker can be asked for the first and the very last alone, so all are read; what is kept of a job
        is bounded by settings.

        Raises:
            UnavailableError: the broker does not answer.
        """
        lines: deque[Line] = deque(maxlen=count)
        seq = 0
        while found := await self._read(job_id, seq, PAGE):
            lines.extend(line for stored in found if (line := line_of(stored, attempt)) is not None)
            seq = found[-1].seq
            if len(found) < PAGE:
                break
        return Page(list(lines), seq, more=False)

    async def _read(self, job_id: JobId, after: int, limit: int) -> list[Stored]:
        async with self._feed.log_reads:
            return await read_few(
                self._nc, subjects.LOGS, subjects.log(job_id),
                start=after + 1, limit=limit, timeout_s=self._timeout_s,
            )  # fmt: skip

    async def last_seq(self, job_id: JobId) -> int:
        """The place of a job's last line; 0 for none.

        Raises:
            UnavailableError: the broker does not answer.
        """
        last = await last_message(self._nc, subjects.LOGS, subjects.log(job_id), timeout_s=self._timeout_s)
        return 0 if last is None else last.seq

    async def follow(self, job_id: JobId, after: int) -> AsyncGenerator[Stored, None]:
        """What is stored after a place, and what comes, without end."""
        found = follow(
            self._nc, subjects.LOGS, [subjects.log(job_id)], start=after + 1, timeout_s=self._timeout_s
        )
        async with aclosing(found) as lines:
            async for stored in lines:
                yield stored


def line_of(stored: Stored, attempt: int | None) -> Line | None:
    """The line that a message holds; None for one that is not wanted, or cannot be read."""
    try:
        said = _DECODER.decode(stored.data)
    except _UNREADABLE as error:
        log.warning("log_line_unreadable", subject=stored.subject, error=str(error))
        return None
    if attempt is not None and said.attempt != attempt:
        return None
    return Line(stored.seq, said.attempt, said.at, said.line, left_out_in(said.line))


def place_of(cursor: str, log_id: str, field: str) -> int:
    """The place that a cursor says; the beginning where it is one of another log, whose places are others.

    Raises:
        MalformedError: it is no cursor.
    """
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise wrong(field, cursor, "a cursor of log lines")
    return int(found[2]) if found[1] == log_id else 0


def cursor_of(log_id: str, seq: int) -> str:
    """Where a reader resumes that has the line at a place."""
    return f"{log_id}:{seq}"
