"""Bulk submission: lines go out and answers come in at the same time; a lost connection is made up for."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from contextlib import aclosing
from typing import Any, Final, NamedTuple

import aiohttp
import msgspec

from switchyard._client.json import body_json
from switchyard._client.transport import CONNECT_S, LOST, Pauses, Transport
from switchyard.errors import ApiError
from switchyard.models import BulkAnswer, Submission

UNANSWERED: Final = 1000
ENDED_BY_GATEWAY: Final = frozenset({"too_slow"})
_ANSWER: Final = msgspec.json.Decoder(BulkAnswer)

Lines = Iterable[Submission] | AsyncIterable[Submission]


class _Line(NamedTuple):
    key: str
    body: bytes


def _line(submission: Submission, index: int) -> _Line:
    fields: dict[str, Any] = dict(submission)
    key = fields.setdefault("idempotency_key", secrets.token_hex(16))
    return _Line(key, body_json(fields, f"lines[{index}]") + b"\n")


class Bulk:
    """One bulk submission.

    Args:
        transport: to the gateway.
        lines: the jobs; they are taken as the gateway takes them, at most `UNANSWERED` ahead of its answers.
    """

    def __init__(self, transport: Transport, lines: Lines) -> None:
        self._transport = transport
        self._lines = lines
        self._unanswered: deque[_Line] = deque()
        self._waiting: asyncio.Queue[_Line | None] = asyncio.Queue(maxsize=1)
        self._room = asyncio.Semaphore(UNANSWERED)
        self._read_all = False
        self._answered = 0
        self._fault: Exception | None = None

    async def run(self) -> AsyncGenerator[BulkAnswer, None]:
        """One answer per line, in order.

        Raises:
            InvalidValueError: a line cannot be sent; those before it are, and are answered first.
            ApiError: the gateway refuses the whole.
            UnreachableError: it does not answer, after all tries.
        """
        reading = asyncio.create_task(self._read())
        pauses = self._transport.pauses()
        try:
            while self._unanswered or await self._more():
                try:
                    async with aclosing(self._connection(pauses)) as answers:
                        async for answer in answers:
                            yield answer
                    continue
                except (ApiError, *LOST) as error:
                    if not pauses.another(error):
                        if isinstance(error, ApiError):
                            raise
                        raise self._transport.unreachable(error) from error
                    failed: Exception = error
                await pauses.wait(failed)
            if self._fault is not None:
                raise self._fault
        finally:
            reading.cancel()
            await asyncio.wait([reading])

    async def _read(self) -> None:
        """Take lines from the caller, who may be slow, apart from the connection, which may end."""
        try:
            index = 0
            if isinstance(self._lines, AsyncIterable):
                async for submission in self._lines:
                    await self._put(_line(submission, index))
                    index += 1
            else:
                for index, submission in enumerate(self._lines):
                    await self._put(_line(submission, index))
        except Exception as error:  # noqa: BLE001 - the caller's lines; it gets its error after the answers
            self._fault = error
        await self._waiting.put(None)

    async def _put(self, line: _Line) -> None:
        await self._room.acquire()
        await self._waiting.put(line)

    async def _more(self) -> bool:
        """Wait for one more line; whether there is one."""
        if not self._read_all:
            line = await self._waiting.get()
            if line is None:
                self._read_all = True
            else:
                self._unanswered.append(line)
        return not self._read_all

    async def _body(self) -> AsyncIterator[bytes]:
        for line in list(self._unanswered):
            yield line.body
        while await self._more():
            yield self._unanswered[-1].body

    async def _connection(self, pauses: Pauses) -> AsyncGenerator[BulkAnswer, None]:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S)
        headers = {"Content-Type": "application/x-ndjson"}
        async with self._transport.open(
            "POST", "/v1/jobs/bulk", body=self._body(), headers=headers, timeout=timeout
        ) as response:
            async for raw in response.content:
                answer = _ANSWER.decode(raw)
                if answer.error and answer.error["code"] in ENDED_BY_GATEWAY:
                    return
                pauses.reset()
                line = self._unanswered.popleft()
                self._room.release()
                yield msgspec.structs.replace(answer, index=self._answered, idempotency_key=line.key)
                self._answered += 1
            if self._unanswered or not self._read_all:
                raise aiohttp.ClientPayloadError("the gateway ended the bulk submission early")
