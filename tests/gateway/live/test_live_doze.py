"""The feed reads only while somebody needs it, and nobody who needs it can notice."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from switchyard.events.commands import Release, RequestCancel
from switchyard.events.errors import UnavailableError
from switchyard.services.broker.part_reader import last_messages
from switchyard.services.gateway.live import feed, reports
from tests.broker.shared import SharedBroker
from tests.gateway.live.site import DEADLINE_S, LIFE, LiveGateway, live_gateway, names, now


@pytest.fixture
async def gateway(
    shared_broker: SharedBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[LiveGateway]:
    """A gateway whose feed dozes as soon as nobody needs it."""
    monkeypatch.setattr(feed, "DOZE_S", 0.0)
    monkeypatch.setattr(feed, "LOOK_S", 0.01)
    async with live_gateway(shared_broker.url, tmp_path, dozing=True) as running:
        yield running


async def dozes(gateway: LiveGateway) -> None:
    """Wait until the feed has stopped reading."""
    async with asyncio.timeout(DEADLINE_S):
        while gateway.feed.stream_id:
            await gateway.nc.flush()
    assert not gateway.feed.ready.is_set()


async def test_nobody_is_there_so_nothing_is_read(gateway: LiveGateway) -> None:
    await gateway.live()
    await gateway.nc.flush()
    assert gateway.feed.head == 0


async def test_end_that_came_while_the_feed_dozed_is_found(gateway: LiveGateway) -> None:
    job = await gateway.submit()
    await gateway.complete(await gateway.lease(job))
    assert await gateway.feed.wait_final(job.id, job.seq, DEADLINE_S)
    await dozes(gateway)
    other = await gateway.live()
    assert await gateway.feed.wait_final(other.id, other.seq - 1, DEADLINE_S)


async def test_end_that_comes_after_the_feed_woke_is_found(gateway: LiveGateway) -> None:
    for _ in range(3):
        job = await gateway.submit()
        waiting = asyncio.create_task(gateway.feed.wait_final(job.id, job.seq, DEADLINE_S))
        leased = await gateway.lease(job)
        await gateway.complete(leased)
        assert await waiting
        await dozes(gateway)


async def test_time_that_runs_out_is_reported(gateway: LiveGateway) -> None:
    job = await gateway.submit()
    assert not await gateway.feed.wait_final(job.id, job.seq, 0.2)
    await dozes(gateway)


async def test_reader_who_comes_back_after_a_doze_misses_nothing(gateway: LiveGateway) -> None:
    reader = await gateway.reader()
    await reader.subscribe(all=True)
    await gateway.live()
    seen = await reader.events(3)
    await reader.socket.close()
    await dozes(gateway)
    await gateway.live()
    again = await gateway.reader()
    caught_up = await again.subscribe(all=True, after=seen[-1]["cursor"])
    assert names(seen) == names(caught_up) == LIFE
    await gateway.live()
    assert names(await again.events(3)) == LIFE


async def test_first_view_after_a_doze_shows_what_runs_and_nothing_that_ended(
    gateway: LiveGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "WARM_EVENTS", 1)  # all that follows is longer ago than the feed looks back
    kind = f"k-{secrets.token_hex(4)}"
    ended, ended_again, runs = [await gateway.lease(await gateway.submit(kind=kind)) for _ in range(3)]
    for job in (ended, ended_again, runs):
        await gateway.report(job, 0.5)
    await gateway.complete(ended)
    release = Release(now=now(), fence=ended_again.lease.fence)  # type: ignore[union-attr]
    await gateway.store.transition(ended_again, release, actor="worker:w1")
    cancel = RequestCancel(now=now(), by="user:ann", grace_s=600)
    await gateway.store.transition(runs, cancel, actor="user:ann")
    await gateway.live()

    reader = await gateway.reader()
    await reader.subscribe(kinds=[kind])
    message = await reader.until("progress")
    assert (message["job_id"], message["progress"]["fraction"]) == (runs.id, 0.5)
    # Nor is a worker listened to that does not know yet.
    await gateway.report(ended, 0.9)
    await gateway.report(ended_again, 0.9)
    await gateway.report(runs, 0.6)
    message = await reader.until("progress")
    assert (message["job_id"], message["progress"]["fraction"]) == (runs.id, 0.6)
    assert gateway.feed.progress(ended.id) is None


async def test_log_that_cannot_be_asked_about_a_report_is_asked_again(
    gateway: LiveGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "WARM_EVENTS", 1)
    job = await gateway.lease(await gateway.submit())
    await gateway.report(job, 0.5)
    await gateway.live()
    failed = asyncio.Event()

    async def once(*args: Any, **options: Any) -> Any:
        if not failed.is_set():
            failed.set()
            raise UnavailableError("the broker is away")
        return await last_messages(*args, **options)

    monkeypatch.setattr(reports, "last_messages", once)
    monkeypatch.setattr(reports, "RETRY_S", 0.01)
    reader = await gateway.reader()
    await reader.subscribe(jobs=[job.id])
    assert (await reader.until("progress"))["job_id"] == job.id
    assert failed.is_set()
