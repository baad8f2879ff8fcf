"""Which job next: exact priority, then first in, first out, over the lanes that fit."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable

import msgspec
import structlog
from nats.aio.client import Client

from events import subjects
from events.lane import LaneKey
from services.broker import on_reconnect
from services.log_reader import follow
from services.settings import Settings
from services.worker.puller import NAK, Puller, Work

log = structlog.get_logger()


class Dispatcher:
    """Follows the bucket `lanes` and finds work for free slots.

    Args:
        nc: an open connection.
        puller: started by `run`.
        fits: decides, once per lane, whether this worker may run its jobs.
        free: slots that are free now.
        start: starts a job on a free slot.
    """

    def __init__(
        self,
        nc: Client,
        settings: Settings,
        *,
        fits: Callable[[LaneKey], bool],
        free: Callable[[], int],
        start: Callable[[Work], None],
    ) -> None:
        self._nc = nc
        self._settings = settings
        self._fits = fits
        self._free = free
        self._start = start
        self._lanes: dict[int, set[str]] = defaultdict(set)
        self._arrived: list[Work] = []
        self._wake = asyncio.Event()
        self.stopped = False
        self._handing_back: set[asyncio.Task[None]] = set()
        self.puller = Puller(nc, timeout_s=settings.request_timeout_s, stray=self._on_arrival)
        on_reconnect(nc, self._on_reconnect)

    def _on_reconnect(self) -> None:
        self.puller.forget_waits()
        self._wake.set()

    def wake(self) -> None:
        """A slot came free, or the worker is stopping."""
        self._wake.set()

    async def follow_lanes(self) -> None:
        """Keep the set of fitting consumers current, until cancelled."""
        decoder = msgspec.json.Decoder(LaneKey)
        stream = f"KV_{subjects.BUCKET_LANES}"
        prefix = f"$KV.{subjects.BUCKET_LANES}."
        timeout_s = self._settings.request_timeout_s
        async for message in follow(self._nc, stream, latest=True, timeout_s=timeout_s):
            lane, priority = subjects.parse_lane_entry(message.subject.removeprefix(prefix))
            consumer = subjects.lane_consumer(lane, priority)
            if not message.data:
                self._lanes[priority].discard(consumer)
            elif self._fits(decoder.decode(message.data)):
                self._lanes[priority].add(consumer)
                self._wake.set()

    async def run(self) -> None:
        """Give every free slot the right job, until `stopped`; what is left over is handed back."""
        while not self.stopped:
            self._wake.clear()
            if self._free() and not await self._fill():
                await self._wait()
            elif not self._free():
                await self._return_arrived()  # what came before the worker was paused
                await self._wake.wait()
        await self._return_arrived()

    async def _fill(self) -> bool:
        """Start what is there now on the free slots; whether there was anything."""
        arrived, self._arrived = self._arrived, []
        wanted = self._free()
        found = arrived
        for priority in sorted(self._lanes, reverse=True):
            ahead = sum(1 for work in found if work.priority >= priority)
            if ahead >= wanted:
                break
            found = found + await self._take(sorted(self._lanes[priority]), wanted - ahead)
        found.sort(key=lambda work: (-work.priority, work.seq))
        wanted = 0 if self.stopped else min(wanted, self._free())  # it may have been paused meanwhile
        for work in found[:wanted]:
            self._start(work)
        await self._hand_back(found[wanted:])
        return bool(found[:wanted])

    async def _take(self, consumers: list[str], wanted: int) -> list[Work]:
        """Up to `wanted` jobs of one priority, the oldest of all its lanes; a lone lane is asked once."""
        if len(consumers) == 1:
            return await self.puller.take(consumers[0], wanted)
        async with asyncio.TaskGroup() as group:
            pulls = {name: group.create_task(self.puller.take(name, 1)) for name in consumers}
        heads = {name: pull.result()[0] for name, pull in pulls.items() if pull.result()}
        taken: list[Work] = []
        while heads and len(taken) < wanted:
            oldest = min(heads, key=lambda name: heads[name].seq)
            taken.append(heads.pop(oldest))
            if len(taken) == wanted:
                break
            if not heads:  # the only lane left gives the rest at once
                return taken + await self.puller.take(oldest, wanted - len(taken))
            if next_head := await self.puller.take(oldest, 1):
                heads[oldest] = next_head[0]
        await self._hand_back(list(heads.values()))
        return taken

    async def _return_arrived(self) -> None:
        arrived, self._arrived = self._arrived, []
        await self._hand_back(arrived)

    async def _hand_back(self, works: list[Work]) -> None:
        """Give back what there is no slot for, newest first, so that the oldest is delivered first again."""
        for work in sorted(works, key=lambda work: work.seq, reverse=True):
            await self.puller.answer(work, NAK)

    async def _wait(self) -> None:
        """Keep a pull open on every fitting consumer until something comes."""
        for consumers in list(self._lanes.values()):
            for consumer in list(consumers):
                await self.puller.wait_on(consumer)
        try:
            async with asyncio.timeout(self.puller.next_expiry_s()):
                await self._wake.wait()
        except TimeoutError:
            return

    def _on_arrival(self, work: Work) -> None:
        """A waiting pull was answered: keep the work for a free slot, or hand it back at once."""
        if not self.stopped and len(self._arrived) < self._free():
            self._arrived.append(work)
            self._wake.set()
            return
        task = asyncio.get_running_loop().create_task(self._hand_back([work]))
        self._handing_back.add(task)
        task.add_done_callback(self._handing_back.discard)
