"""The end of a process: in order where that can be, and in time whatever the broker does."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Final

import structlog

from switchyard._worker import deadline

log = structlog.get_logger()

FAREWELL_S: Final = 2.0
"""Seconds for each thing that is still to be said to the broker at the end."""
FORCED_S: Final = 9.5
"""Seconds after the grace period after which the process ends as it stands."""


async def at_most(seconds: float, work: Coroutine[Any, Any, None], what: str) -> None:
    """Do something that is not worth more time at the end; what it raises is raised."""
    try:
        async with asyncio.timeout(seconds):
            await work
    except TimeoutError:
        log.warning("ending_cut_short", left_out=what, after_s=seconds)


class _Limited:
    """The block of `Patience.limited`: a class, for every attempt has two and a generator costs more."""

    __slots__ = ("_limit", "_limits")

    def __init__(self, limits: set[asyncio.Timeout], limit: asyncio.Timeout) -> None:
        self._limits = limits
        self._limit = limit

    async def __aenter__(self) -> None:
        await self._limit.__aenter__()
        self._limits.add(self._limit)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._limits.discard(self._limit)
        try:
            await self._limit.__aexit__(kind, error, trace)
        except TimeoutError:
            if not self._limit.expired():
                raise
            return True
        return False


class Patience:
    """Limits that begin to run for all that is under way at once, when the end is near."""

    def __init__(self) -> None:
        self._limits: set[asyncio.Timeout] = set()
        self._seconds: float | None = None

    def limited(self) -> _Limited:
        """Without limit, until `lose`; after that, break the block off and continue behind it."""
        return _Limited(self._limits, asyncio.timeout(self._seconds))

    def lose(self, seconds: float) -> None:
        """Give what is under way, and each thing that begins from now on, so many seconds."""
        self._seconds = seconds
        end = asyncio.get_running_loop().time() + seconds
        for limit in self._limits:
            limit.reschedule(end)


class Deadline(deadline.Deadline):
    """Ends the process, in whatever state it is, unless it is lifted in time.

    Args:
        grace_s: seconds that it may take in order.
    """

    def __init__(self, grace_s: float) -> None:
        super().__init__(grace_s + FORCED_S, _end)


def _end() -> None:
    log.error("ending_forced", effect="what was under way is left to the log and to the other processes")
    os._exit(1)
