"""Back ends work on while the worker, the gateways and the keeper are killed: every outcome lands once."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest

from switchyard.events.encoding.envelope import Recorded
from switchyard.events.events import Claimed, ClaimRenewed, Leased, Queued, Scheduled, Succeeded
from switchyard.services.broker import connection
from tests.gateway.backends.backend_double import BackendDouble
from tests.ports import free_port
from tests.sizes import sizes
from tests.system.deployment import Deployment
from tests.system.log_check import LogReport, check_log, read_log

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

SEED = random.SystemRandom().randrange(10**6)
QUIET_S = 120.0


class Size(NamedTuple):
    """How much of it."""

    jobs: int
    kills: int
    works_s: float


SIZES = sizes(Size(24, 4, 0.5), Size(200, 30, 2.0), timeout_s=1800)


class Stage:
    """All that is killed, and started again."""

    def __init__(self, site: Deployment, backend_url: str, ports: dict[str, int]) -> None:
        self.site = site
        self.ports = ports
        self.backend_url = backend_url

    @property
    def gateways(self) -> list[str]:
        """Where they are, dead or alive."""
        return [f"http://127.0.0.1:{port}" for port in self.ports.values()]

    async def start(self, name: str) -> None:
        """Start a part."""
        if name in self.ports:
            await self.site.start_gateway(name, self.ports[name])
        elif name == "keeper":
            await self.site.start("keeper", "keeper")
        else:
            await self.site.start(name, self.backend_url, *self.gateways, module="tests.system.taker")

    async def kill(self, name: str) -> None:
        """End a part as a crash does, and start it again."""
        await self.site.parts[name].kill()
        await self.start(name)


@pytest.mark.parametrize("size", SIZES)
async def test_every_outcome_lands_once_whoever_is_killed_while_back_ends_work_on(
    tmp_path: Path, size: Size
) -> None:
    print(f"seed {SEED}")  # noqa: T201 - to run a failure again
    draw = random.Random(SEED)
    ports = {"gateway0": free_port(), "gateway1": free_port()}
    double = BackendDouble(
        lambda: [f"http://127.0.0.1:{port}" for port in ports.values()],
        works_s=size.works_s, reports=2, alive_s=0.4,
    )  # fmt: skip
    async with double.running() as url, Deployment(tmp_path, lease_s=2.0, poison_losses=10) as site:
        stage = Stage(site, url, ports)
        await site.start("projector", "projector")
        for name in (*ports, "keeper"):
            await stage.start(name)
        jobs = {
            await site.submit(kind="render", payload={"number": n}, max_attempts=20): n
            for n in range(size.jobs)
        }
        await stage.start("taker")
        names = ["taker", "keeper", *ports]
        for kill in range(size.kills):
            async with asyncio.timeout(QUIET_S):
                while double.runs.total() < size.jobs * kill / (size.kills + 1):
                    await asyncio.sleep(0.02)
            # Each of them at least once, where there are so many kills.
            await stage.kill(names[kill] if kill < len(names) else draw.choice(names))
        entries, report = await outcomes(site, jobs.keys())
    check_outcomes(entries, report, jobs)
    ran = Counter(work_id.partition(".")[0] for work_id in double.runs.elements())
    assert ran == Counter(dict.fromkeys(jobs, 1))
    assert {status for status, _ in double.answers} == {200}


WATCHERS = {"nats": "tests.system.watcher", "rest": "tests.system.rest_watcher"}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("door", WATCHERS)
async def test_every_outcome_lands_once_whichever_worker_watches_what_back_ends_do(
    tmp_path: Path, size: Size, door: str
) -> None:
    """Nothing is called back: workers ask, are killed, and others find what those have left."""
    print(f"seed {SEED}")  # noqa: T201 - to run a failure again
    draw = random.Random(SEED)
    double = BackendDouble(list, works_s=size.works_s * 2)
    async with double.running() as url, Deployment(tmp_path, lease_s=2.0, poison_losses=10) as site:
        await site.start("projector", "projector")
        port = free_port()
        await site.start_gateway("gateway", port)
        await site.start("keeper", "keeper")
        jobs = {
            await site.submit(kind="render", payload={"number": n}, max_attempts=20): n
            for n in range(size.jobs)
        }

        async def start(name: str) -> None:
            if name == "gateway":
                await site.start_gateway("gateway", port)
            elif name == "keeper":
                await site.start("keeper", "keeper")
            else:
                await site.start(name, name, url, f"http://127.0.0.1:{port}", module=WATCHERS[door])

        names = ["watcher0", "watcher1"]
        for name in names:
            await start(name)
        names += ["keeper", "gateway"]
        for kill in range(size.kills):
            async with asyncio.timeout(QUIET_S):
                while double.runs.total() < size.jobs * kill / (size.kills + 1):
                    await asyncio.sleep(0.02)
            name = names[kill] if kill < len(names) else draw.choice(names)
            print(f"{datetime.now(UTC):%H:%M:%S.%f} {name}")  # noqa: T201
            await site.parts[name].kill()
            await start(name)
        entries, report = await outcomes(site, jobs.keys())
    check_outcomes(entries, report, jobs)
    check_runs(entries, double, jobs)


def check_runs(entries: list[Recorded], double: BackendDouble, jobs: Collection[str]) -> None:
    """No work is done twice, and no attempt is lost of which its back end had anything."""
    attempts = Counter[str]()
    lost: dict[str, str] = {}
    for entry in entries:
        match entry.event:
            case Claimed() | Leased():
                attempts[entry.job_id] += 1
            case Queued() | Scheduled():
                lost[f"{entry.job_id}.{attempts[entry.job_id]}"] = f"{entry.event} by {entry.actor}"
    # Their workers died after they had left the work there, and before they had sent it.
    assert {work: why for work, why in lost.items() if work in double.accepted} == {}
    ran = Counter(work_id.partition(".")[0] for work_id in double.runs.elements())
    assert ran == Counter(dict.fromkeys(jobs, 1))
    remote_ids = Counter(
        (entry.job_id, entry.event.fence)
        for entry in entries
        if isinstance(entry.event, ClaimRenewed) and entry.event.backend is not None
    )
    assert set(remote_ids.values()) == {1}


async def outcomes(site: Deployment, jobs: Collection[str]) -> tuple[list[Recorded], LogReport]:
    """The log, when all these jobs have succeeded."""
    nc = await connection.connect(site.broker.url, name="test")
    async with asyncio.timeout(QUIET_S):
        while True:
            entries = await read_log(nc)
            done = {entry.job_id for entry in entries if isinstance(entry.event, Succeeded)}
            if done >= set(jobs):
                break
            await asyncio.sleep(0.5)
    report = await check_log(nc)
    await nc.close()
    return entries, report


def check_outcomes(entries: list[Recorded], report: LogReport, jobs: dict[str, int]) -> None:
    """Each is there once, and is that of its job."""
    assert report.faults == []
    ends = [entry for entry in entries if isinstance(entry.event, Succeeded)]
    assert len(ends) == len(jobs)
    assert {entry.job_id: entry.event.result for entry in ends if isinstance(entry.event, Succeeded)} == {
        job_id: {"number": number} for job_id, number in jobs.items()
    }
    print(dict(report.events))  # noqa: T201
