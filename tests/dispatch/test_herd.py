"""A job that comes to many idle workers disturbs one of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import orjson
import pytest

from switchyard.events import subjects
from switchyard.events.vocabulary.ids import JobId
from switchyard.services import clock
from switchyard.services.broker import jetstream, puller, reader
from switchyard.services.broker.server.server import NatsServer
from tests.dispatch.crowd import seen, submit_to, until_seen, workers
from tests.worker.site import DEADLINE_S, Site, open_site

WORKERS = 200
FEW = 10
QUIET_S = 0.3
NEVER_S = 3600.0


@pytest.fixture
async def site(broker: NatsServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    """A site where nothing is said again and again: of leases, pulls, streams that are followed, the time."""
    monkeypatch.setattr(puller, "WAIT_S", NEVER_S)
    monkeypatch.setattr(reader, "EXPIRY_S", NEVER_S)
    monkeypatch.setattr(reader, "HEARTBEAT_S", NEVER_S / 3)
    monkeypatch.setattr(reader, "SILENCE_S", NEVER_S)
    monkeypatch.setattr(clock, "REFRESH_S", NEVER_S)
    monkeypatch.setattr(clock, "AGAIN_S", NEVER_S)
    async with open_site(broker.url, lease_s=NEVER_S) as site:
        yield site


class Counter:
    """The broker's own count of the messages to and from all clients."""

    def __init__(self, site: Site) -> None:
        self._nc = site.nc
        self._asked = 0

    async def _now(self) -> int:
        answer = await self._nc.request("$SYS.REQ.ACCOUNT.PING.STATZ", b"", timeout=5)
        (account,) = orjson.loads(answer.data)["data"]["account_statz"]
        self._asked += 1
        total: int = account["sent"]["msgs"] + account["received"]["msgs"]
        return total - 2 * self._asked  # a question is one message each way

    async def at_rest(self) -> int:
        """The count when it has stopped rising."""
        before = await self._now()
        async with asyncio.timeout(DEADLINE_S):
            while True:
                await asyncio.sleep(QUIET_S)
                now = await self._now()
                if now == before:
                    return now
                before = now


async def until_all_wait(site: Site, job_id: str) -> None:
    """Return when every worker has a pull open in the lane of this job."""
    job = await site.store.load(JobId(job_id))
    call = f"CONSUMER.INFO.WORK.{subjects.lane_consumer(job.lane, job.priority)}"
    async with asyncio.timeout(DEADLINE_S):
        while (await jetstream.api(site.nc, call, timeout_s=20))["num_waiting"] != WORKERS:
            await asyncio.sleep(0.05)


async def test_a_new_job_on_two_hundred_idle_workers_costs_under_ten_messages(site: Site) -> None:
    counter = Counter(site)
    async with workers(site, WORKERS), seen(site, "succeeded") as ended:
        first = await submit_to(site, {})
        await until_seen(ended, [first])
        await until_all_wait(site, first)
        notice = 1  # this test of the end
        costs = []
        for _ in range(3):  # a heartbeat, or a look at the clock, may fall into one of them
            before = await counter.at_rest()
            job_id = await submit_to(site, {})
            await until_seen(ended, [job_id])
            costs.append(await counter.at_rest() - before - notice)
        cost = min(costs)
    assert len(await site.names(job_id)) == 3
    # Three events and their acknowledgements, one delivery, its acknowledgement, and the next pull.
    assert cost < FEW
    assert cost > 2 * 3
