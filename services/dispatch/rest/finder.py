"""Finds a job for a worker that claims over REST: the same consumers, order, matching and limits as on NATS.

A worker takes only jobs of the tenants that it serves. Lanes may be shared: where another tenant's job is at
the head of one, the oldest there that it may have is named by the read model and taken by the guard; its work
message is answered by whoever gets it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Final

from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import LimitError, UnavailableError
from switchyard.events.vocabulary.ids import WorkerId
from switchyard.projections.reader import ReadModel
from switchyard.services.broker.bucket import Bucket, follow
from switchyard.services.broker.puller import Delivery
from switchyard.services.dispatch.choice import Source
from switchyard.services.dispatch.picker.picker import Picker
from switchyard.services.dispatch.picker.scan import FOREIGN_PAUSE_S
from switchyard.services.dispatch.picker.takers import ALIVE_S
from switchyard.services.dispatch.work import Work
from switchyard.services.records import controls
from switchyard.services.records.workers import CLAIMING, WorkerRecord
from switchyard.services.settings import Settings

OWN_AT_ONCE: Final = 8
MOST_AT_ONCE: Final = 256
"""With those that were named a moment ago: there may be jobs among them that do not fit."""
CLAIMERS: Final = tuple(f"{door}." for door in sorted(CLAIMING))
"""What the ids of workers begin with that claim at gateways."""


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
        self._picker = Picker(nc, settings, weights=weights, own=BehindOthers(read_model))
        self.tokens = self._picker.tokens
        self.give_back = self._picker.give_back
        self.pass_on = self._picker.pass_on
        self._wishes: dict[str, controls.Wish] = {}
        self._paused: set[asyncio.Event] = set()
        self._under_way = 0
        self._under_way_of: Counter[str | None] = Counter()
        self._closed = False
        self._loop = asyncio.get_running_loop()

    # --- What surrounds the claims

    async def start(self) -> None:
        """Learn the limits, before the first claim.

        Raises:
            UnavailableError: the broker does not answer.
        """
        await self._picker.start()
        await self.tokens.load()

    async def run(self) -> None:
        """Follow lanes, limits and controls until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._picker.follow_lanes())
            group.create_task(self._picker.follow_pauses())
            group.create_task(self._follow_wishes())
            group.create_task(self.tokens.run())

    def close(self) -> None:
        """End the claims that wait: they are answered with nothing."""
        self._closed = True
        self._call_all()

    def wish(self, worker: WorkerId) -> controls.Wish | None:
        """What operators wish of a worker."""
        return self._wishes.get(worker)

    async def _follow_wishes(self) -> None:
        timeout_s = self._settings.request_timeout_s
        async for entry in follow(Bucket(self._nc, controls.CONTROLS, timeout_s=timeout_s), "worker"):
            worker, control = entry.key[1], entry.value
            if not worker.startswith(CLAIMERS):
                continue
            if control is None:
                self._wishes.pop(worker, None)
            else:
                self._wishes[worker] = control.state
            self._call_all()

    def _call_all(self) -> None:
        self._picker.call()
        for resumed in self._paused:
            resumed.set()

    # --- One claim

    async def find(self, record: WorkerRecord, until: float, alive: Callable[[], bool]) -> Work | None:
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
        try:
            return await self._find(record, until, alive)
        finally:
            self._under_way -= 1
            self._under_way_of[tenant] -= 1
            if not self._under_way_of[tenant]:
                del self._under_way_of[tenant]

    async def _find(self, record: WorkerRecord, until: float, alive: Callable[[], bool]) -> Work | None:
        worker = record.id

        def stays() -> bool:
            return not self._closed and alive() and self.wish(worker) not in ("draining", "paused")

        while True:
            if stays():
                found = await self._picker.crowd(record).take(until, stays)
                if found is not None:
                    return found
            if self._closed or not alive() or self.wish(worker) == "draining":
                return None
            if (left_s := until - self._loop.time()) <= 0:
                return None
            if self.wish(worker) == "paused":
                await self._resumed(min(left_s, ALIVE_S))

    async def _resumed(self, most_s: float) -> None:
        """Wait until something may have changed for a worker that is paused."""
        called = asyncio.Event()
        self._paused.add(called)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(most_s):
                    await called.wait()
        finally:
            self._paused.discard(called)


class BehindOthers:
    """Jobs of the tenants served in lanes that begin with another's, by the read model, each named once."""

    def __init__(self, read_model: ReadModel) -> None:
        self._read_model = read_model
        self._named: OrderedDict[int, float] = OrderedDict()
        self._loop = asyncio.get_running_loop()

    async def next(self, record: WorkerRecord, source: Source) -> Work | None:
        """The oldest that nobody was given a moment ago."""
        now = self._loop.time()
        while self._named and next(iter(self._named.values())) < now:
            self._named.popitem(last=False)
        if not self._read_model.exists():
            return None
        tenancy = record.tenancy
        for job in self._read_model.waiting_of(
            tenancy.tenants, tenancy.excluded, source.lane, source.priority,
            min(OWN_AT_ONCE + len(self._named), MOST_AT_ONCE),
        ):  # fmt: skip
            if job.claimable_seq not in self._named:
                # The read model may be a moment behind the claim.
                self._named[job.claimable_seq] = now + FOREIGN_PAUSE_S
                subject = subjects.claimable_event(job.id, "queued", source.lane, source.priority)
                undelivered = Delivery(source.consumer, 0, 0, 0, 0)
                return Work(
                    subject, job.claimable_seq, b"", "", undelivered, source.priority, tenant=job.tenant
                )
        return None

    def back(self, work: Work, *, delay_s: float = 0.0) -> None:  # noqa: ARG002 - who claims does not say it
        """Others may have it."""
        self._named.pop(work.seq, None)
