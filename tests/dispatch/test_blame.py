"""Who is taken for the reason when a worker is lost: a job that had it to itself, and nobody else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from switchyard.events.commands import Claim
from switchyard.events.events import Dead, Queued
from switchyard.events.job import Job
from switchyard.events.vocabulary.ids import JobId, Revision, WorkerId
from switchyard.services.broker.publisher import Publisher
from switchyard.services.broker.reachability import Reachability
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.records.workers import new_record
from switchyard.services.worker.registration import Registration
from tests.worker.site import Site, TestConnector, open_site


@pytest.fixture
async def site(broker: NatsServer) -> AsyncIterator[Site]:
    async with open_site(broker.url) as opened:
        yield opened


async def beat(site: Site, worker: str, jobs: list[Job], *, slots: int = 4) -> None:
    """One last heartbeat of a worker that is not there, which names some of what it holds."""
    record = new_record(
        worker_id=WorkerId(worker), lease_s=1.0, kinds=("simulate",), capabilities={}, slots=slots
    )
    held = {job.lease.fence: job.id for job in jobs if job.lease is not None}
    async with Publisher(site.nc) as publisher:
        await Registration(publisher, record, lambda: held, Reachability(1.0)).beat()


async def requeued(site: Site, job: Job) -> Queued:
    event = (await site.until(job.id, "queued", "dead")).event
    assert isinstance(event, Queued)
    assert event.cause == "lease_lost"
    return event


async def test_jobs_that_lost_their_worker_together_are_innocent(site: Site) -> None:
    jobs = [await site.lease(await site.submit(n), worker="ghost") for n in range(2)]
    await beat(site, "ghost", jobs)
    async with site.keeper():
        assert [(await requeued(site, job)).blameless for job in jobs] == [True, True]
    after = await site.store.load(jobs[0].id)
    assert (after.innocent, after.lost, after.failures) == (1, 0, 0)


async def test_a_job_that_loses_every_worker_that_it_has_to_itself_is_poison(site: Site) -> None:
    job_id = await site.submit()
    async with site.keeper():
        for ghost in ("ghost1", "ghost2"):
            job = await site.lease(job_id, worker=ghost)
            await beat(site, ghost, [job])
            if ghost == "ghost1":
                assert not (await requeued(site, job)).blameless
        dead = (await site.final(job_id)).event
    assert isinstance(dead, Dead)
    assert dead.reason == "poison"


@pytest.mark.parametrize(("slots", "blameless"), [(4, True), (1, False)])
async def test_a_lease_that_no_heartbeat_named_is_blamed_only_on_a_worker_of_one_slot(
    site: Site, slots: int, *, blameless: bool
) -> None:
    await beat(site, "ghost", [], slots=slots)
    job_id = await site.submit()
    # A redelivery finds it, for the keeper has never heard of it.
    job = await site.lease(job_id, worker="ghost")
    async with site.keeper(), site.worker(TestConnector(_done)):
        assert (await requeued(site, job)).blameless is blameless
        await site.final(job_id)


async def _done(_: object) -> None:
    """Nothing to do."""


@pytest.mark.parametrize("alone", [True, False])
async def test_a_timed_lease_is_blamed_when_its_worker_had_no_other(site: Site, *, alone: bool) -> None:
    worker = "rest.acme.w1"
    jobs = []
    for n in range(1 if alone else 2):
        now = datetime.now(UTC)
        command = Claim(
            now=now, worker=WorkerId(worker), revision=Revision(1), expires_at=now + timedelta(seconds=2)
        )
        job_id = await site.submit(n)
        jobs.append((await site.store.transition(JobId(job_id), command, actor="worker:w1")).job)
    record = new_record(
        worker_id=WorkerId(worker), lease_s=30.0, kinds=("simulate",), capabilities={}, slots=1
    )
    held = {job.lease.fence: job.id for job in jobs if job.lease is not None}
    async with Publisher(site.nc) as publisher:
        await Registration(publisher, record, lambda: held, Reachability(30.0)).beat()
    async with site.keeper():
        event = (await site.until(jobs[0].id, "queued")).event
    assert isinstance(event, Queued)
    assert (event.cause, event.blameless) == ("claim_expired", not alone)
