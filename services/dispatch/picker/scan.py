"""One look over the lanes that fit some takers: heads are seen, and each taker gets the right job."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from nats.aio.client import Client

from switchyard.events.lane import LaneEntry, LaneKey
from switchyard.services.broker.jetstream import NAK
from switchyard.services.dispatch.choice import Candidate, Choice, Source, older_than
from switchyard.services.dispatch.heads import UNSEEN, Head, Heads
from switchyard.services.dispatch.limit_tokens import Tokens
from switchyard.services.dispatch.picker.puller import WorkPuller
from switchyard.services.dispatch.work import Work
from switchyard.services.records.lane_entries import LanePlace
from switchyard.services.records.lanes import is_ranked
from switchyard.services.records.workers import WorkerRecord

LOOKS: Final = 8  # in one choice; with more than fifty workers that choose at the same moment all are used
FOREIGN_PAUSE_S: Final = 1.0
MOST_RUN: Final = 64


class OwnJobs(Protocol):
    """Names jobs of the tenants that takers serve, in lanes that begin with others'."""

    async def next(self, record: WorkerRecord, source: Source) -> Work | None:
        """The oldest in a lane that nobody has been given; its work has no `reply`."""

    def back(self, work: Work, *, delay_s: float = 0.0) -> None:
        """Nobody took it; it may be named again after so long."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What all scans of a process share; the lanes stand under their consumers."""

    nc: Client
    timeout_s: float
    lanes: dict[str, tuple[LanePlace, LaneEntry, int]]
    heads: Heads
    choice: Choice
    tokens: Tokens
    own: OwnJobs | None


