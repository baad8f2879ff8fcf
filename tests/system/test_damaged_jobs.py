"""Jobs damaged at every point of their lives, and repaired over REST, come to the end that was theirs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.encoding.codec import write
from switchyard.events.events import Repaired
from switchyard.events.job import Job
from switchyard.events.values import Status
from switchyard.events.vocabulary.ids import JobId
from switchyard.services.broker import connection
from switchyard.services.broker.reader import read_range
from tests.system.deployment import Deployment
from tests.system.test_version_before import job_of

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

DONE_S = 60.0
LEASE_S = 2.0
HANGS_ONCE = {"duration_s": 0.01, "steps": 1, "fail": "hang", "fail_attempts": 1}
QUICK = {"duration_s": 0.01, "steps": 1}


class Site:
    """A deployment, and a stranger's connection to its broker."""

    def __init__(self, deployment: Deployment, nc: Client) -> None:
        self.deployment = deployment
        self.nc = nc
        self.submit = deployment.submit

    async def call(self, method: str, path: str, expected: int = 200, **options: Any) -> Any:
        status, body = await self.deployment.request(method, path, **options)
        assert status == expected, (path, status, body)
        return body

    async def until(self, job_id: str, is_so: Callable[[Job], bool]) -> Job:
        """Wait until the job, by its log, is as expected."""
        async with asyncio.timeout(DONE_S):
            while not is_so(job := await job_of(self.nc, job_id)):
                await asyncio.sleep(0.05)
        return job

    async def until_is(self, job_id: str, status: Status) -> Job:
        return await self.until(job_id, lambda job: job.status is status)

    async def until_woken(self, job_id: str, due_at: datetime) -> None:
        """Wait until the job's wake-up has come and was taken."""
        place = f"timer.*.{job_id}.>"
        async with asyncio.timeout(DONE_S):
            while datetime.now(UTC) < due_at or await read_range(
                self.nc, subjects.TIMERS, place, timeout_s=20
            ):
                await asyncio.sleep(0.05)

    async def damage(self, job_id: str, name: str = "hello") -> None:
        """Publish what cannot be read; returns once the job is damaged for every reader."""
        await self.nc.request(f"job.{job_id}.{name}", b"hi", timeout=5)
        shown = await self.call("GET", f"/v1/jobs/{job_id}")
        assert shown["damage"]["event"] == name

    async def repair(self, job_id: str, **body: str) -> dict[str, Any]:
        shown: dict[str, Any] = await self.call("POST", f"/v1/jobs/{job_id}/repair", json=body)
        assert shown["damage"] is None
        return shown

    async def start_worker(self, slots: int = 4) -> str:
        """Start a worker; its id."""
        await self.deployment.start_worker("worker", slots=slots)
        async with asyncio.timeout(DONE_S):
            while not (found := await self.call("GET", "/v1/workers"))["workers"]:
                await asyncio.sleep(0.05)
        return str(found["workers"][0]["id"])

    async def claim(self, kind: str) -> tuple[str, dict[str, str]]:
        """Claim a job over REST: the lease's path, and the header that shows it."""
        asked = {"worker": "curl", "kinds": [kind], "lease_s": 60, "wait_s": 5}
        body = await self.call("POST", "/v1/leases", 201, json=asked)
        return f"/v1/leases/{body['lease']['id']}", {"Switchyard-Lease-Token": body["lease"]["token"]}


@asynccontextmanager
async def site_in(directory: Path) -> AsyncIterator[Site]:
    async with Deployment(directory, lease_s=LEASE_S) as deployment:
        await deployment.start("projector", "projector")
        await deployment.start_gateway()
        await deployment.start("keeper", "keeper")
        nc = await connection.connect(deployment.broker.url, name="stranger")
        yield Site(deployment, nc)
        await nc.close()


