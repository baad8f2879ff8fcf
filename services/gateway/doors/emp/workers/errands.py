"""What goes on whether or not a worker's connection does: offers that end in order, outcomes that wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import structlog
from aiohttp import web

from switchyard.events.errors import LimitError, SwitchyardError, UnavailableError
from switchyard.services.gateway.doors.emp.chunks import Budget

log = structlog.get_logger()

WAIT_S: Final = 900.0
"""How long an outcome waits for a broker that answers."""
FIRST_PAUSE_S: Final = 0.25
MOST_PAUSE_S: Final = 2.0


class Errands:
    """Those of one gateway.

    Args:
        budget: bytes that outcomes which wait may take.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._tasks: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Do them until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            await asyncio.Event().wait()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something to its end.

        Raises:
            UnavailableError: the gateway starts or stops.
        """
        if self._tasks is None:
            work.close()
            raise UnavailableError("the gateway is not ready")
        self._tasks.create_task(_guarded(work))

    def keep(self, job: str, size_bytes: int, doing: Callable[[], Awaitable[None]]) -> None:
        """Do something again and again until the broker answers.

        Args:
            job: whose outcome it is.
            size_bytes: what is held for it.
            doing: hands the outcome in.

        Raises:
            LimitError: too many outcomes wait.
        """
        try:
            self._budget.take(size_bytes)
        except LimitError:
            log.warning("emp_outcome_dropped", job=job, size_bytes=size_bytes, reason="too many wait")
            raise
        self.spawn(self._kept(job, size_bytes, doing))

    async def _kept(self, job: str, size_bytes: int, doing: Callable[[], Awaitable[None]]) -> None:
        log.warning("emp_outcome_waits", job=job, size_bytes=size_bytes)
        pause_s = FIRST_PAUSE_S
        try:
            async with asyncio.timeout(WAIT_S):
                while True:
                    await asyncio.sleep(pause_s)
                    try:
                        await doing()
                    except UnavailableError:
                        pause_s = min(2 * pause_s, MOST_PAUSE_S)
                    else:
                        return
        except TimeoutError:
            log.warning("emp_outcome_dropped", job=job, size_bytes=size_bytes, reason="no broker answered")
        except SwitchyardError as error:
            log.info("emp_outcome_rejected", job=job, error=str(error))
        finally:
            self._budget.give(size_bytes)


async def _guarded(work: Coroutine[Any, Any, None]) -> None:
    """Do it; what goes wrong with one worker is no other's matter."""
    try:
        await work
    except Exception:
        log.exception("emp_errand_failed")


ERRANDS: Final = web.AppKey("emp_errands", Errands)
