"""A cancel is proved: what the log says of it is what happened to the work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from switchyard.events import subjects
from switchyard.events.commands import RequestCancel
from switchyard.events.events import Cancelled, CancelRequested, Expired
from switchyard.events.retry import RetryPolicy
from switchyard.events.vocabulary.ids import JobId
from switchyard.services.broker.inbox import Inbox
from switchyard.services.broker.jetstream import api
from switchyard.services.broker.reader import read_range
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.connectors.protocol import Attempt, RetryableError
from switchyard.services.connectors.simulate import SimulateConnector
from tests.worker.cable import open_cable
from tests.worker.site import DEADLINE_S, Site, TestConnector, open_site


@pytest.fixture
async def site(broker: NatsServer) -> AsyncIterator[Site]:
    async with open_site(broker.url) as site:
        yield site


class Deaf:
    """A handler that does not stop when it is asked to."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.open = asyncio.Event()
        self.cancelled = 0

    async def __call__(self, _: Attempt) -> str:
        self.entered.set()
        while not self.open.is_set():
            try:
                await self.open.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
        return "too late"


async def until_cancelled(_: Attempt) -> None:
    await asyncio.Event().wait()


async def fail(_: Attempt) -> None:
    raise RetryableError("flaky", "not this time")


async def cancel(site: Site, job_id: str, grace_s: float = 30) -> None:
    command = RequestCancel(now=datetime.now(UTC), by="user:ann", grace_s=grace_s, reason="enough")
    await site.store.transition(JobId(job_id), command, actor="user:ann")


async def test_a_request_missed_while_the_worker_was_cut_off_is_found_at_the_next_renewal(
    site: Site,
) -> None:
    connector = TestConnector(until_cancelled)
    async with open_cable(site.url) as cable, site.worker(connector, url=cable.url):
        job_id = await site.submit()
        await site.until(job_id, "leased")
        cable.cut()
        await cancel(site, job_id)
        assert connector.stopped == []
        cable.repair()
        event = (await site.final(job_id)).event
        assert connector.stopped == [job_id]
    assert isinstance(event, Cancelled)
    assert (event.cause, event.by, event.reason) == ("confirmed", "user:ann", "enough")
    assert await site.names(job_id) == ["submitted", "leased", "cancel_requested", "cancelled"]


async def test_a_job_that_does_not_stop_loses_its_lease_and_its_result(site: Site) -> None:
    deaf = Deaf()
    other = TestConnector(until_cancelled)
    async with site.keeper(), site.worker(TestConnector(deaf)):
        job_id = await site.submit()
        await deaf.entered.wait()
        await cancel(site, job_id, grace_s=0.3)
        requested = (await site.until(job_id, "cancel_requested")).event
        entry = await site.final(job_id)
        assert deaf.cancelled
        async with site.worker(other, name="w2"), asyncio.timeout(DEADLINE_S):
            while (await api(site.nc, "STREAM.INFO.WORK", timeout_s=20))["state"]["messages"]:
                await asyncio.sleep(0)  # its message comes again when its lease is over
        deaf.open.set()
    assert isinstance(requested, CancelRequested)
    assert isinstance(entry.event, Cancelled)
    assert (entry.event.cause, entry.actor) == ("forced", "keeper")
    assert entry.at >= requested.force_at
    assert other.started == []
    assert await site.names(job_id) == ["submitted", "leased", "cancel_requested", "cancelled"]


async def test_a_child_process_that_has_to_be_killed_is_proved_gone_in_time(broker: NatsServer) -> None:
    async with open_site(broker.url, cancel_grace_s=6.0) as site:
        job_id = await site.submit(payload={"duration_s": 0, "fail": "hang"})
        progress = Inbox(site.nc, subjects.progress(JobId(job_id)))
        async with progress, site.keeper(), site.worker(SimulateConnector(slots=1)):
            while orjson.loads((await progress.next(DEADLINE_S)).data)["stage"] != "hang":
                continue
            await cancel(site, job_id, grace_s=site.settings.cancel_grace_s)
            entry = await site.final(job_id)
    assert isinstance(entry.event, Cancelled)
    assert (entry.event.cause, entry.actor) == ("confirmed", "worker:w1")


@pytest.mark.parametrize("field", ["deadline_at", "queue_timeout_s"])
async def test_a_job_whose_time_was_over_while_no_keeper_looked_does_not_start(
    site: Site, field: str
) -> None:
    async def handler(attempt: Attempt) -> None:
        return

    connector = TestConnector(handler)
    past = datetime.now(UTC) - timedelta(hours=1)
    fields: dict[str, Any] = {field: past if field == "deadline_at" else 1e-6}
    late = await site.submit("late", **fields)
    fine = await site.submit("fine")
    async with site.worker(connector):
        assert (await site.final(late)).name == "expired"
        assert (await site.final(fine)).name == "succeeded"
    assert connector.started == ["fine"]
    assert await site.names(late) == ["submitted", "expired"]
    assert await read_range(site.nc, subjects.WORK, "work.>", timeout_s=20) == []


async def test_a_running_job_past_its_deadline_is_stopped_before_it_expires(site: Site) -> None:
    connector = TestConnector(until_cancelled)
    async with site.keeper(), site.worker(connector):
        deadline = datetime.now(UTC) + timedelta(seconds=1)
        job_id = await site.submit(deadline_at=deadline)
        event = (await site.final(job_id)).event
        assert connector.stopped == [job_id]
    assert isinstance(event, Expired)
    assert event.cause == "confirmed"
    assert await site.names(job_id) == ["submitted", "leased", "cancel_requested", "expired"]


@pytest.mark.parametrize("state", ["queued", "scheduled", "blocked", "retrying"])
async def test_a_job_that_waits_is_cancelled_at_once(site: Site, state: str) -> None:
    fields: dict[str, Any] = {
        "queued": {"kind": "nobody"},
        "scheduled": {"start_at": datetime.now(UTC) + timedelta(hours=1)},
        "blocked": {"depends_on": (await site.submit(kind="nobody"),)},
        "retrying": {"retry": RetryPolicy(base_s=3600)},
    }
    async with site.worker(TestConnector(fail)):
        job_id = await site.submit(**fields[state])
        if state == "retrying":
            await site.until(job_id, "failed")
        assert (await site.store.load(JobId(job_id))).status.value == state
        await cancel(site, job_id)
    event = (await site.store.history(JobId(job_id)))[-1].event
    assert isinstance(event, Cancelled)
    assert (event.cause, event.by, event.reason) == ("requested", "user:ann", "enough")
