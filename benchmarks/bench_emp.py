"""Workers and monitors of emp-redis at one gateway: how soon a job is assigned, and what each takes of it.

Jobs come at a steady rate; each worker claims what it is offered and completes it at once. Monitors look on.
The same is done without monitors, so that what they take shows.

    python -m benchmarks.bench_emp [--workers 500] [--monitors 50] [--per-s 200] [--seconds 10]

CPU is that of the gateway's process alone. Times need a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp
import orjson
import psutil
import uvloop

from benchmarks.gateway_process import started
from switchyard.services.access.jwt import load_or_create_secrets, mint
from switchyard.services.broker import connection as broker
from switchyard.services.broker import topology
from switchyard.services.broker.server.server import start_broker

KIND: Final = "simulation"
TENANT: Final = "bench"
WAIT_S: Final = 60.0


class Load(NamedTuple):
    """How many come, and how much they do.

    Args:
        workers: connections of workers.
        monitors: connections of monitors.
        per_s: jobs that are submitted in a second.
        seconds: for how long.
    """

    workers: int = 500
    monitors: int = 50
    per_s: int = 200
    seconds: int = 10

    @property
    def jobs(self) -> int:
        """How many in all."""
        return self.per_s * self.seconds


class Tally:
    """When jobs were submitted, and how long after that each was assigned and completed.

    Args:
        jobs: how many are to end.
    """

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self.frames = 0
        self.submitted: dict[str, float] = {}
        self.assigned_ms: list[float] = []
        self.ended = 0
        self.done = asyncio.Event()


async def work(
    http: aiohttp.ClientSession, url: str, token: str, name: str, ready: asyncio.Event, tally: Tally
) -> None:
    """Be a worker."""
    async with http.ws_connect(f"{url}/ws/worker/{name}", params={"token": token}) as socket:
        send = socket.send_json
        card = {"supported_job_types": [KIND], "version": "1.0.0", "cpu": True, "memory": "16GB"}
        await send({"type": "register_worker", "worker_id": name, "capabilities": card, "status": "idle"})
        async for frame in socket:
            said = orjson.loads(frame.data)
            job = {"worker_id": name, "job_id": said.get("job_id")}
            match said["type"]:
                case "job_notifications_subscribed":
                    ready.set()
                case "job_available":
                    await send({"type": "claim_job", **job, "claim_timeout": 30})
                case "job_assigned":
                    at = tally.submitted.get(said["job_id"], time.perf_counter())
                    tally.assigned_ms.append((time.perf_counter() - at) * 1e3)
                    await send({"type": "update_job_progress", **job, "progress": 50, "status": "processing"})
                    await send({"type": "complete_job", **job, "result": {"ok": True}})
                case "job_completed_ack":
                    tally.ended += 1
                    if tally.ended >= tally.jobs:
                        tally.done.set()


async def look_on(http: aiohttp.ClientSession, url: str, token: str, name: str, tally: Tally) -> None:
    """Be a monitor."""
    async with http.ws_connect(f"{url}/ws/monitor/{name}", params={"token": token}) as socket:
        await socket.send_json({"type": "subscribe", "channels": ["workers", "jobs", "stats"]})
        async for _ in socket:
            tally.frames += 1


async def submit(http: aiohttp.ClientSession, url: str, token: str, load: Load, tally: Tally) -> None:
    """Submit jobs at a steady rate, a tenth of a second's at a time."""
    step = max(1, load.per_s // 10)
    loop = asyncio.get_running_loop()
    begun = loop.time()

    async def one() -> None:
        at = time.perf_counter()
        said = {"kind": KIND, "payload": {"prompt": "a cat"}}
        async with http.post(
            f"{url}/v1/jobs", json=said, headers={"Authorization": f"Bearer {token}"}
        ) as answer:
            job = orjson.loads(await answer.read())
            tally.submitted[job["id"]] = at

    async with asyncio.TaskGroup() as tasks:
        for number in range(load.jobs // step):
            for _ in range(step):
                tasks.create_task(one())
            await asyncio.sleep(max(0.0, begun + (number + 1) * step / load.per_s - loop.time()))


def gateway() -> psutil.Process:
    """The gateway's process."""
    return next(
        child
        for child in psutil.Process().children()
        if any("gateway_process" in part for part in child.cmdline())
    )


async def measured(url: str, token: str, load: Load) -> dict[str, float]:
    """The figures of one run, by what they are."""
    tally = Tally(load.jobs)
    process = gateway()
    before = process.memory_info().rss
    peers_at_once = load.workers + load.monitors + load.per_s
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=peers_at_once)) as http,
        asyncio.TaskGroup() as tasks,
    ):
        ready = [asyncio.Event() for _ in range(load.workers)]
        doing = [work(http, url, token, f"w{number}", event, tally) for number, event in enumerate(ready)]
        doing += [look_on(http, url, token, f"m{number}", tally) for number in range(load.monitors)]
        peers = [tasks.create_task(each) for each in doing]
        async with asyncio.timeout(WAIT_S):
            for event in ready:
                await event.wait()
        idle = process.memory_info().rss
        cpu, begun = process.cpu_times(), time.perf_counter()
        await submit(http, url, token, load, tally)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WAIT_S):
                await tally.done.wait()
        used, took_s = process.cpu_times(), time.perf_counter() - begun
        busy = process.memory_info().rss
        for peer in peers:
            peer.cancel()
    latency = sorted(tally.assigned_ms) or [float("nan")]
    return {
        "ended": tally.ended, "median_ms": statistics.median(latency),
        "late_ms": latency[int(len(latency) * 0.99)],
        "cpu_s": used.user + used.system - cpu.user - cpu.system, "took_s": took_s,
        "connection_kib": (idle - before) / 1024 / (load.workers + load.monitors),
        "memory_mib": busy / 1024**2, "frames": tally.frames,
    }  # fmt: skip


