"""Wake-ups of jobs that have ended: they go with the job, also when the broker brings them back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from switchyard.events import subjects
from switchyard.events.commands import Fail, Redrive
from switchyard.events.values import JobError
from switchyard.events.vocabulary.ids import JobId
from switchyard.services.broker.reader import read_range
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.connectors.protocol import Attempt
from tests.worker.site import DEADLINE_S, Site, TestConnector, open_site

JOBS = 20
TOMBSTONE_BYTES = 30


@pytest.fixture
async def site(broker: NatsServer) -> AsyncIterator[Site]:
    async with open_site(broker.url) as site:
        yield site


def in_an_hour() -> datetime:
    return datetime.now(UTC) + timedelta(hours=1)


async def ends(_: Attempt) -> None:
    return None


async def timers_of(site: Site) -> list[str]:
    """Whose wake-ups are set."""
    found = await read_range(site.nc, subjects.TIMERS, subjects.ALL_TIMERS_SET, timeout_s=20)
    return sorted({message.subject.split(".")[2] for message in found})


async def until_left(site: Site, *jobs: str) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while await timers_of(site) != sorted(jobs):
            await asyncio.sleep(0.05)


async def test_a_job_that_ends_takes_its_timers_with_it(site: Site) -> None:
    async with site.keeper():
        waits = await site.submit(kind="other", start_at=in_an_hour())
        jobs = [await site.submit(n, deadline_at=in_an_hour()) for n in range(3)]
        await until_left(site, waits, *jobs)
        async with site.worker(TestConnector(ends)):
            for job_id in jobs:
                await site.final(job_id)
            await until_left(site, waits)


async def test_a_dead_job_that_gets_a_new_start_has_its_deadline_again(site: Site) -> None:
    async with site.keeper():
        job_id = await site.submit(deadline_at=in_an_hour())
        await until_left(site, job_id)
        job = await site.lease(job_id, worker="w1")
        assert job.lease is not None
        failed = Fail(
            now=datetime.now(UTC), fence=job.lease.fence, error=JobError("broken", "it broke", False)
        )
        await site.store.transition(job, failed, actor="worker:w1")
        await until_left(site)
        await site.store.transition(JobId(job_id), Redrive(now=datetime.now(UTC)), actor="user:ann")
        await until_left(site, job_id)


async def test_timers_that_a_power_cut_brings_back_go_before_they_fire(
    site: Site, broker: NatsServer
) -> None:
    async with site.keeper():
        waits = await site.submit(kind="other", start_at=in_an_hour())
        jobs = [await site.submit(n, deadline_at=in_an_hour()) for n in range(JOBS)]
        await until_left(site, waits, *jobs)
        async with site.worker(TestConnector(ends)):
            for job_id in jobs:
                await site.final(job_id)
        await until_left(site, waits)
    await broker.kill()
    # What was written last never reached the disk: among that, that the wake-ups were taken away.
    [block] = broker._files.directory.glob("jetstream/jetstream/*/streams/TIMERS/msgs/*.blk")
    with block.open("r+b") as file:
        file.truncate(block.stat().st_size - TOMBSTONE_BYTES * JOBS // 2)
    await broker.restart()
    async with asyncio.timeout(DEADLINE_S):
        while not site.nc.is_connected:
            await asyncio.sleep(0.05)
    assert len(await timers_of(site)) > 1
    async with site.keeper():  # long before its first sweep
        await until_left(site, waits)


async def test_timers_that_a_broker_brings_back_go_while_the_keeper_runs(
    site: Site, broker: NatsServer
) -> None:
    """They are put there while it hears nothing: as if the broker, killed, had forgotten their end."""
    gone = await site.submit(deadline_at=in_an_hour())
    async with site.worker(TestConnector(ends)):
        await site.final(gone)
    async with site.keeper() as keeper:
        waits = await site.submit(kind="other", start_at=in_an_hour())
        await until_left(site, waits)
        headers = {
            subjects.H_SCHEDULE: f"@at {in_an_hour().isoformat().replace('+00:00', 'Z')}",
            subjects.H_SCHEDULE_TARGET: subjects.timer_due(JobId(gone), "deadline"),
        }
        await site.nc.jetstream().publish(subjects.timer(JobId(gone), "deadline"), b"", headers=headers)
        assert await timers_of(site) == sorted([gone, waits])
        await broker.kill()
        await broker.restart()
        await until_left(site, waits)
        assert not keeper.sweep.repaired
