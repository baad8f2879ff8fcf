"""A whole gateway with its projector on a real broker, and a client that speaks to it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import orjson
from nats.aio.client import Client

from switchyard.events.commands import Complete, Fail, TakeLease
from switchyard.events.job import Job
from switchyard.events.values import JobError
from switchyard.services.access.jwt import load_or_create_secrets, mint
from switchyard.services.broker import topology
from switchyard.services.broker.connection import connect
from switchyard.services.broker.publisher import Publisher
from switchyard.services.event_store import EventStore
from switchyard.services.gateway.app import serve
from switchyard.services.projector.projector import Projector
from switchyard.services.settings import Settings
from switchyard.services.telemetry.part import Telemetry

DEADLINE_S = 20.0


def now() -> datetime:
    return datetime.now(UTC)


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: Any
    raw: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.raw)


class Gateway:
    """The client side, and the hands of a worker."""

    def __init__(
        self, url: str, settings: Settings, nc: Client, store: EventStore, publisher: Publisher
    ) -> None:
        self.url = url
        self.settings = settings
        self.nc = nc
        self.store = store
        self.publisher = publisher
        self.tenant = f"t-{secrets.token_hex(6)}"
        self.stranger = f"{self.tenant}-x"
        self.http: aiohttp.ClientSession

    def token(self, *roles: str, tenant: str | None = None, ttl_s: float = 600) -> str:
        secret = load_or_create_secrets(self.settings.data_dir)[0]
        return mint(
            secret, tenant=tenant or self.tenant, roles=roles or ("submitter",), ttl_s=ttl_s, subject="ann"
        )

    async def call(
        self, method: str, path: str, body: Any = None, *, token: str | None = None, **headers: str
    ) -> Answer:
        """A request with a submitter's token; a body that is not bytes is sent as JSON."""
        data = body if isinstance(body, bytes | None) else orjson.dumps(body)
        sent = {"Authorization": f"Bearer {token or self.token()}"}
        if data is not None:
            sent["Content-Type"] = "application/json"
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        async with asyncio.timeout(DEADLINE_S):
            async with self.http.request(
                method, self.url + path, data=data and io.BytesIO(data), headers=sent, allow_redirects=False
            ) as response:
                return Answer(response.status, response.headers, await response.read())

    async def get(self, path: str, **options: Any) -> Answer:
        return await self.call("GET", path, **options)

    async def submit(self, **fields: Any) -> dict[str, Any]:
        """A job of a kind that nobody runs."""
        answer = await self.call("POST", "/v1/jobs", {"kind": "noop", **fields})
        assert answer.status == 201, answer
        job: dict[str, Any] = answer.json
        return job

    async def bulk(self, *lines: Any, **options: Any) -> list[dict[str, Any]]:
        body = b"".join((line if isinstance(line, bytes) else orjson.dumps(line)) + b"\n" for line in lines)
        answer = await self.call(
            "POST", "/v1/jobs/bulk", body, Content_Type="application/x-ndjson", **options
        )
        assert answer.status == 200, answer
        return [orjson.loads(line) for line in answer.raw.splitlines()]

    # --- What a worker does

    async def lease(self, job_id: str) -> Job:
        command = TakeLease(now=now(), worker="w1", revision=1)
        return (await self.store.transition(job_id, command, actor="worker:w1")).job

    async def complete(self, job: Job, result: Any = None, **fields: Any) -> Job:
        assert job.lease is not None
        command = Complete(now=now(), fence=job.lease.fence, result=result, **fields)
        return (await self.store.transition(job, command, actor="worker:w1")).job

    async def fail(self, job: Job, code: str, *, retryable: bool) -> Job:
        assert job.lease is not None
        command = Fail(now=now(), fence=job.lease.fence, error=JobError(code, "it broke", retryable))
        return (await self.store.transition(job, command, actor="worker:w1")).job


@contextlib.asynccontextmanager
async def gateway(
    broker_url: str,
    data_dir: Path,
    *,
    projector: bool = True,
    max_bytes: dict[str, int] | None = None,
    **limits: Any,
) -> AsyncIterator[Gateway]:
    """Run one until the block ends.

    Args:
        broker_url: of the broker.
        data_dir: for secret and read model.
        max_bytes: sizes of streams that differ from the declared ones.
        projector: whether the read model is kept current.
        limits: settings that differ from the defaults.
    """
    settings = Settings(data_dir=data_dir, port=0, **{"request_timeout_s": 3.0, **limits})
    nc = await connect(broker_url, name="gateway")
    await topology.apply(nc, max_bytes=max_bytes)
    async with Publisher(nc) as publisher, asyncio.TaskGroup() as tasks:
        ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        telemetry = Telemetry("up", names=settings.metrics_names)
        project = Projector(nc, settings, telemetry=telemetry)
        projecting = tasks.create_task(project.run())
        await project.ready.wait()
        if not projector:
            projecting.cancel()
        serving = tasks.create_task(serve(settings, nc, ready=ready.set_result, telemetry=telemetry))
        async with asyncio.timeout(DEADLINE_S):
            found = Gateway(await ready, settings, nc, EventStore(nc, publisher, settings), publisher)
        async with aiohttp.ClientSession() as found.http:
            yield found
        serving.cancel()
        projecting.cancel()
    with contextlib.suppress(OSError):  # the test may have killed the broker
        await nc.close()
