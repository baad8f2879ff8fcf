"""A Switchyard of this process on a real broker: what all tests have that need not start programs.

One way to begin, `opened`; each folder adds the hands that its tests have: `tests.worker.site` submits to
workers, `tests.gateway.rest` serves HTTP, `tests.gateway.live.site` serves live views. Programs are started
by `tests.cli.site` (everything as one process, and the command line) and `tests.system.deployment` (each part
as one, any of which a test may kill).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

from nats.aio.client import Client

from switchyard.events.commands import Complete, Fail, TakeLease
from switchyard.events.encoding.codec import FINAL_EVENTS
from switchyard.events.encoding.envelope import Recorded, recorded
from switchyard.events.job import Job
from switchyard.events.values import JobError
from switchyard.events.vocabulary.ids import JobId, Revision, WorkerId
from switchyard.projections.reader import ReadModel
from switchyard.services.access.jwt import load_or_create_secrets, mint
from switchyard.services.broker import connection, topology
from switchyard.services.broker.publisher import Publisher
from switchyard.services.broker.reader import follow
from switchyard.services.connectors.protocol import Connector
from switchyard.services.event_store import EventStore
from switchyard.services.keeper.loop import Keeper
from switchyard.services.projector.projector import Projector
from switchyard.services.records.lanes import Lanes
from switchyard.services.records.tenancy import Tenancy, tenancy_of
from switchyard.services.settings import Settings
from switchyard.services.telemetry.part import Telemetry
from switchyard.services.worker.worker import Worker
from tests.broker.laid_out import LAID_OUT

DEADLINE_S = 90.0
PATIENT_S = 10.0
"""What parts of tests wait for an answer of the broker: a machine may be stuck for longer than theirs."""


def now() -> datetime:
    return datetime.now(UTC)


class Site:
    """Streams, what writes to them, and the parts that a test starts beside it.

    Args:
        nats_url: that of the broker.
        nc: a connection of the test's own.
        publisher: on that connection.
        settings: those of every part.
    """

    def __init__(self, nats_url: str, nc: Client, publisher: Publisher, settings: Settings) -> None:
        self.nats_url = nats_url
        self.nc = nc
        self.publisher = publisher
        self.settings = settings
        self.store = EventStore(nc, publisher, settings)
        self.lanes = Lanes(nc, publisher, settings)

    # --- What a worker does, by hand

    async def lease(self, job: Job | str, *, worker: str = "w1") -> Job:
        """Lease a job for a worker that is not there."""
        command = TakeLease(now=now(), worker=WorkerId(worker), revision=Revision(1))
        found = JobId(job) if isinstance(job, str) else job
        return (await self.store.transition(found, command, actor=f"worker:{worker}")).job

    async def complete(self, job: Job, result: Any = None, **fields: Any) -> Job:
        """End the attempt of a leased job."""
        assert job.lease is not None
        command = Complete(now=now(), fence=job.lease.fence, result=result, **fields)
        return (await self.store.transition(job, command, actor="worker:w1")).job

    async def fail(self, job: Job, code: str, *, retryable: bool) -> Job:
        """Fail the attempt of a leased job."""
        assert job.lease is not None
        command = Fail(now=now(), fence=job.lease.fence, error=JobError(code, "it broke", retryable))
        return (await self.store.transition(job, command, actor="worker:w1")).job

    # --- What the log says

    async def until(self, job_id: str, *names: str) -> Recorded:
        """The first event of a job with one of the names, when it is there."""
        async with asyncio.timeout(DEADLINE_S):
            async for message in follow(self.nc, "JOBS", [f"job.{job_id}.>"], start=1, timeout_s=20):
                entry = recorded(message.subject, message.headers, message.data, message.seq)
                if entry.name in names:
                    return entry
        raise AssertionError("unreachable")

    async def final(self, job_id: str) -> Recorded:
        """The job's final event, when it is there."""
        return await self.until(job_id, *FINAL_EVENTS)

    async def names(self, job_id: str) -> list[str]:
        """The names of a job's events."""
        return [entry.name for entry in await self.store.history(JobId(job_id))]

    def minted(self, *, tenant: str, roles: tuple[str, ...], ttl_s: float, subject: str = "user") -> str:
        """A token that gateways of this data directory take."""
        secret = load_or_create_secrets(self.settings.data_dir)[0]
        return mint(secret, tenant=tenant, roles=roles, ttl_s=ttl_s, subject=subject)

    # --- Parts

    @asynccontextmanager
    async def worker(
        self,
        *connectors: Connector,
        name: str = "w1",
        slots: int = 1,
        url: str | None = None,
        tenant: str | None = None,
        tenancy: Tenancy | None = None,
    ) -> AsyncIterator[Worker]:
        """A running worker; drained at the end. It is on this site's broker, or reaches it by `url`."""
        nc = await connection.connect(url or self.nats_url, name=name)
        settings = self.settings.model_copy(update={"slots": slots})
        served = tenancy or tenancy_of([] if tenant is None else [tenant], [])
        worker = Worker(nc, connectors, settings, worker_id=name, tenancy=served)
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
    async def keeper(self, read_model: ReadModel | None = None) -> AsyncIterator[Keeper]:
        """A running keeper, with a read model where one is given."""
        nc = await connection.connect(self.nats_url, name="keeper")
        keeper = Keeper(nc, self.settings, read_model)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(keeper.run())
            try:
                yield keeper
            finally:
                task.cancel()
        await nc.close()

    @asynccontextmanager
    async def projector(
        self, *, goes_on: bool = True, telemetry: Telemetry | None = None
    ) -> AsyncIterator[Projector]:
        """A projector that has caught up; it ends then if it is not to continue."""
        projector = Projector(self.nc, self.settings, telemetry=telemetry)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(projector.run())
            await projector.ready.wait()
            if not goes_on:
                task.cancel()
            try:
                yield projector
            finally:
                task.cancel()


S = TypeVar("S", bound=Site)


@asynccontextmanager
async def opened(
    kind: Callable[[str, Client, Publisher, Settings], S],
    nats_url: str,
    *,
    name: str = "test",
    max_bytes: dict[str, int] | None = None,
    timeout_s: float | None = None,
    **settings: Any,
) -> AsyncIterator[S]:
    """Connect, lay out the streams, and make a site of a kind; the connection is closed at the end.

    What has been laid out once is not looked at again: a test that takes some of it away puts it back itself.

    Args:
        kind: the class.
        nats_url: that of the broker, which the test may kill.
        name: that of the connection.
        max_bytes: sizes of streams that differ from the declared ones.
        timeout_s: that of the publisher, if it differs from its default.
        settings: that differ from the defaults.
    """
    # Vigils are what tests/worker/test_vigil.py is about; elsewhere each would cost more than a gateway.
    found = Settings(**({"vigil": False, "request_timeout_s": PATIENT_S} | settings))
    nc = await connection.connect(nats_url, name=name, timeout_s=PATIENT_S)
    try:
        if max_bytes or nats_url not in LAID_OUT:
            await topology.apply(nc, max_bytes=max_bytes)
            LAID_OUT.add(nats_url)
        publisher = Publisher(nc, timeout_s=PATIENT_S if timeout_s is None else timeout_s)
        async with publisher:
            yield kind(nats_url, nc, publisher, found)
    finally:
        with contextlib.suppress(OSError):  # the broker may be gone
            await nc.close()
