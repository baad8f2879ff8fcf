"""Ageing and the deadline in the queue, with a keeper and the broker's own timers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from switchyard.events.events import Expired, Leased, Queued, Scheduled
from switchyard.events.values import Ageing
from switchyard.events.vocabulary.ids import JobId
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.connectors.protocol import Attempt
from tests.worker.site import DEADLINE_S, Site, TestConnector, open_site


@pytest.fixture
async def site(broker: NatsServer) -> AsyncIterator[Site]:
    async with open_site(broker.url) as site:
        yield site


async def test_an_old_job_overtakes_younger_ones_of_a_higher_priority(site: Site) -> None:
    first, release = asyncio.Event(), asyncio.Event()

    async def handler(attempt: Attempt) -> None:
        first.set()
        await release.wait()

    connector = TestConnector(handler)
    async with site.keeper(), site.worker(connector):
        await site.submit("first")
        await first.wait()
        old = await site.submit("old", priority=10, ageing=Ageing(every_s=1.0, step=60, max=70))
        young = await site.submit("young", priority=50)
        event = (await site.until(old, "queued")).event
        assert isinstance(event, Queued)
        assert (event.cause, event.priority, event.wake_at) == ("aged", 70, None)
        release.set()
        await site.final(young)
    assert connector.started == ["first", "old", "young"]


async def test_a_job_rises_again_and_again_while_nobody_takes_it(site: Site) -> None:
    async with site.keeper():
        job_id = await site.submit(1, priority=10, ageing=Ageing(every_s=1.0, step=10, max=30))
        async with asyncio.timeout(DEADLINE_S):
            while (await site.store.load(JobId(job_id))).priority < 30:
                pass
    history = await site.store.history(JobId(job_id))
    assert [entry.actor for entry in history] == ["user:ann", "keeper", "keeper"]
    assert [getattr(entry.event, "priority", None) for entry in history] == [None, 20, 30]


async def test_a_job_that_nobody_starts_in_time_expires_and_says_why(site: Site) -> None:
    async with site.keeper():
        event = (await site.final(await site.submit(queue_timeout_s=0.5))).event
        assert isinstance(event, Expired)
        assert event.cause == "not_started"


async def test_the_time_in_the_queue_begins_when_a_scheduled_job_comes_into_it(site: Site) -> None:
    async with site.keeper():
        start_at = datetime.now(UTC) + timedelta(seconds=1)
        job_id = await site.submit(queue_timeout_s=0.5, start_at=start_at)
        event = (await site.final(job_id)).event
    names = await site.names(job_id)
    assert names == ["scheduled", "queued", "expired"]
    assert isinstance(event, Expired)
    first = (await site.store.history(JobId(job_id)))[0].event
    assert isinstance(first, Scheduled)
    assert event.at - first.start_at >= timedelta(seconds=0.5)


async def test_a_job_that_has_started_once_may_wait_longer_than_its_time_in_the_queue(site: Site) -> None:
    entered = asyncio.Event()

    async def handler(attempt: Attempt) -> None:
        entered.set()
        if attempt.number == 1:
            await asyncio.Event().wait()

    async with site.keeper():
        async with site.worker(TestConnector(handler)):
            job_id = await site.submit(queue_timeout_s=1.0)
            await entered.wait()
        assert (await site.names(job_id))[-1] == "queued"  # released by the drain
        other = await site.submit(queue_timeout_s=1.0)
        await site.final(other)  # its own time and more has passed
        async with site.worker(TestConnector(handler), name="w2"):
            await site.final(job_id)
    leases = [
        entry.event for entry in await site.store.history(JobId(job_id)) if isinstance(entry.event, Leased)
    ]
    assert [lease.attempt for lease in leases] == [1, 2]
