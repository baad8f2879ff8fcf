"""The read model rebuilt from the log, beside reading the log and doing nothing with it."""

from __future__ import annotations

import asyncio
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import nats
import orjson
import uvloop
from nats.aio.msg import Msg

from switchyard.events.events import Leased, Submitted, Succeeded
from switchyard.events.subjects import claimable_event, job_event
from switchyard.events.values import JobSpec
from switchyard.events.vocabulary.ids import WorkerId
from switchyard.services.broker import connection, topology
from switchyard.services.broker.jetstream import api
from switchyard.services.broker.publisher import Publisher
from switchyard.services.broker.server.server import start_broker
from switchyard.services.ids import new_id
from switchyard.services.projector.projector import build
from switchyard.services.records.lanes import lane_for
from switchyard.services.settings import Settings

JOBS = 30_000
EVENTS = 3 * JOBS
PULL = 2000
TIMEOUT_S = 60


async def fill(publisher: Publisher, jobs: int = JOBS) -> None:
    """A log of jobs that were submitted, leased and succeeded, sixteen at a time."""
    lane, now, worker = lane_for("simulate"), datetime.now(UTC), "gpu-1"
    spec = JobSpec(
        kind="simulate", tenant="bench", lane=lane, payload={"duration_s": 0}, labels={"project": "p1"}
    )
    headers = {
        "Switchyard-Tenant": "bench",
        "Switchyard-Kind": "simulate",
        "Switchyard-Actor": "worker:gpu-1",
    }
    acks = []
    seq = 0
    for _ in range(0, jobs, 16):
        ids = [new_id() for _ in range(16)]
        rounds = (
            lambda job_id, _: (claimable_event(job_id, "submitted", lane, 50), Submitted(at=now, job=spec)),
            lambda job_id, _: (
                job_event(job_id, "leased"),
                Leased(at=now, worker=WorkerId(worker), attempt=1),
            ),
            lambda job_id, seq: (
                job_event(job_id, "succeeded"),
                Succeeded(at=now, fence=seq - 15, result={"echo": 1, "attempt": 1, "worker": worker}),
            ),
        )
        for make in rounds:
            for job_id in ids:
                seq += 1
                subject, event = make(job_id, seq)
                acks.append(await publisher.send(subject, msgspec.json.encode(event), headers))
        await asyncio.gather(*acks)
        acks.clear()


async def raw_replay(url: str) -> float:
    """Events a second through nats-py as it is, each counted and dropped."""
    nc = await nats.connect(url)
    config = {"ack_policy": "none", "mem_storage": True}
    made = await api(nc, "CONSUMER.CREATE.JOBS", {"stream_name": "JOBS", "config": config}, timeout_s=5)
    call = f"$JS.API.CONSUMER.MSG.NEXT.JOBS.{made['name']}"
    inbox = nc.new_inbox()
    asked = count = 0
    done = asyncio.Event()

    async def pull() -> None:
        nonlocal asked
        asked += PULL
        await nc.publish(call, orjson.dumps({"batch": PULL, "expires": 10_000_000_000}), reply=inbox)

    async def take(message: Msg) -> None:
        nonlocal count
        if not message.reply:  # a status
            return
        count += 1
        if asked - count < PULL:
            await pull()
        if count == EVENTS:
            done.set()

    await nc.subscribe(inbox, cb=take, pending_msgs_limit=0, pending_bytes_limit=0)
    begun = time.perf_counter()
    await pull()
    await pull()
    async with asyncio.timeout(TIMEOUT_S):
        await done.wait()
    rate = count / (time.perf_counter() - begun)
    await nc.close()
    return rate


async def measure() -> list[dict[str, Any]]:
    """Raw and ours from one log."""
    with tempfile.TemporaryDirectory() as directory:
        server = await start_broker(Path(directory))
        try:
            nc = await connection.connect(server.url, name="bench")
            await topology.apply(nc)
            async with Publisher(nc) as publisher:
                await fill(publisher)
            settings = Settings(data_dir=Path(directory))
            raw = await raw_replay(server.url)
            await nc.close()
            nc = await connection.connect(server.url, name="projector")
            begun = time.perf_counter()
            await build(nc, settings, Path(directory) / "rebuilt.sqlite")
            ours = EVENTS / (time.perf_counter() - begun)
            await nc.close()
        finally:
            await server.stop()
    return [
        {"what": "events replayed", "unit": "1/s", "raw": raw, "ours": ours, "ratio": ours / raw, "goal": 0.4}
    ]


if __name__ == "__main__":
    for row in uvloop.run(measure()):
        print(row)
