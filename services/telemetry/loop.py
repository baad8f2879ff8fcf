"""Whether an event loop still runs, as another thread sees it, and how late its timers are."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from switchyard.services.telemetry.durations import Durations

BEAT_S: Final = 0.25


class Heartbeat:
    """Beats on the loop that runs it."""

    def __init__(self) -> None:
        self.delays = Durations("switchyard_loop_delay_seconds")
        self._due_at = time.monotonic() + BEAT_S

    def stuck_s(self) -> float:
        """For how long the next beat is overdue, now; asked from any thread."""
        return max(0.0, time.monotonic() - self._due_at)

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            self._due_at = time.monotonic() + BEAT_S
            await asyncio.sleep(BEAT_S)
            self.delays.add((), time.monotonic() - self._due_at)
