"""A live view that resumes at the first event of a long log, and many histories that nobody has read lately."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import uvloop
from nats.aio.client import Client

from benchmarks.bench_rebuild import fill
from benchmarks.gateway_process import started
from switchyard.events.subjects import JOBS as LOG
from switchyard.services.access.jwt import load_or_create_secrets, mint
from switchyard.services.broker import connection, topology
from switchyard.services.broker.part_reader import read_page
from switchyard.services.broker.publisher import Publisher
from switchyard.services.broker.server.server import start_broker

JOBS = 100_000
EVENTS = 3 * JOBS
HISTORIES = 100
PAGE_BYTES = 1024 * 1024
TIMEOUT_S = 120.0


async def raw_pages(nc: Client) -> tuple[float, list[str]]:
    """Events a second as pages of the log, each event dropped; and some jobs from all over the log."""
    jobs: list[str] = []
    begun = time.perf_counter()
    start, more = 1, True
    while more:
        page, more = await read_page(nc, LOG, start=start, max_bytes=PAGE_BYTES, timeout_s=TIMEOUT_S)
        start = page[-1].seq + 1
        jobs.append(page[0].subject.split(".")[1])
    return EVENTS / (time.perf_counter() - begun), jobs


async def subscribed(session: aiohttp.ClientSession, url: str, wish: dict[str, Any]) -> int:
    """The number of events that a new connection is sent until it has caught up from the first one on."""
    count = 0
    async with session.ws_connect(f"{url}/v1/ws", max_msg_size=0) as socket:
        stream = orjson.loads(await socket.receive_str())["stream"]
        body = {"type": "subscribe", "id": "b", "after": f"{stream}:0", "progress": False, **wish}
        await socket.send_str(orjson.dumps(body).decode())
        while not (text := await socket.receive_str()).startswith('{"type":"caught_up"'):
            count += text.startswith('{"type":"event"')
    return count


async def measure() -> list[dict[str, Any]]:
    """Pages and ours from one log."""
    with tempfile.TemporaryDirectory() as directory:
        data_dir = Path(directory)
        server = await start_broker(data_dir)
        try:
            nc = await connection.connect(server.url, name="bench")
            await topology.apply(nc)
            async with Publisher(nc) as publisher:
                await fill(publisher, JOBS)
            raw, jobs = await raw_pages(nc)
            await nc.close()
            secret = load_or_create_secrets(data_dir)[0]
            token = mint(secret, tenant="bench", roles=("viewer",), ttl_s=3600)
            async with (
                started("gateway", server.url, data_dir) as url,
                aiohttp.ClientSession(
                    headers={"Authorization": f"Bearer {token}"}, connector=aiohttp.TCPConnector(limit=0)
                ) as session,
                asyncio.timeout(TIMEOUT_S),
            ):
                chosen = [jobs[n * len(jobs) // HISTORIES] for n in range(HISTORIES)]
                begun = time.perf_counter()
                counts = await asyncio.gather(*(subscribed(session, url, {"jobs": [job]}) for job in chosen))
                histories_s = time.perf_counter() - begun
                assert sum(counts) >= HISTORIES
                begun = time.perf_counter()
                count = await subscribed(session, url, {"all": True})
                assert count == EVENTS
                ours = count / (time.perf_counter() - begun)
        finally:
            await server.stop()
    return [
        {"what": "events resumed from far back", "unit": "1/s", "raw": raw, "ours": ours, "ratio": ours / raw},
        {"what": f"{HISTORIES} histories at once", "unit": "ms", "raw": None, "ours": histories_s * 1e3, "ratio": None},
    ]  # fmt: skip


if __name__ == "__main__":
    for row in uvloop.run(measure()):
        print(row)
