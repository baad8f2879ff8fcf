"""Events on their way to a peer, one after the other; the feed does not wait for what has to be looked up."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from switchyard.events.errors import NotFoundError, UnavailableError
from switchyard.events.events import AnyEvent, Unreadable
from switchyard.services.gateway.doors.emp.session import EmpSession
from switchyard.services.gateway.live.index import LiveEvent
from switchyard.services.gateway.live.session import SLOW_READER

RETRY_S: Final = 0.5


class Events:
    """The events that a peer has still to be sent, in their order.

    Args:
        session: that of the peer; one that lets too many wait is ended.
        sent: sends what an event is to it.
    """

    def __init__(self, session: EmpSession, sent: Callable[[LiveEvent, AnyEvent], Awaitable[None]]) -> None:
        self._session = session
        self._sent = sent
        self._waiting: deque[LiveEvent] = deque()
        self._filled = asyncio.Event()
        self._limit = session.hub.settings.socket_buffer
        self._is_busy = False

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits."""
        return not self._waiting and not self._is_busy

    def add(self, event: LiveEvent) -> None:
        """Take an event of the log."""
        if len(self._waiting) >= self._limit:
            self._session.end(SLOW_READER, "slow reader")
            return
        self._waiting.append(event)
        self._filled.set()

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            while not self._waiting:
                self._filled.clear()
                await self._filled.wait()
            self._is_busy = True
            await self._send(self._waiting.popleft())
            self._is_busy = False

    async def _send(self, live: LiveEvent) -> None:
        event = live.decoded()
        while not isinstance(event, Unreadable):
            await self._session.room()
            try:
                await self._sent(live, event)
            except NotFoundError:
                return  # it was purged meanwhile
            except UnavailableError:
                await asyncio.sleep(RETRY_S)
            else:
                return
