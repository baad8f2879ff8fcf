"""Workers are killed at random, again and again, while jobs run, some of which harm what is around them."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from switchyard.events import subjects
from switchyard.events.encoding.codec import FINAL_EVENTS
from switchyard.events.events import Dead, Succeeded
from switchyard.events.retry import RetryPolicy
from switchyard.events.values import Status
from switchyard.services.broker import connection
from switchyard.services.broker.inbox import Inbox
from tests.sizes import in_drill, sizes
from tests.system.deployment import Deployment
from tests.system.log_check import check_log, read_log
from tests.system.mischief import MISCHIEF, STEADY
from tests.worker.site import open_site

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

SEED = random.SystemRandom().randrange(10**6)
SLOTS = 8
JOB_S = 0.25
LEASE_S = 2.0
QUIET_S = 120.0
HARMFUL = 4
"""Every so manieth job is one that does harm."""


class Size(NamedTuple):
    """How much of it."""

    jobs: int
    workers: int
    kills: int


SIZES = sizes(Size(200, 3, 3), Size(2000, 4, 12), timeout_s=1800)


async def kill_and_restart(site: Deployment, size: Size, draw: random.Random, ended: set[str]) -> None:
    """Kill a worker, and start another, each time that some more jobs have ended."""
    for kill in range(size.kills):
        while len(ended) < size.jobs * (kill + 0.5) / (size.kills + 1):
            await asyncio.sleep(0.02)
        name = draw.choice([name for name in site.parts if name.startswith("worker")])
        await site.parts.pop(name).kill()
        await start_worker(site, size.workers + kill)


async def start_worker(site: Deployment, number: int) -> None:
    name = f"worker{number}"
    handlers = ("--handlers", "tests.system.mischief:handlers")
    await site.start(name, "worker", *handlers, "--slots", str(SLOTS), "--name", name)


def kind_of(number: int, *, harm: bool) -> str:
    """Mischief is mixed among the jobs that do their work."""
    return MISCHIEF[number // HARMFUL % len(MISCHIEF)] if harm and number % HARMFUL == 0 else STEADY


@pytest.mark.parametrize("harm", [in_drill(False), True], ids=["steady", "harmful"])
@pytest.mark.parametrize("size", SIZES)
async def test_workers_killed_at_random_leave_every_job_with_one_end(
    tmp_path: Path, size: Size, *, harm: bool
) -> None:
    print(f"seed {SEED}")  # noqa: T201 - to run a failure again
    draw = random.Random(SEED)
    ended: set[str] = set()
    kinds: dict[str, str] = {}

    async def until_ended(events: Inbox) -> None:
        while len(ended) < size.jobs:
            _, job_id, name, *_ = (await events.next(QUIET_S)).subject.split(".")
            if name in FINAL_EVENTS:
                ended.add(job_id)

    async with Deployment(tmp_path, lease_s=LEASE_S) as site:
        async with open_site(site.broker.url, lease_s=LEASE_S) as log:
            await site.start("keeper", "keeper")
            for number in range(size.workers):
                await start_worker(site, number)
            async with Inbox(log.nc, subjects.ALL_JOBS) as events:
                await log.nc.flush()
                payload = {"seconds": JOB_S}
                retry = RetryPolicy(base_s=0.1, factor=1, max_s=0.1, jitter=0)
                for number in range(size.jobs):
                    kind = kind_of(number, harm=harm)
                    job_id = await log.submit(kind=kind, payload=payload, max_attempts=20, retry=retry)
                    kinds[job_id] = kind
                async with asyncio.TaskGroup() as group:
                    group.create_task(until_ended(events))
                    group.create_task(kill_and_restart(site, size, draw, ended))
        nc = await connection.connect(site.broker.url, name="test")
        report = await check_log(nc)
        entries = await read_log(nc)
        await nc.close()
    assert report.faults == []
    assert report.jobs.keys() == kinds.keys()
    done = {entry.job_id: entry.event for entry in entries if isinstance(entry.event, Succeeded)}
    assert {job_id: event.result for job_id, event in done.items()} == {job_id: job_id for job_id in done}
    dead = {entry.job_id: entry.event for entry in entries if isinstance(entry.event, Dead)}
    assert len(done) + len(dead) == size.jobs
    innocent = [event for job_id, event in dead.items() if kinds[job_id] == STEADY]
    assert innocent == []
    assert {event.reason for event in dead.values()} <= {"poison"}  # alone on two workers that were killed
    assert len(dead) <= size.jobs / 100
    blamed = [job for job in report.jobs.values() if job.status is Status.SUCCEEDED and job.failures]
    lost = report.events["leased"] - size.jobs
    kinds_of_dead = Counter(kinds[job_id] for job_id in dead)
    print(f"{dict(report.events)} lost {lost} blamed {len(blamed)} dead {dict(kinds_of_dead)}")  # noqa: T201
    assert lost >= size.kills / 2  # a kill may come between two jobs
