"""A real nats-server for several tests, independent of any event loop."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

from switchyard.services.broker.server.server import NatsServer
from tests.broker.laid_out import start_laid_out


class SharedBroker:
    """A broker that runs in a thread with an event loop of its own, so that every test's loop may use it.

    The thread lives as long as the broker: the kernel ends the broker when the thread that started it ends.
    """

    def __init__(self, data_dir: Path) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="shared broker", daemon=True)
        self._thread.start()
        start = asyncio.run_coroutine_threadsafe(start_laid_out(data_dir), self._loop)
        self._server: NatsServer = start.result(timeout=30)
        self.url = self._server.url

    def stop(self) -> None:
        """End the broker and its thread."""
        asyncio.run_coroutine_threadsafe(self._server.stop(), self._loop).result(timeout=30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=30)
        self._loop.close()
