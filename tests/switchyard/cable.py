"""Between a client and a gateway: a proxy that breaks connections and refuses requests when asked to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit

BLOCK_BYTES = 16 * 1024


class Cable:
    """Forwards bytes both ways.

    Args:
        target: URL of the gateway.
    """

    def __init__(self, target: str) -> None:
        self.leads_to(target)
        self._writers: set[asyncio.StreamWriter] = set()
        self._connections: set[asyncio.Task[None]] = set()
        self.url = ""
        self.connections = 0
        self.cut_after: list[int] = []
        """For each next connection, after how many bytes to the client it is cut."""
        self.answers: list[bytes] = []
        """For each next connection, what is answered without asking the gateway."""
        self.swallow = 0
        """How many next connections are cut when the gateway has answered, before the client hears of it."""

    def leads_to(self, target: str) -> None:
        """Forward the connections to come to another gateway."""
        parts = urlsplit(target)
        self._target = (str(parts.hostname), int(parts.port or 80))

    def cut(self) -> None:
        """Break all connections."""
        for writer in self._writers:
            writer.transport.abort()

    async def ended(self) -> None:
        """Returns when no connection is left."""
        while self._connections:
            self.cut()
            await asyncio.wait(self._connections, timeout=0.05)  # one that is being made is cut once it is

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        self.connections += 1
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError), self._held(writer):
                if self.answers:
                    await self._answer(self.answers.pop(0), reader, writer)
                else:
                    await self._forward(reader, writer)
        except* OSError:
            pass

    async def _answer(
        self, answer: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        limit = self.cut_after.pop(0) if self.cut_after else None
        if self.swallow:
            self.swallow -= 1
            limit = 0
        there_reader, there_writer = await asyncio.open_connection(*self._target)
        with self._held(there_writer):
            async with asyncio.TaskGroup() as group:
                up = group.create_task(_copy(reader, there_writer, None))
                await _copy(there_reader, writer, limit)
                up.cancel()

    @contextlib.contextmanager
    def _held(self, writer: asyncio.StreamWriter) -> Iterator[None]:
        """Let `cut` break a connection, and break it at the end whatever happens."""
        self._writers.add(writer)
        try:
            yield
        finally:
            self._writers.discard(writer)
            writer.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: int | None) -> None:
    while block := await reader.read(BLOCK_BYTES):
        if limit is not None:
            block = block[:limit]
            limit -= len(block)
        writer.write(block)
        await writer.drain()
        if limit == 0:
            return


@contextlib.asynccontextmanager
async def cable(target: str) -> AsyncIterator[Cable]:
    """A cable to a gateway until the block ends."""
    found = Cable(target)
    server = await asyncio.start_server(found._serve, "127.0.0.1", 0)
    found.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield found
    finally:
        server.close()
        await found.ended()


def refusal(status: int, *, retry_after: str | None = None) -> bytes:
    """An answer of a gateway that will not."""
    body = b'{"code":"unavailable","detail":"not now"}'
    header = f"Retry-After: {retry_after}\r\n" if retry_after else ""
    return (
        f"HTTP/1.1 {status} No\r\nContent-Type: application/problem+json\r\n{header}"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    ).encode() + body
