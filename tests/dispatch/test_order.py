"""Higher priority first, then the older job, over all the lanes that a worker fits."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from switchyard.events.vocabulary.ids import JobId
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.connectors.protocol import Attempt
from switchyard.services.worker.worker import Worker
from tests.dispatch.crowd import Start, seen, starts, submit_to, until_seen, work_has_all, workers
from tests.sizes import in_drill
from tests.worker.site import DEADLINE_S, Site, TestConnector, open_site

SEED = random.SystemRandom().randrange(10**6)
LANES = 20
PRIORITIES = (20, 50, 50, 80, 95)
ABLE = {f"k{number}": number for number in range(LANES)}


@pytest.fixture
async def site(broker: NatsServer) -> AsyncIterator[Site]:
    async with open_site(broker.url, lease_s=30) as site:
        yield site


async def submit_mixed(site: Site, count: int, seed: int, lanes: int = LANES) -> list[str]:
    """Jobs over all lanes and priorities in random order."""
    print(f"seed {seed}")  # noqa: T201 - to run a failure again
    draw = random.Random(seed)
    return [
        await submit_to(site, {f"k{lane}": lane}, priority=draw.choice(PRIORITIES))
        for lane in (draw.randrange(lanes) for _ in range(count))
    ]


def due_order(found: list[Start]) -> list[str]:
    """The jobs as they should start."""
    return [
        start.job_id for start in sorted(found, key=lambda start: (-start.spec.priority, start.submitted_seq))
    ]


async def knows_lanes(worker: Worker, count: int) -> None:
    """Return when the worker has heard of that many lanes and priorities."""
    async with asyncio.timeout(DEADLINE_S):
        while worker._dispatcher.count_lanes() < count:
            await asyncio.sleep(0.01)


async def test_a_busy_worker_takes_what_came_meanwhile_in_exact_order_over_twenty_lanes(site: Site) -> None:
    release = asyncio.Event()

    async def waits_once(_: Attempt) -> None:
        await release.wait()

    connector = TestConnector(waits_once)
    connector.extra = ABLE
    async with site.worker(connector) as worker, seen(site, "succeeded") as ended:
        blocker = await submit_to(site, {})
        await site.until(blocker, "leased")
        job_ids = await submit_mixed(site, 400, SEED)
        specs = [await site.store.spec(JobId(job_id)) for job_id in [blocker, *job_ids]]
        await knows_lanes(worker, len({(spec.lane, spec.priority) for spec in specs}))
        await work_has_all(site, not_work=1)
        release.set()
        await until_seen(ended, job_ids)
    found = [start for start in await starts(site) if start.job_id != blocker]
    assert [start.job_id for start in found] == due_order(found)


async def test_a_worker_that_starts_takes_what_waited_in_exact_order(site: Site) -> None:
    job_ids = await submit_mixed(site, 300, SEED)
    await work_has_all(site)
    async with seen(site, "succeeded") as ended, workers(site, 1, extra={0: ABLE}):
        await until_seen(ended, job_ids)
    found = await starts(site)
    assert [start.job_id for start in found] == due_order(found)


def abilities(number: int) -> dict[str, Any]:
    """Every second worker of the crowd does half of the lanes only."""
    return ABLE if number % 2 else {key: value for key, value in ABLE.items() if value < LANES // 2}


@pytest.mark.parametrize("lanes", [1, in_drill(LANES)])
async def test_none_of_fifty_workers_overtakes_more_jobs_than_there_are_claims_in_flight(
    site: Site, lanes: int
) -> None:
    """What a job overtakes are those that other workers have in their hands."""
    count = 50
    job_ids = await submit_mixed(site, 500, SEED, lanes)
    await work_has_all(site)
    crowd = {number: abilities(number) for number in range(count)}
    # Jobs last longer than a claim may take here, or a worker has two in its hands while another claims one.
    async with seen(site, "succeeded") as ended, workers(site, count, extra=crowd, lasting_s=5.0):
        await until_seen(ended, job_ids)
    found = await starts(site)
    assert len({start.worker for start in found}) == count
    assert sorted(start.job_id for start in found) == sorted(job_ids)
    assert [found for found in overtakings(found, crowd) if found[1] > count] == []


def overtakings(found: list[Start], crowd: dict[int, dict[str, Any]]) -> list[tuple[str, int]]:
    """How many jobs each start went before that were due, that waited, and that the same worker fits."""
    counted = []
    for place, early in enumerate(found):
        able = crowd[int(early.worker[1:])]
        rank = (-early.spec.priority, early.submitted_seq)
        passed_over = sum(
            1
            for late in found[place + 1 :]
            if rank > (-late.spec.priority, late.submitted_seq)
            and late.submitted_seq < early.seq
            and late.spec.requires.keys() <= able.keys()
        )
        counted.append((early.job_id, passed_over))
    return counted
