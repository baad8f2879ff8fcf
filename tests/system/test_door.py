"""A crowd of workers that know HTTP alone, two gateways, and faults in the middle."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import orjson
import pytest

from switchyard.events.values import Status
from switchyard.services.broker import connection
from switchyard.services.ids import new_id
from tests.ports import free_port
from tests.sizes import sizes
from tests.system.deployment import Deployment
from tests.system.log_check import check_log

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

DEADLINE_S = 200.0


class Size(NamedTuple):
    """How many claim, and how many jobs."""

    claimers: int
    jobs: int


SIZES = sizes(Size(100, 800), Size(500, 5000), timeout_s=300)


class Crowd:
    """All claimers; each asks one gateway, and another one when that does not answer.

    Args:
        urls: those of the gateways.
        token: lets them work.
        jobs: how many there are.
    """

    def __init__(self, session: aiohttp.ClientSession, urls: list[str], token: str, jobs: int) -> None:
        self._session = session
        self._jobs = jobs
        self._urls = urls
        self._headers = {"Authorization": f"Bearer {token}"}
        self.done: set[str] = set()
        self.progress = asyncio.Event()

    async def call(self, path: str, body: Any, **headers: str) -> tuple[int, Any]:
        """The answer of whichever gateway gives one; asked again until one does."""
        pause_s = 0.1
        while True:
            url = random.choice(self._urls)
            try:
                async with self._session.post(
                    url + path, json=body, headers=self._headers | headers
                ) as answer:
                    raw = await answer.read()
                    if answer.status < 500:
                        return answer.status, orjson.loads(raw) if raw else None
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(pause_s)
            pause_s = min(1.0, pause_s * 2)

    async def work(self, number: int) -> None:
        """Claim and succeed until all jobs are done."""
        claim = {"worker": f"w{number}", "kinds": ["noop"], "lease_s": 120, "wait_s": 2}
        while len(self.done) < self._jobs:
            status, claimed = await self.call("/v1/leases", claim, **{"Idempotency-Key": new_id()})
            if status == 204:
                continue
            assert status == 201, claimed
            lease, job = claimed["lease"], claimed["job"]
            status, ended = await self.call(
                f"/v1/leases/{lease['id']}/succeed",
                {"result": job["payload"]["n"]},
                **{"Switchyard-Lease-Token": lease["token"]},
            )
            assert (status, ended["state"]) == (200, "succeeded"), ended
            assert job["id"] not in self.done
            self.done.add(job["id"])
            self.progress.set()

    async def until(self, count: int) -> None:
        """Returns when so many jobs are done."""
        while len(self.done) < count:
            self.progress.clear()
            await self.progress.wait()


async def submit_all(site: Deployment, jobs: int) -> None:
    lines = b"".join(orjson.dumps({"kind": "noop", "payload": {"n": n}}) + b"\n" for n in range(jobs))
    headers = {"Authorization": f"Bearer {site.token}", "Content-Type": "application/x-ndjson"}
    async with site.session.post(f"{site.url}/v1/jobs/bulk", data=lines, headers=headers) as answer:
        assert answer.status == 200
        answers = [orjson.loads(line) for line in (await answer.read()).splitlines()]
    assert [line["status"] for line in answers] == [201] * jobs


@pytest.mark.parametrize("size", SIZES)
async def test_every_job_is_ended_once_by_a_crowd_of_claimers(tmp_path: Path, size: Size) -> None:
    async with Deployment(tmp_path, lease_s=10) as site:
        await site.start("projector", "projector")
        ports = [free_port(), free_port()]
        for number, port in enumerate(ports):
            await site.start_gateway(f"gateway{number}", port)
        await site.start("keeper", "keeper")
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        token = (await site.command("token", "--tenant", "acme", "--role", "worker")).strip()
        await submit_all(site, size.jobs)
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=60)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            asyncio.timeout(DEADLINE_S),
            asyncio.TaskGroup() as group,
        ):
            crowd = Crowd(session, urls, token, size.jobs)
            for number in range(size.claimers):
                group.create_task(crowd.work(number))
            await crowd.until(size.jobs // 4)
            await site.parts["gateway0"].kill()
            await site.start_gateway("gateway0", ports[0])
            await crowd.until(size.jobs // 2)
            await site.broker.kill()
            await site.broker.restart()
        nc = await connection.connect(site.broker.url, name="test")
        report = await check_log(nc)
        await nc.close()
    assert report.faults == []
    assert len(report.jobs) == size.jobs
    assert all(job.status is Status.SUCCEEDED for job in report.jobs.values())
    assert sum(job.failures for job in report.jobs.values()) == 0
    assert report.events["claimed"] == size.jobs
