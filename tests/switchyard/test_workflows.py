"""Workflows through the client."""

from __future__ import annotations

import asyncio

import pytest

from switchyard.client import AsyncClient, Client, InvalidError, NotFoundError
from tests.gateway.rest import Gateway
from tests.gateway.test_workflows import PLAIN, TEXT_TO_IMAGE


async def test_workflow_is_put_read_submitted_and_deleted(api: Gateway) -> None:
    async with AsyncClient(api.url, api.token()) as client:
        made = await client.workflows.put("t2i", **TEXT_TO_IMAGE)
        assert (made.version, made.kind, made.schema["required"]) == (1, "comfyui", ["prompt"])
        assert await client.workflows.get("t2i@1") == made
        job = await client.workflows.submit("t2i", {"prompt": "x"}, priority=9)
        assert (job.workflow, job.priority, job.inputs["prompt"]) == ("t2i@1", 9, "x")
        again = await client.again(job.id)
        assert (again.inputs, again.id == job.id) == (job.inputs, False)
        batch = await client.workflows.submit_several("t2i", {"prompt": "x", "seed": 3}, count=2)
        assert [one.inputs["seed"] for one in batch.jobs] == [3, 4]
        with pytest.raises(InvalidError, match=r"inputs\.prompt"):
            await client.workflows.submit("t2i")
        assert [entry.name for entry in await client.workflows.list()] == ["t2i"]
        assert await client.workflows.versions("t2i") == [1]
        await client.workflows.delete("t2i")
        with pytest.raises(NotFoundError):
            await client.workflows.get("t2i")


async def test_plain_client_has_the_same(api: Gateway) -> None:
    def use() -> None:
        with Client(api.url, api.token()) as client:
            assert client.workflows.put("w", **PLAIN).version == 1
            job = client.workflows.submit("w", {"text": "ho"})
            assert client.again(job.id).inputs == {"text": "ho"}
            assert client.workflows.submit_several("w").workflow == "w@1"
            assert [entry.name for entry in client.workflows.list()] == ["w"]
            assert client.workflows.versions("w") == [1]
            assert client.workflows.get("w").payload == PLAIN["payload"]
            client.workflows.delete("w")
            assert client.workflows.list() == []

    await asyncio.to_thread(use)
