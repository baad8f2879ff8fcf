"""Which of several projectors says what concerns the whole system, so that nobody counts it twice.

Each announces itself; the one that started first speaks, and the others are silent while they hear it.
Nothing is stored: when two cannot hear each other, both speak, and when the one that speaks ends without a
word, nobody does for a moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import time
from typing import Final

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from switchyard.events import subjects
from switchyard.services import clock
from switchyard.services.broker.connection import listen, unlisten

BEAT_S: Final = 2.0
LOST_S: Final = 7.0
ID: Final = re.compile(rb"\d{11}\.\d{6}-[0-9a-f]{8}")


class Speaker:
    """Announces one projector and hears the others.

    Args:
        nc: an open connection.
    """

    def __init__(self, nc: Client) -> None:
        self._nc = nc
        # Older ones come first in the order of their names.
        self._id = f"{clock.time_s():018.6f}-{secrets.token_hex(4)}".encode()
        self._heard_at = -LOST_S
        self._wake = asyncio.Event()

    @property
    def speaks(self) -> bool:
        """Whether it is the one."""
        return time.monotonic() - self._heard_at >= LOST_S

    async def run(self) -> None:
        """Announce until cancelled."""
        heard = await listen(self._nc, subjects.SPEAKERS, self._on_other)
        try:
            while True:
                with contextlib.suppress(nats.errors.Error):
                    await self._nc.publish(subjects.SPEAKERS, self._id)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(BEAT_S):
                        await self._wake.wait()
                self._wake.clear()
        finally:
            await unlisten(self._nc, heard)

    def _on_other(self, message: Msg) -> None:
        other = message.data
        if other == self._id or ID.fullmatch(other) is None:
            return
        if other < self._id:
            self._heard_at = time.monotonic()
        elif self.speaks:
            self._wake.set()  # it has only just come, and is to know at once
