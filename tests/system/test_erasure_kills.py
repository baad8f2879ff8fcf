"""Erasures by gateways and keepers that are killed in the middle, two at once, and by clocks that are off."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from switchyard.events.errors import UnavailableError
from switchyard.services.broker import connection
from switchyard.services.broker.bucket import Bucket, Entry
from switchyard.services.files.erasures import ERASURES, Erasure
from switchyard.services.files.keys import KEYS
from tests.ports import free_port
from tests.system.deployment import Deployment
from tests.system.shifted import ShiftedDeployment

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

WAIT_S = 120.0
DAY_S = 86400.0
JOBS = 12


class Books:
    """What the broker has of keys and certificates."""

    def __init__(self, keys: Bucket[Any], erasures: Bucket[Erasure]) -> None:
        self._keys, self._erasures = keys, erasures

    async def keys(self) -> dict[str, int]:
        """How many keys there are, by job or upload."""
        found: dict[str, int] = {}
        for entry in await self._loaded():
            found[entry.key[1]] = found.get(entry.key[1], 0) + 1
        return found

    async def _loaded(self) -> list[Entry[Any]]:
        """All keys; read again where one was overwritten in the middle, and does not come."""
        async with asyncio.timeout(WAIT_S):
            while True:
                with contextlib.suppress(UnavailableError):
                    return list(await self._keys.load())

    async def begun(self, job: str) -> bool:
        """Whether there is a certificate of a job, complete or not."""
        return (await self._erasures.get(("acme", job))).value is not None

    async def certificates(self) -> dict[str, Erasure]:
        """Those that are complete, by job."""
        found = [entry.value for entry in await self._erasures.load() if entry.value is not None]
        return {one.job: one for one in found if one.erased_at is not None}


@contextlib.asynccontextmanager
async def books(site: Deployment) -> AsyncIterator[Books]:
    nc = await connection.connect(site.broker.url, name="books")
    try:
        yield Books(Bucket(nc, KEYS, timeout_s=20), Bucket(nc, ERASURES, timeout_s=20))
    finally:
        await nc.close()


async def ended(site: Deployment, count: int, **fields: Any) -> list[str]:
    """Jobs that can be erased, of one upload each, and have been cancelled."""
    jobs = []
    for _ in range(count):
        status, upload = await site.request("POST", "/v1/files?name=a&erasable=true", data=b"text")
        assert status == 201, upload
        job = await site.submit(kind="nobody", payload={"file": upload["id"]}, erasable=True, **fields)
        assert (await site.request("POST", f"/v1/jobs/{job}/cancel"))[0] == 200
        jobs.append(job)
    return jobs


async def erase(site: Deployment, url: str, job: str) -> int:
    """Ask a gateway to erase a job; the status, or 0 where it dies."""
    headers = {"Authorization": f"Bearer {site.token}"}
    try:
        async with site.session.delete(f"{url}/v1/jobs/{job}?erase=true", headers=headers) as answer:
            return answer.status
    except aiohttp.ClientError:
        return 0


async def until_step(known: Books, job: str, asking: asyncio.Task[int], step: int) -> None:
    """Wait until an erasure has come so far: asked for, begun, without its first key, or done."""
    async with asyncio.timeout(WAIT_S):
        while not asking.done():
            entry, keys = await known.begun(job), (await known.keys()).get(job, 0)
            if step == 0 or (step == 1 and entry) or (step == 2 and not keys):
                return
            await asyncio.sleep(0)


async def all_erased(known: Books, jobs: Sequence[str]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not set(jobs) <= set(await known.certificates()) or await known.keys():
            await asyncio.sleep(0.2)


async def test_gateways_and_keepers_that_die_in_the_middle_leave_nothing_half_erased(tmp_path: Path) -> None:
    async with Deployment(tmp_path) as site, contextlib.AsyncExitStack() as stack:
        await site.start_all(workers=0)
        known = await stack.enter_async_context(books(site))
        jobs = await ended(site, JOBS)
        port = int(site.url.rpartition(":")[2])
        for number, job in enumerate(jobs):
            asking = asyncio.create_task(erase(site, site.url, job))
            await until_step(known, job, asking, number % 4)
            parts = [site.parts["gateway"]] if number % 2 else [site.parts["gateway"], site.parts["keeper"]]
            await asyncio.gather(*(part.kill() for part in parts))
            await asking
            await site.start_gateway("gateway", port)
            if len(parts) > 1:
                await site.start("keeper", "keeper")
        begun = [
            job for job in jobs if (await site.request("GET", f"/v1/jobs/{job}"))[1]["state"] == "archived"
        ]
        async with asyncio.timeout(WAIT_S):  # by keepers alone
            while not set(begun) <= set(await known.certificates()):
                await asyncio.sleep(0.2)
        assert not set(begun) & set(await known.keys())
        for job in jobs:
            assert await erase(site, site.url, job) == 200
        await all_erased(known, jobs)


async def test_two_gateways_that_erase_the_same_jobs_count_each_key_once(tmp_path: Path) -> None:
    async with Deployment(tmp_path) as site:
        await site.start_all(workers=0)
        first = site.url
        await site.start_gateway("gateway2", free_port())
        async with books(site) as known:
            jobs = await ended(site, JOBS)
            keys = sum((await known.keys()).values())
            assert keys == 2 * JOBS
            asked = [erase(site, url, job) for job in jobs for url in (first, site.url)]
            assert set(await asyncio.gather(*asked)) == {200}
            await all_erased(known, jobs)
            found = await known.certificates()
            assert sum(found[job].keys for job in jobs) == keys


async def test_clocks_that_are_a_day_off_erase_neither_early_nor_never(tmp_path: Path) -> None:
    site = ShiftedDeployment(tmp_path, lease_s=3.0)
    for name, shift_s in {"keeper": DAY_S, "gateway": -DAY_S, "projector": DAY_S}.items():
        site.shift(name, shift_s)
    async with site:
        await site.start_all(workers=0)
        async with books(site) as known:
            await erase_in_time(site, known)
            for name, shift_s in {"keeper": -DAY_S, "gateway": DAY_S, "projector": -DAY_S}.items():
                site.shift(name, shift_s)
            await site.parts["keeper"].kill()
            await site.start("keeper", "keeper")
            await erase_in_time(site, known)


async def erase_in_time(site: Deployment, known: Books) -> None:
    """Have a job erased after a second, and another one not within the hour."""
    (stays,) = await ended(site, 1, erase_s=3600)
    (due,) = await ended(site, 1, erase_s=1)
    async with asyncio.timeout(WAIT_S):
        while due not in await known.certificates():
            await asyncio.sleep(0.2)
    assert due not in await known.keys()
    assert (await known.keys())[stays] == 1
    assert (await site.request("GET", f"/v1/jobs/{stays}"))[1]["state"] == "cancelled"
