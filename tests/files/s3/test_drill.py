"""A file of 1 GB goes up and comes down, and the memory of the process does not grow with it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator

import psutil
import pytest

from switchyard.services.files import Files
from switchyard.services.ids import new_id
from tests.files.test_files import DAY_S, MIB

SIZE_BYTES = 1024 * MIB
MOST_GROWTH_BYTES = 160 * MIB


class Memory:
    """How much more of it the process has than at first."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._first = self._process.memory_info().rss
        self.most = 0

    def look(self) -> None:
        self.most = max(self.most, self._process.memory_info().rss - self._first)


@pytest.mark.drill
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("erasable", [False, True])
async def test_a_gigabyte_goes_up_and_down_in_flat_memory(in_s3: Files, *, erasable: bool) -> None:
    block, memory = os.urandom(MIB), Memory()

    async def body() -> AsyncIterator[bytes]:
        for _ in range(SIZE_BYTES // MIB):
            memory.look()
            yield block

    info = await in_s3.put(
        tenant="acme", file_id=new_id(), name="large", type="video/mp4", body=body(), max_bytes=SIZE_BYTES,
        ttl_s=DAY_S, erasable=erasable,
    )  # fmt: skip
    digest = hashlib.sha256()
    async for chunk in in_s3.read(info):
        digest.update(chunk)
        memory.look()
    assert digest.hexdigest() == info.sha256
    assert memory.most < MOST_GROWTH_BYTES
    await in_s3.delete("acme", info.id)