async def test_a_job_damaged_in_its_lane_is_left_alone_and_runs_once_it_is_repaired(tmp_path: Path) -> None:
    async with site_in(tmp_path) as site:
        job_id = await site.submit(payload=QUICK)
        await site.damage(job_id)
        other = await site.submit(payload=QUICK)
        await site.start_worker(slots=1)
        await site.until_is(other, Status.SUCCEEDED)
        assert (await job_of(site.nc, job_id)).status is Status.QUEUED
        assert (await site.call("POST", f"/v1/jobs/{job_id}/cancel", 409, json={}))["code"] == "damaged"
        assert (await site.repair(job_id))["state"] == "queued"
        job = await site.until_is(job_id, Status.SUCCEEDED)
        assert job.attempt == 1


async def test_the_handler_of_a_job_damaged_while_it_runs_is_stopped_and_it_runs_again(
    tmp_path: Path,
) -> None:
    async with site_in(tmp_path) as site:
        await site.start_worker(slots=1)
        job_id = await site.submit(payload=HANGS_ONCE)
        await site.until_is(job_id, Status.RUNNING)
        await site.damage(job_id)
        # Its one slot is free again only when the handler, which would hang for ever, was stopped.
        await site.until_is(await site.submit(payload=QUICK), Status.SUCCEEDED)
        assert (await site.repair(job_id))["state"] == "queued"
        job = await site.until_is(job_id, Status.SUCCEEDED)
        assert (job.attempt, job.failures) == (2, 0)


async def test_wake_ups_of_damaged_jobs_are_not_lost(tmp_path: Path) -> None:
    async with site_in(tmp_path) as site:
        await site.start_worker()
        again = {"base_s": 1.5, "jitter": 0}
        retrying = await site.submit(payload={"duration_s": 0, "fail": "retryable"}, retry=again)
        due = (await site.until_is(retrying, Status.RETRYING)).retry_at
        await site.damage(retrying)
        start_at = datetime.now(UTC) + timedelta(seconds=2)
        scheduled = await site.submit(payload=QUICK, run_at=start_at.isoformat())
        await site.damage(scheduled)
        assert due is not None
        for job_id, due_at in ((retrying, due), (scheduled, start_at)):
            await site.until_woken(job_id, due_at)  # while nothing may be decided about the job
        assert (await job_of(site.nc, retrying)).retry_at == due
        for job_id, state in ((retrying, "retrying"), (scheduled, "scheduled")):
            assert (await site.repair(job_id))["state"] == state
            await site.until_is(job_id, Status.SUCCEEDED)


async def test_a_review_goes_on_where_it_was(tmp_path: Path) -> None:
    async with site_in(tmp_path) as site:
        job_id = await site.submit(kind="hand", payload={})
        path, lease = await site.claim("hand")
        await site.call("POST", f"{path}/propose", headers=lease, json={"result": {"n": 1}})
        await site.damage(job_id, "accepted")
        await site.call("POST", f"/v1/reviews/{job_id}/accept", 409, json={})
        assert (await site.repair(job_id))["state"] == "review"
        rejected = await site.call("POST", f"/v1/reviews/{job_id}/reject", json={"reason": "again"})
        assert rejected["state"] == "queued"
        path, lease = await site.claim("hand")
        await site.call("POST", f"{path}/succeed", headers=lease, json={"result": {"n": 2}})
        assert (await job_of(site.nc, job_id)).result == {"n": 2}


async def test_strangers_in_a_lane_do_not_keep_a_claim_from_its_job(tmp_path: Path) -> None:
    async with site_in(tmp_path) as site:
        first = await site.submit(kind="hand", payload={})
        lane = (await job_of(site.nc, first)).lane
        await site.damage(first)
        for number in range(20):
            stranger = f"0194aaaa-0000-7000-8000-{number:012}"
            for headers in (None, {subjects.H_TENANT: "acme", subjects.H_KIND: "hand"}):
                subject = f"job.{stranger}.queued.{lane}.50"
                queued = f'{{"v":1,"at":"2026-01-02T03:04:05Z","cause":"x","lane":"{lane}","priority":50}}'
                for body in (b"hi", queued.encode()):
                    await site.nc.request(subject, body, timeout=5, headers=headers)
        job_id = await site.submit(kind="hand", payload={})
        path, lease = await site.claim("hand")
        shown = await site.call("POST", f"{path}/succeed", headers=lease, json={})
        assert shown["id"] == job_id


