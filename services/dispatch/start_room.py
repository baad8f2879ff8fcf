"""Whether workers and pushers may start jobs: not when what is left of the log is kept for ends of jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from nats.aio.client import Client

from switchyard.services.event_store import EventStore
from switchyard.services.records.room import Room
from switchyard.services.settings import Settings


class StartRoom:
    """Follows how full the log is, for one process.

    Args:
        nc: an open connection.
        store: counts what this process writes.
        settings: the data directory and times.
        wake: called when jobs may start again.
    """

    def __init__(
        self, nc: Client, store: EventStore, settings: Settings, *, wake: Callable[[], None] = lambda: None
    ) -> None:
        self._nc = nc
        self._store = store
        self._settings = settings
        self._wake = wake
        self._room = Room(settings)
        self._counted = 0
        self._was_asked_in_vain = False

    @property
    def is_open(self) -> bool:
        """Whether jobs may start now, as far as is known."""
        written = self._store.written_bytes
        self._room.wrote(written - self._counted)
        self._counted = written
        is_open = self._room.why_no_start is None
        self._was_asked_in_vain |= not is_open
        return is_open

    async def load(self) -> None:
        """Learn how full the log is, if the broker says."""
        await self._room.look(self._nc)

    async def run(self) -> None:
        """Look as often as heartbeats go out, until cancelled."""
        while True:
            await asyncio.sleep(self._settings.heartbeat_s)
            await self.load()
            if self._was_asked_in_vain and self._room.why_no_start is None:
                self._was_asked_in_vain = False
                self._wake()
