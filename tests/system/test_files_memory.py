from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import psutil
import pytest

from switchyard.services.broker.server.server import start_broker
from tests.sizes import sizes

MIB = 1024 * 1024
MAX_GROWTH_BYTES = 150 * MIB
SAMPLE_S = 0.1
STALLED_CLIENTS = 8
DEADLINE_S = 240.0

SIZES = sizes(320 * MIB, 1024 * MIB, timeout_s=300)  # the small one is more than twice the growth

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


def block(number: int) -> bytes:
    """A mebibyte that differs from its neighbours."""
    return hashlib.sha256(number.to_bytes(8, "big")).digest() * (MIB // 32)


@dataclass
class Body:
    """What is large, made while it is sent."""

    size_bytes: int
    digest: Any = field(default_factory=hashlib.sha256)

    async def __call__(self) -> AsyncIterator[bytes]:
        for number in range(self.size_bytes // MIB):
            piece = block(number)
            self.digest.update(piece)
            yield piece


@dataclass
class ResidentMemory:
    """Samples a process's resident memory while the block runs."""

    pid: int
    first: int = 0
    most: int = 0

    async def __aenter__(self) -> Self:
        self._process = psutil.Process(self.pid)
        self.first = self.most = self._process.memory_info().rss
        self._task = asyncio.get_running_loop().create_task(self._sample())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _sample(self) -> None:
        while True:
            self.most = max(self.most, self._process.memory_info().rss)
            await asyncio.sleep(SAMPLE_S)


@dataclass
class Gateway:
    pid: int
    url: str
    headers: dict[str, str]
    broker_url: str


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    broker = await start_broker(tmp_path / "broker")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.system.gateway_process", broker.url, str(tmp_path / "data"),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            line = b""
            while not line.startswith(b"{"):  # what it logs before is not for us
                line = await process.stdout.readline()
                assert line, "the gateway ended"
            announced = json.loads(line)
        bearer = {"Authorization": f"Bearer {announced['token']}"}
        yield Gateway(process.pid, announced["url"], bearer, broker.url)
    finally:
        process.kill()
        await process.communicate()
        await broker.stop()
        shutil.rmtree(tmp_path / "broker")  # files that pytest would keep


@pytest.mark.parametrize("size_bytes", SIZES)
async def test_memory_stays_flat_while_a_large_file_goes_up_and_comes_down(
    gateway: Gateway, size_bytes: int
) -> None:
    body = Body(size_bytes)
    async with (
        asyncio.timeout(DEADLINE_S),
        aiohttp.ClientSession(gateway.url, headers=gateway.headers) as http,
    ):
        (await http.get("/v1/files")).raise_for_status()  # all is loaded and warm
        async with ResidentMemory(gateway.pid) as memory:
            async with http.post("/v1/files?name=big.bin", data=body(), timeout=None) as response:
                assert response.status == 201, await response.text()
                view = await response.json()
            assert view["size_bytes"] == size_bytes
            assert view["sha256"] == body.digest.hexdigest()
            stalled = [await stalled_reader(gateway, view["id"]) for _ in range(STALLED_CLIENTS)]
            digest = hashlib.sha256()
            async with http.get(f"/v1/files/{view['id']}", timeout=None) as response:
                assert response.status == 200
                async for piece in response.content.iter_any():
                    digest.update(piece)
            assert digest.hexdigest() == view["sha256"]
            for writer in stalled:
                writer.transport.abort()
    found = f"{memory.first / MIB:.0f} MiB before, {memory.most / MIB:.0f} MiB at most"
    assert memory.most - memory.first < MAX_GROWTH_BYTES, found


async def stalled_reader(gateway: Gateway, file_id: str) -> asyncio.StreamWriter:
    """A client that asks for the file, reads its head, and then no more than its small buffer holds."""
    host, port = gateway.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=4096)
    token = f"Authorization: {gateway.headers['Authorization']}"
    writer.write(f"GET /v1/files/{file_id} HTTP/1.1\r\nHost: x\r\n{token}\r\n\r\n".encode())
    assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
    return writer
