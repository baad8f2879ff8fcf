"""A broker of an operator's own, with the file of `switchyard nats-config`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, TypeVar

from nats.aio.client import Client

from switchyard.services.broker import connection
from switchyard.services.broker.rights import files, users
from switchyard.services.broker.rights.table import Part
from switchyard.services.broker.server.server import find_binary
from tests.ports import free_port

READY_S: Final = 60.0
VIOLATION: Final = "Violation"
S = TypeVar("S", bound="Site")


class Site:
    """A nats-server with accounts.

    Args:
        directory: for its configuration, log and data.
        their: the directory of the users; `users` in the first without.
        further: what else its configuration says.
    """

    def __init__(self, directory: Path, *, their: Path | None = None, further: str = "") -> None:
        self.directory = directory
        self.users = their or directory / "users"
        self.further = further
        self._there = os.path.relpath(self.users, directory)
        self.port = free_port()
        self.log = directory / "nats.log"
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"nats://127.0.0.1:{self.port}"

    def add(self, *workers: str) -> None:
        """Make users for all parts, and for some workers."""
        users.change(
            self.users, parts=list(users.ALONE), workers=list(workers), rotate=[], remove=[], force=False
        )

    def key(self, part: Part, worker: str = "") -> Path:
        """The file of a key."""
        return users.key_file(self.users, part, worker)

    async def start(self) -> None:
        """Start it, and return when it listens."""
        config = self.directory / "nats-server.conf"
        config.write_text(
            f'listen: "127.0.0.1:{self.port}"\nlog_file: "{self.log}"\n'
            f'jetstream {{ store_dir: "{self.directory / "js"}"\n'
            "  max_file_store: 1TB, max_memory_store: 1GB }\n"
            f'{self.further}include "{self._there}/{users.SERVER}"\n'
        )
        self._process = await asyncio.create_subprocess_exec(str(find_binary()), "-c", str(config))
        async with asyncio.timeout(READY_S):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    writer.close()
                    await writer.wait_closed()
                    return
                assert self._process.returncode is None, self.log.read_text()
                await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """End it."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()

    def reload(self) -> None:
        """Have it read its configuration again, as `nats-server --signal reload` does."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def violations(self) -> list[str]:
        """What its log says of rights that were missing."""
        return [line for line in self.log.read_text().splitlines() if VIOLATION in line]

    @contextlib.asynccontextmanager
    async def connected(self, part: Part, worker: str = "") -> AsyncIterator[Client]:
        """A connection of a part or worker."""
        nc = await connection.connect(
            self.url, name=f"test-{part}", credentials=files.read(self.key(part, worker))
        )
        try:
            yield nc
        finally:
            await nc.close()


@contextlib.asynccontextmanager
async def running(directory: Path, *workers: str) -> AsyncIterator[Site]:
    """A broker that runs, with users for all parts and for some workers."""
    async with started(Site(directory), *workers) as site:
        yield site


@contextlib.asynccontextmanager
async def started(site: S, *workers: str) -> AsyncIterator[S]:
    """A broker that runs for the block, with users for all parts and for some workers."""
    site.add(*workers)
    try:
        await site.start()
        yield site
    finally:
        await site.stop()
