"""A double, connectors of it, and attempts, for tests of the connector."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from switchyard.connectors import Outcome
from switchyard.services.connectors.a1111.connector import A1111Connector
from tests.connectors.a1111.double.server import A1111Double
from tests.connectors.a1111.payloads import connector
from tests.connectors.attempts import LocalAttempt

DEADLINE_S = 60


class Bench:
    def __init__(self, double: A1111Double, url: str, directory: Path) -> None:
        self.double = double
        self.url = url
        self.directory = directory
        self._made: list[A1111Connector] = []

    def connector(self, **settings: Any) -> A1111Connector:
        self._made.append(connector(self.url, **settings))
        return self._made[-1]

    def attempt(self, payload: dict[str, Any] | None = None, number: int = 1, **more: Any) -> LocalAttempt:
        directory = self.directory / f"a{len(list(self.directory.iterdir()))}"
        directory.mkdir()
        return LocalAttempt(directory, payload or {}, number=number, **more)

    async def run(self, payload: dict[str, Any], **settings: Any) -> tuple[LocalAttempt, Outcome]:
        attempt = self.attempt(payload)
        return attempt, await self.run_attempt(attempt, **settings)

    async def run_attempt(self, attempt: LocalAttempt, **settings: Any) -> Outcome:
        async with asyncio.timeout(DEADLINE_S):
            return await self.connector(**settings).run(attempt)

    @contextlib.asynccontextmanager
    async def under_way(self, attempt: LocalAttempt, **settings: Any) -> AsyncIterator[asyncio.Task[Outcome]]:
        """A run whose work has begun."""
        task = asyncio.create_task(self.connector(**settings).run(attempt))
        begun = len(self.double.execution.begun)
        try:
            await until(lambda: len(self.double.execution.begun) > begun or task.done())
            yield task
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def close(self) -> None:
        for each in self._made:
            await each.close()


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not true():
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def open_bench(double: A1111Double, directory: Path) -> AsyncIterator[Bench]:
    async with double.running() as url:
        bench = Bench(double, url, directory)
        try:
            yield bench
        finally:
            await bench.close()