def rows_of(load: Load, ours: dict[str, float], alone: dict[str, float]) -> list[dict[str, Any]]:
    """The figures as rows: those with monitors, and what the same takes without."""
    what = f"{load.workers} emp-redis workers, {load.monitors} monitors, {load.per_s} jobs/s"
    of_monitors_s = ours["cpu_s"] - alone["cpu_s"]
    watching = max(1, load.monitors)
    rows = (
        ("jobs completed", f"of {load.jobs}", ours["ended"]),
        ("submit to assigned, median", "ms", ours["median_ms"]),
        ("submit to assigned, 99 %", "ms", ours["late_ms"]),
        ("gateway CPU per job", "ms", ours["cpu_s"] * 1e3 / max(1, ours["ended"])),
        ("the same without monitors", "ms", alone["cpu_s"] * 1e3 / max(1, alone["ended"])),
        ("gateway CPU per monitor and job", "µs", of_monitors_s * 1e6 / watching / max(1, ours["ended"])),
        ("messages to each monitor per job", "", ours["frames"] / watching / max(1, ours["ended"])),
        ("memory per idle connection", "KiB", ours["connection_kib"]),
        ("gateway memory after", "MiB", ours["memory_mib"]),
        ("took", "s", ours["took_s"]),
    )
    return [
        {"what": f"{what}: {name}", "unit": unit, "ours": figure, "raw": None, "ratio": None}
        for name, unit, figure in rows
    ]


@contextlib.asynccontextmanager
async def projecting(nats_url: str, data_dir: Path) -> AsyncIterator[None]:
    """A projector, in a process of its own, without which monitors see nothing."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "switchyard.services.cli", "projector",
        env=os.environ | {"SWITCHYARD_DATA_DIR": str(data_dir), "SWITCHYARD_NATS_URL": nats_url},
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


async def once(load: Load) -> dict[str, float]:
    """Start broker, projector and gateway, and let them all come."""
    with tempfile.TemporaryDirectory() as directory:
        server = await start_broker(Path(directory))
        try:
            nc = await broker.connect(server.url, name="bench")
            await topology.apply(nc)
            secret = load_or_create_secrets(Path(directory))[0]
            roles = ("worker", "submitter")
            token = mint(secret, tenant=TENANT, roles=roles, ttl_s=600, subject="bench")
            async with (
                projecting(server.url, Path(directory)),
                started("ours", server.url, Path(directory)) as url,
            ):
                figures = await measured(url, token, load)
            await nc.close()
        finally:
            await server.stop()
    return figures


async def measure(load: Load | None = None) -> list[dict[str, Any]]:
    """With monitors, and without."""
    load = load or Load()
    alone = await once(load._replace(monitors=0))
    return rows_of(load, await once(load), alone)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description="Workers and monitors of emp-redis at one gateway")
    for name, default in Load()._asdict().items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default)
    load = Load(**vars(parser.parse_args()))
    for row in uvloop.run(measure(load)):
        print(f"{row['what']:80} {row['ours']:12,.1f} {row['unit']}")


if __name__ == "__main__":
    main()
