"""Claims over REST, one after the other by many workers at once, beside a claim of one worker on one lane.

A gateway of its own process answers; its CPU time for each claim is counted as well as the elapsed time.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import uvloop

from benchmarks.bench_dispatch import SETTINGS, submit
from benchmarks.gateway_process import started
from switchyard.services.access.jwt import load_or_create_secrets, mint
from switchyard.services.broker import connection as broker
from switchyard.services.broker import topology
from switchyard.services.broker.publisher import Publisher
from switchyard.services.broker.server.server import start_broker
from switchyard.services.event_store import EventStore
from switchyard.services.records.lanes import Lanes

LANES = 20
WORKERS = 50
CLAIMS = 1000
WAIT_S = 20


async def claim(http: aiohttp.ClientSession, url: str, name: str, lanes: int) -> None:
    """Claim one job."""
    can = {f"ability-{number}": True for number in range(lanes)}
    said = {"worker": name, "kinds": ["simulate"], "capabilities": can, "wait_s": WAIT_S}
    async with http.post(f"{url}/v1/leases", json=said) as answer:
        if answer.status != 201:
            raise AssertionError(await answer.text())
        await answer.read()


def spent_s() -> float:
    """CPU seconds of the processes that this one has started: the gateway and the broker."""
    times = [process.cpu_times() for process in psutil.Process().children(recursive=True)]
    return sum(time.user + time.system for time in times)


async def cost(workers: int, lanes: int, claims: int) -> tuple[float, float]:
    """Milliseconds that go by, and of CPU, for each of so many claims by so many workers on so many lanes."""
    with tempfile.TemporaryDirectory() as directory:
        server = await start_broker(Path(directory))
        try:
            nc = await broker.connect(server.url, name="submitter")
            await topology.apply(nc)
            async with Publisher(nc, window=4096) as publisher:
                store, ensured = EventStore(nc, publisher, SETTINGS), Lanes(nc, publisher, SETTINGS)
                await submit(store, ensured, lanes, claims + workers)
            token = mint(
                load_or_create_secrets(Path(directory))[0], tenant="bench", roles=("worker",), ttl_s=600,
                subject="bench",
            )  # fmt: skip
            headers = {"Authorization": f"Bearer {token}"}
            async with (
                started("ours", server.url, Path(directory)) as url,
                aiohttp.ClientSession(headers=headers) as http,
            ):
                await asyncio.gather(*(claim(http, url, f"w{number}", lanes) for number in range(workers)))
                left = iter(range(claims))

                async def work(number: int) -> None:
                    for _ in left:
                        await claim(http, url, f"w{number}", lanes)

                begun, spent = time.perf_counter(), spent_s()
                await asyncio.gather(*(work(number) for number in range(workers)))
                taken_s, used_s = time.perf_counter() - begun, spent_s() - spent
            await nc.close()
        finally:
            await server.stop()
    return taken_s * 1e3 / claims, used_s * 1e3 / claims


async def measure() -> list[dict[str, Any]]:
    """One worker and one lane first, then all."""
    one = await cost(1, 1, CLAIMS // 5)
    many = await cost(WORKERS, LANES, CLAIMS)
    return [
        {
            "what": f"a claim, {WORKERS} workers, {LANES} lanes, {name}", "unit": "ms",
            "raw": raw, "ours": ours, "ratio": ours / raw,
        }
        for name, raw, ours in zip(("time", "CPU"), one, many, strict=True)
    ]  # fmt: skip


if __name__ == "__main__":
    for row in uvloop.run(measure()):
        print(row)
