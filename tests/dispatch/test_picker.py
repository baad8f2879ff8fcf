"""Takers that are neither a worker's slots nor claims over REST: all are served by the same picker."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest
from nats.aio.msg import Msg

from switchyard.events import subjects
from switchyard.events.lane import LaneKey, lane_id
from switchyard.events.requirements.matching import canonical
from switchyard.events.values import JobSpec
from switchyard.events.vocabulary.ids import WorkerId
from switchyard.services import clock
from switchyard.services.broker.jetstream import ACK, api
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.dispatch.picker.picker import Picker
from switchyard.services.dispatch.work import Work
from switchyard.services.ids import new_id
from switchyard.services.records.limits import Limit, Limits
from switchyard.services.records.workers import WorkerRecord, new_record
from tests.dispatch.crowd import work_has_all
from tests.worker.site import DEADLINE_S, Site, open_site

SEED = random.SystemRandom().randrange(10**6)
NEVER_S = 3600.0
LANES = 2000
SETS = 20
TAKERS = 200
JOBS = 2500
PRIORITIES = (20, 50, 95)


@pytest.fixture
async def site(broker: NatsServer) -> AsyncIterator[Site]:
    async with open_site(broker.url, lease_s=NEVER_S, lanes=2 * LANES, tenant_lanes=2 * LANES) as site:
        yield site


def record_of(number: int = 0, **capabilities: Any) -> WorkerRecord:
    return new_record(
        worker_id=WorkerId(f"t{number}"), kinds=("simulate",), capabilities=capabilities, slots=1, lease_s=600
    )


def in_set(number: int) -> WorkerRecord:
    """One of a set that fits a tenth of the lanes, half of them together with the next set."""
    return record_of(number, groups=[number, (number + 1) % SETS], size=0)


def numbered(lane: int) -> LaneKey:
    return LaneKey("simulate", requires=canonical({"groups": lane % SETS, "size": {"$lte": lane}}))


@asynccontextmanager
async def picker_of(site: Site, weights: dict[str, int] | None = None) -> AsyncIterator[Picker]:
    """A picker that knows the lanes and limits so far, and follows both."""
    picker = Picker(site.nc, site.settings, weights=lambda _: weights or {})
    await picker.start()
    await picker.tokens.load()
    await picker.load()
    async with asyncio.TaskGroup() as group:
        following = [
            group.create_task(picker.follow_lanes()), group.create_task(picker.follow_pauses()),
            group.create_task(picker.tokens.run()),
        ]  # fmt: skip
        yield picker
        for task in following:
            task.cancel()
    await picker.stop()


async def fill(site: Site, places: Iterable[tuple[LaneKey, int]]) -> None:
    """A job for each lane and priority, in this order."""
    places = list(places)
    lanes = list({(lane_id(key), priority): key for key, priority in places}.items())
    for begin in range(0, len(lanes), 100):
        async with asyncio.TaskGroup() as group:
            for (lane, priority), key in lanes[begin : begin + 100]:
                group.create_task(site.lanes.ensure(key, lane, priority))
    sent = []
    for key, priority in places:
        spec = JobSpec(
            kind="simulate", tenant=key.tenant or "acme", lane=lane_id(key), requires=key.requires,
            priority=priority, payload={},
        )  # fmt: skip
        sent.append((await site.store.begin_submit(new_id(), spec, now=clock.now(), actor="user:ann"))[2])
    await asyncio.gather(*sent)
    await work_has_all(site)


def in_a_while() -> float:
    return asyncio.get_running_loop().time() + DEADLINE_S


def rank(work: Work) -> tuple[int, int]:
    return -work.priority, work.seq


async def waiting(site: Site, key: LaneKey) -> int:
    """How many pulls wait for a lane's jobs."""
    call = f"CONSUMER.INFO.WORK.{subjects.lane_consumer(lane_id(key), 50)}"
    return int((await api(site.nc, call, timeout_s=20))["num_waiting"])


class Taken(NamedTuple):
    number: int
    work: Work


