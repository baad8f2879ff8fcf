"""Three brokers: a key that was overwritten leaves the replication logs of all of them too, in minutes."""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from switchyard.services import clock
from switchyard.services.broker import connection
from switchyard.services.broker.publisher import Publisher
from switchyard.services.event_store import EventStore
from switchyard.services.files import Files, artifact_id
from switchyard.services.files.erasures import Erasure
from switchyard.services.ids import new_id
from switchyard.services.intake.erasing import Eraser
from tests.system.test_cluster import SETTINGS, three_brokers, until_laid_out

pytestmark = [pytest.mark.system, pytest.mark.timeout(1900)]

COMPACTED_S = 1800.0
"""Ten times what was measured: a broker compacts such a log every two to three minutes."""
FILES = 10


async def once(body: bytes) -> AsyncIterator[bytes]:
    yield body


def holding(directory: Path, words: list[bytes]) -> set[str]:
    """The files below that hold one of some words; one that goes meanwhile holds none."""
    found = set()
    for path in directory.rglob("*"):
        try:
            data = path.read_bytes() if path.is_file() else b""
        except FileNotFoundError:
            continue
        if any(word in data for word in words):
            found.add(path.relative_to(directory).as_posix())
    return found


@pytest.mark.drill
async def test_nothing_of_what_was_erased_stays_with_any_of_three_brokers(tmp_path: Path) -> None:
    async with three_brokers(tmp_path / "cluster") as cluster:
        nc = await connection.connect(cluster.url, name="test", timeout_s=10)
        await until_laid_out(nc)
        files = Files(nc, timeout_s=20)
        settings = SETTINGS.model_copy(update={"data_dir": tmp_path / "data"})
        async with Publisher(nc, window=64, timeout_s=20) as publisher:
            eraser = Eraser(nc, EventStore(nc, publisher, settings), files, publisher, settings)
            marker, job = secrets.token_hex(12), new_id()
            for number in range(FILES):
                await files.put(
                    tenant="acme", file_id=artifact_id(job, 3, f"{number}.txt"), name=f"{marker}.txt",
                    type="text/plain", body=once(marker.encode() * 1000), max_bytes=100_000, ttl_s=3600.0,
                    erasable=True,
                )  # fmt: skip
            await files.put(
                tenant="acme", file_id=new_id(), name="kept", type="text/plain", body=once(b"kept"),
                max_bytes=100, ttl_s=3600.0, erasable=True,
            )  # fmt: skip
            values = [entry.value for entry in await files.keys.under("acme", job)]
            keys = [value.key for value in values if value is not None]
            assert len(keys) == FILES
            words = [marker.encode(), *keys, *map(base64.b64encode, keys)]
            logs = {path for path in holding(tmp_path, words) if "/$SYS/" in path}
            assert len(logs) == len(cluster.servers)  # it is in the replication log of each
            certificate = await eraser.finish(
                Erasure(
                    tenant="acme", job=job, kind="convert", scopes=(job,), by="test", requested_at=clock.now()
                )
            )
            assert certificate.keys == FILES
            async with asyncio.timeout(COMPACTED_S):
                while holding(tmp_path, words):
                    await asyncio.sleep(1)
            assert not await files.keys.under("acme", job)
        await nc.close()
