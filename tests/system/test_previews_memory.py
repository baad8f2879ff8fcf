"""A gateway's memory does not grow with the readers of previews, whether they read or not."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import orjson
import pytest
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.encoding.preview import PREVIEW_BYTES, Preview, parts_of
from switchyard.services.access.jwt import load_or_create_secrets, mint
from switchyard.services.broker.connection import connect
from switchyard.services.dispatch.previews import packed
from tests.images import padded
from tests.sizes import sizes
from tests.system.test_files_memory import MIB, Gateway, ResidentMemory, gateway

__all__ = ["gateway"]
READERS = 50
MAX_GROWTH_BYTES = 50 * MIB
DEADLINE_S = 240.0
PACE_S = 0.25

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


class Size(NamedTuple):
    """How many jobs show something, and how often."""

    jobs: int
    rounds: int


SIZES = sizes(Size(4, 20), Size(20, 240), timeout_s=900)


class Watching:
    """A reader, and what it has seen."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, jobs: list[str]) -> None:
        self.socket = socket
        self.seen = 0
        self.events = 0
        self.last = dict.fromkeys(jobs, -1)

    async def read(self) -> None:
        """Read until every job's last preview, and its end, are here."""
        async for frame in self.socket:
            if frame.type is aiohttp.WSMsgType.BINARY:
                header, image = parts_of(frame.data)
                job_id = orjson.loads(header)["job_id"]
                mark = int.from_bytes(image[41:45], "big")
                assert mark > self.last[job_id]
                self.last[job_id] = mark
                self.seen += 1
            elif orjson.loads(frame.data)["type"] == "event":
                self.events += 1
                if self.events == len(self.last):
                    return


@pytest.mark.drill
@pytest.mark.parametrize("size", SIZES)
async def test_memory_stays_flat_with_fifty_readers_of_whom_one_does_not_read(
    gateway: Gateway, tmp_path: Path, size: Size
) -> None:
    secret = load_or_create_secrets(tmp_path / "data")[0]
    token = mint(secret, tenant="acme", roles=("submitter", "worker"), ttl_s=3600, subject="ann")
    headers = {"Authorization": f"Bearer {token}"}
    nc = await connect(gateway.broker_url, name="worker")
    limits = aiohttp.TCPConnector(limit=0)
    async with (
        asyncio.timeout(DEADLINE_S if size.jobs < 10 else 800),
        aiohttp.ClientSession(gateway.url, headers=headers, connector=limits) as http,
        contextlib.AsyncExitStack() as stack,
    ):
        claims = [await _claimed(http) for _ in range(size.jobs)]
        jobs = [claimed["job"]["id"] for claimed in claims]
        readers = []
        for _ in range(READERS):
            socket = await stack.enter_async_context(http.ws_connect("/v1/ws", max_msg_size=0))
            await socket.receive_json()
            await socket.send_json(
                {"type": "subscribe", "id": "s", "jobs": jobs, "previews": True, "progress": False}
            )
            while (await socket.receive_json())["type"] != "caught_up":
                pass
            readers.append(Watching(socket, jobs))
        asleep = readers.pop()
        connection = asleep.socket._conn
        assert connection is not None
        assert connection.transport is not None
        connection.transport.pause_reading()
        async with ResidentMemory(gateway.pid) as memory, asyncio.TaskGroup() as tasks:
            for reader in readers:
                tasks.create_task(reader.read())
            for mark in range(size.rounds):
                for claimed in claims:
                    await _show(nc, claimed, mark)
                await asyncio.sleep(PACE_S)
            for claimed in claims:
                await _end(http, claimed)
    await nc.close()
    seen = sum(reader.seen for reader in readers)
    grown = memory.most - memory.first
    print(  # noqa: T201 - the figures of a drill
        f"{READERS} readers of {size.jobs} jobs: {seen} previews of {PREVIEW_BYTES // 1024} KiB read, "
        f"{memory.first / MIB:.0f} MB before and {memory.most / MIB:.0f} at most"
    )
    assert seen >= len(readers) * size.jobs
    assert grown < MAX_GROWTH_BYTES, f"grew by {grown / MIB:.0f} MB"


async def _claimed(http: aiohttp.ClientSession) -> dict[str, Any]:
    async with http.post("/v1/jobs", json={"kind": "shown"}) as answer:
        answer.raise_for_status()
    body = {"worker": "w", "kinds": ["shown"], "lease_s": 600, "slots": 100, "wait_s": 10}
    async with http.post("/v1/leases", json=body) as answer:
        assert answer.status == 201
        claimed: dict[str, Any] = await answer.json()
        return claimed


async def _show(nc: Client, claimed: dict[str, Any], mark: int) -> None:
    stamp = {"fence": claimed["lease"]["fence"], "attempt": 1, "tenant": "acme", "kind": "shown"}
    preview = Preview(padded(PREVIEW_BYTES, mark), "image/png")
    await nc.publish(subjects.preview(claimed["job"]["id"]), packed(preview, stamp))


async def _end(http: aiohttp.ClientSession, claimed: dict[str, Any]) -> None:
    lease = claimed["lease"]
    said = {"Switchyard-Lease-Token": lease["token"]}
    async with http.post(f"/v1/leases/{lease['id']}/succeed", json={}, headers=said) as answer:
        answer.raise_for_status()
