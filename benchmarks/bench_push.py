"""Jobs through a pusher and two prediction servers on this machine, beside a bare loop of posts to them.

The servers are two processes, so that neither side pays for their work, and answer at once. A pusher of this
process takes jobs that wait already; the bare loop posts as many bodies with as many at once.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson
import uvloop
from aiohttp import web

from benchmarks.bench_dispatch import SETTINGS
from switchyard.events.lane import LaneKey, lane_id
from switchyard.events.values import JobSpec
from switchyard.services import clock
from switchyard.services.broker import connection as broker
from switchyard.services.broker import topology
from switchyard.services.broker.publisher import Publisher
from switchyard.services.broker.server.server import start_broker
from switchyard.services.event_store import EventStore
from switchyard.services.ids import new_id
from switchyard.services.outbound.addresses import PRIVATE
from switchyard.services.pusher.pusher import Pusher
from switchyard.services.records.lanes import Lanes
from switchyard.services.records.servers.record import Endpoints, Server
from switchyard.services.records.servers.store import Servers

JOBS: Final = 3000
SLOTS: Final = 32
SERVERS: Final = 2
QUIET_S: Final = 120.0


def serve(pipe: Connection) -> None:
    """A prediction server, until its process is ended; says its port."""

    async def predict(request: web.Request) -> web.Response:
        asked = orjson.loads(await request.read())
        return web.Response(
            body=orjson.dumps({"data": {"by": asked["task_id"]}}), content_type="application/json"
        )

    async def health(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def run() -> None:
        app = web.Application()
        app.add_routes([web.post("/predict", predict), web.get("/health", health)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        pipe.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    uvloop.run(run())


async def bare(ports: list[int]) -> tuple[float, float]:
    """Posts a second, and milliseconds of CPU that each takes in this process."""
    left = iter(range(JOBS))

    async def post(http: aiohttp.ClientSession, port: int) -> None:
        for number in left:
            body = orjson.dumps({"task_id": f"t{number}", "request": {"number": number}, "async": True})
            async with http.post(f"http://127.0.0.1:{port}/predict", data=body) as answer:
                orjson.loads(await answer.read())

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        began, used_s = time.perf_counter(), time.process_time()
        await asyncio.gather(*(post(http, port) for port in ports for _ in range(SLOTS)))
        return JOBS / (time.perf_counter() - began), (time.process_time() - used_s) * 1e3 / JOBS


async def ours(ports: list[int]) -> tuple[float, float]:
    """Jobs a second, from the first that begins to the last that has ended, and milliseconds of CPU."""
    with tempfile.TemporaryDirectory() as directory:
        server = await start_broker(Path(directory))
        try:
            nc = await broker.connect(server.url, name="bench")
            await topology.apply(nc)
            settings = SETTINGS.model_copy(update={"data_dir": Path(directory), "server_networks": PRIVATE})
            async with Publisher(nc, window=4096) as publisher:
                store, lanes = EventStore(nc, publisher, settings), Lanes(nc, publisher, settings)
                await submit(store, lanes)
                registry = Servers(nc, publisher, settings)
                pusher = Pusher(nc, settings, gateway="http://127.0.0.1:1")
                ended = asyncio.Event()
                count, first_s, used_s = 0, 0.0, 0.0

                async def heard(message: Any) -> None:
                    nonlocal count, first_s, used_s
                    if message.subject.split(".")[2] == "claimed":
                        first_s, used_s = first_s or time.perf_counter(), used_s or time.process_time()
                    elif message.subject.split(".")[2] == "succeeded":
                        count += 1
                        if count == JOBS:
                            ended.set()

                await nc.subscribe("job.>", cb=heard)
                task = asyncio.create_task(pusher.run())
                await pusher.ready.wait()
                for number, port in enumerate(ports):
                    await registry.put(registered(f"s{number}", port), 0)
                async with asyncio.timeout(QUIET_S):
                    await ended.wait()
                took_s, cpu_s = time.perf_counter() - first_s, time.process_time() - used_s
                pusher.stop()
                await task
            await nc.close()
        finally:
            await server.stop()
    return JOBS / took_s, cpu_s * 1e3 / JOBS


def registered(name: str, port: int) -> Server:
    """A server as its owner would register it."""
    now, url = clock.now(), f"http://127.0.0.1:{port}"
    return Server(
        tenant="bench", id=name, generation=new_id(), name=name, kinds=("upscale",), slots=SLOTS,
        endpoints=Endpoints(f"{url}/predict", f"{url}/health"), profile="task", created_at=now,
        created_by="bench", updated_at=now,
    )  # fmt: skip


async def submit(store: EventStore, lanes: Lanes) -> None:
    """Jobs that wait in one lane."""
    key = LaneKey("upscale")
    await lanes.ensure(key, lane_id(key), 50)
    futures = []
    for number in range(JOBS):
        spec = JobSpec(kind="upscale", tenant="bench", lane=lane_id(key), payload={"number": number})
        futures.append((await store.begin_submit(new_id(), spec, now=clock.now(), actor="user:bench"))[2])
    await asyncio.gather(*futures)


async def measure() -> list[dict[str, Any]]:
    """The bare loop first, then ours, on the same servers."""
    context = multiprocessing.get_context("spawn")
    processes, ports = [], []
    for _ in range(SERVERS):
        here, there = context.Pipe()
        process = context.Process(target=serve, args=(there,), daemon=True)
        process.start()
        processes.append(process)
        ports.append(here.recv())
    try:
        await bare(ports)
        raw = await bare(ports)
        found = await ours(ports)
    finally:
        for process in processes:
            process.kill()
    what = f"pushes to {SERVERS} servers of {SLOTS} slots"
    return [
        {
            "what": what,
            "unit": "/s",
            "raw": raw[0],
            "ours": found[0],
            "ratio": found[0] / raw[0],
            "goal": 0.5,
        },
        {"what": f"{what}, CPU", "unit": "ms", "raw": raw[1], "ours": found[1], "ratio": found[1] / raw[1]},
    ]


if __name__ == "__main__":
    for row in uvloop.run(measure()):
        print(row, file=sys.stdout)
