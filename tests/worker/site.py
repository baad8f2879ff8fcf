"""A broker, a log and workers of this process, with a connector that does what the test tells it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pydantic
from nats.aio.client import Client

from switchyard.events.commands import Submit, TakeLease
from switchyard.events.encoding.codec import FINAL_EVENTS
from switchyard.events.encoding.envelope import Recorded, recorded
from switchyard.events.job import Job
from switchyard.events.lane import LaneKey
from switchyard.events.values import JobSpec
from switchyard.events.vocabulary.ids import JobId, Revision, WorkerId
from switchyard.services.broker import connection, topology
from switchyard.services.broker.publisher import Publisher
from switchyard.services.broker.reader import follow
from switchyard.services.connectors.protocol import Attempt, Connector, Outcome
from switchyard.services.event_store import EventStore
from switchyard.services.ids import new_id
from switchyard.services.keeper.loop import Keeper
from switchyard.services.records.lanes import Lanes, lane_for
from switchyard.services.settings import Settings
from switchyard.services.worker.worker import Worker

Handler = Callable[[Attempt], Awaitable[Any]]
DEADLINE_S = 40.0


class AnyPayload(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")


class TestConnector:
    """Runs `handler`; notes what it started, in order."""

    __test__ = False
    payload_model: type[pydantic.BaseModel] = AnyPayload

    def __init__(self, handler: Handler, kind: str = "simulate") -> None:
        self.kind = kind
        self.handler = handler
        self.started: list[Any] = []
        self.stopped: list[str] = []
        self.extra: dict[str, Any] = {}

    def capabilities(self) -> dict[str, Any]:
        return {self.kind: True} | self.extra

    def watch(self, changed: Callable[[], None]) -> None:
        self.changed = changed

    async def run(self, attempt: Attempt) -> Outcome:
        self.started.append(attempt.payload.get("n"))
        try:
            return Outcome(await self.handler(attempt))
        finally:
            self.stopped.append(attempt.job_id)

    async def close(self) -> None:
        return


class Site:
    """What a test of the worker needs, on one broker."""

    def __init__(self, url: str, nc: Client, publisher: Publisher, settings: Settings) -> None:
        self.url = url
        self.nc = nc
        self.settings = settings
        self.store = EventStore(nc, publisher, settings)
        self.lanes = Lanes(nc, publisher, settings)

    async def submit(self, n: Any = None, *, kind: str = "simulate", **fields: Any) -> str:
        """Append `submitted`; the job's id."""
        fields.setdefault("payload", {"n": n})
        spec = JobSpec(kind=kind, tenant="acme", lane=lane_for(kind), **fields)
        await self.lanes.ensure(LaneKey(kind), spec.lane, spec.priority)
        command = Submit(now=datetime.now(UTC), job=spec)
        job, _ = await self.store.transition(Job(id=new_id()), command, actor="user:ann")
        return job.id

    async def until(self, job_id: str, *names: str) -> Recorded:
        """The first event of a job with one of the names, when it is there."""
        async with asyncio.timeout(DEADLINE_S):
            async for message in follow(self.nc, "JOBS", [f"job.{job_id}.>"], start=1, timeout_s=2):
                entry = recorded(message.subject, message.headers, message.data, message.seq)
                if entry.name in names:
                    return entry
        raise AssertionError("unreachable")

    async def final(self, job_id: str) -> Recorded:
        """The job's final event, when it is there."""
        return await self.until(job_id, *FINAL_EVENTS)

    async def lease(self, job_id: str, *, worker: str) -> Job:
        """Lease a job for a worker that is not there."""
        command = TakeLease(now=datetime.now(UTC), worker=WorkerId(worker), revision=Revision(1))
        return (await self.store.transition(JobId(job_id), command, actor=f"worker:{worker}")).job

    async def names(self, job_id: str) -> list[str]:
        """The names of a job's events."""
        return [entry.name for entry in await self.store.history(JobId(job_id))]

    @asynccontextmanager
    async def worker(
        self,
        *connectors: Connector,
        name: str = "w1",
        slots: int = 1,
        url: str | None = None,
        tenant: str | None = None,
    ) -> AsyncIterator[Worker]:
        """A running worker; drained at the end. It is on this site's broker, or reaches it by `url`."""
        nc = await connection.connect(url or self.url, name=name)
        settings = self.settings.model_copy(update={"slots": slots})
        worker = Worker(nc, connectors, settings, worker_id=name, tenant=tenant)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(worker.run())
            await worker.ready.wait()
            try:
                yield worker
            finally:
                worker.stop()
                async with asyncio.timeout(DEADLINE_S):
                    await task
                await nc.close()

    @asynccontextmanager
    async def keeper(self) -> AsyncIterator[Keeper]:
        """A running keeper."""
        nc = await connection.connect(self.url, name="keeper")
        keeper = Keeper(nc, self.settings)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(keeper.run())
            try:
                yield keeper
            finally:
                task.cancel()
        await nc.close()


@asynccontextmanager
async def open_site(url: str, **settings: Any) -> AsyncIterator[Site]:
    """Lay out the streams and connect."""
    # Processes of their own are what tests/worker/test_vigil.py is about; here they would only take time.
    values = {"lease_s": 1.5, "drain_grace_s": 0.2, "cancel_grace_s": 1.0, "vigil": False} | settings
    nc = await connection.connect(url, name="test")
    await topology.apply(nc)
    async with Publisher(nc) as publisher:
        yield Site(url, nc, publisher, Settings(**values))
    await nc.close()