async def test_a_timed_lease_ends_with_the_damage_and_its_token_does_no_harm(tmp_path: Path) -> None:
    async with site_in(tmp_path) as site:
        job_id = await site.submit(kind="hand", payload={})
        path, lease = await site.claim("hand")
        await site.damage(job_id)
        for verb in ("renew", "succeed", "release"):
            await site.call("POST", f"{path}/{verb}", 409, headers=lease, json={})
        await site.repair(job_id)
        await site.call("POST", f"{path}/succeed", 409, headers=lease, json={})
        path, lease = await site.claim("hand")
        await site.call("POST", f"{path}/succeed", headers=lease, json={})
        assert (await job_of(site.nc, job_id)).attempt == 2


async def test_what_a_damaged_job_waits_for_may_end_meanwhile(tmp_path: Path) -> None:
    async with site_in(tmp_path) as site:
        parent = await site.submit(kind="hand", payload={})
        child = await site.submit(payload=QUICK, depends_on=[parent])
        await site.damage(child)
        path, lease = await site.claim("hand")
        await site.call("POST", f"{path}/succeed", headers=lease, json={})
        await site.start_worker()
        await site.until_is(await site.submit(payload=QUICK, depends_on=[parent]), Status.SUCCEEDED)
        assert (await job_of(site.nc, child)).status is Status.BLOCKED
        assert (await site.repair(child))["state"] == "blocked"
        await site.until_is(child, Status.SUCCEEDED)


async def test_a_job_waits_for_one_that_is_damaged_until_that_is_repaired(tmp_path: Path) -> None:
    async with site_in(tmp_path) as site:
        await site.start_worker()
        parents = [await site.submit(payload=QUICK) for _ in range(2)]
        for parent in parents:
            await site.until_is(parent, Status.SUCCEEDED)
            await site.damage(parent)
        children = [await site.submit(payload=QUICK, depends_on=[parent]) for parent in parents]
        for child in children:
            await site.until(child, lambda job: job.status is not Status.ABSENT)
        await site.repair(parents[0])
        await site.until_is(children[0], Status.SUCCEEDED)
        await site.repair(parents[1], to="dead")
        await site.until_is(children[1], Status.DEAD)


async def test_a_cancelled_job_that_was_damaged_meanwhile_is_cancelled(tmp_path: Path) -> None:
    async with site_in(tmp_path) as site:
        job_id = await site.submit(kind="hand", payload={})
        await site.claim("hand")
        await site.call("POST", f"/v1/jobs/{job_id}/cancel", 202, json={})
        await site.damage(job_id)
        assert (await site.repair(job_id))["state"] == "cancelled"


async def test_an_outcome_waits_for_the_version_that_can_read_the_log(tmp_path: Path) -> None:
    async with site_in(tmp_path) as site:
        worker = await site.start_worker(slots=1)
        job_id = await site.submit(payload={"duration_s": 1.0, "steps": 10})
        running = await site.until_is(job_id, Status.RUNNING)
        ours = {subjects.H_TENANT: "acme", subjects.H_KIND: "simulate"}
        newer = b'{"v":1,"at":"2026-01-02T03:04:05Z","mood":"good"}'
        await site.nc.request(f"job.{job_id}.praised", newer, timeout=5, headers=ours)
        shown = await site.call("GET", f"/v1/jobs/{job_id}")
        assert (shown["state"], shown["damage"]["newer_version"]) == ("running", True)
        for verb in ("repair", "discard", "cancel"):
            await site.call("POST", f"/v1/jobs/{job_id}/{verb}", 503, json={})
        log = site.deployment.parts["worker"].log
        async with asyncio.timeout(DONE_S):
            while "outcome_waits" not in log.read_text():
                await asyncio.sleep(0.05)
        # What the upgraded program would write: the state that the event led to.
        state = msgspec.to_builtins(running)
        del state["id"]
        repaired = Repaired(at=running.started_at or running.created_at, state=state, by="upgrade")  # type: ignore[arg-type]
        subject, body = write(JobId(job_id), repaired)
        await site.nc.request(subject, body, timeout=5, headers=ours)
        job = await site.until_is(job_id, Status.SUCCEEDED)
        assert (job.attempt, job.worker, job.damage) == (1, worker, None)
