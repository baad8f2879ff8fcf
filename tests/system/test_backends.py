"""Back ends work on while the worker, the gateways and the keeper are killed: every outcome lands once."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from switchyard.events.events import Succeeded
from switchyard.services.broker import connection
from tests.gateway.backends.backend_double import BackendDouble
from tests.sizes import sizes
from tests.system.deployment import Deployment, free_port
from tests.system.log_check import check_log, read_log

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
        nc = await connection.connect(site.broker.url, name="test")
        async with asyncio.timeout(QUIET_S):
            while True:
                entries = await read_log(nc)
                done = {entry.job_id for entry in entries if isinstance(entry.event, Succeeded)}
                if done >= jobs.keys():
                    break
                await asyncio.sleep(0.5)
        report = await check_log(nc)
        await nc.close()
    assert report.faults == []
    ends = [entry for entry in entries if isinstance(entry.event, Succeeded)]
    assert len(ends) == size.jobs
    assert {entry.job_id: entry.event.result for entry in ends if isinstance(entry.event, Succeeded)} == {
        job_id: {"number": number} for job_id, number in jobs.items()
    }
    ran = Counter(work_id.partition(".")[0] for work_id in double.runs.elements())
    assert ran == Counter(dict.fromkeys(jobs, 1))
    assert {status for status, _ in double.answers} == {200}
    print(dict(report.events))  # noqa: T201
