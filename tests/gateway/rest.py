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

from switchyard.services.broker.jetstream import api
from switchyard.services.broker.publisher import Publisher
from switchyard.services.gateway.app import serve
from switchyard.services.records.servers.store import Servers
from switchyard.services.settings import Settings
from switchyard.services.telemetry.part import Telemetry
from tests import site

DEADLINE_S = 60.0


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


class Gateway(site.Site):
    """The client side, with a tenant of its own."""

    def __init__(self, nats_url: str, nc: Client, publisher: Publisher, settings: Settings) -> None:
        super().__init__(nats_url, nc, publisher, settings)
        self.url = ""
        self.tenant = f"t-{secrets.token_hex(6)}"
        self.stranger = f"{self.tenant}-x"
        self.http: aiohttp.ClientSession

    def token(self, *roles: str, tenant: str | None = None, ttl_s: float = 600) -> str:
        return self.minted(
            tenant=tenant or self.tenant, roles=roles or ("submitter",), ttl_s=ttl_s, subject="ann"
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

    async def caught_up(self) -> None:
        """Wait until the read model has what is in the log by now."""
        log = await api(self.nc, "STREAM.INFO.JOBS", timeout_s=DEADLINE_S)
        answer = await self.get("/v1/jobs?limit=1", Switchyard_Min_Seq=str(log["state"]["last_seq"]))
        assert answer.status == 200, answer

    def registry(self) -> Servers:
        """The registry of prediction servers, for states that checks would find."""
        return Servers(self.nc, self.publisher, self.settings)

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
        broker_url: that of the broker.
        data_dir: for secret and read model.
        max_bytes: sizes of streams that differ from the declared ones.
        projector: whether the read model is kept current.
        limits: settings that differ from the defaults.
    """
    values: dict[str, Any] = {"data_dir": data_dir, "port": 0, "request_timeout_s": 10.0, "ilios": True}
    values |= {"request_log": False, **limits}
    async with site.opened(Gateway, broker_url, name="gateway", max_bytes=max_bytes, **values) as found:
        telemetry = Telemetry("up", names=found.settings.metrics_names)
        async with found.projector(goes_on=projector, telemetry=telemetry), asyncio.TaskGroup() as tasks:
            ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            serving = tasks.create_task(
                serve(found.settings, found.nc, ready=ready.set_result, telemetry=telemetry)
            )
            async with asyncio.timeout(DEADLINE_S):
                found.url = await ready
            async with aiohttp.ClientSession() as found.http:
                yield found
            serving.cancel()
