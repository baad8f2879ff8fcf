"""What the claim loop says of the worker: in full once, then by its revision."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web

from switchyard.client import AsyncClient
from switchyard.handlers import Context
from switchyard.services.records.workers import DECLARATIONS
from switchyard.worker import Worker
from tests.gateway.rest import Gateway

DEADLINE_S = 90.0
CAPABILITIES = {"models": ["m" * 100] * 50}


class Recorder:
    """Passes requests on to a gateway, and keeps the bodies of claims.

    Args:
        target: URL of the gateway.
        knows_revisions: whether it answers as a gateway of this version, not as one of the version before.
    """

    def __init__(self, target: str, *, knows_revisions: bool = True) -> None:
        self._target = target
        self._knows_revisions = knows_revisions
        self.claims: list[dict[str, Any]] = []
        self.claimed = asyncio.Event()
        self.url = ""

    async def _pass_on(self, request: web.Request) -> web.Response:
        body = await request.read()
        if request.path == "/v1/leases":
            self.claims.append(orjson.loads(body))
            self.claimed.set()
            if "revision" in self.claims[-1] and not self._knows_revisions:
                problem = {"code": "invalid", "field": "revision", "detail": "there is no such field"}
                return web.json_response(problem, status=422)
        dropped = ("Host", "Content-Length")
        headers = {name: value for name, value in request.headers.items() if name not in dropped}
        async with aiohttp.ClientSession() as session:
            url = self._target + request.path_qs
            async with session.request(request.method, url, data=body, headers=headers) as answer:
                kept = {
                    name: value for name, value in answer.headers.items() if name.startswith("Switchyard")
                }
                if not self._knows_revisions:
                    kept.pop("Switchyard-Worker-Revision", None)
                raw = await answer.read()
                return web.Response(
                    body=raw, status=answer.status, headers=kept, content_type=answer.content_type
                )

    async def until_claims(self, number: int) -> None:
        """Return when so many claims have come."""
        async with asyncio.timeout(DEADLINE_S):
            while len(self.claims) < number:
                self.claimed.clear()
                await self.claimed.wait()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Recorder]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._pass_on)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()


@contextlib.asynccontextmanager
async def working(api: Gateway, recorder: Recorder, **options: Any) -> AsyncIterator[Worker]:
    """A worker that runs jobs of the tenant's kind."""
    values: dict[str, Any] = {
        "lease_s": 3.0,
        "poll_s": 0.5,
        "slots": 1,
        "capabilities": CAPABILITIES,
    } | options
    worker = Worker(url=recorder.url, token=api.token("worker"), **values)

    @worker.kind(api.tenant)
    async def run(payload: dict[str, Any], context: Context) -> dict[str, Any]:
        return payload

    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
        group.create_task(worker.serve())
        try:
            yield worker
        finally:
            worker.stop()


async def test_capabilities_are_sent_once_and_then_named(api: Gateway, client: AsyncClient) -> None:
    async with Recorder(api.url).running() as recorder, working(api, recorder):
        await recorder.until_claims(3)
        job = await client.submit(api.tenant, {"n": 1}, requires={"models": "m" * 100})
        assert await client.result(job.id) == {"n": 1}
    assert recorder.claims[0]["capabilities"] == CAPABILITIES
    assert all("capabilities" not in claim for claim in recorder.claims[1:])
    assert len({claim["revision"] for claim in recorder.claims[1:]}) == 1


async def test_capabilities_are_sent_again_when_their_revision_is_not_known_any_more(
    api: Gateway, client: AsyncClient
) -> None:
    async with Recorder(api.url).running() as recorder, working(api, recorder, name="again"):
        await recorder.until_claims(2)
        declared = {"id": f"rest.{api.tenant}.again", "revision": 1}  # cannot be read, and so is none
        async with asyncio.timeout(DEADLINE_S):
            while sum("capabilities" in claim for claim in recorder.claims) < 2:
                recorder.claimed.clear()
                # Each time: a renewal of the gateway may have written over it.
                entry = DECLARATIONS.subject(f"rest.{api.tenant}.again")
                await api.publisher.publish(entry, orjson.dumps(declared), {})
                await recorder.claimed.wait()
        job = await client.submit(api.tenant, {"n": 1}, requires={"models": "m" * 100})
        assert await client.result(job.id) == {"n": 1}


@pytest.mark.parametrize("slots", [1, 3])
async def test_a_gateway_of_the_version_before_is_sent_all_with_every_claim(
    api: Gateway, client: AsyncClient, slots: int
) -> None:
    recorder = Recorder(api.url, knows_revisions=False)
    async with recorder.running(), working(api, recorder, slots=slots):
        await recorder.until_claims(4)
        job = await client.submit(api.tenant, {"n": 1}, requires={"models": "m" * 100})
        assert await client.result(job.id) == {"n": 1}
    assert all("capabilities" in claim for claim in recorder.claims)


async def test_a_worker_moves_between_gateways_of_both_versions(api: Gateway, client: AsyncClient) -> None:
    recorder = Recorder(api.url)
    async with recorder.running(), working(api, recorder):
        await recorder.until_claims(2)
        recorder._knows_revisions = False
        job = await client.submit(api.tenant, {"n": 1}, requires={"models": "m" * 100})
        assert await client.result(job.id) == {"n": 1}
