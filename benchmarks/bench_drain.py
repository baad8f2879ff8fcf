"""Jobs drained by one worker process, and the time from submission to start, beside the raw broker.

Raw is the least that any such system does, on nats-py as it is: a pull, one acknowledged event, an ack. A job of ours
is a pull, two guarded events (`leased`, `succeeded`) and an acknowledgement.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nats
import orjson
import uvloop
from nats.aio.client import Client
from nats.aio.msg import Msg

from switchyard.events.commands import Submit
from switchyard.events.job import Job
from switchyard.events.lane import LaneKey
from switchyard.events.values import JobSpec
from switchyard.events.vocabulary.ids import LaneId
from switchyard.services.broker import connection, topology
from switchyard.services.broker.inbox import Inbox
from switchyard.services.broker.jetstream import api
from switchyard.services.broker.publisher import Publisher
from switchyard.services.broker.server.server import start_broker
from switchyard.services.connectors.simulate import SimulateConnector
from switchyard.services.event_store import EventStore
from switchyard.services.ids import new_id
from switchyard.services.records.lanes import Lanes, lane_for
from switchyard.services.settings import Settings
from switchyard.services.worker.worker import Worker

JOBS = 20_000
ROUNDS = 5
STARTS = 300
SLOTS = 256
TIMEOUT_S = 120


async def raw_drain(url: str, payload: bytes) -> float:
    """Messages a second on nats-py as it is: pull, one acknowledged event, ack; `SLOTS` at once."""
    nc = await nats.connect(url, pending_size=32 << 20)
    await api(
        nc,
        "STREAM.CREATE.RAW",
        {"name": "RAW", "subjects": ["raw.work"], "retention": "workqueue"},
        timeout_s=5,
    )
    await api(nc, "STREAM.CREATE.RAWLOG", {"name": "RAWLOG", "subjects": ["rawlog.>"]}, timeout_s=5)
    config = {"durable_name": "raw", "ack_policy": "explicit", "max_ack_pending": 100_000}
    await api(nc, "CONSUMER.DURABLE.CREATE.RAW.raw", {"stream_name": "RAW", "config": config}, timeout_s=5)
    async with Publisher(nc, window=4096) as publisher:
        await asyncio.gather(*[await publisher.send("raw.work", payload, {}) for _ in range(JOBS)])
        free = asyncio.Semaphore(SLOTS)

        async def handle(number: int, message: Msg) -> None:
            await publisher.publish(f"rawlog.{number}", payload, {})
            await nc.publish(message.reply, b"+ACK")
            free.release()

        begun = time.perf_counter()
        async with Inbox(nc) as inbox, asyncio.TaskGroup() as group:
            done = 0
            while done < JOBS:
                await free.acquire()
                wanted = 1
                while not free.locked():
                    await free.acquire()
                    wanted += 1
                wanted = min(wanted, JOBS - done)
                call = "$JS.API.CONSUMER.MSG.NEXT.RAW.raw"
                await nc.publish(call, orjson.dumps({"batch": wanted, "expires": 10**9}), reply=inbox.subject)
                for _ in range(wanted):
                    group.create_task(handle(done, await inbox.next(5)))
                    done += 1
        rate = JOBS / (time.perf_counter() - begun)
    await nc.close()
    return rate


async def submit(store: EventStore, count: int) -> None:
    """Append `submitted` of `count` jobs, pipelined."""
    spec = JobSpec(kind="simulate", tenant="bench", lane=lane_for("simulate"), payload={"duration_s": 0})
    now = datetime.now(UTC)
    futures = [
        (await store.begin_submit(new_id(), spec, now=now, actor="user:bench"))[2] for _ in range(count)
    ]
    await asyncio.gather(*futures)


async def our_drain(url: str, settings: Settings) -> tuple[float, float]:
    """Jobs a second, and the median seconds from submission to start on an idle worker."""
    nc, worker_nc = (
        await connection.connect(url, name="submitter"),
        await connection.connect(url, name="worker"),
    )
    await topology.apply(nc)
    async with Publisher(nc, window=4096) as publisher:
        store, lanes = EventStore(nc, publisher, settings), Lanes(nc, publisher, settings)
        lane = lane_for("simulate")
        await lanes.ensure(LaneKey("simulate"), lane, 50)
        await submit(store, JOBS)
        worker = Worker(worker_nc, [SimulateConnector(slots=settings.slots)], settings, worker_id="bench")
        begun = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            running = group.create_task(worker.run())
            while (await api(nc, "STREAM.INFO.JOBS", timeout_s=5))["state"]["messages"] < 3 * JOBS:
                await asyncio.sleep(0.02)
            rate = JOBS / (time.perf_counter() - begun)
            start_s = await our_starts(nc, store, lane)
            worker.stop()
            await running
    await nc.close()
    await worker_nc.close()
    return rate, start_s


async def our_starts(nc: Client, store: EventStore, lane: str) -> float:
    """Median seconds from the submission of a job to the start of its handler, seen by `leased`."""
    spec = JobSpec(kind="simulate", tenant="bench", lane=LaneId(lane), payload={"duration_s": 0})
    times = []
    async with Inbox(nc, "job.*.leased") as leased:
        for _ in range(STARTS):
            begun = time.perf_counter()
            await store.transition(
                Job(id=new_id()), Submit(now=datetime.now(UTC), job=spec), actor="user:bench"
            )
            await leased.next(TIMEOUT_S)
            times.append(time.perf_counter() - begun)
            await asyncio.sleep(0.003)
    return statistics.median(times)


async def raw_starts(url: str, payload: bytes) -> float:
    """Median seconds from an acknowledged publish to the event that a waiting puller publishes for it."""
    nc, puller_nc = await nats.connect(url), await nats.connect(url)
    async with Publisher(nc) as publisher, Publisher(puller_nc) as events, Inbox(puller_nc) as inbox:
        pull = orjson.dumps({"batch": 1, "expires": 30 * 10**9})

        async def work() -> None:
            for number in range(STARTS):
                await puller_nc.publish("$JS.API.CONSUMER.MSG.NEXT.RAW.raw", pull, reply=inbox.subject)
                message = await inbox.next(TIMEOUT_S)
                await events.publish(f"rawlog.start{number}", payload, {})
                await puller_nc.publish(message.reply, b"+ACK")

        times = []
        async with Inbox(nc, "rawlog.>") as seen, asyncio.TaskGroup() as group:
            group.create_task(work())
            for _ in range(STARTS):
                await asyncio.sleep(0.003)
                begun = time.perf_counter()
                await publisher.publish("raw.work", payload, {})
                await seen.next(TIMEOUT_S)
                times.append(time.perf_counter() - begun)
    await nc.close()
    await puller_nc.close()
    return statistics.median(times)


async def one_round(payload: bytes) -> tuple[float, float, float, float]:
    """Raw and ours on a broker of their own: two rates, then two starts."""
    with tempfile.TemporaryDirectory() as directory:
        server = await start_broker(Path(directory))
        try:
            raw = await raw_drain(server.url, payload)
            ours, start_s = await our_drain(server.url, Settings(slots=SLOTS))
            return raw, ours, await raw_starts(server.url, payload), start_s
        finally:
            await server.stop()


async def measure() -> list[dict[str, Any]]:
    """Medians of rounds in turn, for a shared machine is now fast and now slow."""
    payload = b'{"duration_s":0}' + b" " * 200
    rounds = [await one_round(payload) for _ in range(ROUNDS)]
    raw, ours, raw_start_s, start_s = (statistics.median(column) for column in zip(*rounds, strict=True))
    drained = statistics.median(row[1] / row[0] for row in rounds)
    started = statistics.median(row[3] / row[2] for row in rounds)
    return [
        {"what": "jobs drained, one worker", "unit": "1/s", "raw": raw, "ours": ours, "ratio": drained, "goal": 0.4},
        {"what": "submission to start, median", "unit": "ms", "raw": raw_start_s * 1e3, "ours": start_s * 1e3,
         "ratio": started, "goal": -3.0},
    ]  # fmt: skip


if __name__ == "__main__":
    for row in uvloop.run(measure()):
        print(row)
