"""Gateways are killed while workers of emp-redis have their jobs: no result is lost, no job runs twice."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.gateway.emp.site import TOKEN, Line
from tests.ports import free_port
from tests.system.deployment import Deployment

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

WORKERS = 5
QUIET_S = 60.0
CARD: dict[str, Any] = {"supported_job_types": ["simulation"], "version": "1.0.0"}


@contextlib.asynccontextmanager
async def connected(site: Deployment, id_: str, status: str = "idle") -> AsyncIterator[Line]:
    """A worker that has registered."""
    url = f"{site.url}/ws/worker/{id_}"
    async with site.session.ws_connect(url, params={"token": TOKEN}, max_msg_size=2**20) as socket:
        line = Line(socket)
        await line.send("register_worker", worker_id=id_, capabilities=CARD, status=status)
        yield line


async def takes(worker: Line) -> str:
    """Claim what comes, and be given it; its id."""
    offered = await worker.until("job_available")
    await worker.send("claim_job", job_id=offered["job_id"], claim_timeout=30)
    assigned = await worker.until("job_assigned")
    return str(assigned["job_id"])


async def test_results_outlive_a_gateway_that_is_killed(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"emp_token": TOKEN, "emp_tenant": "acme", "emp_lease_s": 60}
    async with Deployment(tmp_path, **settings) as site, contextlib.AsyncExitStack() as first:
        await site.start("projector", "projector")
        await site.start_gateway("gateway", free_port())
        await site.start("keeper", "keeper")
        status, body = await site.request("PUT", "/v1/limits/all", json={"concurrency": WORKERS})
        assert status in (200, 201), body
        jobs = [await site.submit(kind="simulation") for _ in range(2 * WORKERS)]
        workers = {
            f"w{number}": await first.enter_async_context(connected(site, f"w{number}"))
            for number in range(WORKERS)
        }
        held = {id_: await takes(worker) for id_, worker in workers.items()}
        assert len(set(held.values())) == WORKERS

        await site.parts["gateway"].kill()
        with contextlib.suppress(aiohttp.ClientError, AssertionError):
            await first.aclose()
        await site.start_gateway("gateway2", free_port())

        async with contextlib.AsyncExitStack() as second:
            for id_, job in held.items():
                worker = await second.enter_async_context(connected(site, id_, "busy"))
                await worker.send("complete_job", worker_id=id_, job_id=job, result={"by": id_})
                await worker.until("job_completed_ack", job_id=job)
                await worker.send("worker_heartbeat", status="idle")
                rest = await takes(worker)  # its place under the limit is free again
                await worker.send("complete_job", worker_id=id_, job_id=rest, result={"by": id_})
                await worker.until("job_completed_ack", job_id=rest)
        async with asyncio.timeout(QUIET_S):
            for job in jobs:
                status, body = await site.request("GET", f"/v1/jobs/{job}", params={"wait": "20"})
                assert (body["state"], body["attempt"]) == ("succeeded", 1), body
