"""Files that can be erased: encrypted, read like any other, and gone with their key."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import orjson
import pytest
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import InvalidError, NotFoundError
from switchyard.services.broker.reader import read_range
from switchyard.services.files import DamagedFileError, FileInfo, Files, artifact_id
from switchyard.services.files.info import CHUNK_BYTES
from switchyard.services.files.keys import KEYS, Lock, LockedError, scope_of
from switchyard.services.ids import new_id
from tests.files.test_files import IN_BROKER, RANGED, SIZES, files, in_broker, put, read

__all__ = ["files", "in_broker"]

MARK = b"a mark that nobody may find"


async def put_erasable(files: Files, data: bytes, **other: Any) -> FileInfo:
    return await put(files, data, erasable=True, **other)


async def stored(nc: Client, stream: str) -> list[bytes]:
    """The bodies of all messages of a stream."""
    return [message.data for message in await read_range(nc, stream, ">", limit=500, timeout_s=20)]


@pytest.mark.parametrize("size", SIZES)
async def test_it_comes_back_as_it_was_stored(files: Files, size: int) -> None:
    data = RANGED[:size]
    info = await put_erasable(files, data)
    assert (info.size_bytes, info.sha256) == (size, hashlib.sha256(data).hexdigest())
    found = await files.info("acme", info.id)
    assert found == replace(info, seq=found.seq)
    assert await read(files, found) == data


@pytest.mark.parametrize(
    "span", [(0, 1), (CHUNK_BYTES - 1, CHUNK_BYTES + 1), (17 * CHUNK_BYTES + 5, 19 * CHUNK_BYTES), (5, None)]
)
async def test_any_part_of_it_can_be_read(files: Files, span: tuple[int, int | None]) -> None:
    info = await put_erasable(files, RANGED)
    assert await read(files, info, *span) == RANGED[slice(*span)]


async def test_neither_content_nor_name_nor_digest_stands_in_the_store(
    files: Files, nats_connection: Client
) -> None:
    info = await put_erasable(files, MARK * 9000, name="marked.pdf")
    everything = b"".join(await stored(nats_connection, subjects.FILES))
    for word in (MARK, b"marked", info.sha256.encode(), hashlib.sha256(MARK * 9000).digest()):
        assert word not in everything
    assert MARK in MARK * 9000


async def test_a_chunk_that_was_changed_or_moved_is_damage(files: Files, nats_connection: Client) -> None:
    info = await put_erasable(files, RANGED[: 3 * CHUNK_BYTES])
    assert info.lock is not None
    with pytest.raises(DamagedFileError, match="changed"):
        await read(files, replace(info, lock=Lock(info.nuid, bytes(32))), 5, 9)
    one = info.lock.chunk(0, MARK)
    assert info.lock.open_chunk(0, one) == MARK
    for lock, number, chunk in (
        (info.lock, 1, one), (Lock(new_id(), info.lock.key), 0, one), (info.lock, 0, one[:-1]),
        (info.lock, 0, b""), (info.lock, 0, bytes([one[0] ^ 1]) + one[1:]),
    ):  # fmt: skip
        with pytest.raises(LockedError):
            lock.open_chunk(number, chunk)
    assert "key" not in repr(info.lock)


async def test_an_upload_that_is_erased_is_gone_and_its_key_with_it(
    files: Files, nats_connection: Client
) -> None:
    info, other = await put_erasable(files, MARK), await put_erasable(files, MARK)
    assert await files.erase("beta", info.id) == 0
    assert await files.erase("acme", info.id) == 1
    assert await files.erase("acme", info.id) == 0
    with pytest.raises(NotFoundError):
        await files.info("acme", info.id)
    kept = [orjson.loads(body)["file"] for body in await stored(nats_connection, KEYS.stream)]
    assert kept == [other.id]
    assert await read(files, await files.info("acme", other.id)) == MARK


async def test_a_job_is_erased_with_the_files_of_all_its_attempts(files: Files) -> None:
    job, other = new_id(), new_id()
    names = [artifact_id(job, fence, "text.md") for fence in (3, 7)]
    infos = [await put_erasable(files, MARK, file_id=name) for name in names]
    apart = await put_erasable(files, MARK, file_id=artifact_id(other, 4, "text.md"))
    assert await files.erase("acme", job) == 2
    for info in infos:
        assert not await files.exists("acme", info.id)
    assert await files.exists("acme", apart.id)


async def test_a_key_goes_where_its_file_is_gone_already(files: Files, nats_connection: Client) -> None:
    info = await put_erasable(files, MARK)
    assert info.lock is not None
    await put(files, b"plain", file_id=info.id)  # took its place
    assert not await stored(nats_connection, KEYS.stream)
    again = await put_erasable(files, MARK)
    await files.delete("acme", again.id)
    assert not await stored(nats_connection, KEYS.stream)
    with pytest.raises(InvalidError):
        await put_erasable(files, MARK, sha256="0" * 64)
    assert not await stored(nats_connection, KEYS.stream)


@IN_BROKER  # in S3 its object stays until a sweep
async def test_a_file_whose_key_is_gone_is_no_file(files: Files) -> None:
    info = await put_erasable(files, MARK)
    assert await files.keys.erase_upload("acme", info.id, info.nuid)
    assert not await files.exists("acme", info.id)
    await put(files, b"new", file_id=info.id)
    assert await read(files, await files.info("acme", info.id)) == b"new"


def test_what_a_file_is_erased_with_is_said_by_its_id() -> None:
    job = new_id()
    assert scope_of(job) == scope_of(artifact_id(job, 3, "a.b")) == job
    assert scope_of(".hidden") == "_"
