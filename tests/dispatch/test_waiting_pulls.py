"""An idle worker has one pull open on each lane, and opens it again when the broker has dropped it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from switchyard.events import subjects
from switchyard.events.lane import LaneKey
from switchyard.services.broker import puller as puller_module
from switchyard.services.broker.jetstream import api
from switchyard.services.broker.puller import BEAT_S, WAIT_S, Puller
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.dispatch.work import Work, parse_work
from switchyard.services.records.lanes import lane_for
from tests.worker.site import Site, TestConnector, open_site

LANE = lane_for("simulate")
CONSUMER = f"WORK.{subjects.lane_consumer(LANE, 50)}"
SOON_S = WAIT_S / 2  # a pull that is missed would be opened again after WAIT_S


@pytest.fixture
async def site(broker: NatsServer) -> AsyncIterator[Site]:
    async with open_site(broker.url) as site:
        yield site


class OneAtATime(TestConnector):
    slots = 1


async def done(_: object) -> None:
    return


async def until_waiting(site: Site, consumer: str = CONSUMER) -> int:
    """How many pulls are open on a lane, as soon as any is."""
    async with asyncio.timeout(SOON_S):
        while not (pulls := await waiting(site, consumer)):
            await asyncio.sleep(0.01)
    return pulls


async def waiting(site: Site, consumer: str = CONSUMER) -> int:
    return int((await api(site.nc, f"CONSUMER.INFO.{consumer}", timeout_s=20))["num_waiting"])


async def test_a_worker_that_learns_the_lanes_twice_has_one_pull_open(site: Site) -> None:
    await site.lanes.ensure(LaneKey("simulate"), LANE, 50)
    async with site.worker(TestConnector(done)):
        await until_waiting(site)
        await site.final(await site.submit(priority=60))  # reported after the lane that it knew at its start
        await until_waiting(site, f"WORK.{subjects.lane_consumer(LANE, 60)}")
        assert await waiting(site) == 1


async def test_a_kind_that_is_full_for_a_while_keeps_its_pulls(site: Site) -> None:
    await site.lanes.ensure(LaneKey("simulate"), LANE, 50)
    async with site.worker(OneAtATime(done), slots=2):
        await until_waiting(site)
        for _ in range(3):
            await site.final(await site.submit(priority=60))
            await until_waiting(site, f"WORK.{subjects.lane_consumer(LANE, 60)}")
        assert await waiting(site) == 1


async def test_a_consumer_made_again_is_pulled_from_soon(site: Site) -> None:
    first = await site.submit()
    async with site.worker(TestConnector(done)):
        await site.final(first)
        await until_waiting(site)
        await api(site.nc, f"CONSUMER.DELETE.{CONSUMER}", timeout_s=20)
        second = await site.submit()
        await site.lanes.make_consumer(LaneKey("simulate"), LANE, 50)
        async with asyncio.timeout(SOON_S):
            await site.final(second)


async def test_a_lane_that_had_no_consumer_is_pulled_from_soon_after_it_is_made(site: Site) -> None:
    first = await site.submit()
    await api(site.nc, f"CONSUMER.DELETE.{CONSUMER}", timeout_s=20)
    async with site.worker(TestConnector(done)):
        await asyncio.sleep(0.5)  # pulls find nobody meanwhile
        await site.lanes.make_consumer(LaneKey("simulate"), LANE, 50)
        async with asyncio.timeout(SOON_S):
            await site.final(first)


@pytest.fixture
async def puller(site: Site, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Puller[Work]]:
    """A puller that takes its broker for one of several."""
    monkeypatch.setattr(puller_module, "is_clustered", lambda _: True)
    ignored: Callable[..., None] = lambda *_: None  # noqa: E731
    puller = Puller(site.nc, subjects.WORK, parse_work, timeout_s=20, stray=ignored, refused=ignored)
    await puller.start()
    yield puller
    await puller.stop()


async def test_a_pull_that_vanished_without_a_word_is_opened_again_soon(
    site: Site, puller: Puller[Work]
) -> None:
    silent = await site.nc.subscribe("$JS.API.CONSUMER.MSG.NEXT.WORK.silent")
    await site.nc.flush()
    async with asyncio.timeout(SOON_S):
        for _ in range(2):
            await puller.wait_on("silent")
            assert puller.is_waiting("silent")
            await silent.next_msg(timeout=SOON_S)
            while puller.is_waiting("silent"):
                await asyncio.sleep(min(puller.next_expiry_s(), 1.0))
    await silent.unsubscribe()


async def test_a_pull_that_shows_that_it_is_there_stays_the_only_one(
    site: Site, puller: Puller[Work]
) -> None:
    await site.lanes.ensure(LaneKey("simulate"), LANE, 50)
    lane = subjects.lane_consumer(LANE, 50)
    asked = await site.nc.subscribe(f"$JS.API.CONSUMER.MSG.NEXT.WORK.{lane}")
    await puller.wait_on(lane)
    until = puller._waiting[lane]
    async with asyncio.timeout(10 * BEAT_S):
        while puller._waiting[lane] == until:  # no sign of life has come yet
            await asyncio.sleep(0.1)
    await puller.wait_on(lane)
    assert asked.pending_msgs == 1
    await asked.unsubscribe()
