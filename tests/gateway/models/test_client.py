"""The catalogue through both clients."""

from __future__ import annotations

import asyncio

import pytest

from switchyard.client import AsyncClient, Client
from switchyard.errors import ForbiddenError, InvalidError, NotFoundError
from tests.gateway.rest import Gateway


async def test_models_are_entered_read_listed_and_removed(api: Gateway) -> None:
    name = f"{api.tenant}/x y.safetensors"
    async with AsyncClient(api.url, api.token("admin")) as client:
        made = await client.models.put(
            "loras", name, url="http://192.0.1.1/x", sha256="0" * 64, size_bytes=7, bearer="b"
        )
        assert (made.name, made.url, made.credentials) == (name, "http://192.0.1.1/x", ["Authorization"])
        assert await client.models.get("loras", name) == made
        assert made in await client.models.list()
        async with AsyncClient(api.url, api.token("submitter")) as other:
            seen = await other.models.get("loras", name)
            assert (seen.size_bytes, seen.url) == (7, None)
            with pytest.raises(ForbiddenError):
                await other.models.delete("loras", name)
        await client.models.delete("loras", name)
        with pytest.raises(NotFoundError):
            await client.models.get("loras", name)
        with pytest.raises(InvalidError):
            await client.models.put("loras", "../x", url="http://h/", sha256="0" * 64, size_bytes=7)


async def test_the_client_without_asyncio_does_the_same(api: Gateway) -> None:
    name = f"{api.tenant}/x.safetensors"

    def use() -> None:
        with Client(api.url, api.token("admin")) as client:
            made = client.models.put("vae", name, url="http://192.0.1.1/x", sha256="0" * 64, size_bytes=7)
            assert client.models.get("vae", name) == made
            assert made in client.models.list()
            client.models.delete("vae", name)

    await asyncio.to_thread(use)