@pytest.mark.drill
async def test_two_hundred_takers_of_twenty_sets_scan_two_thousand_lanes_once_a_set_and_keep_the_order(
    site: Site,
) -> None:
    print(f"seed {SEED}")  # noqa: T201 - to run a failure again
    draw = random.Random(SEED)
    places = [(numbered(lane), draw.choice(PRIORITIES)) for lane in range(LANES)]
    more = [draw.choice(places) for _ in range(JOBS - LANES)]
    jobs = [*places, *more]
    draw.shuffle(jobs)
    await fill(site, jobs)
    asked: Counter[str] = Counter()

    async def count(message: Msg) -> None:
        asked[message.subject] += 1

    taken: list[Taken] = []

    async def take_all(number: int) -> None:
        while len(taken) < JOBS:
            # Others may be given the last ones.
            work = await picker.crowd(in_set(number % SETS)).take(in_a_while(), lambda: len(taken) < JOBS)
            if work is not None:
                taken.append(Taken(number, work))
                await site.nc.publish(work.reply, ACK)
            if len(taken) == JOBS:
                picker.call()

    async with picker_of(site) as picker:
        listening = await site.nc.subscribe("$JS.API.CONSUMER.INFO.WORK.>", cb=count)
        await site.nc.flush()
        first = await asyncio.gather(
            *(picker.crowd(in_set(number % SETS)).take(in_a_while()) for number in range(TAKERS))
        )
        await site.nc.flush()
        assert sum(asked.values()) < 2 * SETS * LANES / (SETS / 2)  # each taker for itself: ten times as many
        await listening.unsubscribe()
        for number, work in enumerate(first):
            assert work is not None
            taken.append(Taken(number, work))
            await site.nc.publish(work.reply, ACK)
        async with asyncio.timeout(4 * DEADLINE_S), asyncio.TaskGroup() as group:
            for number in range(TAKERS):
                group.create_task(take_all(number))
    assert len({one.work.seq for one in taken}) == JOBS
    fits = {
        subjects.lane_consumer(lane_id(key), priority): {
            number for number in range(SETS) if in_set(number).fits(key)
        }
        for key, priority in places
    }
    assert all(one.number % SETS in fits[one.work.consumer] for one in taken)
    for place, one in enumerate(taken):
        passed_over = sum(
            1
            for later in taken[place + 1 :]
            if rank(later.work) < rank(one.work) and one.number % SETS in fits[later.work.consumer]
        )
        assert passed_over <= TAKERS, one


async def test_takers_that_are_alike_are_served_in_exact_order_over_twenty_lanes(site: Site) -> None:
    print(f"seed {SEED}")  # noqa: T201 - to run a failure again
    draw = random.Random(SEED)
    lanes = [LaneKey("simulate", requires=canonical({"size": {"$lte": lane}})) for lane in range(20)]
    await fill(site, [(draw.choice(lanes), draw.choice(PRIORITIES)) for _ in range(400)])
    taken: list[Work] = []

    async def take_some() -> None:
        while len(taken) < 400:
            work = await picker.crowd(record_of(size=0)).take(in_a_while(), lambda: len(taken) < 400)
            if work is not None:
                taken.append(work)
                await site.nc.publish(work.reply, ACK)
            await asyncio.sleep(draw.random() / 100)
            picker.call()

    async with picker_of(site) as picker, asyncio.TaskGroup() as group:
        for _ in range(10):
            group.create_task(take_some())
    # Several are given jobs at the same moment: they note them in the order in which they run.
    assert [work.seq for work in sorted(taken, key=rank)] == [work.seq for work in taken]


async def test_takers_that_go_leave_nothing_taken_and_no_pull_open(site: Site) -> None:
    """A lease lasts an hour: what were left taken would not come again."""
    draw = random.Random(SEED)
    keys = [LaneKey("simulate", requires=canonical({"size": {"$lte": lane}})) for lane in range(3)]
    taken: list[Work] = []
    me = record_of(size=0)

    async with picker_of(site) as picker:
        await fill(site, [(key, 50) for key in keys for _ in range(10)])
        for _ in range(20):
            tasks = [asyncio.create_task(picker.crowd(me).take(in_a_while())) for _ in range(8)]
            for _ in range(draw.randrange(30)):
                await asyncio.sleep(0)
            await asyncio.sleep(draw.random() / 50)
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            for work in ended:
                if isinstance(work, Work):  # it was given a job before it was asked to go
                    await picker.give_back(work)
        async with asyncio.timeout(DEADLINE_S):
            while [await waiting(site, key) for key in keys] != [0] * 3:
                await asyncio.sleep(0.01)
        while len(taken) < 30:
            work = await picker.crowd(me).take(in_a_while())
            assert work is not None
            taken.append(work)
    assert len({work.seq for work in taken}) == 30


async def test_a_taker_whose_time_is_over_has_had_one_whole_look(site: Site) -> None:
    await fill(site, [(LaneKey("simulate"), 50)])
    async with picker_of(site) as picker:
        assert await picker.crowd(record_of()).take(0.0) is not None
        assert await picker.crowd(record_of()).take(0.0) is None


