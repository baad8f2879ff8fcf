"""Messages in chunks: what is larger than a peer takes is split, and what comes split is joined.

The Python generation's peers take frames of 1 MiB at most.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any, Final

import msgspec
import orjson
from msgspec import Meta

from switchyard.events.errors import InvalidError, LimitError, RejectedError, UnavailableError
from switchyard.services.intake.faults import from_msgspec

TYPE: Final = "chunked_message"
WHOLE_BYTES: Final = 900_000
"""What is no longer than this is sent in one frame."""
FRAME_BYTES: Final = 1_000_000
"""The longest chunk as it is sent, with what escaping adds to its text."""
AT_ONCE: Final = 4
"""Messages that one peer may have begun."""
MOST_CHUNKS: Final = 10_000
TRIES: Final = 120
PAUSE_S: Final = 0.5


class _Named(msgspec.Struct, frozen=True):
    job_id: str | None = None


_JOB_ID: Final = msgspec.json.Decoder(_Named)


def split(type_: str, body: bytes) -> Iterator[bytes]:
    """The frames of a message: itself, or its chunks where it is too long.

    Args:
        type_: that of the message.
        body: it as JSON.
    """
    if len(body) <= WHOLE_BYTES:
        yield body
        return
    digest = hashlib.md5(body, usedforsecurity=False).hexdigest()
    text = body.decode()
    id_ = f"{digest[:8]}-{secrets.token_hex(4)}"
    parts = list(_parts(text))
    job_id = _JOB_ID.decode(body).job_id
    for number, part in enumerate(parts):
        yield orjson.dumps(
            {
                "type": TYPE, "chunk_id": number, "total_chunks": len(parts), "message_id": id_,
                "message_hash": digest, "original_type": type_, "job_id": job_id, "content": part,
            }
        )  # fmt: skip


def _parts(text: str) -> Iterator[str]:
    start = 0
    while start < len(text):
        chars = WHOLE_BYTES
        part = text[start : start + chars]
        while len(orjson.dumps(part)) > FRAME_BYTES - 1000:
            chars //= 2
            part = text[start : start + chars]
        yield part
        start += len(part)


class Chunk(msgspec.Struct, frozen=True):
    """A part of a message."""

    chunk_id: Annotated[int, Meta(ge=0, lt=MOST_CHUNKS)]
    total_chunks: Annotated[int, Meta(ge=1, le=MOST_CHUNKS)]
    message_id: Annotated[str, Meta(min_length=1, max_length=200)]
    content: str
    message_hash: Annotated[str, Meta(max_length=64)] | None = None
    original_type: Annotated[str, Meta(max_length=100)] | None = None
    job_id: Annotated[str, Meta(max_length=300)] | None = None


class Budget:
    """Bytes that all begun messages of a gateway may take.

    Args:
        limit_bytes: how many.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self.used_bytes = 0

    def take(self, size_bytes: int) -> None:
        """Take some.

        Raises:
            LimitError: there are not as many left.
        """
        if self.used_bytes + size_bytes > self._limit:
            message = "the gateway holds as many unfinished messages as it may; send the message again later"
            raise LimitError(message, status=503, code="too_many_chunks")
        self.used_bytes += size_bytes

    @contextlib.asynccontextmanager
    async def held(self, size_bytes: int) -> AsyncIterator[None]:
        """Take some until the block ends; waits while there are too few.

        Raises:
            UnavailableError: that takes too long.
        """
        for _ in range(TRIES):
            try:
                self.take(size_bytes)
                break
            except LimitError:
                await asyncio.sleep(PAUSE_S)
        else:
            raise UnavailableError("the gateway holds as many large messages as it may")
        try:
            yield
        finally:
            self.give(size_bytes)

    def give(self, size_bytes: int) -> None:
        """Give some back."""
        self.used_bytes -= size_bytes


class _Begun:
    """A message of which some chunks are there."""

    def __init__(self, first: Chunk) -> None:
        self.total = first.total_chunks
        self.digest = first.message_hash
        self.parts: dict[int, bytes] = {}
        self.size_bytes = 0


class Joiner:
    """Joins the chunks of one peer. What a peer leaves half sent is dropped with the peer, or by newer ones.

    Args:
        limit_bytes: the largest message.
        budget: what all peers share.
    """

    def __init__(self, limit_bytes: int, budget: Budget) -> None:
        self._limit = limit_bytes
        self._budget = budget
        self._begun: OrderedDict[str, _Begun] = OrderedDict()
        self._refused: OrderedDict[str, None] = OrderedDict()

    def add(self, message: dict[str, Any]) -> bytes | None:
        """Take a chunk; the message where it is the last that was missing.

        A chunk of a message that was refused is passed over: its sender has been informed.

        Raises:
            RejectedError: it is no chunk, contradicts others of its message, or that is too large or is not
                what its hash says. What there was of the message is dropped.
        """
        try:
            chunk = msgspec.convert(message, Chunk)
        except msgspec.ValidationError as error:
            raise from_msgspec(error) from None
        if chunk.message_id in self._refused:
            return None
        try:
            return self._add(chunk)
        except RejectedError:
            self._drop(chunk.message_id)
            self._refused[chunk.message_id] = None
            if len(self._refused) > AT_ONCE:
                self._refused.popitem(last=False)
            raise

    def _add(self, chunk: Chunk) -> bytes | None:
        begun = self._begun.get(chunk.message_id)
        if begun is None:
            while len(self._begun) >= AT_ONCE:
                self._drop(next(iter(self._begun)))
            begun = self._begun[chunk.message_id] = _Begun(chunk)
        if chunk.chunk_id >= begun.total or (chunk.total_chunks, chunk.message_hash) != (
            begun.total,
            begun.digest,
        ):
            raise InvalidError("chunk_id: the chunk contradicts others of its message", field="chunk_id")
        content = chunk.content.encode()
        known = begun.parts.get(chunk.chunk_id)
        if known is not None:
            if known != content:
                raise InvalidError("content: the chunk came before with another content", field="content")
            return None
        if begun.size_bytes + len(content) > self._limit:
            message = f"the message has more than {self._limit} bytes"
            raise LimitError(message, status=413, code="message_too_large", field="content")
        self._budget.take(len(content))
        begun.size_bytes += len(content)
        begun.parts[chunk.chunk_id] = content
        self._begun.move_to_end(chunk.message_id)
        return self._whole(chunk.message_id, begun) if len(begun.parts) == begun.total else None

    def _whole(self, id_: str, begun: _Begun) -> bytes:
        body = b"".join(begun.parts[number] for number in range(begun.total))
        if begun.digest and hashlib.md5(body, usedforsecurity=False).hexdigest() != begun.digest.lower():
            raise InvalidError("message_hash: that of what came is another", field="message_hash")
        self._drop(id_)
        return body

    def _drop(self, id_: str) -> None:
        begun = self._begun.pop(id_, None)
        if begun is not None:
            self._budget.give(begun.size_bytes)

    def close(self) -> None:
        """Drop what is half there."""
        for id_ in list(self._begun):
            self._drop(id_)
