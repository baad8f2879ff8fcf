"""What the version before wrote is read as it was, and continues; what a later one writes waits for it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.encoding.envelope import recorded
from switchyard.events.job import Job, evolve
from switchyard.events.values import Status
from switchyard.events.vocabulary.ids import JobId
from switchyard.services.broker import connection
from switchyard.services.broker.reader import read_range
from tests.system.deployment import Deployment
from tests.system.old_log import replay

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

DONE_S = 60.0
BIG = 10**30


async def job_of(nc: Client, job_id: str) -> Job:
    job = Job(id=JobId(job_id))
    for message in await read_range(nc, subjects.JOBS, subjects.job_filter(JobId(job_id)), timeout_s=20):
        entry = recorded(message.subject, message.headers, message.data, message.seq)
        job = evolve(job, entry.event, entry.seq)
    return job


async def until(nc: Client, job_id: str, status: Status) -> Job:
    async with asyncio.timeout(DONE_S):
        while (job := await job_of(nc, job_id)).status is not status:
            await asyncio.sleep(0.1)
    return job


async def test_a_log_of_the_version_before_is_read_as_it_was_and_goes_on(tmp_path: Path) -> None:
    async with Deployment(tmp_path, lease_s=2.0) as site:
        nc = await connection.connect(site.broker.url, name="test")
        old = await replay(nc)
        await site.start("projector", "projector")
        await site.start_gateway()
        for fate, job_id in old.jobs.items():
            status, shown = await site.request("GET", f"/v1/jobs/{job_id}")
            assert status == 200, (fate, shown)
            assert (shown["damage"] is not None) is (fate == "nan_usage"), (fate, shown)
            if "state" in old.views[fate]:
                assert {name: shown[name] for name in old.views[fate]} == old.views[fate], fate
        _, big = await site.request("GET", f"/v1/jobs/{old.jobs['big_result']}")
        assert (big["state"], big["result"]) == ("succeeded", {"n": BIG})
        _, big = await site.request("GET", f"/v1/jobs/{old.jobs['big_feedback']}")
        assert (big["state"], big["feedback"]) == ("queued", {"n": BIG})
        _, lost = await site.request("GET", f"/v1/jobs/{old.jobs['nan_usage']}")
        assert "usage" in lost["damage"]["reason"]

        _, listed = await site.request("GET", "/v1/jobs?limit=200")
        assert {job["id"] for job in listed["jobs"]} >= set(old.jobs.values()) - {old.jobs["archived"]}
        assert (await site.request("GET", "/v1/limits/gpu"))[1]["concurrency"] == 3
        assert (await site.request("GET", "/v1/kinds/simulate"))[1]["priority"] == 55
        assert (await site.request("GET", "/v1/schedules/hourly"))[1]["state"] == "active"

        await site.start("keeper", "keeper")
        await site.start_worker("worker")
        for fate in ("queued", "scheduled"):
            await until(nc, old.jobs[fate], Status.SUCCEEDED)
        # The worker that held this one is gone, and nobody knows whether it ran others too.
        job = await until(nc, old.jobs["running"], Status.QUEUED)
        assert (job.failures, job.innocent) == (0, 1)
        await until(nc, await site.submit(payload={"duration_s": 0}), Status.SUCCEEDED)

        path = f"/v1/jobs/{old.jobs['nan_usage']}"
        status, after = await site.request("POST", f"{path}/repair", json={"reason": "usage", "to": "dead"})
        assert (status, after["state"], after["damage"]) == (200, "dead", None), after
        status, gone = await site.request("POST", f"{path}/discard", json={"reason": "not wanted"})
        assert (status, gone["archived_as"]) == (200, "dead")
        await nc.close()
