"""Heartbeats, and declarations that are written once per revision."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from switchyard.events.errors import InvalidError
from switchyard.events.vocabulary.ids import Fence, JobId, WorkerId
from switchyard.services.broker.bucket import is_gone
from switchyard.services.broker.jetstream import api
from switchyard.services.broker.publisher import Publisher
from switchyard.services.broker.reachability import Reachability
from switchyard.services.broker.reader import Stored, follow, last_message
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.connectors.protocol import Attempt
from switchyard.services.records import workers
from switchyard.services.records.workers import declarable, new_record
from switchyard.services.worker.registration import Registration
from tests.broker.notes import value_in
from tests.dispatch.crowd import submit_to
from tests.worker.site import DEADLINE_S, Site, TestConnector, open_site

NODES = {"nodes": [f"a-node-class-of-many-{number}" for number in range(900)]}


@pytest.fixture
async def site(broker: NatsServer) -> AsyncIterator[Site]:
    async with open_site(broker.url) as opened:
        yield opened


@pytest.fixture
async def publisher(site: Site) -> AsyncIterator[Publisher]:
    async with Publisher(site.nc) as opened:
        yield opened


def registration(
    publisher: Publisher, worker: str = "w1", *, lease_s: float = 30.0, **said: Any
) -> Registration:
    values: dict[str, Any] = {"kinds": ("simulate",), "capabilities": {}, "slots": 1} | said
    record = new_record(worker_id=WorkerId(worker), lease_s=lease_s, **values)
    return Registration(publisher, record, lambda: {Fence(7): JobId("some-job")}, Reachability(lease_s))


async def heartbeat(site: Site, worker: str = "w1") -> Stored:
    found = await last_message(
        site.nc, workers.HEARTBEATS.stream, workers.HEARTBEATS.subject(worker), timeout_s=20
    )
    assert found is not None
    return found


async def declaration(site: Site, worker: str = "w1") -> Stored:
    entry = workers.DECLARATIONS.subject(worker)
    found = await last_message(site.nc, workers.DECLARATIONS.stream, entry, timeout_s=20)
    assert found is not None
    return found


async def resize(site: Site, stream: str, max_bytes: int) -> None:
    """Let a stream hold so much; without room it refuses every message."""
    info = await api(site.nc, f"STREAM.INFO.{stream}", timeout_s=20)
    answer = await api(
        site.nc, f"STREAM.UPDATE.{stream}", info["config"] | {"max_bytes": max_bytes}, timeout_s=20
    )
    assert "error" not in answer, answer


async def done(attempt: Attempt) -> None:
    """Nothing to do."""


# --- What is written


async def test_a_heartbeat_does_not_grow_with_the_capabilities(site: Site, publisher: Publisher) -> None:
    worker = registration(publisher, capabilities=NODES)
    await worker.beat()
    first = await declaration(site)
    assert len(first.data) > 20_000
    for _ in range(20):
        await worker.beat()
    assert len((await heartbeat(site)).data) < 400
    assert (await declaration(site)).seq == first.seq


async def test_a_change_is_declared_before_the_heartbeat_that_names_it(
    site: Site, publisher: Publisher
) -> None:
    worker = registration(publisher)
    order: list[tuple[str, int]] = []

    async def on_message(message: Any) -> None:
        order.append((message.subject, msgspec.json.decode(message.data)["revision"]))

    await site.nc.subscribe("$KV.>", cb=on_message)
    await worker.beat()
    worker.change(capabilities={"gpu": 1})
    await worker.beat()
    await site.nc.flush()
    entry, beat = workers.DECLARATIONS.subject("w1"), workers.HEARTBEATS.subject("w1")
    assert order == [(entry, 1), (beat, 1), (entry, 2), (beat, 2)]


async def test_a_declaration_is_renewed_while_its_worker_lives_and_goes_after_it(
    site: Site, publisher: Publisher
) -> None:
    worker = registration(publisher, lease_s=0.3)
    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
        beating = group.create_task(worker.run())
        entry = workers.DECLARATIONS.subject("w1")
        seen = 0
        async for message in follow(site.nc, workers.DECLARATIONS.stream, [entry], latest=True, timeout_s=20):
            if is_gone(message.headers, message.data):
                break
            seen += 1
            if seen == 3:
                beating.cancel()
    assert seen >= 3


async def test_a_worker_that_leaves_takes_both_entries_away(site: Site, publisher: Publisher) -> None:
    worker = registration(publisher)
    await worker.beat()
    await worker.leave()
    for entry in (await heartbeat(site), await declaration(site)):
        assert is_gone(entry.headers, entry.data)


@pytest.mark.parametrize(
    ("capabilities", "field"),
    [
        ({"a": {"b": 10**30}}, "capabilities.a.b"),
        ({"a": [1.0, float("inf")]}, "capabilities.a.1"),
        ({"a": "\ud800"}, "capabilities.a"),
        ({"a": object()}, "capabilities"),
        ({"a": "x" * 2000}, "capabilities"),
    ],
)
def test_what_others_cannot_read_is_not_declared(capabilities: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidError) as refused:
        declarable(capabilities, 1000)
    assert refused.value.field == field


def test_a_tuple_is_declared_as_a_list() -> None:
    assert declarable({"sizes": (1, 2)}, 1000) == {"sizes": [1, 2]}


# --- What the broker refuses


@pytest.mark.parametrize("stream", [workers.HEARTBEATS.stream, workers.DECLARATIONS.stream])
async def test_a_worker_that_nobody_can_see_takes_no_job_until_it_is_seen_again(
    site: Site, stream: str
) -> None:
    gate = asyncio.Event()

    async def wait(_: Attempt) -> None:
        await gate.wait()

    connector = TestConnector(wait)
    async with site.worker(connector, slots=2) as worker:
        running = await site.submit()
        await site.until(running, "leased")
        await resize(site, stream, 10)
        connector.extra = {"gpu": 1}  # a change is sent at once
        connector.changed()
        async with asyncio.timeout(DEADLINE_S):
            while worker._registration.is_seen:
                await asyncio.sleep(0.01)
        waiting = await site.submit()
        gate.set()
        await site.final(running)
        assert await site.names(running) == ["submitted", "leased", "succeeded"]
        if stream == workers.DECLARATIONS.stream:
            assert (
                value_in(workers.HEARTBEATS, await heartbeat(site)) or worker._registration.record
            ).state == "unregistered"
        assert await site.names(waiting) == ["submitted"]
        await resize(site, stream, 1 << 20)
        await site.final(waiting)
        leased = await site.until(waiting, "leased")
        assert leased.event.revision == 2  # type: ignore[union-attr]


async def test_a_worker_whose_declaration_is_too_large_does_not_start(site: Site) -> None:
    connector = TestConnector(done)
    connector.extra = {"list": ["x" * 1000] * 300}
    with pytest.raises(ExceptionGroup) as failed:
        async with asyncio.timeout(DEADLINE_S), site.worker(connector):
            raise AssertionError("it started")
    assert failed.group_contains(InvalidError, match="capabilities: 3.* bytes as JSON, of at most 262144")


async def test_a_change_that_is_too_large_leaves_what_was_declared(site: Site) -> None:
    connector = TestConnector(done)
    connector.extra = {"gpu": 1}
    async with site.worker(connector) as worker:
        connector.extra = {"list": ["x" * 1000] * 300}
        connector.changed()
        await site.final(await submit_to(site, {"gpu": 1}))
        connector.extra = {"gpu": 2}
        connector.changed()
        async with asyncio.timeout(DEADLINE_S):
            while worker._registration.record.revision < 2:
                await asyncio.sleep(0.01)
        assert worker._registration.record.capabilities == {"simulate": True, "gpu": 2}