async def test_a_taker_that_does_not_stay_is_given_nothing(site: Site) -> None:
    stays = True
    async with picker_of(site) as picker:
        await site.lanes.ensure(LaneKey("simulate"), lane_id(LaneKey("simulate")), 50)
        gone = asyncio.create_task(picker.crowd(record_of()).take(in_a_while(), lambda: stays))
        waits = asyncio.create_task(picker.crowd(record_of()).take(in_a_while()))
        async with asyncio.timeout(DEADLINE_S):
            while await waiting(site, LaneKey("simulate")) != 1:  # one pull for both
                await asyncio.sleep(0.01)
        stays = False
        await fill(site, [(LaneKey("simulate"), 50)])
        assert await waits is not None
        assert await gone is None


async def test_a_job_is_given_on_to_a_waiting_taker_that_fits_with_its_tokens(site: Site) -> None:
    key = LaneKey("simulate", limits=("acme.one",))
    await Limits(site.nc, site.publisher, site.settings).put(
        "acme.one", Limit(concurrency=1, per_minute=None, changed_at=clock.now())
    )
    await fill(site, [(key, 50)])

    def wanting(model: str) -> LaneKey:
        return LaneKey("simulate", requires=canonical({"models": {"$has": model}}))

    async with picker_of(site) as picker:
        work = await picker.crowd(record_of(models=["a"])).take(in_a_while())
        assert work is not None
        assert work.grant is not None
        stays = True
        others = {
            name: asyncio.create_task(
                picker.crowd(record_of(models=[name])).take(in_a_while(), lambda: stays)
            )
            for name in "bc"
        }
        while not all(picker.crowd(record_of(models=[name])).is_waiting for name in others):
            await asyncio.sleep(0)
        assert not picker.pass_on(work, "acme", wanting("a")), "nobody waits who fits"
        assert picker.pass_on(work, "acme", wanting("c"))
        assert await others["c"] == work
        assert not picker.pass_on(work, "acme", wanting("c"))
        stays = False
        assert not picker.pass_on(work, "acme", wanting("b")), "who does not stay is given nothing"
        assert await others["b"] is None


async def test_a_job_that_was_given_on_to_one_that_went_comes_back_with_its_tokens(site: Site) -> None:
    key = LaneKey("simulate", limits=("acme.one",))
    await Limits(site.nc, site.publisher, site.settings).put(
        "acme.one", Limit(concurrency=1, per_minute=None, changed_at=clock.now())
    )
    await fill(site, [(key, 50)])
    async with picker_of(site) as picker:
        work = await picker.crowd(record_of(size=1)).take(in_a_while())
        assert work is not None
        goes = asyncio.create_task(picker.crowd(record_of(size=2)).take(in_a_while()))
        while not picker.crowd(record_of(size=2)).is_waiting:
            await asyncio.sleep(0)
        assert picker.pass_on(work, "acme", LaneKey("simulate", requires=canonical({"size": 2})))
        goes.cancel()
        await asyncio.wait({goes})
        again = await picker.crowd(record_of(size=1)).take(in_a_while())
        assert again is not None
        assert again.seq == work.seq
        assert again.grant is not None


async def test_takers_take_turns_by_the_weights_of_their_jobs_tenants(site: Site) -> None:
    keys = [LaneKey("simulate", tenant=tenant) for tenant in ("a", "b")]
    await fill(site, [(key, 50) for key in keys for _ in range(60)])
    async with picker_of(site, {"a": 3, "b": 1}) as picker:
        found = await asyncio.gather(*(picker.crowd(record_of()).take(in_a_while()) for _ in range(40)))
    mine = subjects.lane_consumer(lane_id(keys[0]), 50)
    shares = Counter(work.consumer == mine for work in found if work is not None)
    assert 28 <= shares[True] <= 32


async def test_takers_together_start_no_more_than_a_limit_lets(site: Site) -> None:
    key = LaneKey("simulate", limits=("acme.three",))
    await Limits(site.nc, site.publisher, site.settings).put(
        "acme.three", Limit(concurrency=3, per_minute=None, changed_at=clock.now())
    )
    await fill(site, [(key, 50)] * 8)
    async with picker_of(site) as picker:
        taking = [asyncio.create_task(picker.crowd(record_of()).take(in_a_while())) for _ in range(6)]
        done: list[Work] = []
        for more in (3, 3):
            async with asyncio.timeout(DEADLINE_S):
                while len([task for task in taking if task.done()]) < len(done) + more:
                    await asyncio.sleep(0.01)
            ready = [task.result() for task in taking if task.done()]
            assert len(ready) == len(done) + more
            for work in ready[-more:]:
                assert work is not None
                assert work.grant is not None
                await site.nc.publish(work.reply, ACK)
                await picker.tokens.end(work.grant, started=True)
                done.append(work)
