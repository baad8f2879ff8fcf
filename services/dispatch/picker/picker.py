"""Which job next, for all takers of a process: worker slots, claims over REST, and whoever else takes jobs.

A scan sees the heads of the lanes that fit takers of the same kinds, capabilities and tenants. It chooses
for all of them at once: the highest priority first, then the oldest, by turns where tenants share fairly,
and only what its limits let start. What is taken is verified, because other processes choose as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any, Final

import msgspec
import nats.errors
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.lane import LaneEntry, LaneKey
from switchyard.services.broker.bucket import Bucket, Entry, follow
from switchyard.services.broker.connection import on_reconnect
from switchyard.services.broker.jetstream import NAK
from switchyard.services.dispatch.choice import Choice
from switchyard.services.dispatch.heads import Heads
from switchyard.services.dispatch.limit_tokens import Tokens
from switchyard.services.dispatch.picker.scan import OwnJobs, Scan, Shared
from switchyard.services.dispatch.picker.takers import Crowd
from switchyard.services.dispatch.work import Work
from switchyard.services.records.lane_entries import LANES, LanePlace, place_of
from switchyard.services.records.lanes import is_ranked
from switchyard.services.records.workers import WorkerRecord
from switchyard.services.settings import Settings

PROFILES: Final = 256


class Picker:
    """Follows the lanes, and keeps one scan for all takers that are alike.

    Args:
        nc: an open connection.
        weights: those of the tenants of a kind that shares its workers fairly.
        own: names jobs of the tenants that takers serve behind those of others.
    """

    def __init__(
        self,
        nc: Client,
        settings: Settings,
        *,
        weights: Callable[[str], dict[str, int]],
        own: OwnJobs | None = None,
    ) -> None:
        self._nc = nc
        self._bucket = Bucket(nc, LANES, timeout_s=settings.request_timeout_s)
        self.tokens = Tokens(nc, settings, wake=self._on_token)
        self._lanes: dict[str, tuple[LanePlace, LaneEntry, int]] = {}
        self._shared = Shared(
            nc, settings.request_timeout_s, self._lanes, Heads(nc, timeout_s=settings.request_timeout_s),
            Choice(weights), self.tokens, own,
        )  # fmt: skip
        self._kept: list[Scan] = []
        self._crowds: OrderedDict[bytes, Crowd] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        on_reconnect(nc, self._on_reconnect)

    async def start(self) -> None:
        """Open the inboxes."""
        await self.tokens.puller.start()
        await self._shared.heads.start()
        for scan in self._kept:
            await scan.puller.start()

    async def stop(self) -> None:
        """Close the inboxes after what is on its way has come in and been handed back."""
        for scan in self._kept:
            await scan.puller.stop()
        for crowd in self._crowds.values():
            await crowd.stop()
        await self.tokens.puller.stop()
        await self._shared.heads.stop()

    def _scans(self) -> list[Scan]:
        return self._kept + [crowd.scan for crowd in self._crowds.values()]

    def _on_reconnect(self) -> None:
        self.tokens.puller.forget_waits()
        for scan in self._scans():
            scan.puller.forget_waits()
            scan.wake.set()

    def _on_token(self) -> None:
        for scan in self._scans():
            scan.wake.set()
        if not self._kept and not any(crowd.is_waiting for crowd in self._crowds.values()):
            self._spawn(self.tokens.give_back_spare())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- The lanes

    async def load(self) -> None:
        """Learn the lanes before the first start."""
        for entry in await self._bucket.load():
            self._learn(entry)

    async def follow_lanes(self) -> None:
        """Keep the lanes current, until cancelled."""
        async for entry in follow(self._bucket):
            self._learn(entry)

    async def follow_pauses(self) -> None:
        """Look at lanes again that are resumed, until cancelled."""

        async def heard(message: Any) -> None:
            self.look_again(message.subject.rpartition(".")[2])

        subscription = await self._nc.subscribe(subjects.ALL_LANE_PAUSES, cb=heard)
        try:
            await asyncio.Event().wait()
        finally:
            with contextlib.suppress(nats.errors.Error):
                await subscription.unsubscribe()

    def look_again(self, consumer: str) -> None:
        """A lane was paused or resumed: a resumed consumer does not answer the pulls that it had waiting.

        Tried on nats-server 2.15.1: they were left until the next message came or they ran out.
        """
        for scan in self._scans():
            scan.puller.forget_wait(consumer)
            scan.wake.set()

    def _learn(self, entry: Entry[LaneEntry]) -> None:
        place = place_of(entry.key)
        known = self._lanes.get(place.consumer)
        if entry.value is not None and known is not None and entry.revision == known[2]:
            return  # reported twice: a second pull would bring jobs for which there is no slot
        if entry.value is None:
            self._lanes.pop(place.consumer, None)
            self._shared.heads.forget(place.consumer)
        else:
            self._lanes[place.consumer] = place, entry.value, entry.revision
        for scan in self._scans():
            scan.puller.forget_wait(place.consumer)
            if entry.value is None:
                scan.forget(place.consumer, place.priority)
            else:
                scan.match(place.consumer)

    def count_lanes(self) -> int:
        """Lanes that are known, each of their priorities for one."""
        return len(self._lanes)

    # --- The takers

    def keep(
        self,
        *,
        record: Callable[[], WorkerRecord],
        free: Callable[[], int],
        room: Callable[[LaneKey], int],
        start: Callable[[Work, LaneKey], None],
    ) -> Scan:
        """A scan for slots that stay, whose owner lets it work; the arguments are those of `Scan`."""
        scan = Scan(self._shared, record=record, free=free, room=room, start=start)
        self._kept.append(scan)
        return scan

    async def drop(self, scan: Scan) -> None:
        """Give up a scan whose takers are gone, after what was on its way has been handed back."""
        self._kept.remove(scan)
        await scan.return_arrived()
        await scan.puller.stop()

    async def rematch(self, scan: Scan) -> None:
        """Decide about every lane again, because the capabilities of the scan's takers have changed."""
        for consumer in self._lanes:
            scan.match(consumer)
        await scan.puller.drop_waits()
        scan.wake.set()

    def refit(self, scan: Scan, kind: str) -> None:
        """Decide about a kind's lanes again, because it came to have room or none."""
        for consumer, (_, lane, _) in self._lanes.items():
            if lane.kind == kind:
                scan.match(consumer)

    def crowd(self, record: WorkerRecord) -> Crowd:
        """Those who take one job each and are like this one; they share one scan.

        The crowd that was asked for least lately, and in which nobody waits, is forgotten first.
        """
        said = sorted(record.kinds), record.capabilities, record.tenancy, record.door
        key = msgspec.json.encode(said, order="sorted")
        crowd = self._crowds.get(key)
        if crowd is None:
            crowd = self._crowds[key] = Crowd(self._shared, record)
            idle = [name for name, other in self._crowds.items() if other.is_idle and other is not crowd]
            for name in idle[: max(0, len(self._crowds) - PROFILES)]:
                self._spawn(self._crowds.pop(name).stop())
        self._crowds.move_to_end(key)
        return crowd

    def pass_on(self, work: Work, tenant: str, demand: LaneKey) -> bool:
        """Give a job on to one who waits and fits what its lane does not say; whether there was one.

        Handed back, it would go to whoever waits longest. That may be the same taker each time, if all ask
        again in step, and one that fits and asks just after it would never be given the job.
        """
        fitting = [crowd for crowd in self._crowds.values() if crowd.fits(tenant, demand)]
        if is_ranked(demand):
            best = min((crowd.rank(demand) for crowd in fitting), default=0)
            fitting = [crowd for crowd in fitting if crowd.rank(demand) == best]
        random.shuffle(fitting)
        return any(crowd.give(work) for crowd in fitting)

    def call(self) -> None:
        """Let those go that do not want a job any more."""
        for crowd in self._crowds.values():
            crowd.call()

    async def give_back(self, work: Work) -> None:
        """Give a job back that was taken and does not start, with its places."""
        if work.reply:
            with contextlib.suppress(nats.errors.Error):
                await self._nc.publish(work.reply, NAK)
            self._shared.heads.handed_back(work)
        elif self._shared.own is not None:
            self._shared.own.back(work)
        if work.grant is not None:
            await self.tokens.end(work.grant, started=False)
