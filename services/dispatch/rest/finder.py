"""Finds a job for a worker that claims over REST: the same consumers, order, matching and limits as on NATS.

A worker of a tenant takes that tenant's jobs alone. Lanes may be shared: another tenant's job at the head of
one is handed back at once, and the tenant's own oldest job there is named by the read model and taken by the
guard; its work message is answered by whoever gets it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Coroutine
from typing import Any, Final

import nats.errors
import structlog
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import LimitError, UnavailableError
from switchyard.events.vocabulary.ids import WorkerId
from switchyard.projections.reader import ReadModel
from switchyard.services.broker.bucket import Bucket, follow
from switchyard.services.broker.connection import on_reconnect
from switchyard.services.broker.jetstream import NAK
from switchyard.services.broker.puller import Delivery
from switchyard.services.dispatch.fair_share import FairShare
from switchyard.services.dispatch.limit_tokens import Tokens
from switchyard.services.dispatch.rest.hand import Candidate, Hand
from switchyard.services.dispatch.rest.lane_board import LaneBoard, Profile, Source
from switchyard.services.dispatch.work import Work
from switchyard.services.records import controls
from switchyard.services.records.lane_entries import LANES, place_of
from switchyard.services.records.workers import WorkerRecord
from switchyard.services.settings import Settings

log = structlog.get_logger()

ALIVE_S: Final = 2.0
FOREIGN_PAUSE_S: Final = 1.0
OWN_AT_ONCE: Final = 8
IDLE_HANDS: Final = 256
REST_WORKERS: Final = "rest."


class Claims:
    """Finds jobs for all claimers of one gateway.

    Args:
        nc: an open connection.
        read_model: names a tenant's own jobs behind those of others.
        weights: those of the tenants of a kind that shares its workers fairly.
    """

    def __init__(
        self,
        nc: Client,
        settings: Settings,
        read_model: ReadModel,
        weights: Callable[[str], dict[str, int]],
    ) -> None:
        self._nc = nc
        self._settings = settings
        self._read_model = read_model
        self._board = LaneBoard()
        self._fair = FairShare(weights)
        self.tokens = Tokens(nc, settings, wake=self._on_token)
        self._wishes: dict[str, controls.Wish] = {}
        self._idle: list[Hand] = []
        self._under_way = 0
        self._under_way_of: Counter[str | None] = Counter()
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._taken: OrderedDict[int, float] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        on_reconnect(nc, self._on_reconnect)

    # --- What surrounds the claims

    async def start(self) -> None:
        """Learn the limits, before the first claim.

        Raises:
            UnavailableError: the broker does not answer.
        """
        await self.tokens.puller.start()
        await self.tokens.load()

    async def run(self) -> None:
        """Follow lanes, limits and controls until cancelled."""
        heard = await self._nc.subscribe(subjects.ALL_LANE_PAUSES, cb=self._on_lane_pause)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow_lanes())
                group.create_task(self._follow_wishes())
                group.create_task(self.tokens.run())
        finally:
            with contextlib.suppress(nats.errors.Error):
                await heard.unsubscribe()

    def close(self) -> None:
        """End the claims that wait: they are answered with nothing."""
        self._closed = True
        self._wake_all()

    def wish(self, worker: WorkerId) -> controls.Wish | None:
        """What operators wish of a worker."""
        return self._wishes.get(worker)

    async def _follow_lanes(self) -> None:
        timeout_s = self._settings.request_timeout_s
        async for entry in follow(Bucket(self._nc, LANES, timeout_s=timeout_s)):
            self._board.notify(self._board.learn(place_of(entry.key), entry.value))

    async def _follow_wishes(self) -> None:
        timeout_s = self._settings.request_timeout_s
        async for entry in follow(Bucket(self._nc, controls.CONTROLS, timeout_s=timeout_s), "worker"):
            worker, control = entry.key[1], entry.value
            if not worker.startswith(REST_WORKERS):
                continue
            if control is None:
                self._wishes.pop(worker, None)
            else:
                self._wishes[worker] = control.state
            self._wake_all()

    async def _on_lane_pause(self, message: Any) -> None:
        """A resumed consumer does not answer the pulls that it had waiting."""
        self._board.notify(message.subject.rpartition(".")[2])

    def _on_reconnect(self) -> None:
        self.tokens.puller.forget_waits()
        for watcher in self._board.watchers():
            if isinstance(watcher, Hand):
                watcher.puller.forget_waits()
        self._wake_all()

    def _on_token(self) -> None:
        self._wake_all()
        if not self._under_way:
            self._spawn(self.tokens.give_back_spare())

    def _wake_all(self) -> None:
        for watcher in self._board.watchers():
            if isinstance(watcher, Hand):
                watcher.wake.set()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- One claim

    async def find(self, record: WorkerRecord, until: float, alive: Callable[[], bool]) -> Candidate | None:
        """The next job for a worker, or None when there is none in time.

        Args:
            record: what the worker says of itself.
            until: the loop's time at which to give up.
            alive: whether the claim's client is still there.

        Raises:
            LimitError: too many of the worker's tenant are under way.
            UnavailableError: too many claims are under way.
        """
        if self._under_way >= self._settings.claimers:
            message = f"{self._settings.claimers} claims are under way, the most allowed"
            raise UnavailableError(message, retry_after_s=1.0)
        tenant, most = record.tenant, self._settings.tenant_claimers
        if tenant is not None and self._under_way_of[tenant] >= most:
            message = f"{most} claims of tenant {tenant} are under way, the most allowed"
            raise LimitError(message, code="too_many_claims", retry_after_s=1.0)
        self._under_way += 1
        self._under_way_of[tenant] += 1
        profile = self._board.profile(record)
        hand = self._idle.pop() if self._idle else Hand(self._nc, self._settings, self._back)
        profile.watchers.add(hand)
        try:
            if not hand.started:
                await hand.puller.start()
                hand.started = True
            hand.open = True
            return await self._find(profile, hand, record.id, until, alive)
        finally:
            hand.open = False
            profile.watchers.discard(hand)
            self._under_way -= 1
            self._under_way_of[tenant] -= 1
            if not self._under_way_of[tenant]:
                del self._under_way_of[tenant]
            self._spawn(self._put_away(hand))

    async def _find(
        self, profile: Profile, hand: Hand, worker: WorkerId, until: float, alive: Callable[[], bool]
    ) -> Candidate | None:
        while True:
            hand.wake.clear()
            if self._closed or not alive() or self.wish(worker) == "draining":
                return None
            paused = self.wish(worker) == "paused"
            found = None if paused else await self._next(profile, hand)
            await self.tokens.give_back_spare()
            if found is not None:
                return found
            left_s = until - self._loop.time()
            if left_s <= 0:
                return None
            if not paused:
                await self._wait_on(profile, hand)
                left_s = min(left_s, hand.puller.next_expiry_s(), self.tokens.puller.next_expiry_s())
                if hand.foreign:
                    left_s = min(left_s, FOREIGN_PAUSE_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, ALIVE_S)):
                    await hand.wake.wait()

    async def _put_away(self, hand: Hand) -> None:
        """Hand back what came, and close the pulls that wait, so that the hand can be used again."""
        arrived, hand.arrived = hand.arrived, []
        for candidate in arrived:
            await self.give_back(candidate)
        if not hand.started:
            return  # the broker was away
        try:
            await hand.puller.drop_waits()
        except (nats.errors.Error, TimeoutError) as error:
            log.warning("claim_pulls_not_closed", error=str(error))
            return
        hand.foreign.clear()
        if len(self._idle) < IDLE_HANDS and not self._closed:
            self._idle.append(hand)
        else:
            with contextlib.suppress(nats.errors.Error):
                await hand.puller.stop()

    # --- The next job

    async def _next(self, profile: Profile, hand: Hand) -> Candidate | None:
        """What is there now, the highest priority first, and within one the oldest."""
        best = await self._best_arrived(profile, hand)
        for priority in sorted(profile.sources, reverse=True):
            if best is not None and best.work.priority >= priority:
                break
            sources = [source for source in profile.sources[priority].values() if self._is_open(hand, source)]
            found = await self._take(profile, hand, sources) if sources else None
            if found is not None:
                if best is not None:
                    await self.give_back(best)
                best = found
                break
        return best

    async def _best_arrived(self, profile: Profile, hand: Hand) -> Candidate | None:
        arrived, hand.arrived = hand.arrived, []
        found: list[Candidate] = []
        for candidate in arrived:
            consumer = candidate.work.consumer
            source = profile.sources[candidate.work.priority].get(consumer)
            if source is None:
                await self.give_back(candidate)
            elif not profile.record.runs_for(candidate.tenant):
                await self.give_back(candidate)
                hand.foreign[consumer] = 0.0
            elif not source.key.limits:
                found.append(candidate)
            elif grants := await self.tokens.take(source.key.limits, 1):
                found.append(candidate._replace(grant=grants[0]))
            else:
                await self.give_back(candidate)
        return await self._first(found)

    async def _first(self, found: list[Candidate]) -> Candidate | None:
        """The one that goes first; the others are handed back, the newest first."""
        found.sort(key=lambda candidate: candidate.order)
        for candidate in reversed(found[1:]):
            await self.give_back(candidate)
        return found[0] if found else None

    def _is_open(self, hand: Hand, source: Source) -> bool:
        """Whether it may have something for us: an open pull that waits proves a consumer empty."""
        if hand.puller.is_waiting(source.consumer) or (
            hand.foreign.get(source.consumer, 0.0) > self._loop.time()
        ):
            return False
        return not (source.key.limits and self.tokens.is_starved(source.key.limits))

    async def _take(self, profile: Profile, hand: Hand, sources: list[Source]) -> Candidate | None:
        """The oldest job of one priority's lanes; where tenants share fairly, one lane stands for all."""
        groups: dict[str, list[Source]] = defaultdict(list)
        for source in sources:
            groups[source.key.kind if source.key.tenant else source.consumer].append(source)
        async with asyncio.TaskGroup() as group:
            heads = [group.create_task(self._head(profile, hand, members)) for members in groups.values()]
        first = await self._first([found for head in heads if (found := head.result()) is not None])
        for source in sources:
            if first is not None and source.key.tenant and source.consumer == first.work.consumer:
                self._fair.started(source.key.kind, source.key.tenant)
        return first

    async def _head(self, profile: Profile, hand: Hand, sources: list[Source]) -> Candidate | None:
        by_tenant: dict[str, list[Source]] = defaultdict(list)
        for source in sources:
            by_tenant[source.key.tenant].append(source)
        for tenant in self._fair.order(sources[0].key.kind, by_tenant):
            for source in by_tenant[tenant]:
                if (found := await self._pull(profile, hand, source)) is not None:
                    return found
        return None

    async def _pull(self, profile: Profile, hand: Hand, source: Source) -> Candidate | None:
        grant = None
        if source.key.limits:
            grants = await self.tokens.take(source.key.limits, 1)
            if not grants:
                return None
            grant = grants[0]
        found: Candidate | None = None
        for candidate in await hand.puller.take(source.consumer, 1, source.rank):
            if profile.record.runs_for(candidate.tenant):
                found = candidate
            else:
                await self.give_back(candidate)
                hand.foreign[source.consumer] = self._loop.time() + FOREIGN_PAUSE_S
                found = self._own(profile, source)
        if found is not None:
            return found._replace(grant=grant)
        if grant is not None:
            await self.tokens.end(grant, started=False)
        return None

    def _own(self, profile: Profile, source: Source) -> Candidate | None:
        """The tenant's own oldest job in a lane that begins with another's, by the read model."""
        tenant = profile.record.tenant
        now = self._loop.time()
        while self._taken and next(iter(self._taken.values())) < now:
            self._taken.popitem(last=False)
        if tenant is None or not self._read_model.exists():
            return None
        for job in self._read_model.waiting_of(tenant, source.lane, source.priority, OWN_AT_ONCE):
            if job.claimable_seq not in self._taken:
                # The read model may be a moment behind the claim.
                self._taken[job.claimable_seq] = now + FOREIGN_PAUSE_S
                subject = subjects.claimable_event(job.id, "queued", source.lane, source.priority)
                undelivered = Delivery(source.consumer, 0, 0, 0, 0)
                work = Work(subject, job.claimable_seq, b"", "", undelivered, source.priority)
                return Candidate(work, tenant)
        return None

    async def _wait_on(self, profile: Profile, hand: Hand) -> None:
        """Keep a pull open on every consumer that fits, or on the token that its jobs lack."""
        for sources in list(profile.sources.values()):
            for source in list(sources.values()):
                if hand.foreign.get(source.consumer, 0.0) > self._loop.time():
                    continue
                if not (source.key.limits and await self.tokens.wait(source.key.limits)):
                    await hand.puller.wait_on(source.consumer, source.rank)

    def _back(self, candidate: Candidate) -> None:
        self._spawn(self.give_back(candidate))

    async def give_back(self, candidate: Candidate) -> None:
        """Hand a job back that is not claimed, with its places."""
        if candidate.reply:
            with contextlib.suppress(nats.errors.Error):
                await self._nc.publish(candidate.reply, NAK)
        if candidate.grant is not None:
            await self.tokens.end(candidate.grant, started=False)
