"""Erasures through the client."""

from __future__ import annotations

import asyncio

import pytest

from switchyard.client import AsyncClient, Client, NotFoundError
from tests.gateway.jobs.test_erasing import ended, submit
from tests.gateway.rest import Gateway


async def test_jobs_are_erased_and_their_certificates_read(api: Gateway) -> None:
    jobs = [await ended(api) for _ in range(3)]
    runs = await submit(api)
    async with AsyncClient(api.url, api.token()) as client:
        would = await client.erasures.erase(jobs=jobs, dry_run=True)
        assert (sorted(would.erased), would.skipped) == (sorted(jobs), 0)
        assert await client.erasures.list() == []
        done = await client.erasures.erase(jobs=[*jobs, runs], reason="asked")
        assert sorted(done.erased) == sorted(jobs)
        assert [(one.id, one.code) for one in done.refused] == [(runs, "illegal_transition")]
        assert sorted(one.job for one in await client.erasures.list()) == sorted(jobs)
        assert (await client.erasures.get(jobs[0])).reason == "asked"
        with pytest.raises(NotFoundError):
            await client.erasures.get(runs)

    def use() -> None:
        with Client(api.url, api.token()) as client:
            assert client.erasures.erase(jobs=jobs).skipped == 3
            assert client.erasures.erase(label={"no": "such"}).erased == ()
            assert len(client.erasures.list()) == 3
            assert client.erasures.get(jobs[1]).erased_at is not None

    await asyncio.to_thread(use)
