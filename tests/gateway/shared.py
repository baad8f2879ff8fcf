"""A gateway that the tests of a module share, each as a tenant of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from tests import site
from tests.gateway.rest import Gateway, gateway

START_S = 60.0
T = TypeVar("T")


class SharedGateway:
    """A gateway with its projector in a thread whose event loop is its own, so that every test's may call it.

    Args:
        broker_url: that of the broker.
        data_dir: for secret and read model.
        limits: settings that differ from the defaults.
    """

    def __init__(self, broker_url: str, data_dir: Path, **limits: Any) -> None:
        self._limits = limits
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="shared gateway", daemon=True)
        self._thread.start()
        self._running = self._wait(self._open(broker_url, data_dir))

    async def _open(self, broker_url: str, data_dir: Path) -> Gateway:
        started: asyncio.Future[Gateway] = self._loop.create_future()
        self._ended = asyncio.Event()
        self._serving = asyncio.create_task(self._serve(broker_url, data_dir, started))
        await asyncio.wait((started, self._serving), return_when=asyncio.FIRST_COMPLETED)
        if self._serving.done():
            await self._serving
        return await started

    async def _serve(self, broker_url: str, data_dir: Path, started: asyncio.Future[Gateway]) -> None:
        async with gateway(broker_url, data_dir, **self._limits) as running:
            started.set_result(running)
            await self._ended.wait()

    @contextlib.asynccontextmanager
    async def visited(self) -> AsyncIterator[Gateway]:
        """The gateway as a test of its own loop has it: with a tenant and connections of the test's."""
        values = self._running.settings.model_dump(exclude_unset=True)
        async with (
            site.opened(Gateway, self._running.nats_url, name="gateway", **values) as found,
            aiohttp.ClientSession() as found.http,
        ):
            found.url = self._running.url
            yield found

    def stop(self) -> None:
        """End the gateway and its thread.

        Raises:
            BaseExceptionGroup: the gateway or its projector had failed.
        """
        try:
            self._wait(self._end())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(timeout=START_S)
            self._loop.close()

    async def _end(self) -> None:
        self._ended.set()
        await self._serving

    def _wait(self, done: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(done, self._loop).result(timeout=START_S)
