"""A completion as a stream of events: what its server says while it says it, and the rest at the end.

The server's text comes as lines of the job's output, each of which names its place in that. What was sent is
not kept, only its digest: at the end it has to be how the answer begins. Where a line is missing, or there is
no place for a reader of live lines, the rest of the answer comes at its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from typing import Any, Final

import msgspec
import structlog
from aiohttp import web

from switchyard.events.errors import LimitError, NotFoundError, RejectedError, UnavailableError
from switchyard.events.job import Job
from switchyard.events.values import Status
from switchyard.services.gateway.app_keys import JOBS, NATS, SETTINGS, TENANT_FILES
from switchyard.services.gateway.doors.compat.answering import Wording, failure, result_file
from switchyard.services.gateway.doors.compat.door import secret_in
from switchyard.services.gateway.doors.compat.jobs import end_of, waited
from switchyard.services.gateway.doors.compat.lines import Line, lines_of
from switchyard.services.gateway.doors.compat.stored import payload_of
from switchyard.services.gateway.http.identity import acting
from switchyard.services.gateway.http.routes import Call
from switchyard.services.gateway.live.admission import DOOR
from switchyard.services.gateway.live.messages import Item, Subscribe
from switchyard.services.gateway.live.session import Session

log = structlog.get_logger()

PING_S: Final = 10.0
NAME: Final = "completion"
WHOLE_BYTES: Final = 16 * 1024 * 1024
"""The largest stored answer that is sent as a stream."""
PIECE_BYTES: Final = 64 * 1024
"""As much is written at once, so that a slow reader is distinguished from one that reads no more."""
HEADERS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # or a proxy would hold events back
}
WAITING: Final = b": waiting\n\n"
DONE: Final = b"data: [DONE]\n\n"
OBJECT: Final = "chat.completion.chunk"
GONE: Final = "the client of its stream went away"


class Stream:
    """The answer to one request.

    Args:
        call: the request.
        job: its job.
        words: those of the door.
        usage: whether it says at its end how many tokens were used.
        is_ours: whether the job is of nobody else, and ends with the request.
    """

    def __init__(self, call: Call[Any], job: Job, words: Wording, *, usage: bool, is_ours: bool) -> None:
        self._call = call
        self._job = job
        self._words = words
        self._usage = usage
        self._beside = {"usage": None} if usage and words.null_usage else {}
        self._is_ours = is_ours
        self._response = web.StreamResponse(headers=HEADERS)
        self._text = Sent()
        made_at = job.created_at
        self._head = {
            "id": f"chatcmpl-{job.id}", "object": OBJECT,
            "created": 0 if made_at is None else int(made_at.timestamp()), "model": call.body.model,
        }  # fmt: skip

    async def sent(self, wait_s: float) -> web.StreamResponse:
        """Send it; returns when it has ended, or nobody reads it any more.

        Args:
            wait_s: how long the answer is waited for.
        """
        request = self._call.request
        until = asyncio.get_running_loop().time() + wait_s
        await self._response.prepare(request)
        try:
            if _is_alone(self._call):
                await self._live(until)
            await self._wait(until)
            try:
                async with contextlib.aclosing(self._rest()) as rest:
                    async for block in rest:
                        await self._write(block)
            except (NotFoundError, LimitError, UnavailableError) as error:
                code = "unavailable" if isinstance(error, UnavailableError) else error.code
                await self._write(event(self._words.refusal(str(error), code)))
            await self._response.write_eof()
        except ConnectionError:
            if request.transport is not None:
                request.transport.abort()  # the peer is gone
            log.info("stream_broken_off", job=self._job.id)
            await self._end()
        return self._response

    async def _end(self) -> None:
        """Cancel the job: nobody else can ask for what comes of it."""
        if not self._is_ours:
            return
        with contextlib.suppress(RejectedError, UnavailableError):  # it has ended, or does by its deadline
            job = await self._call.part(JOBS).current(self._job.id, self._job.tenant)
            if end_of(job) is None:
                await self._call.part(JOBS).cancel(self._call.caller, job, GONE)

    async def _write(self, block: bytes) -> None:
        """Write, and break the connection off where its reader takes nothing for too long.

        The wait is not cancelled: aiohttp cannot wait for its transport any more after that.

        Raises:
            ConnectionError: the peer is gone, or was given up.
        """
        idle_s, loop = self._call.part(SETTINGS).transfer_idle_s, asyncio.get_running_loop()
        for piece in pieces(block):
            transport = self._call.request.transport
            breaking = None if transport is None else loop.call_later(idle_s, transport.abort)
            try:
                await self._response.write(piece)
            finally:
                if breaking is not None:
                    breaking.cancel()

    # --- While it is made

    async def _live(self, until: float) -> None:
        """Send what the server says until the job has ended, or as far as it can be heard."""
        request, door = self._call.request, self._call.request.app[DOOR]
        transport, token = request.transport, secret_in(request)
        if transport is None or token is None:
            return
        gone: ConnectionError | None = None
        try:
            principal = acting(request, await door.admit(request, token))
            async with door.place(), door.session_of(principal, token, Woken) as session:
                # Raised here they would come as some of a group.
                try:
                    wish = Subscribe(id=NAME, jobs=(self._job.id,), progress=False, logs=True)
                    await session.subscribe(wish)
                    async for lines in self._lines(session, until):
                        said = b"".join(self._chunks(lines))
                        for piece in pieces(said or WAITING):
                            with session.sending(transport.abort):
                                await self._response.write(piece)
                except ConnectionError as error:
                    gone = error
                except (RejectedError, UnavailableError) as error:
                    log.info("stream_not_live", job=self._job.id, error=str(error))
        except (RejectedError, UnavailableError) as error:  # there is no place for another reader, say
            log.info("stream_not_live", job=self._job.id, error=str(error))
        if gone is not None:
            raise gone

    async def _lines(self, session: Session, until: float) -> AsyncIterator[list[Line]]:
        """The job's lines as they come; none now and then, while nothing is said."""
        app, loop, after = self._call.request.app, asyncio.get_running_loop(), 0
        while True:
            more = True
            while more:
                lines, place = await lines_of(
                    app[NATS], self._job.id, after, timeout_s=app[SETTINGS].request_timeout_s
                )
                after, more = max([after, place, *(line.seq for line in lines)]), place > 0
                if lines:
                    yield lines
            if self._text.is_broken:
                return
            self._job = await app[JOBS].current(self._job.id, self._job.tenant)
            left_s = until - loop.time()
            if end_of(self._job) is not None or self._job.damage is not None or left_s <= 0:
                return
            try:
                async with asyncio.timeout(min(PING_S, left_s)):
                    if not await session.take():
                        return
            except TimeoutError:
                yield []

    def _chunks(self, lines: list[Line]) -> Iterator[bytes]:
        for line in lines:
            is_first = not self._text.chars
            if piece := self._text.take(line):
                delta = {"role": "assistant", "content": piece} if is_first else {"content": piece}
                yield self._chunk({"index": 0, "delta": delta, "logprobs": None, "finish_reason": None})

    def _chunk(self, choice: Mapping[str, Any]) -> bytes:
        return event({**self._head, "choices": [choice], **self._beside})

    # --- At its end

    async def _wait(self, until: float) -> None:
        loop = asyncio.get_running_loop()
        while end_of(self._job) is None and self._job.damage is None:
            left_s = until - loop.time()
            if left_s <= 0:
                return
            self._job = await waited(self._call, self._job, min(PING_S, left_s))
            await self._write(WAITING)

    async def _rest(self) -> AsyncGenerator[bytes, None]:
        """What of the answer was not sent yet, or why there is none.

        Raises:
            LimitError: the answer is too long, or the tenant has as many files on their way as it may.
            NotFoundError: the answer was stored, and is not there any more.
            UnavailableError: the broker does not answer, or too many files are on their way.
        """
        job = self._job
        if end_of(job) is not Status.SUCCEEDED:
            yield event(self._words.refusal(*failure(job)[1:]))
            return
        named = result_file(job)
        if job.result is not None or named is None:
            for block in self._of_answer(job.result):
                yield block
            return
        files = self._call.part(TENANT_FILES)
        with files.transfer(job.tenant):  # a long answer is in memory as long as its reader takes
            info = await files.files.info(job.tenant, named.file)
            if info.size_bytes > WHOLE_BYTES:
                message = f"the answer has {info.size_bytes} bytes of at most {WHOLE_BYTES} as a stream"
                raise LimitError(message, status=413, code="result_too_large")
            async with contextlib.aclosing(files.files.read(info)) as blocks:
                result = msgspec.json.decode(b"".join([block async for block in blocks]))
            for block in self._of_answer(result):
                yield block

    def _of_answer(self, result: Any) -> Iterator[bytes]:
        answer = result if isinstance(result, dict) else {}
        if not self._text.begins(answer):
            message = f"the answer of job {self._job.id} is another than what was sent of it"
            yield event(self._words.refusal(message, "stream_changed"))
            return
        head = {**(self._head if self._text.chars else {}), **self._beside}
        yield from chunks(answer, usage=self._usage, head=head, sent=self._text.chars)
        yield DONE


