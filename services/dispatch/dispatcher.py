"""Keeps the slots of a worker busy: a taker of many jobs, whose capabilities and room change."""

from __future__ import annotations

from collections.abc import Callable

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from switchyard.events.errors import UnavailableError
from switchyard.events.lane import LaneKey
from switchyard.services.dispatch.picker.behind import BehindOthers
from switchyard.services.dispatch.picker.passing import passed
from switchyard.services.dispatch.picker.picker import Picker
from switchyard.services.dispatch.work import Work
from switchyard.services.records.workers import WorkerRecord
from switchyard.services.settings import Settings

log = structlog.get_logger()


class Dispatcher:
    """Finds work for free slots.

    Args:
        nc: an open connection.
        record: what this worker says of itself now; decides which lanes fit.
        weights: those of the tenants of a kind that shares its workers fairly.
        free: slots that are free now.
        room: how many more attempts the jobs of a lane may have.
        start: starts a job of a lane that has room, on a free slot.
    """

    def __init__(
        self,
        nc: Client,
        settings: Settings,
        *,
        record: Callable[[], WorkerRecord],
        weights: Callable[[str], dict[str, int]],
        free: Callable[[], int],
        room: Callable[[LaneKey], int],
        start: Callable[[Work, LaneKey], None],
    ) -> None:
        self.stopped = False
        self._nc, self._timeout_s = nc, settings.request_timeout_s
        own = BehindOthers(nc, timeout_s=settings.request_timeout_s)
        self._picker = Picker(nc, settings, weights=weights, own=own)
        self._free = free
        self._scan = self._picker.keep(record=record, free=self._free_now, room=room, start=start)
        self.puller = self._scan.puller
        self.tokens = self._picker.tokens
        self.start = self._picker.start
        self.stop = self._picker.stop
        self.load = self._picker.load
        self.follow_lanes = self._picker.follow_lanes
        self.count_lanes = self._picker.count_lanes

    def _free_now(self) -> int:
        return 0 if self.stopped else self._free()

    async def on_offer(self, message: Msg) -> None:
        """Take a job that another process has sent here, because it does not fit there."""
        try:
            work = await passed(self._nc, message, timeout_s=self._timeout_s)
        except UnavailableError as error:
            log.warning(
                "offer_not_read", error=str(error), effect="the job comes again when its time is over"
            )
            return
        if work is None:
            log.warning("offer_refused", subject=message.subject, why="it names no event of a job")
            return
        self._scan.on_arrival(work)

    def wake(self) -> None:
        """A slot came free, or the worker is stopping."""
        self._scan.look_afresh()

    async def rematch(self) -> None:
        """Decide about every lane again, because the worker's capabilities have changed."""
        await self._picker.rematch(self._scan)

    def refit(self, kind: str) -> None:
        """Decide about a kind's lanes again, because it came to have room or none."""
        self._picker.refit(self._scan, kind)

    async def run(self) -> None:
        """Give every free slot the right job, until `stopped`; what is left over is handed back."""
        while not self.stopped:
            self._scan.wake.clear()
            if self._free() and not await self._scan.fill():
                await self._scan.wait()
            elif not self._free():
                await self.tokens.give_back_spare()
                await self._scan.return_arrived()  # what came before the worker was paused
                await self._scan.wake.wait()
        await self._scan.return_arrived()
