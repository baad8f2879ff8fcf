"""A projector is ready while it moves, or has nothing ahead of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.commands import Submit
from switchyard.events.job import Job
from switchyard.events.values import JobSpec
from switchyard.events.vocabulary.ids import LaneId
from switchyard.services.broker import topology
from switchyard.services.broker.jetstream import api
from switchyard.services.broker.publisher import Publisher
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.event_store import EventStore
from switchyard.services.ids import new_id
from switchyard.services.projector.projector import Projector
from switchyard.services.settings import Settings
from switchyard.services.telemetry.part import Checks, Telemetry

DEADLINE_S = 60.0
SPEC = JobSpec(kind="noop", tenant="acme", lane=LaneId("noop"))


@contextlib.asynccontextmanager
async def projecting(nc: Client, settings: Settings) -> AsyncIterator[tuple[Telemetry, asyncio.Task[None]]]:
    """A projector until the block ends."""
    telemetry = Telemetry("projector")
    projector = Projector(nc, settings, telemetry=telemetry)
    running = asyncio.create_task(projector.run())
    await projector.ready.wait()
    yield telemetry, running
    running.cancel()
    await asyncio.wait([running])


async def until(telemetry: Telemetry, *, ok: bool) -> Checks:
    async with asyncio.timeout(DEADLINE_S):
        while True:
            checks = (await telemetry.ask())["projector"]
            if checks["read_model"]["ok"] is ok:
                return checks
            await asyncio.sleep(0.02)


async def caught_up(telemetry: Telemetry) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while (await telemetry.ask())["projector"]["read_model"].get("lag_events") != 0:
            await asyncio.sleep(0.02)


async def submit(store: EventStore) -> Job:
    command = Submit(now=datetime.now(UTC), job=SPEC)
    return (await store.transition(Job(id=new_id()), command, actor="user:ann")).job


async def test_one_that_stands_still_with_an_event_ahead_is_not_ready(
    nats_connection: Client, tmp_path: Path
) -> None:
    await topology.apply(nats_connection)
    settings = Settings(data_dir=tmp_path, ready_stall_s=0.2)
    async with (
        Publisher(nats_connection) as publisher,
        projecting(nats_connection, settings) as (found, running),
    ):
        store = EventStore(nats_connection, publisher, settings)
        await submit(store)
        await caught_up(found)
        assert (await until(found, ok=True))["disk"]["ok"]
        running.cancel()
        await asyncio.wait([running])
        await submit(store)
        checks = await until(found, ok=False)
        assert checks["read_model"]["lag_events"] == 1


async def test_one_behind_an_end_that_was_purged_is_ready(nats_connection: Client, tmp_path: Path) -> None:
    await topology.apply(nats_connection)
    settings = Settings(data_dir=tmp_path, ready_stall_s=1e-6)
    async with (
        Publisher(nats_connection) as publisher,
        projecting(nats_connection, settings) as (found, running),
    ):
        store = EventStore(nats_connection, publisher, settings)
        await submit(store)
        await caught_up(found)
        running.cancel()
        await asyncio.wait([running])
        job = await submit(store)
        await api(
            nats_connection,
            f"STREAM.PURGE.{subjects.JOBS}",
            {"filter": subjects.job_filter(job.id)},
            timeout_s=20,
        )
        await until(found, ok=True)
        await until(found, ok=True)


async def test_one_without_its_broker_says_so(
    broker: NatsServer, nats_connection: Client, tmp_path: Path
) -> None:
    await topology.apply(nats_connection)
    settings = Settings(data_dir=tmp_path, request_timeout_s=0.5)
    async with projecting(nats_connection, settings) as (found, _):
        await until(found, ok=True)
        await broker.kill()
        checks = await until(found, ok=False)
        assert "error" in checks["read_model"]
        await found.refresh()
        assert b"switchyard_disk_free_bytes" in found.text()
        await broker.start()
        await until(found, ok=True)
