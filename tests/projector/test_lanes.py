"""What waits in the lanes of each kind, as a projector exports it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from switchyard.events import subjects
from switchyard.events.lane import LaneKey, lane_id
from switchyard.services.broker.jetstream import api, consumers_of, pull_subject
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.projector import lanes
from switchyard.services.projector.lanes import LaneWatch, Standing
from tests.worker.site import DEADLINE_S, Site, open_site


@pytest.fixture
async def site(broker: NatsServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    monkeypatch.setattr(lanes, "LOOK_S", 0.0)
    async with open_site(broker.url, lease_s=30) as site:
        yield site


@asynccontextmanager
async def watching(site: Site) -> AsyncIterator[LaneWatch]:
    watch = LaneWatch(site.nc, timeout_s=20)
    running = asyncio.create_task(watch.run())
    try:
        yield watch
    finally:
        running.cancel()
        await asyncio.wait([running])


async def until(watch: LaneWatch, wanted: dict[str, Standing]) -> None:
    found: dict[str, Standing] = {}
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DEADLINE_S):
            while (found := await watch.by_kind()) != wanted:
                await asyncio.sleep(0.02)
            return
    raise AssertionError(found)


async def test_what_waits_and_what_was_handed_out_is_summed_by_kind(site: Site) -> None:
    async with watching(site) as watch:
        await until(watch, {})
        for number in range(3):
            await site.submit(number)
        await site.submit(3, priority=90)
        await site.submit(4, requires={"gpu": True})
        await site.submit(5, kind="convert")
        waiting = {"simulate": Standing(5, 0), "convert": Standing(1, 0)}
        await until(watch, waiting)
        assert watch.in_use == 4
        consumer = subjects.lane_consumer(lane_id(LaneKey("simulate")), 90)
        inbox = site.nc.new_inbox()
        taken = await site.nc.subscribe(inbox)
        await site.nc.publish(pull_subject(subjects.WORK, consumer), b"1", reply=inbox)
        await taken.next_msg(DEADLINE_S)
        await until(watch, waiting | {"simulate": Standing(4, 1)})


async def test_a_consumer_that_is_of_no_lane_is_not_counted(site: Site) -> None:
    await site.submit(0)
    config = {"durable_name": "mine", "ack_policy": "explicit", "filter_subject": "work.mine.50"}
    await api(
        site.nc,
        f"CONSUMER.DURABLE.CREATE.{subjects.WORK}.mine",
        {"stream_name": subjects.WORK, "config": config},
        timeout_s=20,
    )
    async with watching(site) as watch:
        await until(watch, {"simulate": Standing(1, 0)})


async def test_lanes_fill_more_than_one_answer(site: Site) -> None:
    places = 300
    await asyncio.gather(*(site.submit(number, requires={"n": number}) for number in range(places)))
    assert len(await consumers_of(site.nc, subjects.WORK, timeout_s=20)) == places
    async with watching(site) as watch:
        await until(watch, {"simulate": Standing(places, 0)})
