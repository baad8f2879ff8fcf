"""Heartbeats and declarations as others read them, whoever wrote them, and whatever stands in their place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from switchyard.services.broker.jetstream import api
from switchyard.services.broker.publisher import Publisher
from switchyard.services.broker.reader import follow
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.connectors.protocol import Attempt
from switchyard.services.records import workers
from switchyard.services.records.worker_watch import WorkerWatch
from switchyard.services.records.workers import WorkerRecord
from tests.broker.notes import value_in
from tests.dispatch.crowd import submit_to
from tests.records.test_workers import done, heartbeat, registration
from tests.worker.site import DEADLINE_S, Site, TestConnector, open_site


@pytest.fixture
async def site(broker: NatsServer) -> AsyncIterator[Site]:
    async with open_site(broker.url) as opened:
        yield opened


@pytest.fixture
async def publisher(site: Site) -> AsyncIterator[Publisher]:
    async with Publisher(site.nc) as opened:
        yield opened


class OldRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the version before wrote and read."""

    id: str
    kinds: tuple[str, ...]
    capabilities: dict[str, Any]
    revision: int
    version: str
    host: str
    slots: int
    state: str
    fences: dict[int, str]
    lease_s: float
    started_at: datetime
    at: datetime
    tenant: str | None = None
    door: str = ""
    until: dict[int, datetime] = {}


def old_record(worker: str, **said: Any) -> bytes:
    now = datetime.now(UTC)
    values: dict[str, Any] = {
        "id": worker, "kinds": ("simulate",), "capabilities": {"gpu": 1}, "revision": 1, "version": "0",
        "host": "h", "slots": 1, "state": "running", "fences": {}, "lease_s": 30.0,
        "started_at": now, "at": now,
    } | said  # fmt: skip
    return msgspec.json.encode(OldRecord(**values))


async def test_the_version_before_reads_a_heartbeat(site: Site, publisher: Publisher) -> None:
    await registration(publisher).beat()
    read = msgspec.json.decode((await heartbeat(site)).data, type=OldRecord)
    assert (read.id, read.revision, read.fences) == ("w1", 1, {7: "some-job"})


async def test_a_job_is_left_to_a_worker_of_the_version_before(site: Site, publisher: Publisher) -> None:
    async def fail(_: Attempt) -> None:
        raise RuntimeError("no")

    await publisher.publish(workers.HEARTBEATS.subject("old"), old_record("old"), {})
    async with site.worker(TestConnector(fail), name="w1"), site.keeper():
        job_id = await submit_to(site, {"simulate": True})
        await site.until(job_id, "failed")
        await publisher.publish(
            workers.HEARTBEATS.subject("old"), old_record("old", capabilities={"simulate": True}), {}
        )
        await site.until(job_id, "queued")
        other = TestConnector(done)
        async with site.worker(other, name="w2"):
            final = await site.final(job_id)
        assert (final.name, other.started) == ("succeeded", [None])


@pytest.fixture
async def watch(site: Site) -> AsyncIterator[WorkerWatch]:
    found = WorkerWatch(site.nc, timeout_s=20, sweep_s=0.2)
    async with asyncio.TaskGroup() as group:
        following = group.create_task(found.run())
        yield found
        following.cancel()


async def until(watch: WorkerWatch, worker: str, revision: int | None) -> WorkerRecord | None:
    """The worker, when the watch has it at a revision; None for not at all."""
    async with asyncio.timeout(DEADLINE_S):
        while (record := watch.get(worker)) is None or record.revision != revision:
            if record is None and revision is None:
                break
            await asyncio.sleep(0.01)
    return record


async def test_a_heartbeat_waits_for_the_declaration_that_it_names(
    site: Site, publisher: Publisher, watch: WorkerWatch
) -> None:
    worker = registration(publisher, capabilities={"gpu": 1})
    await worker.beat()
    await until(watch, "w1", 1)
    now = datetime.now(UTC)
    early = msgspec.structs.replace(worker.record.heartbeat(), revision=2, state="paused", at=now)
    await publisher.publish(workers.HEARTBEATS.subject("w1"), msgspec.json.encode(early), {})
    await registration(publisher, "w2").beat()
    await until(watch, "w2", 1)  # so what was written before it has come too
    record = watch.get("w1")
    assert record is not None
    assert (record.revision, record.capabilities, record.state) == (1, {"gpu": 1}, "running")
    fresh = workers.declaration_of(
        msgspec.structs.replace(worker.record, revision=2, capabilities={"gpu": 2}), now
    )
    await publisher.publish(workers.DECLARATIONS.subject("w1"), msgspec.json.encode(fresh), {})
    record = await until(watch, "w1", 2)
    assert record is not None
    assert (record.capabilities, record.state) == ({"gpu": 2}, "paused")


