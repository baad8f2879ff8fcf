"""What a worker over REST does within its limits as any other worker does: time, and the size of a result."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from switchyard.client import AsyncClient
from switchyard.handlers import Context, Proposal
from tests.gateway.rest import Gateway
from tests.switchyard.test_worker import made, until, working

LARGE = "x" * 2_000_000


async def test_an_attempt_that_takes_too_long_fails_as_a_timeout(api: Gateway, client: AsyncClient) -> None:
    worker = made(api, lease_s=30.0)  # no renewal would show it before the attempt's end
    stopped: list[str] = []

    @worker.kind(api.tenant)
    async def wait(_: dict[str, Any], context: Context) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append(context.job_id)

    async with working(worker):
        job = await client.submit(api.tenant, attempt_timeout_s=0.3, max_attempts=1)
        ended = await client.wait(job.id)
    assert ended.state == "dead"
    assert ended.error is not None
    assert (ended.error.code, stopped) == ("timeout", [job.id])


@pytest.mark.parametrize("saves", [False, True])
async def test_a_result_larger_than_a_request_is_stored(
    api: Gateway, client: AsyncClient, *, saves: bool
) -> None:
    worker = made(api)

    @worker.kind(api.tenant)
    async def large(_: dict[str, Any], context: Context) -> str:
        if saves:
            await context.save("result.json", b"{}")
        await context.save("other", b"other")
        return LARGE

    async with working(worker):
        job = await client.submit(api.tenant)
        assert await client.result(job.id) == LARGE
    names = [artifact["name"] for artifact in (await client.get(job.id)).artifacts]
    assert sorted(names) == ["other", "result.json"]


async def test_a_large_proposal_is_stored_too(api: Gateway, client: AsyncClient) -> None:
    worker = made(api)

    @worker.kind(api.tenant)
    async def large(_: dict[str, Any], __: Context) -> Proposal:
        return Proposal(LARGE, checks={"read": True})

    async with working(worker):
        job = await client.submit(api.tenant)
        await until(client, job.id, "review")
