"""The time from a slot coming free to the right job's start: 1,000 workers, beside one worker and one lane.

The workers are simulated: each has the dispatcher of a real one, with pulls of its own on the real
consumers, and a job is a leased event, a time of idleness and an acknowledgement.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop
from nats.aio.client import Client

from switchyard.events.lane import LaneKey, lane_id
from switchyard.events.requirements.matching import canonical
from switchyard.events.values import JobSpec
from switchyard.events.vocabulary.ids import WorkerId
from switchyard.services.broker import connection as broker
from switchyard.services.broker import topology
from switchyard.services.broker.jetstream import ACK
from switchyard.services.broker.publisher import Publisher
from switchyard.services.broker.reachability import Reachability
from switchyard.services.broker.server.server import start_broker
from switchyard.services.dispatch.dispatcher import Dispatcher
from switchyard.services.dispatch.leasing import Leasing
from switchyard.services.dispatch.work import Work
from switchyard.services.event_store import EventStore
from switchyard.services.gc import collect_less_often
from switchyard.services.ids import new_id
from switchyard.services.records.lanes import Lanes
from switchyard.services.records.workers import WorkerRecord, new_record
from switchyard.services.settings import Settings

WORKERS = 1000
CONNECTIONS = 20
LANES = (4, 20)
JOBS = 10_000
STARTS = 600
STARTS_A_SECOND = 40.0
SETTINGS = Settings(lease_s=600, publish_window=4096)


class SimulatedWorker:
    """One slot, and a dispatcher that fills it; notes how long the slot was free."""

    def __init__(self, site: Site, connection: Connection, number: int, idle_s: float) -> None:
        self._site = site
        self._idle_s = idle_s
        self._free_since: float | None = None
        self._busy = 0
        self.record: WorkerRecord = new_record(
            worker_id=WorkerId(f"w{number}"),
            kinds=("simulate",),
            capabilities=site.capabilities,
            slots=1,
            lease_s=600,
        )
        self.dispatcher = Dispatcher(
            connection.nc, SETTINGS,
            record=lambda: self.record, weights=lambda _: {},
            free=lambda: 1 - self._busy, room=lambda _: 1, start=self._start,
        )  # fmt: skip
        reach = Reachability(600)
        self._leasing = Leasing(connection.nc, connection.store, self.dispatcher.puller, reach, SETTINGS)

    async def run(self) -> None:
        """Work until cancelled."""
        await self.dispatcher.start()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.dispatcher.follow_lanes())
            group.create_task(self.dispatcher.run())

    def _start(self, work: Work, _lane: LaneKey) -> None:
        self._busy = 1
        self._site.tasks.append(self._site.group.create_task(self._attempt(work)))

    async def _attempt(self, work: Work) -> None:
        lease = await self._leasing.take(work, self.record)
        if lease is not None:
            self._site.started(None if self._free_since is None else time.perf_counter() - self._free_since)
            await asyncio.sleep(random.expovariate(1 / self._idle_s))
            await self.dispatcher.puller.answer(work, ACK)
        self._free_since = time.perf_counter()
        self._busy = 0
        self.dispatcher.wake()


class Connection:
    """A connection that several simulated workers share."""

    def __init__(self, nc: Client, publisher: Publisher) -> None:
        self.nc = nc
        self.store = EventStore(nc, publisher, SETTINGS)


class Site:
    """A broker with jobs waiting in lanes."""

    def __init__(self, group: asyncio.TaskGroup, workers: int, lanes: int) -> None:
        self.group = group
        self._idle_workers = workers
        self.tasks: list[asyncio.Task[None]] = []
        self.waits: list[float] = []
        self.enough = asyncio.Event()
        self.capabilities = {"simulate": True, **{f"ability-{number}": True for number in range(lanes)}}

    def started(self, wait_s: float | None) -> None:
        """Note a start; those before every worker has had its first job do not count."""
        if wait_s is None:
            self._idle_workers -= 1
            return
        if self._idle_workers:
            return
        self.waits.append(wait_s)
        if len(self.waits) >= STARTS:
            self.enough.set()


async def submit(store: EventStore, ensured: Lanes, lanes: int, jobs: int) -> None:
    """Append the jobs, spread over the lanes."""
    keys = [LaneKey("simulate", requires=canonical({f"ability-{number}": True})) for number in range(lanes)]
    for key in keys:
        await ensured.ensure(key, lane_id(key), 50)
    futures = []
    for number in range(jobs):
        key = keys[number % lanes]
        spec = JobSpec(
            kind="simulate",
            tenant="bench",
            lane=lane_id(key),
            requires=key.requires,
            payload={"duration_s": 0},
        )
        futures.append(
            (await store.begin_submit(new_id(), spec, now=datetime.now(UTC), actor="user:bench"))[2]
        )
    await asyncio.gather(*futures)


async def waits(workers: int, lanes: int) -> list[float]:
    """Seconds that slots were free, with so many workers on so many lanes, all of them backlogged."""
    with tempfile.TemporaryDirectory() as directory:
        server = await start_broker(Path(directory))
        try:
            nc = await broker.connect(server.url, name="submitter")
            await topology.apply(nc)
            async with Publisher(nc, window=4096) as publisher:
                await submit(EventStore(nc, publisher, SETTINGS), Lanes(nc, publisher, SETTINGS), lanes, JOBS)
                async with asyncio.TaskGroup() as group:
                    site = Site(group, workers, lanes)
                    connections = []
                    for number in range(min(CONNECTIONS, workers)):
                        own = await broker.connect(server.url, name=f"workers-{number}")
                        events = Publisher(own, window=4096)
                        await events.start()
                        connections.append(Connection(own, events))
                    idle_s = workers / STARTS_A_SECOND
                    running = [
                        group.create_task(
                            SimulatedWorker(
                                site, connections[number % len(connections)], number, idle_s
                            ).run()
                        )
                        for number in range(workers)
                    ]
                    await site.enough.wait()
                    for task in running + site.tasks:
                        task.cancel()
                for connection in connections:
                    await connection.nc.close()
            await nc.close()
        finally:
            await server.stop()
    return site.waits[:STARTS]


def percentile(values: list[float], share: float) -> float:
    """The value that this share of the values does not exceed."""
    return statistics.quantiles(values, n=1000)[int(share * 1000) - 1]


async def measure() -> list[dict[str, Any]]:
    """One worker and one lane first, then all."""
    collect_less_often()
    one = await waits(1, 1)
    rows = []
    for lanes in LANES:
        many = await waits(WORKERS, lanes)
        for name, share in (("median", 0.5), ("p99", 0.99)):
            raw, ours = percentile(one, share), percentile(many, share)
            goal = -10.0 if name == "p99" else None
            rows.append(
                {
                    "what": f"free slot to start, {WORKERS} workers, {lanes} lanes, {name}", "unit": "ms",
                    "raw": raw * 1e3, "ours": ours * 1e3, "ratio": ours / raw, "goal": goal,
                }
            )  # fmt: skip
    return rows


if __name__ == "__main__":
    for row in uvloop.run(measure()):
        print(row)
