"""Workers are killed at random, again and again, while two thousand jobs run."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path

import pytest

from events import subjects
from events.codec import FINAL_EVENTS
from events.history import Dead
from events.retry import RetryPolicy
from events.spec import FINAL
from services import broker
from services.inbox import Inbox
from tests.system.deployment import Deployment
from tests.system.log_check import check_log, read_log
from tests.worker.site import open_site

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

SEED = random.SystemRandom().randrange(10**6)
JOBS = 2000
WORKERS = 4
SLOTS = 8
JOB_S = 0.25
LEASE_S = 2.0
KILLS = 12
QUIET_S = 60.0


async def kill_and_restart(site: Deployment, draw: random.Random, ended: set[str]) -> None:
    """Kill a worker, and start another, each time that some more jobs have ended."""
    for kill in range(KILLS):
        while len(ended) < JOBS * (kill + 0.5) / (KILLS + 1):
            await asyncio.sleep(0.02)
        name = draw.choice([name for name in site.parts if name.startswith("worker")])
        await site.parts.pop(name).kill()
        await site.start_worker(f"worker{WORKERS + kill}", slots=SLOTS)


async def test_workers_killed_at_random_leave_every_job_with_one_end(tmp_path: Path) -> None:
    print(f"seed {SEED}")  # noqa: T201 - to run a failure again
    draw = random.Random(SEED)
    ended: set[str] = set()

    async def until_ended(events: Inbox) -> None:
        while len(ended) < JOBS:
            _, job_id, name, *_ = (await events.next(QUIET_S)).subject.split(".")
            if name in FINAL_EVENTS:
                ended.add(job_id)

    async with Deployment(tmp_path, lease_s=LEASE_S) as site:
        async with open_site(site.broker.url, lease_s=LEASE_S) as log:
            await site.start("keeper", "keeper")
            for number in range(WORKERS):
                await site.start_worker(f"worker{number}", slots=SLOTS)
            async with Inbox(log.nc, subjects.ALL_JOBS) as events:
                await log.nc.flush()
                payload = {"duration_s": JOB_S, "steps": 1}
                retry = RetryPolicy(base_s=0.1, factor=1, max_s=0.1, jitter=0)
                for _ in range(JOBS):
                    await log.submit(payload=payload, max_attempts=20, retry=retry)
                async with asyncio.TaskGroup() as group:
                    group.create_task(until_ended(events))
                    group.create_task(kill_and_restart(site, draw, ended))
        nc = await broker.connect(site.broker.url, name="test")
        report = await check_log(nc)
        dead = [entry.event for entry in await read_log(nc) if isinstance(entry.event, Dead)]
        await nc.close()
    assert report.faults == []
    assert len(report.jobs) == JOBS
    assert all(job.status in FINAL for job in report.jobs.values())
    assert {event.reason for event in dead} <= {"poison"}
    assert len(dead) < JOBS / 100  # a job is rarely lost twice in a row
    assert report.events["succeeded"] + len(dead) == JOBS
    lost = report.events["leased"] - JOBS
    assert lost >= KILLS, Counter(report.events)
