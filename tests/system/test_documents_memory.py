"""A document of up to a gigabyte goes through the document door, up and down, in flat memory."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.sizes import sizes
from tests.system.test_files_memory import MAX_GROWTH_BYTES, MIB, Body, Gateway, ResidentMemory
from tests.system.test_files_memory import gateway as gateway  # noqa: PLC0414 - a fixture

DEADLINE_S = 480.0
HEAD = (
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="big.pdf"\r\n'
    b"Content-Type: application/pdf\r\n\r\n"
)
TAIL = b'\r\n--b\r\nContent-Disposition: form-data; name="retentionDays"\r\n\r\n30\r\n--b--\r\n'

SIZES = sizes(320 * MIB, 1024 * MIB, timeout_s=540)

pytestmark = [pytest.mark.system, pytest.mark.timeout(540)]


async def form(body: Body) -> AsyncIterator[bytes]:
    """The document as the file of a form."""
    yield HEAD
    async for piece in body():
        yield piece
    yield TAIL


@pytest.mark.parametrize("size_bytes", SIZES)
async def test_memory_stays_flat_while_a_large_document_goes_up_and_comes_down(
    gateway: Gateway, size_bytes: int
) -> None:
    body = Body(size_bytes)
    async with (
        asyncio.timeout(DEADLINE_S),
        aiohttp.ClientSession(gateway.url, headers=gateway.headers) as http,
    ):
        (await http.get("/v1/files")).raise_for_status()  # all is loaded and warm
        async with ResidentMemory(gateway.pid) as memory:
            kind = {"Content-Type": "multipart/form-data; boundary=b"}
            async with http.post(
                "/api/documents/submit", data=form(body), headers=kind, timeout=None
            ) as response:
                assert response.status == 200, await response.text()
                made = await response.json()
            assert (made["status"], made["fileSize"]) == ("pending", size_bytes)
            digest = hashlib.sha256()
            async with http.get(f"/api/documents/{made['id']}/original", timeout=None) as response:
                assert response.status == 200
                async for piece in response.content.iter_any():
                    digest.update(piece)
            assert digest.hexdigest() == body.digest.hexdigest()
    found = f"{memory.first / MIB:.0f} MiB before, {memory.most / MIB:.0f} MiB at most"
    assert memory.most - memory.first < MAX_GROWTH_BYTES, found
