"""A subscription read message by message.

nats-py's `next_msg` makes two tasks for every message and can swallow a cancellation; this does neither.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import Self

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from switchyard.services.broker.connection import listen, unlisten


class Inbox:
    """Messages to one subject of our own, in order.

    It is bounded by what its owner asks the broker for.
    """

    def __init__(self, nc: Client, subject: str | None = None) -> None:
        self.subject = subject or nc.new_inbox()
        self._nc = nc
        self._messages: deque[Msg] = deque()
        self._arrival = asyncio.Event()
        self._subscription: Subscription | None = None

    async def __aenter__(self) -> Self:
        """Subscribe."""
        self._subscription = await listen(self._nc, self.subject, self._on_message)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Unsubscribe; what was not read is dropped."""
        if self._subscription is not None:
            with contextlib.suppress(nats.errors.Error):
                await unlisten(self._nc, self._subscription)

    def __len__(self) -> int:
        """How many messages wait to be read."""
        return len(self._messages)

    async def next(self, timeout_s: float) -> Msg:
        """The next message.

        Raises:
            TimeoutError: none came in time.
        """
        if not self._messages:
            self._arrival.clear()
            async with asyncio.timeout(timeout_s):
                await self._arrival.wait()
        return self._messages.popleft()

    async def take(self, timeout_s: float) -> list[Msg]:
        """All messages that are there, at least one.

        Raises:
            TimeoutError: none came in time.
        """
        messages = [await self.next(timeout_s), *self._messages]
        self._messages.clear()
        return messages

    def _on_message(self, message: Msg) -> None:
        self._messages.append(message)
        self._arrival.set()
