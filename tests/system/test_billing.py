"""Parts are killed in turn while jobs run and fail: bills equal a fold of the ledger, and that the log."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import sqlite3
from collections import Counter
from contextlib import closing
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from switchyard.events.ledger.line import MICRO, Line
from switchyard.projections.database import path_in
from switchyard.services import clock
from switchyard.services.broker.jetstream import api
from switchyard.services.records.consumers import KEEPER
from tests.gateway.backends.backend_double import BackendDouble
from tests.gateway.push.task_server import TaskServer, later
from tests.ledger.books import of_log, settled
from tests.ports import free_port
from tests.projections.rows import dump
from tests.sizes import sizes
from tests.system.deployment import Deployment
from tests.worker.site import Site, open_site

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

SEED = random.SystemRandom().randrange(10**6)
LEASE_S = 2.0
WAIT_S = 240.0
PAUSED = 0.3
"""How many of the disturbances of workers are pauses."""
LEAST = 20_000_000
PRICES = {
    "prices": [
        {"unit": "pages", "micro_cents": 1_000_003, "least_micro_cents": LEAST},
        {"unit": "tokens", "micro_cents": 333, "per": 1000},
    ],
    "margin_bp": 3_333,
}


class Size(NamedTuple):
    """How much of it."""

    jobs: int
    kills: int


SIZES = sizes(Size(40, 3), Size(2000, 40), timeout_s=1800)
WORKERS = ("worker0", "worker1", "rest")
PARTS = (*WORKERS, "keeper0", "keeper1", "gateway", "projector", "pusher", "taker", "broker")
KINDS = ("billed", "rested", "billed", "upscale", "render")
"""Workers on NATS take the first, one over REST the second; a server is pushed the fourth, and a
worker leaves the last to a back end under a timed lease."""
HANDLED = frozenset({"billed", "rested"})


class Stage:
    """All that is killed, and started again."""

    def __init__(self, site: Deployment, log: Site, backend_url: str, port: int) -> None:
        self.site = site
        self.log = log
        self.url = f"http://127.0.0.1:{port}"
        self._backend_url = backend_url
        self._port = port

    async def start(self, name: str) -> None:
        """Start a part; a gateway once more where it was."""
        start, slots = self.site.start, ("--slots", "8", "--name", name)
        match name.rstrip("0123456789"):
            case "worker":
                await start(name, "worker", "--handlers", "tests.system.billed:handlers", *slots)
            case "rest":
                handlers = ("--handlers", "tests.system.billed:over_rest")
                await start(name, "worker", "--rest", self.url, *handlers, *slots)
            case "gateway":
                await self.site.start_gateway(port=self._port)
            case "taker":
                await start(name, self._backend_url, self.url, module="tests.system.taker")
            case "broker":
                await self.site.broker.start()
            case part:
                await start(name, part)

    async def kill(self, name: str) -> None:
        """End a part as a crash does, and start it again."""
        if name == "broker":
            await self.site.broker.kill()
        else:
            await self.site.parts.pop(name).kill()
        await self.start(name)

    async def pause(self, name: str) -> None:
        """Let a worker do nothing until it has lost its leases, and then go on as if nothing had been."""
        lost = count_of(await settled(self.log, 0, idle=False), "lease_lost")
        self.site.parts[name].signal(signal.SIGSTOP)
        with contextlib.suppress(TimeoutError):  # it may have had none
            async with asyncio.timeout(LEASE_S * 4):
                while count_of(await settled(self.log, 0, idle=False), "lease_lost") == lost:
                    await asyncio.sleep(0.1)
        self.site.parts[name].signal(signal.SIGCONT)

    async def disturb(self, size: Size, draw: random.Random) -> Counter[str]:
        """Kill a part, or pause a worker, each time that some more lines are written; how often each."""
        done: Counter[str] = Counter()
        for kill in range(size.kills):
            await settled(self.log, int(size.jobs * (kill + 0.3) / (size.kills + 1)), idle=False)
            name = draw.choice(PARTS)
            pauses = name in WORKERS and draw.random() < PAUSED
            done[f"{name} paused" if pauses else name] += 1
            await (self.pause(name) if pauses else self.kill(name))
        return done


def count_of(found: list[Line], outcome: str) -> int:
    """How many lines have an outcome."""
    return sum(line.outcome == outcome for line in found)


async def answer_sooner(log: Site) -> None:
    """What a lost keeper had in hand comes again after two seconds, and not after half a minute."""
    for stream, durable in KEEPER:
        info = await api(log.nc, f"CONSUMER.INFO.{stream}.{durable}", timeout_s=20)
        config = info["config"] | {"ack_wait": 2_000_000_000}
        body = {"stream_name": stream, "config": config}
        await api(log.nc, f"CONSUMER.DURABLE.CREATE.{stream}.{durable}", body, timeout_s=20)
        made = await api(log.nc, f"CONSUMER.INFO.{stream}.{durable}", timeout_s=20)
        assert made["config"]["ack_wait"] == 2_000_000_000


async def shown(site: Deployment, path: str) -> Any:
    """An answer of the gateway, which may only just be starting."""
    async with asyncio.timeout(WAIT_S):
        while True:
            status, body = await site.request("GET", path)
            if status == 200:
                return body
            assert status == 503, body


def cost_of(lines: list[Line]) -> Fraction:
    """What lines cost in micro-cents."""
    total, margin = Fraction(0), Fraction(13_333, 10_000)
    for line in lines:
        if line.outcome == "succeeded":
            total += Fraction(line.units.get("tokens", 0), MICRO) * Fraction(333, 1000) * margin
            if "pages" in line.units:
                total += max(Fraction(line.units["pages"], MICRO) * 1_000_003 * margin, Fraction(LEAST))
    return total


@pytest.mark.parametrize("size", SIZES)
async def test_parts_killed_in_turn_leave_bills_that_equal_a_fold_of_the_ledger(
    tmp_path: Path, size: Size
) -> None:
    print(f"seed {SEED}")  # noqa: T201 - to run a failure again
    draw = random.Random(SEED)
    port = free_port()
    settings: dict[str, Any] = {
        "server_networks": "127.0.0.0/8", "timed_lease_s": 5, "poison_losses": 50, "port": port,
    }  # fmt: skip
    double = BackendDouble(lambda: [f"http://127.0.0.1:{port}"], works_s=0.3, reports=2, alive_s=0.4)
    async with (
        double.running() as backend_url,
        TaskServer("server", later, works_s=0.2) as server,
        Deployment(tmp_path, lease_s=LEASE_S, **settings) as site,
        open_site(site.broker.url, lease_s=LEASE_S) as log,
    ):
        await answer_sooner(log)
        stage = Stage(site, log, backend_url, port)
        for name in ("projector", "gateway", "keeper0", "keeper1", "pusher", "taker", *WORKERS):
            await stage.start(name)
        status, _ = await site.request("PUT", f"/v1/prices/{clock.now().date()}", json=PRICES)
        assert status == 201
        wish = server.wish | {"slots": 8}
        status, body = await site.request("PUT", f"/v1/servers/{server.name}", json=wish)
        assert status == 201, body
        kinds = [KINDS[n % len(KINDS)] for n in range(size.jobs)]
        async with asyncio.TaskGroup() as group:
            disturbing = group.create_task(stage.disturb(size, draw))
            for n, kind in enumerate(kinds, 1):
                payload = {"n": n, "number": n, "seconds": 0.1, "fails": 0.2}
                retry = {"base_s": 0.1, "factor": 1, "max_s": 0.1}
                await site.submit(kind=kind, payload=payload, max_attempts=50, retry=retry)
            print(dict(await disturbing))  # noqa: T201
        found = await until_ended(log, size.jobs)
        expected = await of_log(log)
        assert sorted(line.id for line in found) == sorted({line.id for line in expected})
        assert {line.id: line for line in found} == {line.id: line for line in expected}
        succeeded = [line for line in found if line.outcome == "succeeded"]
        assert len({line.job for line in succeeded}) == len(succeeded) == size.jobs
        assert Counter(line.kind for line in succeeded) == Counter(kinds)
        pages = sum(n for n, kind in enumerate(kinds, 1) if kind in HANDLED)
        assert sum(line.units.get("pages", 0) for line in succeeded) == MICRO * pages
        await check_sums(site, found)
        await check_rebuilt(site)
        print(dict(Counter((line.kind, line.outcome) for line in found)))  # noqa: T201


async def until_ended(log: Site, jobs: int) -> list[Line]:
    """All lines, once each job has its result."""
    async with asyncio.timeout(WAIT_S):
        while True:
            found = await settled(log, jobs)
            if sum(line.outcome == "succeeded" for line in found) >= jobs:
                return found


async def check_sums(site: Deployment, found: list[Line]) -> None:
    """What the API adds up is what the ledger holds."""
    sums: Counter[str] = Counter()
    for line in found:
        sums.update(line.units)
    async with asyncio.timeout(WAIT_S):
        while True:
            rows = (await shown(site, "/v1/usage/summary?by=tenant"))["usage"]
            added = {row["unit"]: int(Decimal(row["amount"]) * MICRO) for row in rows}
            if added.get("attempts", 0) >= sums["attempts"]:
                break
    assert added == sums
    by_all = (await shown(site, "/v1/usage/summary?by=day,key,kind,operation,engine,outcome&limit=500"))[
        "usage"
    ]
    assert (
        sum(int(Decimal(row["amount"]) * MICRO) for row in by_all if row["unit"] == "tokens")
        == sums["tokens"]
    )
    bill = await shown(site, "/v1/usage/bill")
    cost = cost_of(found)
    assert bill["total_micro_cents"] == (2 * cost.numerator + cost.denominator) // (2 * cost.denominator)


async def check_rebuilt(site: Deployment) -> None:
    """The sums of the running read model are those of a new one."""
    path = path_in(site.data_dir)
    with closing(sqlite3.connect(path)) as connection:
        before = dump(connection, ["usage"])
    await site.command("rebuild")
    with closing(sqlite3.connect(path)) as connection:
        assert dump(connection, ["usage"]) == before
