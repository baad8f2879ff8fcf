"""A gateway, a keeper and workers for tests of batches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson

from switchyard.projections.database import path_in
from switchyard.projections.reader import ReadModel
from switchyard.services.broker import connection
from switchyard.services.keeper.loop import Keeper
from tests.gateway.rest import Gateway, gateway

DEADLINE_S = 60.0
ENDED = {"completed", "failed", "cancelled", "expired"}


def jsonl(*lines: Any) -> bytes:
    """Lines of JSON; bytes stand as they are."""
    return b"".join((one if isinstance(one, bytes) else orjson.dumps(one)) + b"\n" for one in lines)


def double(number: int, **fields: Any) -> dict[str, Any]:
    """A line whose job succeeds with its number."""
    return {"custom_id": f"c{number}", "kind": "double", "payload": {"n": number}, **fields}


class Batches:
    """What tests do with batches of one gateway."""

    def __init__(self, api: Gateway) -> None:
        self.api = api

    async def upload(self, body: bytes, **options: Any) -> str:
        """Store a file; its id."""
        answer = await self.api.call(
            "POST", "/v1/files?name=in.jsonl", body, Content_Type="application/jsonl", **options
        )
        assert answer.status == 201, answer
        return str(answer.json["id"])

    async def make(self, body: bytes, **fields: Any) -> dict[str, Any]:
        """A batch of a file with these bytes."""
        answer = await self.api.call("POST", "/v1/batches", {"input": await self.upload(body), **fields})
        assert answer.status == 201, answer
        made: dict[str, Any] = answer.json
        return made

    async def get(self, batch: str) -> dict[str, Any]:
        """The batch as it is now."""
        answer = await self.api.get(f"/v1/batches/{batch}")
        assert answer.status == 200, answer
        found: dict[str, Any] = answer.json
        return found

    async def until(self, batch: str, *states: str) -> dict[str, Any]:
        """The batch, once it is in one of the states; any in which it has ended if none is named."""
        wanted = set(states) or ENDED
        async with asyncio.timeout(DEADLINE_S):
            async for found in self.seen(batch):
                if found["state"] in wanted:
                    return found
                assert found["state"] not in ENDED, found
        raise AssertionError

    async def seen(self, batch: str) -> AsyncIterator[dict[str, Any]]:
        """The batch, again and again."""
        while True:
            yield await self.get(batch)
            await asyncio.sleep(0.05)

    async def files(self) -> list[str]:
        """The ids of what batches have stored, as the read model has it by now."""
        files = (await self.api.get("/v1/files")).json["files"]
        return [one["id"] for one in files if one["id"].startswith("batch.")]

    async def lines(self, batch: str, which: str) -> list[dict[str, Any]]:
        """The lines of an output."""
        answer = await self.api.get(f"/v1/batches/{batch}/{which}")
        assert answer.status == 200, answer
        return [orjson.loads(line) for line in answer.raw.splitlines()]

    async def outputs(self, batch: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The lines of both outputs."""
        return await self.lines(batch, "results"), await self.lines(batch, "errors")


@asynccontextmanager
async def keeper(api: Gateway) -> AsyncIterator[Keeper]:
    """A keeper with a connection of its own, which dies with the block."""
    nc = await connection.connect(api.nats_url, name="keeper")
    model = ReadModel(path_in(api.settings.data_dir))
    running = Keeper(nc, api.settings, model)
    task = asyncio.create_task(running.run())
    try:
        yield running
    finally:
        task.cancel()
        await asyncio.wait([task])
        await nc.close()


@asynccontextmanager
async def batches(url: str, data_dir: Path, **settings: Any) -> AsyncIterator[Batches]:
    """A gateway whose leases are short."""
    values = {"lease_s": 2.0, "cancel_grace_s": 1.0, "drain_grace_s": 0.2, "vigil": False} | settings
    async with gateway(url, data_dir, **values) as api:
        yield Batches(api)
