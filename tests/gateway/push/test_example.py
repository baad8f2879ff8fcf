"""`examples/prediction_server.py` does what its first lines promise."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from switchyard.services.outbound.addresses import PRIVATE
from tests.broker.shared import SharedBroker
from tests.gateway.push.task_server import TaskServer
from tests.gateway.push.test_pushing import DEADLINE_S, forget, job_of, pushers, register, submit
from tests.gateway.rest import Gateway, gateway
from tests.ports import free_port

EXAMPLE = Path(__file__).parents[3] / "examples" / "prediction_server.py"


@pytest.fixture
async def api(shared_broker: SharedBroker, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway(shared_broker.url, tmp_path, server_networks=PRIVATE) as running:
        yield running
        await forget(running)


@asynccontextmanager
async def example() -> AsyncIterator[TaskServer]:
    """The program; what is registered of it."""
    named = TaskServer("here", port=free_port())
    process = await asyncio.create_subprocess_exec(sys.executable, EXAMPLE, str(named.port))
    try:
        async with aiohttp.ClientSession() as http, asyncio.timeout(DEADLINE_S):
            while True:
                try:
                    async with http.get(f"{named.url}/health") as answer:
                        assert answer.status == 200
                        break
                except aiohttp.ClientError:
                    await asyncio.sleep(0.05)
        yield named
    finally:
        process.kill()
        await process.wait()


async def test_the_example_answers_calls_back_refuses_and_stops(api: Gateway) -> None:
    async with example() as server, pushers(api):
        await register(api, server, slots=2)
        at_once = await submit(api, payload={"width": 100, "height": 50})
        later = await submit(api, payload={"width": 1, "height": 2, "seconds": 0.4})
        wrong = await submit(api, payload={"height": 2})
        endless = await submit(api, payload={"width": 1, "height": 2, "seconds": 600})
        for job, width in ((at_once, 200), (later, 2)):
            assert (await api.final(job)).name == "succeeded"
            result = (await job_of(api, job))["result"]
            assert (result["data"]["width"], result["metadata"]["status"]) == (width, "FINISHED")
        assert (await api.final(wrong)).name == "dead"
        assert (await job_of(api, wrong))["error"]["code"] == "server_refused"
        await api.until(endless, "claim_renewed")
        await api.call("POST", f"/v1/jobs/{endless}/cancel")
        assert (await api.final(endless)).name == "cancelled"
        async with aiohttp.ClientSession() as http, asyncio.timeout(DEADLINE_S):
            while True:
                async with http.get(f"{server.url}/health") as answer:
                    if not (await answer.json())["running"]:
                        break
                await asyncio.sleep(0.05)