class Woken(Session):
    """A connection whose messages are only the word that there is something to read in the log.

    What came while one of them waits says no more, so a server that floods its reader fills no buffer.
    """

    def put(self, item: Item) -> None:
        """Queue a message if none waits."""
        if not self._queue:
            super().put(item)


class Sent:
    """How much of a text was sent, and what.

    Attributes:
        chars: how many of its characters.
        is_broken: whether some of it did not come, so that what follows is not sent before the end.
    """

    def __init__(self) -> None:
        self.chars = 0
        self.is_broken = False
        self._digest = hashlib.sha256()

    def take(self, line: Line) -> str:
        """What a line adds to the text: nothing where it is none of it, or where an attempt repeats it."""
        if line.text_at is None or self.is_broken:
            return ""
        if line.text_at > self.chars:
            self.is_broken = True
            return ""
        piece = line.text[self.chars - line.text_at :]
        self.chars += len(piece)
        self._digest.update(piece.encode("utf-8", "surrogatepass"))
        return piece

    def begins(self, answer: Mapping[str, Any]) -> bool:
        """Whether an answer begins as what was sent."""
        if not self.chars:
            return True
        text = content_of(answer)[: self.chars]
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        return len(text) == self.chars and digest == self._digest.digest()


def content_of(answer: Mapping[str, Any]) -> str:
    """The text of the first choice."""
    choices = answer.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    message = first.get("message") if isinstance(first, dict) else None
    content = message.get("content") if isinstance(message, dict) else None
    return content if isinstance(content, str) else ""


