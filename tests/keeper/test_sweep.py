"""What should not happen, brought about by hand, and mended by one sweep."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from switchyard.events import subjects
from switchyard.events.commands import AnyCommand, Complete, Fail, RequestCancel, TakeLease
from switchyard.events.lane import LaneEntry, LaneKey
from switchyard.events.values import JobError
from switchyard.projections.checkpoint import Place
from switchyard.projections.database import path_in
from switchyard.projections.reader import ReadModel
from switchyard.services.broker import connection as broker
from switchyard.services.broker.bucket import Bucket
from switchyard.services.broker.inbox import Inbox
from switchyard.services.broker.jetstream import api
from switchyard.services.broker.reader import last_message, read_range
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.keeper.lanes import consumer_names
from switchyard.services.keeper.leftovers import delete_leftovers, purge_leftovers
from switchyard.services.keeper.loop import Keeper
from switchyard.services.keeper.stale import delete
from switchyard.services.projector.projector import Projector
from switchyard.services.records.lane_entries import LANES, LanePlace
from switchyard.services.records.lanes import lane_for
from tests.worker.site import Site, open_site

LANE = lane_for("simulate")
CONSUMER = subjects.lane_consumer(LANE, 50)


@pytest.fixture
async def site(broker: NatsServer, tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(broker.url, data_dir=tmp_path, lease_s=1.0) as site:
        yield site


@asynccontextmanager
async def projected(site: Site) -> AsyncIterator[ReadModel]:
    """A read model that follows the log."""
    nc = await broker.connect(site.url, name="projector")
    projector = Projector(nc, site.settings)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(projector.run())
        await projector.ready.wait()
        model = ReadModel(path_in(site.settings.data_dir))
        yield model
        model.close()
        task.cancel()
    await nc.close()


async def sweep(site: Site, model: ReadModel | None) -> dict[str, int]:
    """One sweep; what it mended."""
    keeper = Keeper(site.nc, site.settings, model)
    async with keeper._publisher, asyncio.TaskGroup() as group:
        await keeper.sweep.once(group)
    return dict(keeper.sweep.mended)


async def until(site: Site, model: ReadModel, seq: int) -> None:
    async with Inbox(site.nc, "projected.>") as told:
        await site.nc.flush()  # what is told from now on is heard, and what was told before is seen
        while model.checkpoint().seq < seq:
            await told.next(20)


async def test_a_healthy_system_needs_no_mending(site: Site) -> None:
    async with projected(site) as model:
        job_id = await site.submit()
        await until(site, model, (await site.store.load(job_id)).seq)
        assert await sweep(site, model) == {}


async def test_a_lane_that_lost_its_consumer_gets_it_back(site: Site) -> None:
    await site.submit()
    await api(site.nc, f"CONSUMER.DELETE.WORK.{CONSUMER}", timeout_s=2)
    assert await sweep(site, None) == {"lane_without_consumer": 1}
    assert CONSUMER in await consumer_names(site.nc, subjects.WORK, 2)
    assert await sweep(site, None) == {}


async def test_a_queued_job_without_a_work_message_gets_a_new_one(site: Site) -> None:
    async with projected(site) as model:
        lost = await site.submit()
        kept = await site.submit()
        async with asyncio.timeout(10):
            while not await delete(site.nc, subjects.WORK, 1, timeout_s=2):
                continue  # the server has not sourced it yet
        await until(site, model, (await site.store.load(kept)).seq)
        await asyncio.sleep(site.settings.lease_s)  # what is younger may still be on its way
        assert await sweep(site, model) == {"queued_without_work": 1}
        assert await site.names(lost) == ["submitted", "queued"]
        assert await site.names(kept) == ["submitted"]
        await until(site, model, (await site.store.load(lost)).seq)
        assert await sweep(site, model) == {}


async def test_a_job_whose_timer_is_gone_is_woken(site: Site) -> None:
    async with projected(site) as model:
        start_at = datetime.now(UTC) + timedelta(seconds=0.2)
        job_id = await site.submit(start_at=start_at)
        await until(site, model, (await site.store.load(job_id)).seq)
        await asyncio.sleep(0.2 + site.settings.heartbeat_s)
        assert await sweep(site, model) == {"due_without_timer": 1}
        assert await site.names(job_id) == ["scheduled", "queued"]


@pytest.mark.parametrize("released", [True, False], ids=["succeeded", "dead"])
async def test_a_blocked_job_that_was_not_told_of_the_end_of_its_parents_is_settled(
    site: Site, *, released: bool
) -> None:
    async with projected(site) as model:
        parent, waiting = await site.submit(), await site.submit()
        others = () if released else (waiting,)
        child = await site.submit(depends_on=(parent, *others))
        patient = await site.submit(depends_on=(parent, waiting))
        lease = TakeLease(now=datetime.now(UTC), worker="w1", revision=1)
        job, _ = await site.store.transition(parent, lease, actor="worker:w1")
        error = JobError("told", "this job was told to die", retryable=False)
        end: AnyCommand = Complete(now=datetime.now(UTC), fence=job.seq)
        if not released:
            end = Fail(now=datetime.now(UTC), fence=job.seq, error=error)
        job, _ = await site.store.transition(job, end, actor="worker:w1")
        await until(site, model, job.seq)
        assert "blocked_without_cause" not in await sweep(site, model)  # a keeper may be at it
        await asyncio.sleep(site.settings.lease_s)
        mended = (await sweep(site, model))["blocked_without_cause"]
        assert mended == (1 if released else 2)
        last = "queued" if released else "dead"
        assert await site.names(child) == ["blocked", last]
        assert await site.names(patient) == (["blocked"] if released else ["blocked", "dead"])
        await until(site, model, await site.store.last_seq(child))
        await until(site, model, await site.store.last_seq(patient))
        assert "blocked_without_cause" not in await sweep(site, model)


async def test_leases_of_a_worker_that_vanished_unseen_are_taken_back(site: Site) -> None:
    async with projected(site) as model:
        job_id = await site.submit()
        lease = TakeLease(now=datetime.now(UTC), worker="ghost", revision=1)
        job, _ = await site.store.transition(job_id, lease, actor="worker:ghost")
        await until(site, model, job.seq)
        keeper = Keeper(site.nc, site.settings, model)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(keeper.run())
            async with asyncio.TaskGroup() as sweeping:
                await keeper.sweep.once(sweeping)
            task.cancel()
        entry = await site.until(job_id, "queued")
        assert entry.actor == "keeper"


async def test_an_entry_that_is_marked_and_opened_again_keeps_its_opener(
    broker: NatsServer, tmp_path: Path
) -> None:
    async with open_site(broker.url, data_dir=tmp_path, lane_idle_s=0.001) as site:

        async def entry() -> LaneEntry:
            found = await Bucket(site.nc, LANES, timeout_s=2).get(LanePlace(LANE, 50).key, leader=False)
            assert found.value is not None
            return found.value

        await site.lanes.ensure(LaneKey("simulate"), LANE, 50, "acme")
        assert await entry() == LaneEntry("simulate", opened_by="acme")
        keeper = Keeper(site.nc, site.settings)
        async with keeper._publisher, asyncio.TaskGroup() as group:
            await keeper.sweep.once(group)
            assert await entry() == LaneEntry("simulate", opened_by="acme", closing=True)
            await site.submit()  # the lane is in use again, and this writer believes it open
            await until_work(site)
            await keeper.sweep.once(group)
        assert await entry() == LaneEntry("simulate", opened_by="acme")


async def until_work(site: Site) -> None:
    """Return when the broker has moved the job into its lane."""
    async with asyncio.timeout(20):
        while not await read_range(site.nc, subjects.WORK, subjects.work(LANE, 50), timeout_s=2):
            pass


async def test_work_of_jobs_that_have_ended_goes_where_nobody_pulls_it(site: Site) -> None:
    async def messages() -> int:
        return len(await read_range(site.nc, subjects.WORK, subjects.work(LANE, 50), timeout_s=2))

    async with projected(site) as model:
        ended, other = await site.submit(), await site.submit()
        await until_work(site)
        cancel = RequestCancel(now=datetime.now(UTC), by="user:ann", grace_s=5)
        job, _ = await site.store.transition(ended, cancel, actor="user:ann")
        await until(site, model, job.seq)
        assert await sweep(site, model) == {}
        assert await messages() == 1  # another job waits in the lane
        job, _ = await site.store.transition(other, cancel, actor="user:ann")
        await until(site, model, job.seq)
        assert await sweep(site, model) == {}
        assert await messages() == 0
        fresh = await site.submit()
        job = await site.store.load(fresh)
        await until_work(site)
        await until(site, model, job.seq)
        assert await sweep(site, model) == {}
        assert await messages() == 1


async def test_work_of_many_cancelled_jobs_goes_from_a_lane_in_which_others_wait_and_run(site: Site) -> None:
    async with projected(site) as model:
        jobs = [await site.submit() for _ in range(120)]
        async with asyncio.timeout(20):
            while len(await read_range(site.nc, subjects.WORK, subjects.work(LANE, 50), timeout_s=2)) < 120:
                await asyncio.sleep(0.02)
        take = TakeLease(now=datetime.now(UTC), worker="w", revision=1)
        await site.store.transition(jobs[0], take, actor="worker:w")
        cancel = RequestCancel(now=datetime.now(UTC), by="user:ann", grace_s=5)
        for job_id in jobs[3:]:
            job, _ = await site.store.transition(job_id, cancel, actor="user:ann")
        await until(site, model, job.seq)
        assert await delete_leftovers(site.nc, model, timeout_s=2) == 117
        left = await read_range(site.nc, subjects.WORK, subjects.work(LANE, 50), timeout_s=2)
        sources = {int(message.headers[subjects.H_SOURCE].split(" ")[1]) for message in left}
        assert sources == {(await site.store.load(job_id)).claimable_seq for job_id in jobs[:3]}
        assert await delete_leftovers(site.nc, model, timeout_s=2) == 0


async def test_a_timer_that_will_never_fire_goes_and_one_that_will_stays(site: Site) -> None:
    soon = await site.submit(start_at=datetime.now(UTC) + timedelta(minutes=5))
    await site.nc.jetstream().publish(subjects.timer("x", "retry"), b"")
    async with site.keeper():
        async with asyncio.timeout(20):
            while await last_message(site.nc, subjects.TIMERS, f"timer.set.{soon}.>", timeout_s=2) is None:
                await asyncio.sleep(0.02)
    await sweep(site, None)
    left = await read_range(site.nc, subjects.TIMERS, subjects.ALL_TIMERS_SET, timeout_s=2)
    assert [message.subject.split(".")[2] for message in left] == [soon]


async def test_work_that_a_read_model_which_lags_does_not_know_of_stays(site: Site) -> None:
    async with projected(site) as model:
        job = await site.store.load(await site.submit())
        await until(site, model, job.seq)
        job, _ = await site.store.transition(
            job, RequestCancel(now=datetime.now(UTC), by="user:ann", grace_s=5), actor="user:ann"
        )
        await until(site, model, job.seq)
        held = ReadModel(path_in(site.settings.data_dir))
        stale = held.checkpoint()
        held.checkpoint = lambda: stale._replace(log=Place(seq=job.seq - 2))  # type: ignore[method-assign]
        await until_work(site)
        assert await purge_leftovers(site.nc, held, timeout_s=2) == 0
        held.close()
        assert await purge_leftovers(site.nc, model, timeout_s=2) == 1