async def test_a_heartbeat_is_never_read_with_a_later_declaration(
    site: Site, publisher: Publisher, watch: WorkerWatch
) -> None:
    worker = registration(publisher, capabilities={"gpu": 1})
    await worker.beat()
    await until(watch, "w1", 1)
    ahead = msgspec.structs.replace(worker.record, revision=2, capabilities={"gpu": 2})
    declared = workers.declaration_of(ahead, datetime.now(UTC))
    await publisher.publish(workers.DECLARATIONS.subject("w1"), msgspec.json.encode(declared), {})
    late = WorkerWatch(site.nc, timeout_s=20)
    async with asyncio.TaskGroup() as group:
        following = group.create_task(late.run())
        await registration(publisher, "w2").beat()
        for one in (watch, late):
            await until(one, "w2", 1)
            async with asyncio.timeout(DEADLINE_S):
                while (one.declared("w1") or one.declared("w2")) is None:
                    await asyncio.sleep(0.01)
        following.cancel()
    known = watch.get("w1")
    assert known is not None
    assert (known.revision, known.capabilities, late.get("w1")) == (1, {"gpu": 1}, None)


async def test_a_worker_whose_end_no_message_reports_is_forgotten(
    site: Site, publisher: Publisher, watch: WorkerWatch
) -> None:
    await registration(publisher, "rest.acme.x", lease_s=0.5).beat()
    await until(watch, "rest.acme.x", 1)
    assert watch.alive_of("acme") == 1
    await api(site.nc, f"STREAM.PURGE.{workers.HEARTBEATS.stream}", timeout_s=20)
    await until(watch, "rest.acme.x", None)
    assert (watch.alive_of("acme"), watch.has_heartbeat("rest.acme.x")) == (0, False)


GARBAGE = {
    "w1": b"\xff\x00 garbage", "a.b.c": b"{}", "w%@!": b"[" * 5000, "w2": b'{"id": 5}', "none": b"null",
    "liar": old_record("another"), "huge": old_record("huge", capabilities={"n": 10**30}),
    "deep": old_record("deep").replace(b'{"gpu":1}', b'{"a":' * 200 + b"1" + b"}" * 200),
}  # fmt: skip


async def test_garbage_in_the_buckets_hides_nobody_else(
    site: Site, publisher: Publisher, watch: WorkerWatch
) -> None:
    for worker, body in GARBAGE.items():
        await publisher.publish(workers.HEARTBEATS.subject(worker), body, {})
        await publisher.publish(workers.DECLARATIONS.subject(worker), body, {})
    await publisher.publish(
        workers.HEARTBEATS.subject("new"), old_record("new")[:-1] + b',"later":{"a":1}}', {}
    )
    await registration(publisher, "w3").beat()
    await until(watch, "w3", 1)
    await until(watch, "new", 1)
    assert [record.id for record in watch.records()] == ["new", "w3"]
    assert watch.unreadable == 2 * len(GARBAGE)
    await registration(publisher, "w1").beat()  # a worker's own record takes the garbage's place
    await until(watch, "w1", 1)
    assert watch.unreadable == 2 * len(GARBAGE) - 2


async def test_a_keeper_takes_leases_back_whatever_stands_in_the_buckets(
    site: Site, publisher: Publisher
) -> None:
    for worker, body in GARBAGE.items():
        await publisher.publish(workers.HEARTBEATS.subject(worker), body, {})
    async with site.keeper():
        job_id = await site.submit()
        held = registration(publisher, "dying", lease_s=site.settings.lease_s)
        await held.beat()
        leased = await site.lease(job_id, worker="dying")
        heartbeat = msgspec.structs.replace(held.record.heartbeat(), fences={leased.seq: job_id})
        await publisher.publish(
            workers.HEARTBEATS.subject("dying"), msgspec.json.encode(heartbeat), {"Nats-TTL": "1s"}
        )
        await site.until(job_id, "queued")


async def test_leases_of_a_worker_whose_record_became_garbage_are_taken_back(
    site: Site, publisher: Publisher
) -> None:
    async with site.keeper() as keeper:
        job_id = await site.submit()
        leased = await site.lease(job_id, worker="w9")
        beat = msgspec.structs.replace(
            registration(publisher, "w9", lease_s=site.settings.lease_s).record.heartbeat(),
            fences={leased.seq: job_id},
        )
        await publisher.publish(workers.HEARTBEATS.subject("w9"), msgspec.json.encode(beat), {})
        async with asyncio.timeout(DEADLINE_S):
            while "w9" not in keeper._expiry.alive():  # or only the garbage would be there to be read
                await asyncio.sleep(0.01)
        await publisher.publish(workers.HEARTBEATS.subject("w9"), b"garbage", {})
        await site.until(job_id, "queued")


async def test_garbage_in_place_of_a_heartbeat_takes_no_lease_from_a_worker_that_goes_on(
    site: Site, publisher: Publisher
) -> None:
    gate = asyncio.Event()

    async def wait(_: Attempt) -> None:
        await gate.wait()

    async with site.keeper(), site.worker(TestConnector(wait), name="w1"):
        job_id = await site.submit()
        await site.until(job_id, "leased")
        seq = await publisher.publish(workers.HEARTBEATS.subject("w1"), b"garbage", {})
        beats = 0
        async for message in follow(
            site.nc, workers.HEARTBEATS.stream, [workers.HEARTBEATS.subject("w1")], start=seq, timeout_s=20
        ):
            beats += value_in(workers.HEARTBEATS, message) is not None
            if beats == 6:  # for longer than a lease
                break
        gate.set()
        await site.final(job_id)
        assert await site.names(job_id) == ["submitted", "leased", "succeeded"]