def _is_alone(call: Call[Any]) -> bool:
    """Whether one choice alone is asked for: what a server says of it is said of no other."""
    return payload_of(call.raw).get("n") in (None, 1)


def chunks(
    result: Mapping[str, Any], *, usage: bool, head: Mapping[str, Any] | None = None, sent: int = 0
) -> Iterator[bytes]:
    """A completion as the events of a stream: for each choice what it says, and why it ended.

    Args:
        result: the completion.
        usage: whether the tokens used are said at the end.
        head: what events before these had beside their choices, where there were any.
        sent: how many characters of the first choice they had.
    """
    said = {name: value for name, value in result.items() if name not in ("choices", "usage", "object")}
    said = {**said, "object": OBJECT, **(head or {})}
    choices = result.get("choices")
    for place, choice in enumerate(choices if isinstance(choices, list) else ()):
        if not isinstance(choice, dict):
            continue
        message = choice.get("message")
        delta = dict(message) if isinstance(message, dict) else {}
        if sent and not place:
            delta.pop("role", None)
            delta["content"] = content_of(result)[sent:] or None
            delta = {name: value for name, value in delta.items() if value is not None}
        calls = delta.get("tool_calls")
        if isinstance(calls, list):
            delta["tool_calls"] = [
                {"index": index, **one} for index, one in enumerate(calls) if isinstance(one, dict)
            ]
        first = {
            "index": choice.get("index", place), "delta": delta, "logprobs": choice.get("logprobs"),
            "finish_reason": None,
        }  # fmt: skip
        if delta or choice.get("logprobs") or not sent:
            yield event({**said, "choices": [first]})
        last = {"index": first["index"], "delta": {}, "finish_reason": choice.get("finish_reason") or "stop"}
        yield event({**said, "choices": [last]})
    if usage:
        yield event({**said, "choices": [], "usage": result.get("usage")})


def pieces(block: bytes) -> Iterator[memoryview]:
    """A block in parts of `PIECE_BYTES`."""
    view = memoryview(block)
    for start in range(0, len(view), PIECE_BYTES):
        yield view[start : start + PIECE_BYTES]


def event(data: Any) -> bytes:
    """One event. JSON has no line ends in it."""
    return b"data: " + msgspec.json.encode(data) + b"\n\n"