class Scan:
    """Finds jobs for takers of the same kinds, capabilities and tenants.

    Args:
        shared: with the other scans.
        record: what each of the takers says of itself now; decides which lanes fit.
        free: takers that wait now.
        room: how many more jobs of a lane they take.
        start: gives a job of a lane that has room to a taker.
        looks_always: whether takers hear that there is nothing; else a lone lane is pulled from only
            with a pull that waits.
    """

    def __init__(
        self,
        shared: Shared,
        *,
        record: Callable[[], WorkerRecord],
        free: Callable[[], int],
        room: Callable[[LaneKey], int],
        start: Callable[[Work, LaneKey], None],
        looks_always: bool = False,
    ) -> None:
        self._shared = shared
        self._heads, self._choice, self._tokens = shared.heads, shared.choice, shared.tokens
        self._record = record
        self._free = free
        self._room = room
        self._start = start
        self._looks_always = looks_always
        self._sources: dict[int, dict[str, Source]] = defaultdict(dict)
        self._foreign: dict[str, float] = {}
        self._runs: dict[str, int] = {}
        """By lane, how many jobs are taken at once where others' may be among them."""
        self._arrived: list[Work] = []
        self._loop = asyncio.get_running_loop()
        self._handing_back: set[asyncio.Task[None]] = set()
        self.wake = asyncio.Event()
        self.puller = WorkPuller(
            shared.nc, timeout_s=shared.timeout_s, stray=self.on_arrival, refused=self.wake.set,
            named=shared.own,
        )  # fmt: skip
        for consumer in shared.lanes:
            self.match(consumer)

    # --- The lanes that fit

    def match(self, consumer: str) -> None:
        """Decide about a lane that is new, or about one again."""
        place, key, _ = self._shared.lanes[consumer]
        record = self._record()
        if record.fits(key) and self._room(key):
            rank = record.rank(key) if is_ranked(key) else None
            self._sources[place.priority][consumer] = Source(consumer, *place, key, rank)
            self.wake.set()
        else:
            self._sources[place.priority].pop(consumer, None)

    def forget(self, consumer: str, priority: int) -> None:
        """The lane is gone."""
        self._runs.pop(consumer, None)
        self._sources[priority].pop(consumer, None)

    def look_afresh(self) -> None:
        """Look into all lanes for a taker that comes now, those with others' jobs at their heads as well."""
        self._foreign.clear()
        self.wake.set()

    # --- Work for the takers

    async def fill(self) -> bool:
        """Give what is there now to those who wait; whether there was anything."""
        arrived, self._arrived = self._arrived, []
        wanted = self._free()
        unknown = self._unknown()
        if wanted == 1 and not arrived and not self._looks_always and self._is_lone(unknown):
            return False  # nothing to choose between: the pull that waits brings what is there as well
        found: list[Work] = []
        for work in arrived:
            found += await self._allowed(work)
        for priority, sources in unknown.items():
            ahead = sum(1 for work in found if work.priority >= priority)
            if ahead >= wanted:
                break
            found += await self._take(sources, wanted - ahead)
        found.sort(key=lambda work: (-work.priority, work.seq))
        wanted = min(wanted, self._free())  # some may have gone meanwhile
        started, left = 0, []
        for work in found:
            key = self._lane(work)
            if started < wanted and self._room(key):
                self._start(work, key)
                started += 1
            else:
                left.append(work)
        await self.hand_back(left)
        await self._tokens.give_back_spare()
        return started > 0

    def _lane(self, work: Work) -> LaneKey:
        known = self._shared.lanes.get(work.consumer)
        return LaneKey("") if known is None else known[1]

    async def _allowed(self, work: Work) -> list[Work]:
        """A job that came by a waiting pull, with its tokens; it goes back without, or if it is another's."""
        known = self._shared.lanes.get(work.consumer)
        if not self._is_foreign(self._lane(work), work.tenant):
            if known is None or not known[1].limits:
                return [work]
            if grants := await self._tokens.take(known[1].limits, 1):
                return [work._replace(grant=grants[0])]
        await self.hand_back([work])
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
        if self.puller.is_waiting(source.consumer) or self._is_paused(source):
            return False
        return not (source.key.limits and self._tokens.is_starved(source.key.limits))

    def _is_lone(self, unknown: dict[int, list[Source]]) -> bool:
        """Whether one consumer is all that may have something, without limits or jobs to pass by."""
        sources = [source for found in unknown.values() for source in found]
        return (
            len(sources) == 1 and not sources[0].key.limits and not self._record().passes_by(sources[0].key)
        )

    async def _take(self, sources: list[Source], wanted: int) -> list[Work]:
        """Up to `wanted` jobs of one priority, the oldest of all its lanes; a lone lane is asked once."""
        is_mixed = any(self._record().passes_by(source.key) for source in sources)
        if len(sources) == 1 and not is_mixed:
            return await self._pull(sources[0], wanted)
        lanes = await self._with_heads(sources)
        taken: list[Work] = []
        while lanes and len(taken) < wanted:
            best = self._choice.best(lanes.values())
            most = wanted - len(taken)
            if is_mixed:
                most = min(most, self._runs.get(best.source.consumer, 1))
            if best.work is None and len(lanes) == 1 and (most > 1 or not is_mixed):
                # The only lane left gives the rest; a shared one, as many as came without others' before.
                rest = await self._pull(best.source, most)
                if not rest and is_mixed and self._is_paused(best.source):
                    rest = await self._own(best.source)
                for _ in rest:
                    self._choice.took(best.source)
                return taken + rest
            lane = best if best.work is not None else await self._verified(lanes, best)
            if lane is None or lane.work is None:
                continue
            del lanes[lane.source.consumer]
            taken.append(lane.work)
            self._choice.took(lane.source)
            if len(taken) < wanted:
                await self._go_on(lanes, lane.source, lane.work)
        await self.hand_back([lane.work for lane in lanes.values() if lane.work is not None])
        return taken

    async def _verified(self, lanes: dict[str, Candidate], lane: Candidate) -> Candidate | None:
        """Take a lane's head; while it is newer than was seen, look whether another lane has an older one.

        Then others choose as well. Each holds two jobs at most, and takes from any of the lanes that go
        before: would all take from the one with the oldest, it would run ahead of the rest.
        """
        held = await self._grasp(lanes, lane)
        for _ in range(LOOKS):
            if held is None or not (older := older_than(lanes, held)):
                break
            await self._look_again(lanes, older)
            if not (older := older_than(lanes, held)):
                break
            other = await self._grasp(lanes, random.choice(older))  # noqa: S311 - it guards nothing
            if other is not None:
                held, newer = sorted((held, other), key=lambda each: each.head.seq)
                if newer.work is not None:
                    await self.hand_back([newer.work])
                    newer.work = None
        in_hand = [each for each in lanes.values() if each.work is not None]
        return self._choice.best(in_hand) if in_hand else None

    async def _grasp(self, lanes: dict[str, Candidate], lane: Candidate) -> Candidate | None:
        """Take the head of a lane; None, and the lane is no candidate any more, when it has none."""
        found = await self._pull(lane.source, 1)
        if not found and self._is_paused(lane.source):
            found = await self._own(lane.source)
        if not found:
            lanes.pop(lane.source.consumer, None)
            return None
        (lane.work,) = found
        lane.head = Head(lane.work.seq, lane.work.delivery.pending, lane.work.tenant)
        return lane

    async def _with_heads(self, sources: list[Source]) -> dict[str, Candidate]:
        """The lanes that have something; a job that cannot be seen is taken to find out."""
        heads = await self._heads.look([source.consumer for source in sources])
        seen = {source.consumer: source for source in sources if source.consumer in heads}
        lanes = {consumer: Candidate(source, heads[consumer]) for consumer, source in seen.items()}
        unseen = [lane for lane in lanes.values() if lane.head == UNSEEN]
        async with asyncio.TaskGroup() as group:
            for lane in unseen:
                group.create_task(self._grasp(lanes, lane))
        await self._pass_by(lanes, list(lanes.values()))
        return lanes

    async def _go_on(self, lanes: dict[str, Candidate], source: Source, work: Work) -> None:
        """The next job of a lane from which one was just taken."""
        if work.reply:
            head = await self._heads.after(work)
            if head is not None:
                lane = lanes[source.consumer] = Candidate(source, head)
                await self._pass_by(lanes, [lane])
        elif own := await self._own(source):
            lanes[source.consumer] = Candidate(source, Head(own[0].seq, 0, own[0].tenant), own[0])

    async def _look_again(self, lanes: dict[str, Candidate], older: list[Candidate]) -> None:
        """Move on to the heads that these lanes have now."""
        heads = await self._heads.look([lane.source.consumer for lane in older])
        for lane in older:
            lane.head = heads.get(lane.source.consumer, UNSEEN)
            if lane.head == UNSEEN:
                del lanes[lane.source.consumer]
        await self._pass_by(lanes, [lane for lane in older if lane.head != UNSEEN])

    async def _pull(self, source: Source, wanted: int) -> list[Work]:
        wanted = min(wanted, self._room(source.key))
        if wanted == 0:
            return []
        if not source.key.limits:
            return await self._pull_ours(source, wanted)
        grants = await self._tokens.take(source.key.limits, wanted)
        if not grants:
            return []
        works = await self._pull_ours(source, len(grants))
        for grant in grants[len(works) :]:
            await self._tokens.end(grant, started=False)
        return [work._replace(grant=grant) for work, grant in zip(works, grants, strict=False)]

    async def _pull_ours(self, source: Source, wanted: int) -> list[Work]:
        works = await self.puller.take(source.consumer, wanted, source.rank)
        self._heads.taken(source.consumer, works)
        self._runs[source.consumer] = min(MOST_RUN, 2 * max(1, len(works)))
        if foreign := [work for work in works if self._is_foreign(source.key, work.tenant)]:
            self._runs[source.consumer] = 1
            self._pause(source)
            await self.hand_back(foreign)
            works = [work for work in works if not self._is_foreign(source.key, work.tenant)]
        return works

    # --- Lanes that begin with another tenant's job

    def _is_foreign(self, key: LaneKey, tenant: str | None) -> bool:
        record = self._record()
        return tenant is not None and record.passes_by(key) and not record.runs_for(tenant)

    def _pause(self, source: Source) -> None:
        self._foreign[source.consumer] = self._loop.time() + FOREIGN_PAUSE_S

    def _is_paused(self, source: Source) -> bool:
        return self._foreign.get(source.consumer, 0.0) > self._loop.time()

    async def _pass_by(self, lanes: dict[str, Candidate], seen: Iterable[Candidate]) -> None:
        """Put a job that takers may have in the place of one that was seen and they may not."""
        for lane in seen:
            if lane.work is not None or not self._is_foreign(lane.source.key, lane.head.tenant):
                continue
            self._pause(lane.source)
            if own := await self._own(lane.source):
                (lane.work,) = own
                lane.head = Head(lane.work.seq, 0, lane.work.tenant)
            else:
                del lanes[lane.source.consumer]

    async def _own(self, source: Source) -> list[Work]:
        """The oldest job in a lane that takers may have, by name, with its tokens; none or one."""
        own, grants = self._shared.own, []
        if own is None:
            return []
        if source.key.limits and not (grants := await self._tokens.take(source.key.limits, 1)):
            return []
        work = await own.next(self._record(), source)
        if work is not None:
            return [work._replace(grant=grants[0] if grants else None)]
        for grant in grants:
            await self._tokens.end(grant, started=False)
        return []

    # --- What nobody takes, and what is not there yet

    async def return_arrived(self) -> None:
        """Give back what came by pulls that wait."""
        arrived, self._arrived = self._arrived, []
        await self.hand_back(arrived)

    async def hand_back(self, works: Iterable[Work]) -> None:
        """Give back what nobody takes, newest first, so that the oldest is delivered first again."""
        for work in sorted(works, key=lambda work: work.seq, reverse=True):
            if work.reply:  # one passed on would come at once from where it was sent on, again and again
                await self.puller.answer(work, NAK, delay_s=FOREIGN_PAUSE_S * work.is_passed)
                if not work.is_passed:
                    self._heads.handed_back(work)
            elif self._shared.own is not None:
                self._shared.own.back(work)
            if work.grant is not None:
                await self._tokens.end(work.grant, started=False)

    async def wait(self) -> None:
        """Keep a pull open on every fitting consumer until something comes."""
        for sources in list(self._sources.values()):
            for source in list(sources.values()):
                if self._is_paused(source):
                    continue
                if not (source.key.limits and await self._tokens.wait(source.key.limits)):
                    await self.puller.wait_on(source.consumer, source.rank)
        now = self._loop.time()
        self._foreign = {consumer: until for consumer, until in self._foreign.items() if until > now}
        waits = [self.puller.next_expiry_s(), self._tokens.puller.next_expiry_s()]
        waits += [until - now for until in self._foreign.values()]
        try:
            async with asyncio.timeout(min(waits)):
                await self.wake.wait()
        except TimeoutError:
            return

    def on_arrival(self, work: Work) -> None:
        """A waiting pull was answered, or a job passed on: keep it for a taker, or hand it back at once."""
        if not work.is_passed:
            self._heads.taken(work.consumer, [work])
        if len(self._arrived) >= self._free():
            self._handing_back.add(task := self._loop.create_task(self.hand_back([work])))
            task.add_done_callback(self._handing_back.discard)
        else:
            self._arrived.append(work)
            self.wake.set()


def _is_lone(unknown: dict[int, list[Source]]) -> bool:
    """Whether one consumer without limits is all that may have something."""
    sources = [source for found in unknown.values() for source in found]
    return len(sources) == 1 and not sources[0].key.limits
