"""Which job next: exact priority, then first in, first out, over the lanes that fit."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable
from typing import Final

import structlog
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.lane import LaneEntry, LaneKey
from switchyard.services.broker.bucket import Bucket, Entry, follow
from switchyard.services.broker.connection import on_reconnect
from switchyard.services.broker.jetstream import NAK
from switchyard.services.broker.puller import Puller
from switchyard.services.dispatch.choice import Candidate, Choice, Source
from switchyard.services.dispatch.heads import UNSEEN, Head, Heads
from switchyard.services.dispatch.limit_tokens import Tokens
from switchyard.services.dispatch.work import Work, parse_work
from switchyard.services.records.lane_entries import LANES, place_of
from switchyard.services.records.lanes import is_ranked
from switchyard.services.records.workers import WorkerRecord
from switchyard.services.settings import Settings

log = structlog.get_logger()

LOOKS: Final = 8  # in one choice; with more than fifty workers that choose at the same moment all are used
NO_LANE: Final = 0, LaneEntry(""), 0


class Dispatcher:
    """Follows the bucket `lanes` and finds work for free slots.

    Args:
        nc: an open connection.
        puller: started by `run`.
        record: what this worker says of itself now; decides which lanes fit.
        weights: of the tenants of a kind that shares its workers fairly.
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
        self._nc = nc
        self._bucket = Bucket(nc, LANES, timeout_s=settings.request_timeout_s)
        self._settings = settings
        self._record = record
        self._free = free
        self._room = room
        self._start = start
        self._lanes: dict[str, tuple[int, LaneEntry, int]] = {}
        self._sources: dict[int, dict[str, Source]] = defaultdict(dict)
        self._arrived: list[Work] = []
        self._wake = asyncio.Event()
        self.stopped = False
        self._handing_back: set[asyncio.Task[None]] = set()
        self.puller: Puller[Work] = Puller(
            nc,
            subjects.WORK,
            parse_work,
            timeout_s=settings.request_timeout_s,
            stray=self._on_arrival,
            refused=self.wake,
        )
        self.tokens = Tokens(nc, settings, wake=self.wake)
        self._heads = Heads(nc, timeout_s=settings.request_timeout_s)
        self._choice = Choice(weights)
        on_reconnect(nc, self._on_reconnect)

    def _on_reconnect(self) -> None:
        self.puller.forget_waits()
        self.tokens.puller.forget_waits()
        self._wake.set()

    async def start(self) -> None:
        """Open the inboxes."""
        await self.puller.start()
        await self.tokens.puller.start()
        await self._heads.start()

    async def stop(self) -> None:
        """Close the inboxes after what is on its way has come in and been handed back."""
        await self.puller.stop()
        await self.tokens.puller.stop()
        await self._heads.stop()

    def wake(self) -> None:
        """A slot came free, or the worker is stopping."""
        self._wake.set()

    # --- The lanes that fit

    async def load(self) -> None:
        """Learn the lanes before the first start."""
        for entry in await self._bucket.load():
            self._learn(entry)

    async def follow_lanes(self) -> None:
        """Keep the set of fitting consumers current, until cancelled."""
        async for entry in follow(self._bucket):
            self._learn(entry)

    def _learn(self, entry: Entry[LaneEntry]) -> None:
        place = place_of(entry.key)
        consumer, priority = place.consumer, place.priority
        known = self._lanes.get(consumer)
        if entry.value is not None and known is not None and entry.revision == known[2]:
            return  # told twice: a second pull would bring jobs for which there is no slot
        self.puller.forget_wait(consumer)
        if entry.value is None:
            self._lanes.pop(consumer, None)
            self._heads.forget(consumer)
            self._sources[priority].pop(consumer, None)
        else:
            self._lanes[consumer] = priority, entry.value, entry.revision
            self._match(consumer, self._record())

    async def rematch(self) -> None:
        """Decide about every lane again, because the worker's capabilities have changed."""
        record = self._record()
        for consumer in self._lanes:
            self._match(consumer, record)
        await self.puller.drop_waits()
        self._wake.set()

    def refit(self, kind: str) -> None:
        """Decide about a kind's lanes again, because it came to have room or none."""
        record = self._record()
        for consumer, (_, lane, _) in self._lanes.items():
            if lane.kind == kind:
                self._match(consumer, record)

    def _match(self, consumer: str, record: WorkerRecord) -> None:
        priority, key, _ = self._lanes[consumer]
        if record.fits(key) and self._room(key):
            rank = record.rank(key) if is_ranked(key) else None
            self._sources[priority][consumer] = Source(consumer, priority, key, rank)
            self._wake.set()
        else:
            self._sources[priority].pop(consumer, None)

    # --- Work for free slots

    async def run(self) -> None:
        """Give every free slot the right job, until `stopped`; what is left over is handed back."""
        while not self.stopped:
            self._wake.clear()
            if self._free() and not await self._fill():
                await self._wait()
            elif not self._free():
                await self.tokens.give_back_spare()
                await self._return_arrived()  # what came before the worker was paused
                await self._wake.wait()
        await self._return_arrived()

    async def _fill(self) -> bool:
        """Start what is there now on the free slots; whether there was anything."""
        arrived, self._arrived = self._arrived, []
        wanted = self._free()
        unknown = self._unknown()
        if wanted == 1 and not arrived and _is_lone(unknown):
            return False  # nothing to choose between: the pull that waits brings what is there as well
        found = [work for work in arrived if not self._limits(work)]
        for work in arrived:
            if limits := self._limits(work):
                found += await self._granted(work, limits)
        for priority, sources in unknown.items():
            ahead = sum(1 for work in found if work.priority >= priority)
            if ahead >= wanted:
                break
            found = found + await self._take(sources, wanted - ahead)
        found.sort(key=lambda work: (-work.priority, work.seq))
        wanted = 0 if self.stopped else min(wanted, self._free())  # it may have been paused meanwhile
        started, left = 0, []
        for work in found:
            lane = self._lane(work)
            if started < wanted and self._room(lane):
                self._start(work, lane)
                started += 1
            else:
                left.append(work)
        await self._hand_back(left)
        await self.tokens.give_back_spare()
        return started > 0

    def _lane(self, work: Work) -> LaneEntry:
        """The lane that a delivery came from."""
        return self._lanes.get(work.consumer, NO_LANE)[1]

    def _limits(self, work: Work) -> tuple[str, ...]:
        return self._lane(work).limits

    async def _granted(self, work: Work, limits: tuple[str, ...]) -> list[Work]:
        """A job that came by a waiting pull, with its tokens; without them it goes back."""
        grants = await self.tokens.take(limits, 1)
        if grants:
            return [work._replace(grant=grants[0])]
        await self._hand_back([work])
        return []

    def _unknown(self) -> dict[int, list[Source]]:
        """By priority, highest first, the consumers that may have something: no pull waits on them."""
        unknown: dict[int, list[Source]] = {}
        for priority in sorted(self._sources, reverse=True):
            sources = self._sources[priority]
            open_ones = [sources[name] for name in sorted(sources) if self._is_unknown(sources[name])]
            if open_ones:
                unknown[priority] = open_ones
        return unknown

    def _is_unknown(self, source: Source) -> bool:
        if self.puller.is_waiting(source.consumer):
            return False
        return not (source.key.limits and self.tokens.is_starved(source.key.limits))

    async def _take(self, sources: list[Source], wanted: int) -> list[Work]:
        """Up to `wanted` jobs of one priority, the oldest of all its lanes; a lone lane is asked once."""
        if len(sources) == 1:
            return await self._pull(sources[0], wanted)
        lanes = await self._with_heads(sources)
        taken: list[Work] = []
        while lanes and len(taken) < wanted:
            best = self._choice.best(lanes.values())
            if best.work is None and len(lanes) == 1:  # the only lane left gives the rest at once
                rest = await self._pull(best.source, wanted - len(taken))
                for _ in rest:
                    self._choice.took(best.source)
                return taken + rest
            lane = best if best.work is not None else await self._verified(lanes, best)
            if lane is None or lane.work is None:
                continue
            del lanes[lane.source.consumer]
            taken.append(lane.work)
            self._choice.took(lane.source)
            if len(taken) < wanted and (head := await self._heads.after(lane.work)) is not None:
                lanes[lane.source.consumer] = Candidate(lane.source, head)
        await self._hand_back([lane.work for lane in lanes.values() if lane.work is not None])
        return taken

    async def _verified(self, lanes: dict[str, Candidate], lane: Candidate) -> Candidate | None:
        """Take a lane's head; while it is newer than was seen, look whether another lane has an older one.

        Then others choose as well. Each holds two jobs at most, and takes from any of the lanes that go
        before: would all take from the one with the oldest, it would run ahead of the rest.
        """
        held = await self._grasp(lanes, lane)
        for _ in range(LOOKS):
            if held is None or not (older := _older(lanes, held)):
                break
            await self._look_again(lanes, older)
            if not (older := _older(lanes, held)):
                break
            other = await self._grasp(lanes, random.choice(older))  # noqa: S311 - it guards nothing
            if other is not None:
                held, newer = sorted((held, other), key=lambda each: each.head.seq)
                if newer.work is not None:
                    await self._hand_back([newer.work])
                    newer.work = None
        in_hand = [each for each in lanes.values() if each.work is not None]
        return self._choice.best(in_hand) if in_hand else None

    async def _grasp(self, lanes: dict[str, Candidate], lane: Candidate) -> Candidate | None:
        """Take the head of a lane; None, and the lane is no candidate any more, when it has none."""
        found = await self._pull(lane.source, 1)
        if not found:
            del lanes[lane.source.consumer]
            return None
        lane.work = found[0]
        lane.head = Head(lane.work.delivery.seq, lane.work.delivery.pending)
        return lane

    async def _with_heads(self, sources: list[Source]) -> dict[str, Candidate]:
        """The lanes that have something; a job that cannot be seen is taken to find out."""
        heads = await self._heads.look([source.consumer for source in sources])
        lanes = {
            source.consumer: Candidate(source, heads[source.consumer])
            for source in sources
            if source.consumer in heads
        }
        unseen = [lane for lane in lanes.values() if lane.head == UNSEEN]
        async with asyncio.TaskGroup() as group:
            for lane in unseen:
                group.create_task(self._grasp(lanes, lane))
        return lanes

    async def _look_again(self, lanes: dict[str, Candidate], older: list[Candidate]) -> None:
        """Move on to the heads that these lanes have now."""
        heads = await self._heads.look([lane.source.consumer for lane in older])
        for lane in older:
            lane.head = heads.get(lane.source.consumer, UNSEEN)
            if lane.head == UNSEEN:
                del lanes[lane.source.consumer]

    async def _pull(self, source: Source, wanted: int) -> list[Work]:
        wanted = min(wanted, self._room(source.key))
        if wanted == 0:
            return []
        if not source.key.limits:
            works = await self.puller.take(source.consumer, wanted, source.rank)
            self._heads.taken(source.consumer, works)
            return works
        grants = await self.tokens.take(source.key.limits, wanted)
        if not grants:
            return []
        works = await self.puller.take(source.consumer, len(grants), source.rank)
        self._heads.taken(source.consumer, works)
        for grant in grants[len(works) :]:
            await self.tokens.end(grant, started=False)
        return [work._replace(grant=grant) for work, grant in zip(works, grants, strict=False)]

    async def _return_arrived(self) -> None:
        arrived, self._arrived = self._arrived, []
        await self._hand_back(arrived)

    async def _hand_back(self, works: list[Work]) -> None:
        """Give back what there is no slot for, newest first, so that the oldest is delivered first again."""
        for work in sorted(works, key=lambda work: work.seq, reverse=True):
            await self.puller.answer(work, NAK)
            self._heads.handed_back(work)
            if work.grant is not None:
                await self.tokens.end(work.grant, started=False)

    async def _wait(self) -> None:
        """Keep a pull open on every fitting consumer until something comes."""
        for sources in list(self._sources.values()):
            for source in list(sources.values()):
                if not (source.key.limits and await self.tokens.wait(source.key.limits)):
                    await self.puller.wait_on(source.consumer, source.rank)
        try:
            async with asyncio.timeout(min(self.puller.next_expiry_s(), self.tokens.puller.next_expiry_s())):
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


def _older(lanes: dict[str, Candidate], held: Candidate) -> list[Candidate]:
    """The lanes whose heads go before what is held, as far as is known; sharing tenants take turns."""
    shared = held.source.key.kind if held.source.key.tenant else None
    return [
        lane
        for lane in lanes.values()
        if lane.work is None
        and lane.head.seq < held.head.seq
        and not (lane.source.key.tenant and lane.source.key.kind == shared)
    ]


def _is_lone(unknown: dict[int, list[Source]]) -> bool:
    """Whether one consumer without limits is all that may have something."""
    sources = [source for found in unknown.values() for source in found]
    return len(sources) == 1 and not sources[0].key.limits
