"""API keys through the client."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from switchyard.client import AsyncClient, AuthenticationError, Client, ForbiddenError, NotFoundError
from tests.gateway.rest import Gateway


async def test_key_is_made_used_turned_and_taken_back(api: Gateway) -> None:
    async with AsyncClient(api.url, api.token("tenant-admin")) as admin:
        end = datetime.now(UTC) + timedelta(days=1)
        made = await admin.keys.create(
            "ci", ["submitter"], kinds=["noop"], expires_at=end, per_minute=600, burst=50, jobs_per_day=9
        )
        assert (made.name, made.roles, made.kinds) == ("ci", ["submitter"], ["noop"])
        assert (made.rate, made.spend) == ({"per_minute": 600, "burst": 50}, {"jobs_per_day": 9})
        assert made.expires_at is not None
        async with AsyncClient(api.url, made.key) as client:
            job = await client.submit("noop")
            assert job.key == made.id
            assert [event.key async for event in client.events(job.id)] == [made.id]
            with pytest.raises(ForbiddenError):
                await client.keys.list()
            turned = await admin.keys.rotate(made.id, overlap_s=0)
            with pytest.raises(AuthenticationError):
                await client.get(job.id)
        async with AsyncClient(api.url, turned.key) as client:
            found = [one.id async for one in client.list(key=made.id, min_seq=job.seq)]
            assert found == [job.id]
            (listed,) = await admin.keys.list()
            assert listed == await admin.keys.get(made.id)
            assert listed.last_used_at is not None
            await admin.keys.revoke(made.id)
            with pytest.raises(AuthenticationError):
                await client.get(job.id)
        with pytest.raises(NotFoundError):
            await admin.keys.get(made.id)


async def test_plain_client_has_the_same(api: Gateway) -> None:
    token = api.token("admin")

    def use() -> None:
        with Client(api.url, token) as admin:
            made = admin.keys.create("ci", ["viewer"], tenant=api.stranger)
            assert made.tenant == api.stranger
            assert admin.keys.list() == []
            assert [key.id for key in admin.keys.list(tenant=api.stranger)] == [made.id]
            assert admin.keys.rotate(made.id, tenant=api.stranger).key != made.key
            assert admin.keys.get(made.id, tenant=api.stranger).rotated_at is not None
            admin.keys.revoke(made.id, tenant=api.stranger)
            assert admin.keys.list(tenant="*") is not None

    await asyncio.to_thread(use)
