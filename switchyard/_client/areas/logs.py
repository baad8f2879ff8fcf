"""What jobs have printed, for both clients: `client.logs`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

import aiohttp
import msgspec

from switchyard._client.live import resumed
from switchyard._client.transport import CONNECT_S, Pauses, Transport
from switchyard.models import Model

PAGE: Final = 500
SILENCE_S: Final = 60.0  # the gateway says something every SWITCHYARD_SOCKET_PING_S
MOST_BYTES: Final = 1 << 20
ENDED: Final = "ended"


class LoggedLine(Model, frozen=True):
    """A line of a job's output.

    Args:
        cursor: where to go on after it.
        attempt: which has printed it.
        at: when it was passed on.
        line: the text.
        left_out: how many lines it stands for, where it says that there were too many.
    """

    cursor: str
    attempt: int
    at: datetime
    line: str
    left_out: int = 0


class _Page(msgspec.Struct):
    lines: list[LoggedLine]
    after: str | None = None


class _Line(msgspec.Struct):
    attempt: int
    at: datetime
    line: str
    left_out: int = 0


_PAGE: Final = msgspec.json.Decoder(_Page)
_LINE: Final = msgspec.json.Decoder(_Line)


class AsyncLogs:
    """What jobs have printed."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def read(
        self,
        job_id: str,
        *,
        attempt: int | None = None,
        tail: int | None = None,
        after: str | None = None,
    ) -> AsyncGenerator[LoggedLine, None]:
        """The lines that are kept of a job, oldest first.

        Args:
            job_id: that of the job.
            attempt: only those of this attempt.
            tail: only so many, the last ones.
            after: the cursor of the line after which to begin; not together with `tail`.
        """
        params = _params(attempt, tail)
        if tail is None:
            params["limit"] = str(PAGE)
        place = after
        while True:
            asked = params | ({} if place is None else {"after": place})
            page = _PAGE.decode(await self._transport.call("GET", _path(job_id), params=asked))
            for line in page.lines:
                yield line
            place = page.after
            if place is None:
                return

    async def follow(
        self,
        job_id: str,
        *,
        attempt: int | None = None,
        tail: int | None = None,
        after: str | None = None,
    ) -> AsyncGenerator[LoggedLine, None]:
        """The lines of a job, those that are kept and those that come, until it has ended.

        A lost connection resumes without a gap or a duplicate. The arguments are those of `read`.
        """
        following = _Following(self._transport, job_id, _params(attempt, tail), after)
        async with aclosing(resumed(self._transport, following.connected)) as lines:
            async for line in lines:
                if line is None:
                    return
                yield line


class _Following:
    """Connection after connection, each from where the one before has come to."""

    def __init__(self, transport: Transport, job_id: str, params: dict[str, str], after: str | None) -> None:
        self._transport = transport
        self._path = _path(job_id)
        self._params = params | {"follow": "true"}
        self._after = after

    async def connected(self, pauses: Pauses) -> AsyncGenerator[LoggedLine | None, None]:
        """The lines of one connection; None when the job has ended."""
        params = dict(self._params)
        if self._after is not None:
            params.pop("tail", None)
            params["after"] = self._after
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENCE_S)
        async with self._transport.open("GET", self._path, params=params, timeout=timeout) as answer:
            async for name, place, data in _events(answer.content):
                if name == ENDED:
                    yield None
                    return
                if name == "log" and place:
                    line = _LINE.decode(data)
                    self._after = place
                    pauses.reset()
                    yield LoggedLine(
                        cursor=place, attempt=line.attempt, at=line.at, line=line.line, left_out=line.left_out
                    )


async def _events(content: aiohttp.StreamReader) -> AsyncIterator[tuple[str, str, bytes]]:
    """Type, id and data of server-sent events as they come. Source: WHATWG HTML, 9.2.6."""
    name, place, data, rest = "", "", b"", b""
    async for chunk in content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > MOST_BYTES:
            raise aiohttp.ClientPayloadError("a server-sent event is too long")
        for line in lines:
            field, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            match field:
                case b"event":
                    name = value.decode()
                case b"id":
                    place = value.decode()
                case b"data":
                    data = value
                case b"" if not line and name:
                    yield name, place, data
                    name, place, data = "", "", b""
                case _:
                    pass


def _params(attempt: int | None, tail: int | None) -> dict[str, str]:
    named = (("attempt", attempt), ("tail", tail))
    return {name: str(value) for name, value in named if value is not None}


def _path(job_id: str) -> str:
    return f"/v1/jobs/{quote(job_id, safe='')}/logs"


class SyncLogs:
    """`AsyncLogs` for programs without asyncio: the same arguments, the same errors."""

    def __init__(self, each: Callable[[AsyncGenerator[Any, None]], Iterator[Any]], logs: AsyncLogs) -> None:
        self._each = each
        self._logs = logs

    def read(self, job_id: str, **options: Any) -> Iterator[LoggedLine]:
        """The lines that are kept of a job; see `AsyncLogs.read`."""
        return self._each(self._logs.read(job_id, **options))

    def follow(self, job_id: str, **options: Any) -> Iterator[LoggedLine]:
        """The lines of a job until it has ended; see `AsyncLogs.follow`."""
        return self._each(self._logs.follow(job_id, **options))
