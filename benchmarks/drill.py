"""Three brokers in network namespaces, one of which is killed, stopped or cut off under load.

`python -m benchmarks.drill [--times 5] [--pings] [--logs DIRECTORY] [case …]` needs Linux and root, and prints for each
case how long nothing was acknowledged, how long nothing started, how many jobs ran twice and how many were lost.
A case is `kill`, `stop` or `cut` and whose leader: `JOBS`, `WORK`, each while another node leads the other, or
`both` while one node leads both.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from nats.aio.client import Client

from switchyard.events.errors import UnavailableError
from switchyard.services.broker import connection
from switchyard.services.broker.jetstream import api
from switchyard.services.broker.part_reader import read_page
from switchyard.services.broker.server.server import find_binary

LEASE_S = 10.0
PER_S = 25
BEFORE_S = 5.0
AWAY_S = 20.0
AFTER_S = 15.0
SETTLE_S = 60.0
BRIDGE = "swdrill"
NODES = 3
CASES = tuple(f"{how} {whose}" for how in ("kill", "stop", "cut") for whose in ("JOBS", "WORK", "both"))
PINGS = ', ping_interval: "2s", ping_max: 2'
CONFIG = """
server_name: n{node}
listen: "10.77.0.{address}:4222"
log_file: "{store}.log"
jetstream {{ store_dir: "{store}", max_memory_store: 1GB, max_file_store: 1TB, sync_interval: 1s }}
cluster {{ name: c, listen: "10.77.0.{address}:6222", routes: [{routes}]{pings} }}
"""


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


@contextlib.contextmanager
def network() -> Any:
    """A bridge with a namespace for each node."""
    try:
        ip("link", "add", BRIDGE, "type", "bridge")
        ip("addr", "add", "10.77.0.254/24", "dev", BRIDGE)
        ip("link", "set", BRIDGE, "up")
        for node in range(NODES):
            inside = ("-n", f"{BRIDGE}{node}")
            ip("netns", "add", f"{BRIDGE}{node}")
            ip(
                "link",
                "add",
                f"{BRIDGE}v{node}",
                "type",
                "veth",
                "peer",
                "name",
                "eth0",
                "netns",
                f"{BRIDGE}{node}",
            )
            ip("link", "set", f"{BRIDGE}v{node}", "master", BRIDGE, "up")
            ip(*inside, "addr", "add", f"10.77.0.{node + 1}/24", "dev", "eth0")
            ip(*inside, "link", "set", "eth0", "up")
            ip(*inside, "link", "set", "lo", "up")
        yield
    finally:
        for node in range(NODES):
            subprocess.run(["ip", "netns", "del", f"{BRIDGE}{node}"], check=False)
        subprocess.run(["ip", "link", "del", BRIDGE], check=False)


class Cluster:
    """Three brokers, each in its namespace."""

    def __init__(self, directory: Path, pings: str) -> None:
        self.directory = directory
        self.pings = pings
        self.urls = ",".join(f"nats://10.77.0.{node + 1}:4222" for node in range(NODES))
        self.processes: dict[int, asyncio.subprocess.Process] = {}

    async def start(self, node: int) -> None:
        routes = ", ".join(f'"nats://10.77.0.{other + 1}:6222"' for other in range(NODES))
        config = self.directory / f"n{node}.conf"
        store = self.directory / f"n{node}"
        config.write_text(
            CONFIG.format(node=node, address=node + 1, store=store, routes=routes, pings=self.pings)
        )
        self.processes[node] = await asyncio.create_subprocess_exec(
            "ip", "netns", "exec", f"{BRIDGE}{node}", str(find_binary()), "-c", str(config),
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip

    async def break_(self, how: str, node: int) -> None:
        process = self.processes[node]
        match how:
            case "kill":
                process.kill()
                await process.wait()
            case "stop":
                process.send_signal(signal.SIGSTOP)
            case "cut":
                ip("link", "set", f"{BRIDGE}v{node}", "down")

    async def repair(self, how: str, node: int) -> None:
        match how:
            case "kill":
                await self.start(node)
            case "stop":
                self.processes[node].send_signal(signal.SIGCONT)
            case "cut":
                ip("link", "set", f"{BRIDGE}v{node}", "up")

    async def end(self) -> None:
        for process in self.processes.values():
            if process.returncode is None:
                process.kill()
                await process.wait()


@contextlib.asynccontextmanager
async def deployed(directory: Path, cluster: Cluster) -> AsyncIterator[tuple[str, str]]:
    """Gateway, projector, keeper and workers; the URL and a token."""
    environment = os.environ | {
        "SWITCHYARD_DATA_DIR": str(directory / "data"), "SWITCHYARD_NATS_URL": cluster.urls,
        "SWITCHYARD_LEASE_S": str(LEASE_S), "SWITCHYARD_REPLICAS": "3",
    }  # fmt: skip
    (directory / "data").mkdir()

    async def start(*arguments: str, **options: Any) -> asyncio.subprocess.Process:
        command = (sys.executable, "-m", "switchyard.services.cli", *arguments)
        return await asyncio.create_subprocess_exec(*command, env=environment, **options)

    while await (await start("topology", "apply", stderr=asyncio.subprocess.DEVNULL)).wait():
        await asyncio.sleep(1)
    parts = []
    url = "http://127.0.0.1:18080"
    try:
        for name, arguments in (
            ("projector", ("projector",)), ("gateway", ("gateway", "--port", "18080")), ("keeper", ("keeper",)),
            ("w0", ("worker", "--slots", "8", "--kinds", "simulate", "--name", "w0")),
            ("w1", ("worker", "--slots", "8", "--kinds", "simulate", "--name", "w1")),
        ):  # fmt: skip
            with (directory / f"{name}.log").open("ab") as log:
                parts.append(await start(*arguments, stdout=log, stderr=log))
        async with aiohttp.ClientSession() as session:
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(f"{url}/readyz") as answer:
                        if answer.status == 200:
                            break
                await asyncio.sleep(0.1)
        token = await start(
            "token", "--tenant", "acme", "--role", "admin", "--ttl", "2h", stdout=subprocess.PIPE
        )
        printed = (await token.communicate())[0].decode().strip()
        yield url, printed
    finally:
        for part in parts:
            part.kill()
            await part.wait()


class Load:
    """Submits at a steady rate, each job until it is acknowledged."""

    def __init__(self, url: str, token: str) -> None:
        self.acknowledged: dict[str, float] = {}
        self.statuses: Counter[int] = Counter()
        self._url, self._headers = url, {"Authorization": f"Bearer {token}"}

    async def run(self, seconds: float) -> None:
        async with aiohttp.ClientSession(headers=self._headers) as session, asyncio.TaskGroup() as group:
            for number in range(int(seconds * PER_S)):
                group.create_task(self._one(session, f"{time.time_ns()}-{number}"))
                await asyncio.sleep(1 / PER_S)

    async def _one(self, session: aiohttp.ClientSession, key: str) -> None:
        body = {"kind": "simulate", "payload": {"duration_s": 0.2}}
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with session.post(
                    f"{self._url}/v1/jobs", json=body, headers={"Idempotency-Key": key}
                ) as answer:
                    self.statuses[answer.status] += 1
                    found = orjson.loads(await answer.read())
                    if answer.status in (200, 201):
                        self.acknowledged[found["id"]] = time.time()
                        return
            await asyncio.sleep(0.2)


def longest(times: list[float]) -> float:
    """The longest time between two of these."""
    ordered = sorted(times)
    return max((b - a for a, b in itertools.pairwise(ordered)), default=0.0)


async def _leader(nc: Client, stream: str) -> str | None:
    info = await api(nc, f"STREAM.INFO.{stream}", timeout_s=5)
    leader: str | None = info.get("cluster", {}).get("leader")
    return leader


async def lead(nc: Client, stream: str, name: str) -> None:
    """Have a node lead a stream."""
    while await _leader(nc, stream) != name:
        body = {"placement": {"preferred": name}}
        with contextlib.suppress(UnavailableError):
            await api(nc, f"STREAM.LEADER.STEPDOWN.{stream}", body, timeout_s=5)
        await asyncio.sleep(0.5)


async def all_current(nc: Client) -> None:
    """Wait until every replica of both streams has caught up."""
    while True:
        with contextlib.suppress(UnavailableError):
            found = [await api(nc, f"STREAM.INFO.{stream}", timeout_s=5) for stream in ("JOBS", "WORK")]
            replicas = [one for info in found for one in info.get("cluster", {}).get("replicas", ())]
            if len(replicas) == 2 * (NODES - 1) and all(one["current"] for one in replicas):
                return
        await asyncio.sleep(0.5)


async def place(nc: Client, whose: str) -> int:
    """Have one node lead both streams, or two of them one each; the one that is to be broken."""
    await all_current(nc)
    node = random.randrange(NODES)
    for stream in ("JOBS", "WORK"):
        await lead(nc, stream, f"n{node if whose in (stream, 'both') else (node + 1) % NODES}")
    return node


def runs_of(directory: Path) -> Counter[str]:
    """How often the workers have started each job, by their logs; a lease may end before its job starts."""
    return Counter(
        orjson.loads(line)["job"]
        for log in directory.glob("w*.log")
        for line in log.read_bytes().splitlines()
        if b'"job_started"' in line
    )


async def drill(case: str, cluster: Cluster, url: str, token: str) -> int:
    """Break one node under load, repair it, and judge by the log; how many jobs were lost."""
    how, whose = case.split()
    nc = await connection.connect(cluster.urls, name="drill", lease_s=LEASE_S)
    leader = await place(nc, whose)
    first = (await api(nc, "STREAM.INFO.JOBS", timeout_s=5))["state"]["last_seq"] + 1
    load_before = os.getloadavg()[0]
    load = Load(url, token)
    running = asyncio.create_task(load.run(BEFORE_S + AWAY_S + AFTER_S))
    await asyncio.sleep(BEFORE_S)
    await cluster.break_(how, leader)
    await asyncio.sleep(AWAY_S)
    await cluster.repair(how, leader)
    await running
    started, ended = Counter[str](), Counter[str]()
    starts: list[float] = []
    until = time.time() + SETTLE_S
    while True:
        page, more = await read_page(nc, "JOBS", start=first, max_bytes=1 << 20, timeout_s=10)
        for stored in page:
            first = stored.seq + 1
            _, job_id, name, *_ = stored.subject.split(".")
            started[job_id] += name == "leased"
            ended[job_id] += name in ("succeeded", "dead")
            if name == "leased":
                starts.append(datetime.fromisoformat(orjson.loads(stored.data)["at"]).timestamp())
        left = [job_id for job_id in load.acknowledged if not ended[job_id]]
        if not more and (not left or time.time() > until):
            break
        if not more:
            await asyncio.sleep(0.5)
    await nc.close()
    again = sum(count > 1 for count in started.values())
    runs = await asyncio.to_thread(runs_of, cluster.directory)
    twice = sum(runs[job_id] > 1 for job_id in started)
    print(
        f"| {case} | {len(load.acknowledged)} | {longest(list(load.acknowledged.values())):.1f} s "
        f"| {longest(starts):.1f} s | {again} | {twice} | {len(left)} | {load_before:.1f} | {dict(load.statuses)}",
        flush=True,
    )  # fmt: skip
    return len(left)


def keep(directory: Path, logs: Path) -> None:
    """Copy the logs of all processes to where they stay."""
    logs.mkdir(parents=True, exist_ok=True)
    for log in directory.glob("*.log"):
        shutil.copy(log, logs)


async def main(cases: list[str], times: int, logs: Path | None, pings: str) -> int:
    """One cluster for all cases; how many jobs were lost."""
    lost = 0
    print(
        "| case | jobs | longest pause of acknowledgements | of starts | leased again | ran twice | not ended | load | answers"
    )
    with tempfile.TemporaryDirectory() as directory, network():
        cluster = Cluster(Path(directory), pings)
        try:
            for node in range(NODES):
                await cluster.start(node)
            async with deployed(Path(directory), cluster) as (url, token):
                await Load(url, token).run(5)
                for case in cases * times:
                    lost += await drill(case, cluster, url, token)
                    await asyncio.sleep(5)
        finally:
            await cluster.end()
            if logs is not None:
                await asyncio.to_thread(keep, Path(directory), logs)
    return lost


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drill")
    parser.add_argument("cases", nargs="*", default=list(CASES), metavar="case", help=", ".join(CASES))
    parser.add_argument("--times", type=int, default=1, help="how often each")
    parser.add_argument("--logs", type=Path, help="where the logs of all processes go")
    parser.add_argument("--pings", action="store_true", help=f"with{PINGS[1:]} in the brokers' configuration")
    arguments = parser.parse_args()
    if unknown := set(arguments.cases) - set(CASES):
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    return arguments


if __name__ == "__main__":
    asked = _arguments()
    asyncio.run(main(asked.cases, asked.times, asked.logs, PINGS if asked.pings else ""))
