"""What a block leaves in this process: processes, threads, descriptors, and the state there is once."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from pathlib import Path
from typing import Any, Self

from tests.connectors.conformance import children

DEADLINE_S = 90.0
DESCRIPTORS = Path("/proc/self/fd")
SPARE = 20
"""Threads that the loop keeps for later; and descriptors that wait for the garbage collector."""


class Remains:
    """What was there before the block."""

    async def __aenter__(self) -> Self:
        self._children = set(children())
        self._threads = set(threading.enumerate())
        self._descriptors = _descriptors()
        self._state = _state()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Wait until nothing is left but what was there before."""
        if kind is not None:
            return
        assert _state() == self._state
        async with asyncio.timeout(DEADLINE_S):
            while self._more():
                await asyncio.sleep(0.01)

    def _more(self) -> list[Any]:
        threads = [
            thread
            for thread in set(threading.enumerate()) - self._threads
            if not thread.name.startswith("asyncio")
        ]
        descriptors = _descriptors() - self._descriptors
        return [*threads, *(set(children()) - self._children), *range(max(0, descriptors - SPARE))]


def _descriptors() -> int:
    return len(list(DESCRIPTORS.iterdir()))


def _state() -> Any:
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)]
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    return Path.cwd(), handlers, mask, socket.getdefaulttimeout()
