"""A graph of a thousand jobs, with two keepers, one of which is lost on the way."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from typing import Any

from switchyard.events import subjects
from switchyard.events.encoding.envelope import Recorded, recorded
from switchyard.services.broker.jetstream import api
from switchyard.services.broker.part_reader import follow_once
from switchyard.services.broker.reader import follow, read_range
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.connectors.protocol import Attempt
from switchyard.services.keeper.waits import WAITS
from tests.worker.site import Site, TestConnector, open_site

LAYERS = 19
WIDTH = 52
JOBS = 1 + LAYERS * WIDTH + 11
FAN_IN = 90
DEADLINE_S = 150.0


async def submit_graph(site: Site) -> dict[str, tuple[str, ...]]:
    """One root, layers of jobs with parents among all earlier ones, and a wide end; parents by job."""
    chooser = random.Random(20)
    root = await site.submit(0)
    parents: dict[str, tuple[str, ...]] = {root: ()}
    layer = [root]
    for _ in range(LAYERS):
        earlier = list(parents)
        fresh = []
        for _ in range(WIDTH):
            chosen = {
                chooser.choice(layer),
                *chooser.sample(earlier, min(len(earlier), chooser.randrange(4))),
            }
            job_id = await site.submit(depends_on=tuple(sorted(chosen)))
            parents[job_id] = tuple(sorted(chosen))
            fresh.append(job_id)
        layer = fresh
    for _ in range(JOBS - len(parents)):
        chosen = set(chooser.sample(list(parents), FAN_IN))
        job_id = await site.submit(depends_on=tuple(sorted(chosen)))
        parents[job_id] = tuple(sorted(chosen))
    return parents


async def answer_sooner(site: Site) -> None:
    """What the lost keeper had in hand comes again after two seconds."""
    for durable in (subjects.KEEPER_EVENTS, subjects.KEEPER_FINALS):
        info = await api(site.nc, f"CONSUMER.INFO.JOBS.{durable}", timeout_s=20)
        config = info["config"] | {"ack_wait": 2_000_000_000}
        body = {"stream_name": "JOBS", "config": config}
        await api(site.nc, f"CONSUMER.DURABLE.CREATE.JOBS.{durable}", body, timeout_s=20)
        # The answer itself has the old one, the first time after the broker was started.
        made = await api(site.nc, f"CONSUMER.INFO.JOBS.{durable}", timeout_s=20)
        assert made["config"]["ack_wait"] == 2_000_000_000


async def test_a_thousand_jobs_run_in_order_though_a_keeper_is_lost(broker: NatsServer) -> None:
    async def at_once(attempt: Attempt) -> Any:
        return attempt.number

    async with open_site(broker.url) as site, AsyncExitStack() as stack:
        await answer_sooner(site)
        lost = AsyncExitStack()
        await lost.enter_async_context(site.keeper())
        await stack.enter_async_context(site.keeper())
        parents = await submit_graph(site)
        assert len(parents) == JOBS
        await stack.enter_async_context(site.worker(TestConnector(at_once), slots=8))
        ended = 0
        async with asyncio.timeout(DEADLINE_S):
            async for _ in follow(site.nc, "JOBS", ["job.*.succeeded"], start=1, timeout_s=20):
                ended += 1
                if ended == JOBS // 3:
                    await lost.aclose()
                if ended == JOBS // 2:
                    await stack.enter_async_context(site.keeper())
                if ended == JOBS:
                    break
        history = await whole_log(site)
        async with asyncio.timeout(DEADLINE_S):
            while await follow_once(site.nc, WAITS.stream, timeout_s=20):
                continue
    for job_id, waited_for in parents.items():
        names = [entry.name for entry in history[job_id]]
        first = ["blocked", "queued"] if waited_for else ["submitted"]
        assert names == [*first, "leased", "succeeded"]
        started = history[job_id][-2].seq
        assert all(history[parent][-1].seq < started for parent in waited_for)


async def whole_log(site: Site) -> dict[str, list[Recorded]]:
    history: dict[str, list[Recorded]] = {}
    start = 1
    while stored := await read_range(site.nc, "JOBS", "job.>", start=start, timeout_s=20):
        for message in stored:
            entry = recorded(message.subject, message.headers, message.data, message.seq)
            history.setdefault(entry.job_id, []).append(entry)
        start = stored[-1].seq + 1
    return history
