"""What people see of servers that are given nothing, and why; and how much the others have."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from switchyard.services.outbound.addresses import PRIVATE
from tests.broker.shared import SharedBroker
from tests.gateway.push.task_server import TaskServer, says, silent
from tests.gateway.push.test_pushing import DEADLINE_S, forget, pushers, register, submit, when
from tests.gateway.rest import Gateway, gateway


@pytest.fixture
async def api(shared_broker: SharedBroker, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway(shared_broker.url, tmp_path, server_networks=PRIVATE) as running:
        yield running
        await forget(running)


async def explained(api: Gateway, job: str, word: str) -> dict[str, Any]:
    """The explanation of a job once it names a server with this verdict."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            found: dict[str, Any] = (await api.get(f"/v1/jobs/{job}/explain")).json
            if any(one["verdict"] == word for one in found.get("workers", ())):  # none while it runs
                return found
            await asyncio.sleep(0.1)


async def shown(api: Gateway, name: str) -> dict[str, Any]:
    answer = await api.get(f"/v1/servers/{name}", token=api.token("viewer"))
    found: dict[str, Any] = answer.json
    return found


async def test_why_a_job_does_not_go_to_a_server_is_said(api: Gateway) -> None:
    async with TaskServer("s1", says(503, Retry_After="200")) as server, pushers(api):
        job = await submit(api)
        await register(api, server, maintenance=True)
        found = await explained(api, job, "maintenance")
        assert found["reason"] == "no_worker_fits"
        assert f"server.{api.tenant}.s1: it fits, but is in maintenance" in found["summary"]
        await register(api, server, maintenance=False)
        found = await explained(api, job, "resting")
        assert "resting until 20" in found["summary"]
        assert (await shown(api, "s1"))["held_for"] == "resting"
        await register(api, server, enabled=False)
        await explained(api, job, "disabled")
        other = await submit(api, requires={"vram_gb": {"$gte": 24}})
        await explained(api, other, "does_not_fit")


async def test_a_server_that_is_gone_and_one_that_fails_are_distinguished(api: Gateway) -> None:
    async with pushers(api):
        async with TaskServer("s1", says(500, b"broken")) as server:
            await register(api, server)
            job = await submit(api, max_attempts=10, retry={"base_s": 0.1, "max_s": 0.1})
            await when(lambda: server.took.total() >= 3, "three pushes")
            async with asyncio.timeout(DEADLINE_S):
                while not any(one["push"] for one in (await shown(api, "s1"))["recent"]):
                    await asyncio.sleep(0.1)
            waiting = await submit(api)
            found = await explained(api, waiting, "breaker_open")
            assert "breaker open until" in found["summary"]
        found = await explained(api, waiting, "offline")
        assert "nobody listens at its address" in found["summary"]
        assert (await api.get(f"/v1/jobs/{job}")).json["worker"] == f"server.{api.tenant}.s1"


async def test_the_load_of_a_server_is_shown(api: Gateway) -> None:
    async with TaskServer("s1", silent) as server, pushers(api):
        await register(api, server, slots=3)
        for _ in range(2):
            await submit(api)
        await when(lambda: len(server.asked) == 2, "two pushes")
        assert (await shown(api, "s1"))["running"] == 2
        await submit(api)
        waiting = await submit(api)
        found = await explained(api, waiting, "busy")
        assert found["reason"] == "busy"
