from __future__ import annotations

import asyncio
import hashlib
import itertools
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import InvalidError, LimitError, NotFoundError, UnavailableError
from switchyard.services.broker import topology
from switchyard.services.broker.jetstream import api
from switchyard.services.broker.reader import read_range
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.files import DamagedFileError, FileInfo, Files, artifact_id
from switchyard.services.files.info import CHUNK_BYTES, CHUNKS_PER_ENTRY, encode
from switchyard.services.ids import new_id
from tests.programs import NATS, needs_nats
from tests.sizes import examples

DEADLINE_S = 90.0
MIB = 1024 * 1024
DAY_S = 86400.0
SIZES = [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES, 3 * MIB + 7]
RANGED = bytes(itertools.islice(itertools.cycle(range(251)), 40 * CHUNK_BYTES + 99))


@pytest.fixture
async def in_broker(nats_connection: Client) -> Files:
    await topology.apply(nats_connection)
    return Files(nats_connection, timeout_s=20)


@pytest.fixture(params=["in_broker", "in_s3"])
def files(request: pytest.FixtureRequest) -> Files:
    """Those of each place."""
    found: Files = request.getfixturevalue(request.param)
    return found


IN_BROKER = pytest.mark.parametrize("files", ["in_broker"], indirect=True)
"""What is so in the broker alone."""


