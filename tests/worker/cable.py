"""The cable between a client and a broker, which a test can cut."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit


class Cable:
    """Passes bytes both ways while it is whole; refuses connections while it is cut."""

    def __init__(self, broker_url: str) -> None:
        self._broker = urlsplit(broker_url)
        self._writers: set[asyncio.StreamWriter] = set()
        self._connections: set[asyncio.Task[None]] = set()
        self._whole = True
        self.url = ""

    async def open(self) -> asyncio.Server:
        """Take connections."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        user, at, _ = self._broker.netloc.rpartition("@")
        place = f"{user}{at}127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self.url = self._broker._replace(netloc=place).geturl()
        return server

    def cut(self) -> None:
        """Break all connections."""
        self._whole = False
        for writer in self._writers:
            writer.transport.abort()

    def repair(self) -> None:
        """Let connections through again."""
        self._whole = True

    async def ended(self) -> None:
        """Returns when no connection is left; what is made meanwhile ends too."""
        self.cut()
        while self._connections:
            await asyncio.wait(self._connections)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        with contextlib.suppress(OSError), self._held(writer):
            far_reader, far_writer = await asyncio.open_connection(self._broker.hostname, self._broker.port)
            with self._held(far_writer):
                if self._whole:  # it may have been cut meanwhile
                    async with asyncio.TaskGroup() as group:
                        group.create_task(self._pass(reader, far_writer))
                        group.create_task(self._pass(far_reader, writer))

    @contextlib.contextmanager
    def _held(self, writer: asyncio.StreamWriter) -> Iterator[None]:
        """Let `cut` break a connection, and break it at the end whatever happens."""
        self._writers.add(writer)
        try:
            yield
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.transport.abort()


@contextlib.asynccontextmanager
async def open_cable(broker_url: str) -> AsyncIterator[Cable]:
    """A cable to a broker; clients take its `url` for the broker's."""
    cable = Cable(broker_url)
    async with await cable.open():
        yield cable
        await cable.ended()
