"""An upload goes on at another gateway when the one that took it is killed."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from switchyard.services.broker.server.server import start_broker
from tests.gateway.uploads.tus import Tus

MIB = 1024 * 1024
BLOCKS = 80
DEADLINE_S = 240.0

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


def block(number: int) -> bytes:
    """A mebibyte that differs from its neighbours."""
    return hashlib.sha256(number.to_bytes(8, "big")).digest() * (MIB // 32)


@contextlib.asynccontextmanager
async def process(
    nats_url: str, data_dir: Path
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str, str]]:
    """A gateway of its own, its address, and a token."""
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.system.gateway_process", nats_url, str(data_dir),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert running.stdout is not None
        async with asyncio.timeout(DEADLINE_S):
            while not (line := await running.stdout.readline()).startswith(b'{"url"'):
                assert line, "the gateway ended"
        facts = json.loads(line)
        yield running, facts["url"], facts["token"]
    finally:
        with contextlib.suppress(ProcessLookupError):
            running.kill()
        await running.wait()


@contextlib.asynccontextmanager
async def brokered(data_dir: Path) -> AsyncIterator[str]:
    broker = await start_broker(data_dir)
    try:
        yield broker.url
    finally:
        await broker.stop()
        shutil.rmtree(data_dir)


async def test_an_upload_goes_on_at_another_gateway_when_its_own_is_killed(tmp_path: Path) -> None:
    digest = hashlib.sha256()
    for number in range(BLOCKS):
        digest.update(block(number))
    async with brokered(tmp_path / "broker") as nats_url, aiohttp.ClientSession() as http:
        async with process(nats_url, tmp_path / "a") as (first, url, token):
            tus = Tus(http, url, token)
            place = await tus.create(BLOCKS * MIB)

            async def until_killed() -> AsyncIterator[bytes]:
                for number in range(BLOCKS):
                    if number == BLOCKS // 2:
                        async with asyncio.timeout(DEADLINE_S):
                            while not await tus.offset(place):
                                await asyncio.sleep(0.02)
                        first.send_signal(signal.SIGKILL)
                    yield block(number)

            with pytest.raises((aiohttp.ClientError, ConnectionError)):
                await tus.patch(place, 0, until_killed())
        (tmp_path / "b").mkdir()
        shutil.copy(tmp_path / "a" / "secret", tmp_path / "b" / "secret")
        async with process(nats_url, tmp_path / "b") as (_, url, token):
            tus = Tus(http, url, token)
            offset = await tus.offset(place)
            assert 0 < offset < BLOCKS * MIB
            assert offset % MIB == 0

            async def rest() -> AsyncIterator[bytes]:
                for number in range(offset // MIB, BLOCKS):
                    yield block(number)

            answer = await tus.patch(place, offset, rest())
            assert answer.status == 204, answer
            _, file = await tus.file(place)
            assert file.headers["ETag"] == f'"{digest.hexdigest()}"'
