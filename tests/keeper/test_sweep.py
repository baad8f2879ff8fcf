"""What should not happen, brought about by hand, and repaired by one sweep."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from switchyard.events import subjects
from switchyard.events.commands import AnyCommand, Complete, Fail, RequestCancel, TakeLease
from switchyard.events.lane import LaneEntry, LaneKey
from switchyard.events.values import JobError
from switchyard.events.vocabulary.ids import Fence, JobId, Revision, WorkerId
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
from switchyard.services.records.limits import Limit, Limits
from switchyard.services.records.servers.naming import SLOT, slots_consumer, slots_key, slots_of
from switchyard.services.records.servers.record import SERVERS, Endpoints, Server
from switchyard.services.records.servers.slot_use import taken_slots
from switchyard.services.records.servers.store import Servers
from tests.site import now
from tests.worker.site import DEADLINE_S, Site, open_site

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
    """One sweep; what it repaired."""
    keeper = Keeper(site.nc, site.settings, model)
    async with keeper._publisher, asyncio.TaskGroup() as group:
        await keeper.sweep.once(group)
    return dict(keeper.sweep.repaired)


async def until_repaired(site: Site, model: ReadModel, what: str = "") -> dict[str, int]:
    """What the first sweep that finds something repaired, or this: it skips what is younger than a lease."""
    async with asyncio.timeout(DEADLINE_S):
        while not (repaired := await sweep(site, model)) or (what and what not in repaired):
            await asyncio.sleep(0.05)
    return repaired


async def until(site: Site, model: ReadModel, seq: int) -> None:
    async with Inbox(site.nc, "projected.>") as published:
        await site.nc.flush()  # what is published from now on is heard, and what was before is seen
        while model.checkpoint().seq < seq:
            await published.next(20)


async def test_a_healthy_system_needs_no_repair(site: Site) -> None:
    async with projected(site) as model:
        job_id = await site.submit()
        await until(site, model, (await site.store.load(JobId(job_id))).seq)
        assert await sweep(site, model) == {}


async def test_a_lane_that_lost_its_consumer_gets_it_back(site: Site) -> None:
    await site.submit()
    await api(site.nc, f"CONSUMER.DELETE.WORK.{CONSUMER}", timeout_s=20)
    assert await sweep(site, None) == {"lane_without_consumer": 1}
    assert CONSUMER in await consumer_names(site.nc, subjects.WORK, 2)
    assert await sweep(site, None) == {}


async def test_a_queued_job_without_a_work_message_gets_a_new_one(site: Site) -> None:
    async with projected(site) as model:
        lost = await site.submit()
        kept = await site.submit()
        async with asyncio.timeout(60):
            while not await delete(site.nc, subjects.WORK, 1, timeout_s=20):
                continue  # the server has not sourced it yet
        await until(site, model, (await site.store.load(JobId(kept))).seq)
        assert await until_repaired(site, model) == {"queued_without_work": 1}
        assert await site.names(lost) == ["submitted", "queued"]
        assert await site.names(kept) == ["submitted"]
        await until(site, model, (await site.store.load(JobId(lost))).seq)
        assert await sweep(site, model) == {}


async def test_a_job_whose_timer_is_gone_is_woken(site: Site) -> None:
    async with projected(site) as model:
        start_at = datetime.now(UTC) + timedelta(seconds=0.2)
        job_id = await site.submit(start_at=start_at)
        await until(site, model, (await site.store.load(JobId(job_id))).seq)
        assert await until_repaired(site, model) == {"due_without_timer": 1}
        assert await site.names(job_id) == ["scheduled", "queued"]


@pytest.mark.parametrize("released", [True, False], ids=["succeeded", "dead"])
async def test_a_blocked_job_that_did_not_hear_of_the_end_of_its_parents_is_settled(
    site: Site, *, released: bool
) -> None:
    async with projected(site) as model:
        began = time.monotonic()
        parent, waiting = await site.submit(), await site.submit()
        others = () if released else (waiting,)
        child = await site.submit(depends_on=(parent, *others))
        patient = await site.submit(depends_on=(parent, waiting))
        lease = TakeLease(now=datetime.now(UTC), worker=WorkerId("w1"), revision=Revision(1))
        job, _ = await site.store.transition(JobId(parent), lease, actor="worker:w1")
        error = JobError("asked", "this job was asked to die", retryable=False)
        end: AnyCommand = Complete(now=datetime.now(UTC), fence=Fence(job.seq))
        if not released:
            end = Fail(now=datetime.now(UTC), fence=Fence(job.seq), error=error)
        job, _ = await site.store.transition(job, end, actor="worker:w1")
        await until(site, model, job.seq)
        repaired = await sweep(site, model)
        if time.monotonic() - began < site.settings.lease_s:
            assert "blocked_without_cause" not in repaired  # a keeper may be at it
        if "blocked_without_cause" not in repaired:
            repaired = await until_repaired(site, model, "blocked_without_cause")
        assert repaired["blocked_without_cause"] == (1 if released else 2)
        last = "queued" if released else "dead"
        assert await site.names(child) == ["blocked", last]
        assert await site.names(patient) == (["blocked"] if released else ["blocked", "dead"])
        await until(site, model, await site.store.last_seq(JobId(child)))
        await until(site, model, await site.store.last_seq(JobId(patient)))
        assert "blocked_without_cause" not in await sweep(site, model)


async def test_leases_of_a_worker_that_vanished_unseen_are_taken_back(site: Site) -> None:
    async with projected(site) as model:
        job_id = await site.submit()
        lease = TakeLease(now=datetime.now(UTC), worker=WorkerId("ghost"), revision=Revision(1))
        job, _ = await site.store.transition(JobId(job_id), lease, actor="worker:ghost")
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
            found = await Bucket(site.nc, LANES, timeout_s=20).get(LanePlace(LANE, 50).key, leader=False)
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
    async with asyncio.timeout(60):
        while not await read_range(site.nc, subjects.WORK, subjects.work(LANE, 50), timeout_s=20):
            pass


async def test_work_of_jobs_that_have_ended_goes_where_nobody_pulls_it(site: Site) -> None:
    async def messages() -> int:
        return len(await read_range(site.nc, subjects.WORK, subjects.work(LANE, 50), timeout_s=20))

    async with projected(site) as model:
        ended, other = await site.submit(), await site.submit()
        await until_work(site)
        cancel = RequestCancel(now=datetime.now(UTC), by="user:ann", grace_s=5)
        job, _ = await site.store.transition(JobId(ended), cancel, actor="user:ann")
        await until(site, model, job.seq)
        assert await sweep(site, model) == {}
        assert await messages() == 1  # another job waits in the lane
        job, _ = await site.store.transition(JobId(other), cancel, actor="user:ann")
        await until(site, model, job.seq)
        assert await sweep(site, model) == {}
        assert await messages() == 0
        fresh = await site.submit()
        job = await site.store.load(JobId(fresh))
        await until_work(site)
        await until(site, model, job.seq)
        assert await sweep(site, model) == {}
        assert await messages() == 1


async def test_work_of_many_cancelled_jobs_goes_from_a_lane_in_which_others_wait_and_run(site: Site) -> None:
    async with projected(site) as model:
        jobs = [await site.submit() for _ in range(120)]
        async with asyncio.timeout(60):
            while len(await read_range(site.nc, subjects.WORK, subjects.work(LANE, 50), timeout_s=20)) < 120:
                await asyncio.sleep(0.02)
        take = TakeLease(now=datetime.now(UTC), worker=WorkerId("w"), revision=Revision(1))
        await site.store.transition(JobId(jobs[0]), take, actor="worker:w")
        cancel = RequestCancel(now=datetime.now(UTC), by="user:ann", grace_s=5)
        for job_id in jobs[3:]:
            job, _ = await site.store.transition(JobId(job_id), cancel, actor="user:ann")
        await until(site, model, job.seq)
        assert await delete_leftovers(site.nc, model, timeout_s=20) == 117
        left = await read_range(site.nc, subjects.WORK, subjects.work(LANE, 50), timeout_s=20)
        sources = {int(message.headers[subjects.H_SOURCE].split(" ")[1]) for message in left}
        assert sources == {(await site.store.load(JobId(job_id))).claimable_seq for job_id in jobs[:3]}
        assert await delete_leftovers(site.nc, model, timeout_s=20) == 0


async def test_a_timer_that_will_never_fire_goes_and_one_that_will_stays(site: Site) -> None:
    soon = await site.submit(start_at=datetime.now(UTC) + timedelta(minutes=5))
    await site.nc.jetstream().publish(subjects.timer(JobId("x"), "retry"), b"")
    async with site.keeper():
        async with asyncio.timeout(60):
            while await last_message(site.nc, subjects.TIMERS, f"timer.set.{soon}.>", timeout_s=20) is None:
                await asyncio.sleep(0.02)
    await sweep(site, None)
    left = await read_range(site.nc, subjects.TIMERS, subjects.ALL_TIMERS_SET, timeout_s=20)
    assert [message.subject.split(".")[2] for message in left] == [soon]


async def test_work_that_a_read_model_which_lags_does_not_know_of_stays(site: Site) -> None:
    async with projected(site) as model:
        job = await site.store.load(JobId(await site.submit()))
        await until(site, model, job.seq)
        job, _ = await site.store.transition(
            job, RequestCancel(now=datetime.now(UTC), by="user:ann", grace_s=5), actor="user:ann"
        )
        await until(site, model, job.seq)
        held = ReadModel(path_in(site.settings.data_dir))
        stale = held.checkpoint()
        held.checkpoint = lambda: stale._replace(log=Place(seq=job.seq - 2))  # type: ignore[method-assign]
        await until_work(site)
        assert await purge_leftovers(site.nc, held, timeout_s=20) == 0
        held.close()
        assert await purge_leftovers(site.nc, model, timeout_s=20) == 1


async def test_slots_of_servers_that_are_gone_are_taken_away(site: Site) -> None:
    """In the second sweep; those of servers that are there stay, readable here or not."""
    limits = Limits(site.nc, site.publisher, site.settings)
    registry = Servers(site.nc, site.publisher, site.settings)
    there, gone = ("acme", "a.b"), ("acme-2", "x_1")
    await registry.put(registered(*there), 0)
    newer = SERVERS.subject(("acme", "newer"))
    await site.publisher.publish(newer, b'{"of": "a newer version"}', {})
    for tenant, server_id in (there, gone, ("acme", "newer")):
        await limits.set_places(SLOT, slots_key(tenant, server_id), 3, 60)
    await limits.put("acme.all", Limit(2, None, now()))
    keeper = Keeper(site.nc, site.settings, None)
    async with keeper._publisher, asyncio.TaskGroup() as group:
        await keeper.sweep.once(group)
        assert await taken_slots(site.nc, gone, timeout_s=20) == 0
        assert slots_consumer(*gone) in await consumer_names(site.nc, subjects.TOKENS, 2)
        await keeper.sweep.once(group)
    assert dict(keeper.sweep.repaired) == {"slots_of_a_server_that_is_gone": 1}
    left = await consumer_names(site.nc, subjects.TOKENS, 2)
    assert left == {
        slots_consumer(*there), slots_consumer("acme", "newer"), subjects.token_consumer("run", "acme.all"),
    }  # fmt: skip
    state = (await site.nc.jetstream().stream_info(subjects.TOKENS)).state
    assert state.messages == 3 + 3 + 2


def registered(tenant: str, server_id: str) -> Server:
    """A server that somebody has registered."""
    return Server(
        tenant=tenant, id=server_id, generation="g", name=server_id, endpoints=Endpoints("http://192.0.2.1/"),
        profile="task", kinds=("simulate",), created_at=now(), created_by="user:ann", updated_at=now(),
    )  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        "slot_4_acme",
        "slot__acme_x",
        "slot_9_acme_x",
        "slot_4_acmex",
        "run_4_acme_all",
        "slot_0__x_",
        "slot_4_acme_x",
    ],
)
def test_what_is_no_consumer_of_slots_is_left_alone(name: str) -> None:
    assert slots_of(name) is None
