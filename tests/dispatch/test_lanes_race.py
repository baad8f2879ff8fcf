"""Lanes are made and removed by many at once, and no job is left in one that is gone."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from nats.aio.msg import Msg

from switchyard.services.broker.connection import listen, unlisten
from switchyard.services.broker.server.server import NatsServer
from tests.dispatch.crowd import seen, submit_to, until_seen, workers
from tests.worker.site import Site, open_site

SEED = random.SystemRandom().randrange(10**6)
WRITERS = 4
LANES = 4
ROUNDS = 5
BURSTS = 25
BURST = 4
PAUSE_S = 0.1


@pytest.fixture
async def site(broker: NatsServer) -> AsyncIterator[Site]:
    async with open_site(broker.url, lease_s=10, sweep_s=0.01, lane_idle_s=0.001) as site:
        yield site


@asynccontextmanager
async def writer(site: Site) -> AsyncIterator[Site]:
    """A writer of its own, which hears of lanes as a gateway does."""
    async with (
        open_site(site.url, **site.settings.model_dump(exclude={"nats_url"})) as own,
        asyncio.TaskGroup() as group,
    ):
        hearing = group.create_task(own.lanes.run())
        yield own
        hearing.cancel()


async def test_no_job_is_lost_while_lanes_are_made_and_removed(site: Site) -> None:
    print(f"seed {SEED}")  # noqa: T201 - to run a failure again
    removed: Counter[str] = Counter()

    def on_lane(message: Msg) -> None:
        removed[(message.headers or {}).get("KV-Operation", "")] += 1

    listening = await listen(site.nc, "$KV.lanes.>", on_lane)

    async def write(number: int) -> list[str]:
        draw = random.Random(SEED + number)
        async with writer(site) as own:
            job_ids = []
            for _ in range(BURSTS):
                requires = {f"k{draw.randrange(LANES)}": True}
                job_ids += [await submit_to(own, requires) for _ in range(draw.randint(1, BURST))]
                await asyncio.sleep(draw.random() * PAUSE_S)  # what a removal may come into
        return job_ids

    able = {f"k{number}": True for number in range(LANES)}
    async with (
        site.keeper(),
        site.keeper(),
        seen(site, "succeeded") as ended,
        workers(site, 1, slots=4, extra={0: able}),
    ):
        for turn in range(ROUNDS):
            async with asyncio.TaskGroup() as group:
                writing = [group.create_task(write(turn * WRITERS + n)) for n in range(WRITERS)]
            await until_seen(ended, [job_id for task in writing for job_id in task.result()])
            if removed["DEL"] > BURSTS / 10:  # on a busy machine, no lane may have been empty before
                break
    await unlisten(site.nc, listening)
    assert removed["DEL"] > BURSTS / 10
