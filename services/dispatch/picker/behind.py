"""Jobs behind those that a worker may not run, read out of the stream `WORK` itself.

A worker that serves some tenants alone, or excludes some, must not wait behind the others' jobs in a lane
that all share, nor hold those up. What it may run is found by reading on from where it last came to, and
taken by its name: the guard of the log decides who has it, and its message stays in the lane until it ends.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

import structlog
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import UnavailableError
from switchyard.services.broker.puller import Delivery
from switchyard.services.broker.reader import Stored, reading, take_batch
from switchyard.services.dispatch.choice import Source
from switchyard.services.dispatch.work import Work, source_of
from switchyard.services.records.tenancy import Tenancy
from switchyard.services.records.workers import WorkerRecord
from switchyard.services.telemetry.tracing import checked

log = structlog.get_logger()

BATCH: Final = 256
BATCH_BYTES: Final = 1024 * 1024
PAGES: Final = 8
"""Batches of one look; the next one continues behind them."""
FOUND: Final = 4096
"""Jobs of a lane that are remembered; more are not looked for."""
LANES: Final = 4096
AGAIN_S: Final = 2.0
LONGEST_S: Final = 64.0
SOON: Final = 64
"""By how much sooner one is named again that was handed back."""
"""A job that was named and did not start is named again, each time after twice as long: as a rule it runs."""


@dataclass(slots=True)
class _Found:
    """A job that may be run here; `due` is when it may be named again."""

    work: Work
    due: float = 0.0
    pause_s: float = AGAIN_S
    is_fresh: bool = True


@dataclass(slots=True)
class _Lane:
    """How far a lane has been read for takers of one tenancy, and what was found."""

    reached: int = 0
    found: OrderedDict[int, _Found] = field(default_factory=OrderedDict)


class BehindOthers:
    """Names a worker's jobs in lanes that begin with those of others; each once, unless it does not start.

    Args:
        nc: an open connection.
        timeout_s: seconds to wait for any answer of the broker.
    """

    def __init__(self, nc: Client, *, timeout_s: float) -> None:
        self._nc = nc
        self._timeout_s = timeout_s
        self._lanes: OrderedDict[tuple[str, Tenancy], _Lane] = OrderedDict()
        self._loop = asyncio.get_running_loop()

    async def next(self, record: WorkerRecord, source: Source) -> Work | None:
        """The oldest that may be run, as far as the lane has been read; None too where the broker is away."""
        try:
            return await self._next(self._lane(record, source), record, source)
        except UnavailableError as error:
            log.warning("lane_not_read", lane=source.lane, error=str(error))
            return None

    def _lane(self, record: WorkerRecord, source: Source) -> _Lane:
        key = source.consumer, record.tenancy  # with another tenancy, what was passed by may be run
        known = self._lanes.get(key)
        if known is None:
            known = self._lanes[key] = _Lane()
        self._lanes.move_to_end(key)
        if len(self._lanes) > LANES:
            self._lanes.popitem(last=False)
        return known

    async def _next(self, lane: _Lane, record: WorkerRecord, source: Source) -> Work | None:
        if (work := await self._named(lane)) is not None:
            return work
        for _ in range(PAGES):
            if len(lane.found) >= FOUND:
                return None
            is_last = await self._read(lane, record, source)
            if (work := await self._named(lane)) is not None or is_last:
                return work
        return None

    async def _named(self, lane: _Lane) -> Work | None:
        """The oldest whose turn it is and whose message is still there."""
        now = self._loop.time()
        for seq, found in list(lane.found.items()):
            if found.due > now:
                continue
            if not found.is_fresh and not await self._stands(seq):
                lane.found.pop(seq, None)
                continue
            if found.due > now:  # another look has named it while this one asked
                continue
            found.is_fresh = False
            found.due, found.pause_s = now + found.pause_s, min(2 * found.pause_s, LONGEST_S)
            return found.work
        return None

    async def _stands(self, seq: int) -> bool:
        found: list[Stored] = []
        async with reading(self._nc, subjects.WORK) as inbox:
            query = {"seq": seq, "batch": 1, "next_by_subj": ">"}
            await take_batch(self._nc, subjects.WORK, query, inbox, found, self._timeout_s)
        return bool(found) and found[0].seq == seq

    async def _read(self, lane: _Lane, record: WorkerRecord, source: Source) -> bool:
        """Read on; whether that was the end of what is there."""
        found: list[Stored] = []
        query = {
            "seq": lane.reached + 1, "next_by_subj": subjects.work_of(source.consumer),
            "batch": BATCH, "max_bytes": BATCH_BYTES,
        }  # fmt: skip
        async with reading(self._nc, subjects.WORK) as inbox:
            left = await take_batch(self._nc, subjects.WORK, query, inbox, found, self._timeout_s)
        for each in lane.found.values():
            each.is_fresh = False
        for message in found:
            lane.reached = max(lane.reached, message.seq)
            tenant = message.headers.get(subjects.H_TENANT, "")
            subject, seq = source_of(message.headers.get(subjects.H_SOURCE))
            if not subject or not tenant or not record.runs_for(tenant):
                continue
            delivery = Delivery(source.consumer, 0, message.seq, 0, 0)
            work = Work(
                subject, seq, b"", "", delivery, source.priority, tenant=tenant,
                trace=checked(message.headers.get(subjects.H_TRACE)),
            )  # fmt: skip
            lane.found.setdefault(message.seq, _Found(work))
        return not left

    def back(self, work: Work, *, delay_s: float = 0.0) -> None:
        """Nobody took it: it may be named again, soon at first."""
        for (consumer, _), lane in self._lanes.items():
            if consumer == work.consumer and (found := lane.found.get(work.delivery.seq)) is not None:
                found.due = self._loop.time() + max(delay_s, found.pause_s / SOON)
