from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from switchyard.events.commands import LoseLease, RequestCancel
from switchyard.events.errors import UnavailableError
from switchyard.events.events import Cancelled, Dead, Failed, Queued, Succeeded
from switchyard.events.retry import RetryPolicy
from switchyard.events.vocabulary.ids import Fence, JobId
from switchyard.services.broker.bucket import is_gone
from switchyard.services.broker.jetstream import api
from switchyard.services.broker.reader import follow, last_message
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.connectors.protocol import Attempt, BusyError, FatalError, RetryableError
from switchyard.services.records import workers
from tests.worker.site import Site, TestConnector, open_site


@pytest.fixture
async def site(broker: NatsServer) -> AsyncIterator[Site]:
    async with open_site(broker.url) as site:
        yield site


class Gate:
    """A handler that waits until the test opens it."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.open = asyncio.Event()

    async def __call__(self, attempt: Attempt) -> Any:
        self.entered.set()
        await self.open.wait()
        return attempt.payload.get("n")


async def cancel(site: Site, job_id: str) -> None:
    command = RequestCancel(now=datetime.now(UTC), by="user:ann", grace_s=30)
    await site.store.transition(JobId(job_id), command, actor="user:ann")


async def test_a_job_is_leased_run_and_its_message_acknowledged(site: Site) -> None:
    connector = TestConnector(Gate())
    connector.handler.open.set()  # type: ignore[attr-defined]
    async with site.worker(connector):
        job_id = await site.submit(7)
        event = (await site.final(job_id)).event
        assert isinstance(event, Succeeded)
        assert event.result == 7
    assert await site.names(job_id) == ["submitted", "leased", "succeeded"]
    info = await api(site.nc, "STREAM.INFO.WORK", timeout_s=20)
    assert info["state"]["messages"] == 0


async def test_two_hundred_jobs_of_mixed_priority_start_in_exact_order(site: Site) -> None:
    gate = Gate()
    connector = TestConnector(gate)
    async with site.worker(connector):
        first = await site.submit("first")
        await gate.entered.wait()
        chooser = random.Random(7)
        jobs = [(chooser.randrange(101), n) for n in range(200)]
        ids = [await site.submit([priority, n], priority=priority) for priority, n in jobs]
        gate.open.set()
        for job_id in [first, *ids]:
            await site.final(job_id)
    wanted = sorted(jobs, key=lambda job: (-job[0], job[1]))
    assert connector.started == ["first", *[list(job) for job in wanted]]


async def test_across_lanes_of_one_priority_the_older_job_goes_first(site: Site) -> None:
    gate = Gate()
    kinds = ("simulate", "paint", "bake")
    connectors = [TestConnector(gate, kind) for kind in kinds]
    order: list[Any] = []
    for connector in connectors:
        connector.started = order
    async with site.worker(*connectors):
        first = await site.submit("first")
        await gate.entered.wait()
        ids = [await site.submit(n, kind=kinds[n * 7 % 5 % 3]) for n in range(30)]
        gate.open.set()
        for job_id in [first, *ids]:
            await site.final(job_id)
    assert order == ["first", *range(30)]


async def test_a_cancelled_job_is_stopped_before_it_is_called_cancelled(site: Site) -> None:
    gate = Gate()
    connector = TestConnector(gate)
    async with site.worker(connector):
        job_id = await site.submit()
        await gate.entered.wait()
        await cancel(site, job_id)
        event = (await site.final(job_id)).event
        assert connector.stopped == [job_id]
    assert isinstance(event, Cancelled)
    assert event.cause == "confirmed"
    assert await site.names(job_id) == ["submitted", "leased", "cancel_requested", "cancelled"]


async def test_a_cancelled_job_in_the_queue_is_never_started(site: Site) -> None:
    job_id = await site.submit()
    await cancel(site, job_id)
    connector = TestConnector(Gate())
    connector.handler.open.set()  # type: ignore[attr-defined]
    async with site.worker(connector):
        await site.final(await site.submit(2))
    assert connector.started == [2]


async def test_a_worker_that_lost_its_lease_stops_and_its_result_is_dropped(site: Site) -> None:
    gate = Gate()
    connector = TestConnector(gate)
    async with site.worker(connector):
        job_id = await site.submit(1)
        leased = await site.until(job_id, "leased")
        await gate.entered.wait()
        command = LoseLease(now=datetime.now(UTC), fence=Fence(leased.seq))
        await site.store.transition(JobId(job_id), command, actor="test")
        gate.entered.clear()
        await gate.entered.wait()  # its second attempt, under a lease of its own
        gate.open.set()
        await site.final(job_id)
    names = await site.names(job_id)
    assert names == ["submitted", "leased", "queued", "leased", "succeeded"]


async def raises(error: Exception) -> Any:
    raise error


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (RetryableError("no_vram", "out of memory"), "failed"),
        (ValueError("a bug"), "failed"),
        (FatalError("bad_input", "the file is empty"), "dead"),
        (BusyError("full", "no room"), "queued"),
        (UnavailableError("the broker is away"), "queued"),
    ],
    ids=["retryable", "bug", "fatal", "busy", "outage"],
)
async def test_what_a_connector_raises_becomes_the_outcome(site: Site, error: Exception, name: str) -> None:
    async with site.worker(TestConnector(lambda _: raises(error))):
        job_id = await site.submit()
        entry = await site.until(job_id, "failed", "dead", "queued")
    assert entry.name == name
    if isinstance(entry.event, Failed):
        assert entry.event.error.code in ("no_vram", "internal")
    if isinstance(entry.event, Dead):
        assert (entry.event.reason, entry.event.error.code) == ("not_retryable", "bad_input")
    if isinstance(entry.event, Queued):
        assert entry.event.cause == "released"


async def test_an_attempt_that_takes_too_long_is_stopped_and_fails(site: Site) -> None:
    connector = TestConnector(Gate())
    async with site.worker(connector):
        job_id = await site.submit(attempt_timeout_s=0.3)
        event = (await site.until(job_id, "failed")).event
        assert connector.stopped == [job_id]
    assert isinstance(event, Failed)
    assert event.error.code == "timeout"


async def test_a_drained_worker_releases_its_jobs_without_counting_them(site: Site) -> None:
    gate = Gate()
    async with site.worker(TestConnector(gate), name="w1"):
        job_id = await site.submit()
        await gate.entered.wait()
    job = await site.store.load(JobId(job_id))
    assert (job.status.value, job.attempt, job.failures, job.lost) == ("queued", 1, 0, 0)
    gate.open.set()
    async with site.worker(TestConnector(gate), name="w2"):
        event = (await site.final(job_id)).event
    assert isinstance(event, Succeeded)


async def test_a_failed_job_is_tried_again_at_its_time(site: Site) -> None:
    async def fails_once(attempt: Attempt) -> int:
        if attempt.number == 1:
            raise RetryableError("flaky", "try again")
        return attempt.number

    async with site.keeper(), site.worker(TestConnector(fails_once)):
        job_id = await site.submit(retry=RetryPolicy(base_s=0.5))
        event = (await site.final(job_id)).event
    assert isinstance(event, Succeeded)
    assert event.result == 2
    history = await site.store.history(JobId(job_id))
    failed = next(entry.event for entry in history if isinstance(entry.event, Failed))
    queued = next(entry.event for entry in history if isinstance(entry.event, Queued))
    assert queued.at >= failed.retry_at


async def test_a_job_past_its_deadline_expires_in_the_queue(site: Site) -> None:
    async with site.keeper():
        deadline = datetime.now(UTC) + timedelta(seconds=0.5)
        job_id = await site.submit(deadline_at=deadline)
        entry = await site.final(job_id)
    assert entry.name == "expired"
    assert entry.at >= deadline


async def test_a_job_that_does_not_stop_is_cancelled_by_force(site: Site) -> None:
    release = asyncio.Event()

    async def deaf(_: Attempt) -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    async with site.keeper(), site.worker(TestConnector(deaf)):
        job_id = await site.submit()
        await site.until(job_id, "leased")
        command = RequestCancel(now=datetime.now(UTC), by="user:ann", grace_s=0.3)
        await site.store.transition(JobId(job_id), command, actor="user:ann")
        event = (await site.final(job_id)).event
        release.set()
    assert isinstance(event, Cancelled)
    assert event.cause == "forced"


async def test_an_outage_longer_than_the_lease_costs_a_running_job_nothing(
    site: Site, broker: NatsServer
) -> None:
    gate = Gate()
    connector = TestConnector(gate)
    async with site.keeper(), site.worker(connector, name="w1"), site.worker(TestConnector(gate), name="w2"):
        job_id = await site.submit(3)
        await gate.entered.wait()
        await broker.kill()
        await asyncio.sleep(site.settings.lease_s * 2)
        await broker.restart()
        await asyncio.sleep(site.settings.lease_s * 2)
        gate.open.set()
        await site.final(job_id)
    assert await site.names(job_id) == ["submitted", "leased", "succeeded"]


async def test_the_record_of_a_worker_names_its_leases_and_goes_with_it(site: Site) -> None:
    gate = Gate()
    async with site.worker(TestConnector(gate), name="w1"):
        job_id = await site.submit()
        leased = await site.until(job_id, "leased")
        async with asyncio.timeout(60):
            async for message in follow(site.nc, workers.HEARTBEATS.stream, latest=True, timeout_s=20):
                if workers.HEARTBEATS.values.decode(message.data).fences == {
                    Fence(leased.seq): JobId(job_id)
                }:
                    break
        gate.open.set()
        await site.final(job_id)
    last = await last_message(
        site.nc, workers.HEARTBEATS.stream, workers.HEARTBEATS.subject("w1"), timeout_s=20
    )
    assert last is not None
    assert is_gone(last.headers, last.data)