async def blocks(data: bytes, size: int = 50_000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def put(files: Files, data: bytes, **other: Any) -> FileInfo:
    arguments: dict[str, Any] = {
        "tenant": "acme", "file_id": new_id(), "name": "scan.pdf", "type": "application/pdf",
        "body": blocks(data), "max_bytes": 64 * MIB, "ttl_s": DAY_S,
    }  # fmt: skip
    return await files.put(**{**arguments, **other})


async def read(files: Files, info: FileInfo, start: int = 0, end: int | None = None) -> bytes:
    return b"".join([block async for block in files.read(info, start, end)])


async def stored_subjects(nc: Client) -> dict[str, int]:
    query = {"subjects_filter": ">"}
    state = (await api(nc, f"STREAM.INFO.{subjects.FILES}", query, timeout_s=20))["state"]
    found: dict[str, int] = state.get("subjects") or {}
    return found


@pytest.mark.parametrize("size", SIZES)
async def test_a_file_comes_back_as_it_was_stored(files: Files, size: int) -> None:
    data = RANGED[:size]
    info = await put(files, data)
    assert (info.size_bytes, info.sha256) == (size, hashlib.sha256(data).hexdigest())
    assert info.chunks == -(-size // CHUNK_BYTES)
    found = await files.info("acme", info.id)
    assert found == replace(info, seq=found.seq)
    assert found.index == info.index
    assert await read(files, found) == data


@pytest.mark.parametrize("block", [1, 4096, CHUNK_BYTES, 5 * CHUNK_BYTES + 3])
async def test_the_blocks_of_a_body_do_not_show_in_the_file(files: Files, block: int) -> None:
    data = RANGED[: 3 * block + 1]
    info = await put(files, data, body=blocks(data, block))
    assert await read(files, info) == data


class TestRanges:
    @settings(
        max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(start=st.integers(0, len(RANGED) + 10), length=st.integers(0, len(RANGED) + 10))
    async def test_a_range_is_what_slicing_the_bytes_gives(
        self, stored: tuple[Files, FileInfo], start: int, length: int
    ) -> None:
        files, info = stored
        assert await read(files, info, start, start + length) == RANGED[start : start + length]

    @IN_BROKER
    async def test_the_index_leads_to_every_sixteenth_chunk(self, stored: tuple[Files, FileInfo]) -> None:
        files, info = stored
        chunks = await read_range(
            files._nc, subjects.FILES, subjects.file_chunks(info.nuid), limit=100, timeout_s=20
        )
        assert info.index == tuple(chunk.seq for chunk in chunks[::CHUNKS_PER_ENTRY])
        assert len(info.index) == 3

    @pytest.fixture
    async def stored(self, files: Files) -> tuple[Files, FileInfo]:
        # Another upload at the same time, so that sequences and chunk numbers differ.
        async with asyncio.TaskGroup() as group:
            wanted = group.create_task(put(files, RANGED))
            group.create_task(put(files, RANGED[: 20 * CHUNK_BYTES]))
        return files, wanted.result()


async def test_a_foreign_tenants_file_is_not_found(files: Files) -> None:
    info = await put(files, b"secret")
    with pytest.raises(NotFoundError):
        await files.info("globex", info.id)
    with pytest.raises(NotFoundError):
        await files.delete("globex", info.id)
    assert await read(files, await files.info("acme", info.id)) == b"secret"


async def test_a_body_that_breaks_off_leaves_nothing(files: Files, nats_connection: Client) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield bytes(10 * CHUNK_BYTES)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await put(files, b"", body=broken())
    assert await stored_subjects(nats_connection) == {}


async def test_a_cancelled_upload_leaves_nothing(files: Files, nats_connection: Client) -> None:
    waiting = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield bytes(10 * CHUNK_BYTES)
        waiting.set()
        await asyncio.Event().wait()

    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
        upload = group.create_task(put(files, b"", body=endless()))
        await waiting.wait()
        upload.cancel()
    assert upload.cancelled()
    assert await stored_subjects(nats_connection) == {}


async def test_a_body_over_its_limit_is_refused_and_leaves_nothing(
    files: Files, nats_connection: Client
) -> None:
    with pytest.raises(LimitError) as refused:
        await put(files, bytes(MIB + 1), max_bytes=MIB)
    assert (refused.value.status, refused.value.code) == (413, "file_too_large")
    assert await stored_subjects(nats_connection) == {}
    assert (await put(files, bytes(MIB), max_bytes=MIB)).size_bytes == MIB


async def test_an_upload_that_takes_too_long_is_refused_and_leaves_nothing(
    files: Files, nats_connection: Client
) -> None:
    async def stalled() -> AsyncIterator[bytes]:
        yield bytes(2 * CHUNK_BYTES)
        await asyncio.Event().wait()

    hurried = Files(nats_connection, timeout_s=20, upload_timeout_s=0.2)
    with pytest.raises(LimitError) as refused:
        await put(hurried, b"", body=stalled())
    assert (refused.value.status, refused.value.code) == (408, "upload_timeout")
    assert await stored_subjects(nats_connection) == {}


async def test_a_body_with_another_digest_than_announced_leaves_nothing(
    files: Files, nats_connection: Client
) -> None:
    with pytest.raises(InvalidError) as refused:
        await put(files, RANGED, sha256=hashlib.sha256(b"other").hexdigest())
    assert refused.value.code == "digest_mismatch"
    assert await stored_subjects(nats_connection) == {}
    assert (await put(files, RANGED, sha256=hashlib.sha256(RANGED).hexdigest())).size_bytes == len(RANGED)


async def test_a_full_store_refuses_the_upload_and_leaves_nothing(nats_connection: Client) -> None:
    await topology.apply(nats_connection, max_bytes={subjects.FILES: 2 * MIB})
    files = Files(nats_connection, timeout_s=20)
    with pytest.raises(UnavailableError, match="full"):
        await put(files, bytes(8 * MIB))
    assert await stored_subjects(nats_connection) == {}
    assert (await put(files, bytes(MIB))).size_bytes == MIB


async def test_a_killed_broker_ends_the_upload_and_nothing_of_it_is_a_file(
    files: Files, broker: NatsServer, nats_connection: Client
) -> None:
    file_id = new_id()

    async def body() -> AsyncIterator[bytes]:
        yield bytes(4 * CHUNK_BYTES)
        await broker.kill()
        yield bytes(40 * CHUNK_BYTES)

    impatient = Files(nats_connection, timeout_s=0.5)
    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(UnavailableError):
            await put(impatient, b"", file_id=file_id, body=body())
        await broker.restart()
        while not nats_connection.is_connected:
            await asyncio.sleep(0.01)
    with pytest.raises(NotFoundError):
        await files.info("acme", file_id)


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("id", {"file_id": "a/b"}),
        ("id", {"file_id": ""}),
        ("name", {"name": ""}),
        ("name", {"name": "x" * 256}),
        ("name", {"name": "../etc/passwd"}),
        ("name", {"name": "a\r\nSet-Cookie: b"}),
        ("name", {"name": "\udc80"}),
        ("type", {"type": "text"}),
        ("type", {"type": "text/html\r\nX: y"}),
    ],
)
async def test_what_cannot_be_given_back_safely_is_not_stored(
    files: Files, nats_connection: Client, field: str, arguments: dict[str, str]
) -> None:
    with pytest.raises(InvalidError) as refused:
        await put(files, b"x", **arguments)
    assert refused.value.field == field
    assert await stored_subjects(nats_connection) == {}


async def test_a_stale_attempts_artifact_stands_beside_the_newer_ones(files: Files) -> None:
    job_id = new_id()
    newer = await put(files, b"newer", file_id=artifact_id(job_id, 9, "out.md"))
    stale = await put(files, b"stale", file_id=artifact_id(job_id, 4, "out.md"))
    assert await read(files, await files.info("acme", newer.id)) == b"newer"
    assert await read(files, await files.info("acme", stale.id)) == b"stale"


@pytest.mark.parametrize("name", ["", "a/b", "x" * 101, "ä", "a b"])
def test_an_artifact_with_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(InvalidError):
        artifact_id(new_id(), 1, name)


@IN_BROKER
async def test_storing_an_id_again_replaces_the_file_and_removes_the_old_chunks(
    files: Files, nats_connection: Client
) -> None:
    first = await put(files, bytes(5 * CHUNK_BYTES))
    second = await put(files, b"again", file_id=first.id)
    assert await read(files, await files.info("acme", first.id)) == b"again"
    assert set(await stored_subjects(nats_connection)) == {
        subjects.file_meta("acme", first.id), subjects.file_chunks(second.nuid),
    }  # fmt: skip
    with pytest.raises(NotFoundError, match="replaced"):
        await read(files, first)


async def test_a_deleted_file_is_gone_and_what_marks_it_goes_when_the_file_would_have(
    files: Files, nats_connection: Client
) -> None:
    info = await put(files, RANGED, ttl_s=600)
    await files.delete("acme", info.id)
    with pytest.raises(NotFoundError):
        await files.info("acme", info.id)
    with pytest.raises(NotFoundError):
        await files.delete("acme", info.id)
    with pytest.raises(NotFoundError):
        await read(files, info)
    meta = subjects.file_meta("acme", info.id)
    assert await stored_subjects(nats_connection) == {meta: 1}
    (marker,) = await read_range(nats_connection, subjects.FILES, meta, timeout_s=20)
    assert orjson.loads(marker.data)["deleted"] is True
    assert 590 <= int(marker.headers[subjects.H_TTL].removesuffix("s")) <= 600


async def test_the_broker_removes_an_expired_file(nats_connection: Client) -> None:
    await topology.apply(nats_connection)
    # Chunks live longer than their meta by the upload timeout and a grace; here only by the grace.
    files = Files(nats_connection, timeout_s=20, upload_timeout_s=0.5)
    info = await put(files, b"short-lived", ttl_s=1)
    kept = await put(files, b"kept", ttl_s=DAY_S)
    meta = subjects.file_meta("acme", info.id)
    async with asyncio.timeout(DEADLINE_S):
        while meta in await stored_subjects(nats_connection):
            await asyncio.sleep(0.05)
    with pytest.raises(NotFoundError):
        await files.info("acme", info.id)
    store = await nats_connection.jetstream().object_store(subjects.STORE_FILES)
    assert [entry.name for entry in await store.list()] == [f"acme/{kept.id}"]
    # A download that had begun may still end.
    assert await read(files, info) == b"short-lived"


@IN_BROKER
async def test_chunks_expire_by_the_broker_too(files: Files, nats_connection: Client) -> None:
    info = await put(files, RANGED, ttl_s=100)
    chunks = await read_range(
        nats_connection, subjects.FILES, subjects.file_chunks(info.nuid), limit=100, timeout_s=20
    )
    lives = {chunk.headers[subjects.H_TTL] for chunk in chunks}
    assert lives == {"3760s"}  # 100 s, an upload of an hour, and a minute to end a download


async def test_an_expired_file_is_not_found_even_before_the_broker_removes_it(
    files: Files, nats_connection: Client
) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    info = FileInfo("f1", "acme", "a", "text/plain", 0, "0" * 64, past, past, new_id(), 0, ())
    await nats_connection.jetstream().publish(subjects.file_meta("acme", "f1"), encode(info))
    with pytest.raises(NotFoundError):
        await files.info("acme", "f1")


@IN_BROKER
@pytest.mark.parametrize(
    ("lost", "start", "end"),
    [(0, 0, None), (3, 0, None), (20, 0, None), (40, 0, None), (20, 19, None), (17, 30, None), (17, 18, 20)],
)
async def test_a_lost_chunk_is_an_error_and_never_a_shorter_body(
    files: Files, nats_connection: Client, lost: int, start: int, end: int | None
) -> None:
    info = await put(files, RANGED)
    chunks = await read_range(
        nats_connection, subjects.FILES, subjects.file_chunks(info.nuid), limit=100, timeout_s=20
    )
    await nats_connection.jetstream().delete_msg(subjects.FILES, chunks[lost].seq)
    with pytest.raises(DamagedFileError):
        await read(files, info, start * CHUNK_BYTES, end and end * CHUNK_BYTES)


@IN_BROKER
async def test_bytes_that_are_not_those_stored_are_an_error_before_the_last_of_them(
    files: Files, nats_connection: Client
) -> None:
    info = await put(files, RANGED)
    forged = FileInfo(**{name: getattr(info, name) for name in FileInfo.__slots__} | {"sha256": "0" * 64})
    received = bytearray()

    async def download() -> None:
        async for block in files.read(forged):
            received.extend(block)

    with pytest.raises(DamagedFileError):
        await download()
    assert received == RANGED[: 40 * CHUNK_BYTES]


async def test_an_object_of_another_writer_is_no_file(files: Files, nats_connection: Client) -> None:
    store = await nats_connection.jetstream().object_store(subjects.STORE_FILES)
    await store.put("acme/foreign", b"x")
    with pytest.raises(NotFoundError):
        await files.info("acme", "foreign")


@IN_BROKER
class TestInterop:
    async def test_the_object_store_of_nats_py_reads_and_checks_a_file(
        self, files: Files, nats_connection: Client
    ) -> None:
        info = await put(files, RANGED)
        store = await nats_connection.jetstream().object_store(subjects.STORE_FILES)
        found = await store.get(f"acme/{info.id}")  # raises where the digest is wrong
        assert found.data == RANGED

    @needs_nats
    async def test_the_nats_cli_lists_and_reads_a_file(
        self, files: Files, broker: NatsServer, tmp_path: Path
    ) -> None:
        info = await put(files, RANGED)
        gone = await put(files, b"gone")
        await files.delete("acme", gone.id)
        listed = await nats_cli(broker, "object", "ls", subjects.STORE_FILES, "--names")
        assert f"acme/{info.id}" in listed
        assert gone.id not in listed
        target = tmp_path / "out"
        name = f"acme/{info.id}"
        await nats_cli(broker, "object", "get", subjects.STORE_FILES, name, "-O", str(target), "-f")
        assert target.read_bytes() == RANGED


async def nats_cli(broker: NatsServer, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        str(NATS), "--server", broker.url, *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(DEADLINE_S):
        out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    return out.decode()


@IN_BROKER
class TestSweep:
    @staticmethod
    def nuid(age_s: float) -> str:
        """The nuid of an upload that began so long ago."""
        fresh = uuid.UUID(new_id()).int & ((1 << 80) - 1)
        return str(uuid.UUID(int=int((time.time() - age_s) * 1000) << 80 | fresh))

    async def leave_behind(self, nc: Client, nuid: str, owner: str = "acme/lost") -> str:
        """What an upload leaves whose process was killed."""
        headers = {subjects.H_CHUNK: "0", subjects.H_FILE: owner}
        await nc.jetstream().publish(subjects.file_chunks(nuid), bytes(1000), headers=headers)
        return subjects.file_chunks(nuid)

    async def test_old_chunks_without_a_file_are_removed_and_young_ones_are_not(
        self, files: Files, nats_connection: Client
    ) -> None:
        old = await self.leave_behind(nats_connection, self.nuid(3 * 3600))
        young = await self.leave_behind(nats_connection, self.nuid(60))
        assert await files.sweep(older_than_s=7200) == 1
        found = await stored_subjects(nats_connection)
        assert old not in found
        assert young in found

    async def test_an_upload_may_last_as_long_as_it_may_whatever_the_sweep_is_given(
        self, files: Files, nats_connection: Client
    ) -> None:
        young = await self.leave_behind(nats_connection, self.nuid(1800))
        assert await files.sweep(older_than_s=1) == 0
        assert young in await stored_subjects(nats_connection)

    async def test_files_survive_every_sweep(self, files: Files, nats_connection: Client) -> None:
        infos = [await self.old_file(nats_connection, f"f{n}") for n in range(3)]
        for _ in range(2):
            assert await files.sweep(older_than_s=7200) == 0
            for info in infos:
                assert await read(files, await files.info("acme", info.id)) == b"old"

    async def test_chunks_of_a_replaced_and_of_a_deleted_file_are_removed(
        self, files: Files, nats_connection: Client
    ) -> None:
        kept = await self.old_file(nats_connection, "kept")
        await self.leave_behind(nats_connection, self.nuid(9000), "acme/kept")
        gone = await self.old_file(nats_connection, "gone")
        assert await files.sweep(older_than_s=7200) == 1
        await files.delete("acme", gone.id)
        await self.leave_behind(nats_connection, gone.nuid, "acme/gone")
        assert await files.sweep(older_than_s=7200) == 1
        assert set(await stored_subjects(nats_connection)) == {
            subjects.file_chunks(kept.nuid), subjects.file_meta("acme", "kept"),
            subjects.file_meta("acme", "gone"),
        }  # fmt: skip

    async def test_objects_of_other_writers_are_left_alone(
        self, files: Files, nats_connection: Client
    ) -> None:
        await nats_connection.jetstream().publish(subjects.file_chunks(self.nuid(9000)), b"x")
        await nats_connection.jetstream().publish(subjects.file_chunks("DiSoAGzR6fyRfdxvZBUNJk"), b"x")
        assert await files.sweep(older_than_s=7200) == 0
        assert len(await stored_subjects(nats_connection)) == 2

    async def test_a_sweep_that_remembers_another_stream_removes_no_file(
        self, files: Files, nats_connection: Client
    ) -> None:
        for n in range(5):
            await self.old_file(nats_connection, f"before{n}")
        await files.sweep(older_than_s=7200)
        await nats_connection.jetstream().delete_stream(subjects.FILES)
        await topology.apply(nats_connection)
        info = await self.old_file(nats_connection, "after")
        assert await files.sweep(older_than_s=7200) == 0
        assert await read(files, info) == b"old"

    async def old_file(self, nc: Client, file_id: str) -> FileInfo:
        """A file whose upload began hours ago."""
        nuid = self.nuid(3 * 3600)
        now = datetime.now(UTC)
        js = nc.jetstream()
        headers = {subjects.H_CHUNK: "0", subjects.H_FILE: f"acme/{file_id}"}
        ack = await js.publish(subjects.file_chunks(nuid), b"old", headers=headers)
        digest = hashlib.sha256(b"old").hexdigest()
        expires = now + timedelta(days=1)
        info = FileInfo(file_id, "acme", "a", "text/plain", 3, digest, now, expires, nuid, 1, (ack.seq,))
        await js.publish(
            subjects.file_meta("acme", file_id), encode(info), headers={subjects.H_ROLLUP: "sub"}
        )
        return info
