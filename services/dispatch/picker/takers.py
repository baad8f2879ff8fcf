"""Takers that come and go, and are alike: each waits for one job, and one scan finds the jobs of all."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable
from typing import Final

import nats.errors
import structlog

from switchyard.events.lane import LaneKey
from switchyard.services.dispatch.picker.scan import Scan, Shared
from switchyard.services.dispatch.work import Work
from switchyard.services.records.workers import WorkerRecord

log = structlog.get_logger()

ALIVE_S: Final = 2.0


class _Taker:
    """One that waits; `given` is its job, or None when it is to look whether it still waits."""

    def __init__(self, until: float, stays: Callable[[], bool]) -> None:
        self.until = until
        self.stays = stays
        self.has_looked = False
        self.is_served = False
        self.given: asyncio.Future[Work | None] = asyncio.get_running_loop().create_future()


class Crowd:
    """Takers of the same kinds, capabilities and tenants; who has waited longest is served first.

    The scan works while somebody waits. When nobody does, nothing stays taken and no pull stays open.

    Args:
        shared: with the other scans.
        record: what each of them says of itself.
    """

    def __init__(self, shared: Shared, record: WorkerRecord) -> None:
        self._record = record
        self._waiting: dict[_Taker, None] = {}
        self._task: asyncio.Task[None] | None = None
        self._left: list[Work] = []
        self._returning: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._has_started = False
        self._has_pulls = False
        self.scan = Scan(
            shared, record=lambda: record, free=lambda: len(self._waiting), room=lambda _: sys.maxsize,
            start=self._give, looks_always=True,
        )  # fmt: skip

    @property
    def is_waiting(self) -> bool:
        """Whether anybody waits."""
        return bool(self._waiting)

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits, and nothing is on its way any more."""
        return not self._waiting and self._task is None and self._returning is None

    async def take(self, until: float, stays: Callable[[], bool] = lambda: True) -> Work | None:
        """The next job; None when there is none in time. A taker that is cancelled has taken nothing.

        Args:
            until: the loop's time at which to give up; all lanes are looked into once in any case.
            stays: whether the taker still wants one; asked now and then, and before it is given one.

        Raises:
            nats.errors.Error: the broker is away.
            UnavailableError: it does not answer.
        """
        taker = _Taker(until, stays)
        self._waiting[taker] = None
        self.scan.look_afresh()
        self._see_served()
        try:
            while not taker.given.done() and stays():
                left_s = until - self._loop.time()
                if left_s <= 0 and taker.has_looked:
                    return None
                await asyncio.wait({taker.given}, timeout=min(left_s, ALIVE_S) if left_s > 0 else ALIVE_S)
            if not taker.given.done():
                return None
            work = taker.given.result()
            taker.is_served = True
            return work
        finally:
            self._leave(taker)

    def _leave(self, taker: _Taker) -> None:
        self._waiting.pop(taker, None)
        if not self._waiting:
            self.scan.wake.set()
        given = taker.given
        if taker.is_served or not given.done() or given.exception() is not None:
            return
        if (work := given.result()) is not None:
            self._return(work)

    def call(self) -> None:
        """Let those go that do not want a job any more."""
        for taker in list(self._waiting):
            if not taker.stays():
                self._let_go(taker)

    def _let_go(self, taker: _Taker) -> None:
        del self._waiting[taker]
        taker.given.set_result(None)
        self.scan.wake.set()

    def fits(self, tenant: str, demand: LaneKey) -> bool:
        """Whether somebody waits who may run a tenant's job that needs this."""
        return bool(self._waiting) and self._record.runs_for(tenant) and self._record.fits(demand)

    def rank(self, demand: LaneKey) -> int:
        """How far behind the best they come that fit, as a record says it."""
        return self._record.rank(demand)

    def give(self, work: Work) -> bool:
        """Give a job to who has waited longest; whether anybody still waits."""
        for taker in list(self._waiting):
            if taker.stays():
                del self._waiting[taker]
                taker.given.set_result(work)
                return True
            self._let_go(taker)
        return False

    def _give(self, work: Work, _lane: LaneKey) -> None:
        if not self.give(work):
            self._return(work)

    def _return(self, work: Work) -> None:
        """Hand back what was given to one that has gone; together, so that the oldest is delivered first."""
        self._left.append(work)
        if self._returning is None:
            self._returning = self._loop.create_task(self._hand_back())

    async def _hand_back(self) -> None:
        try:
            while self._left:
                works, self._left = self._left, []
                await self.scan.hand_back(works)
        finally:
            self._returning = None

    def _see_served(self) -> None:
        if self._task is None:
            self._task = self._loop.create_task(self._serve())
            self._task.add_done_callback(self._ended)

    async def _serve(self) -> None:
        """Find jobs until nobody waits."""
        if not self._has_started:
            await self.scan.puller.start()
            self._has_started = True
        while self._waiting:
            self.scan.wake.clear()
            waiting = list(self._waiting)
            has_found = await self.scan.fill()
            for taker in waiting:
                taker.has_looked = True
                if taker in self._waiting and taker.until <= self._loop.time():
                    self._let_go(taker)
            if not has_found and self._waiting:
                self._has_pulls = True
                await self.scan.wait()
            if not self._waiting:
                await self._rest()

    async def _rest(self) -> None:
        """Hand back what came, and close the pulls that wait."""
        await self.scan.return_arrived()
        if not self._has_pulls:
            return
        try:
            await self.scan.puller.drop_waits()
            self._has_pulls = False
        except (nats.errors.Error, TimeoutError) as error:
            log.warning("claim_pulls_not_closed", error=str(error))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._task = None
        error = None if task.cancelled() else task.exception()
        if error is None and not task.cancelled() and self._waiting:
            self._see_served()  # one came at the last moment
            return
        for taker in list(self._waiting):
            if error is None:
                self._let_go(taker)
            else:
                del self._waiting[taker]
                taker.given.set_exception(error)

    async def stop(self) -> None:
        """Close the inboxes."""
        if self._has_started:
            with contextlib.suppress(nats.errors.Error):
                await self.scan.puller.stop()
