"""What is so of files in S3 alone."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import aiohttp
import pytest
import yarl
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import NotFoundError
from switchyard.services.broker.reader import read_range
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.files import DamagedFileError, Files
from switchyard.services.files.s3 import S3, S3Error
from switchyard.services.files.s3 import sweeper as sweeping
from switchyard.services.files.s3.addresses import answered
from switchyard.services.files.s3.signing import Addresses
from switchyard.services.ids import new_id
from tests.files.s3.server import KEY, SECRET, keys_in, uploads_in
from tests.files.test_files import DEADLINE_S, MIB, RANGED, put, read, stored_subjects

MARK = b"a mark that nobody may find"
ROOT = Path(__file__).parents[3]


def hasty(files: Files) -> Files:
    """The same files, for which every upload is old."""
    return Files(files._nc, timeout_s=20, upload_timeout_s=-60.0, s3=files.s3)


async def object_of(s3: S3, key: str) -> bytes:
    answer = await (await s3.client()).get_object(Bucket=s3.bucket, Key=key)
    async with answer["Body"] as body:
        found: bytes = await body.read()
    return found


async def test_the_bytes_are_in_s3_and_the_broker_says_where(in_s3: Files, s3: S3) -> None:
    info = await put(in_s3, RANGED)
    assert set(await stored_subjects(in_s3._nc)) == {subjects.file_meta("acme", info.id)}
    (key,) = await keys_in(s3)
    assert info.remote is not None
    assert (info.remote.bucket, info.remote.object) == (s3.bucket, key)
    assert await object_of(s3, key) == RANGED


async def test_files_of_both_places_stand_beside_each_other(in_s3: Files, nats_connection: Client) -> None:
    before = Files(nats_connection, timeout_s=20)
    old = await put(before, b"in the broker")
    new = await put(in_s3, b"in S3")
    kept = await put(in_s3, b"here", in_broker=True)
    assert [await read(in_s3, info) for info in (old, new, kept)] == [b"in the broker", b"in S3", b"here"]
    moved = await put(in_s3, b"moved", file_id=old.id)
    assert await read(in_s3, await in_s3.info("acme", old.id)) == b"moved"
    assert moved.remote is not None
    assert set(await stored_subjects(nats_connection)) == {
        subjects.file_chunks(kept.nuid), *(subjects.file_meta("acme", i) for i in (old.id, new.id, kept.id))
    }  # fmt: skip


async def test_an_erased_file_is_gone_from_s3_and_said_nothing_before(in_s3: Files, s3: S3) -> None:
    file_id = new_id()
    info = await put(in_s3, MARK * 9000, file_id=file_id, erasable=True)
    (key,) = await keys_in(s3)
    assert MARK not in await object_of(s3, key)
    assert await read(in_s3, info, 5, 900_000) == (MARK * 9000)[5:900_000]
    assert await in_s3.erase("acme", file_id) == 1
    assert await keys_in(s3) == []
    with pytest.raises(NotFoundError):
        await in_s3.info("acme", file_id)


async def test_a_file_whose_bytes_are_gone_is_damaged(in_s3: Files, s3: S3) -> None:
    info = await put(in_s3, RANGED)
    (key,) = await keys_in(s3)
    await (await s3.client()).delete_object(Bucket=s3.bucket, Key=key)
    with pytest.raises(DamagedFileError, match="lacks the bytes"):
        await read(in_s3, info)


async def test_a_file_whose_bytes_were_changed_is_damaged(in_s3: Files, s3: S3) -> None:
    info = await put(in_s3, RANGED)
    (key,) = await keys_in(s3)
    await (await s3.client()).put_object(Bucket=s3.bucket, Key=key, Body=RANGED[::-1])
    with pytest.raises(DamagedFileError):
        await read(in_s3, info, 5, 10)


class TestSweep:
    async def test_what_belongs_to_no_file_goes_and_all_else_stays(self, in_s3: Files, s3: S3) -> None:
        kept = [await put(in_s3, bytes([n])) for n in range(3)]
        client = await s3.client()
        assert kept[0].remote is not None
        root = kept[0].remote.object.partition("/")[0] + "/" + kept[0].remote.object.split("/")[1] + "/"
        orphan = f"{root}{new_id()}~acme~{new_id()}"
        await client.put_object(Bucket=s3.bucket, Key=orphan, Body=b"orphan")
        others = [f"{root}readme.txt", "switchyard/another/" + orphan.rpartition("/")[2]]
        for key in others:
            await client.put_object(Bucket=s3.bucket, Key=key, Body=b"not ours")
        await client.create_multipart_upload(Bucket=s3.bucket, Key=f"{root}{new_id()}~acme~x")
        assert await in_s3.sweep(older_than_s=0) == 0  # it is young
        assert await hasty(in_s3).sweep(older_than_s=0) == 2
        found = set(await keys_in(s3))
        assert found == {*others, *(info.remote.object for info in kept if info.remote)}
        assert await uploads_in(s3) == []
        for key in others:
            await client.delete_object(Bucket=s3.bucket, Key=key)

    async def test_a_sweep_goes_on_where_the_last_one_stopped(
        self, in_s3: Files, s3: S3, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        infos = [await put(in_s3, bytes([n])) for n in range(5)]
        for info in infos[3:]:  # their descriptions are lost
            call = f"STREAM.PURGE.{subjects.FILES}"
            assert call
            await in_s3._nc.jetstream().purge_stream(
                subjects.FILES, subject=subjects.file_meta("acme", info.id)
            )
        monkeypatch.setattr(sweeping, "PAGES", 1)
        monkeypatch.setattr(sweeping, "PAGE", 2)
        sweeper = hasty(in_s3)
        assert [await sweeper.sweep(older_than_s=0) for _ in range(3)] == [0, 1, 1]
        assert len(await keys_in(s3)) == 3


class TestWithoutKeys:
    async def test_a_worker_without_keys_reads_by_addresses_of_a_gateway(
        self, in_s3: Files, s3: S3, nats_connection: Client
    ) -> None:
        keyless = Files(nats_connection, timeout_s=20)
        addresses = Addresses(nats_connection, s3, timeout_s=20)
        plain, locked = await put(in_s3, RANGED), await put(in_s3, RANGED, erasable=True)
        async with answered(nats_connection, in_s3.info, addresses, timeout_s=20):
            for stored in (plain, locked):
                info = await keyless.info("acme", stored.id)
                assert await read(keyless, info) == RANGED
                assert await read(keyless, info, 7, MIB) == RANGED[7:MIB]
            await in_s3.delete("acme", plain.id)
            with pytest.raises((NotFoundError, S3Error)):
                await read(keyless, plain)

    async def test_what_it_stores_is_in_the_broker_and_what_it_deletes_is_swept(
        self, in_s3: Files, s3: S3, nats_connection: Client
    ) -> None:
        keyless = Files(nats_connection, timeout_s=20)
        info = await put(in_s3, b"x")
        assert (await put(keyless, b"y")).remote is None
        await keyless.delete("acme", info.id)
        assert len(await keys_in(s3)) == 1
        assert await hasty(in_s3).sweep(older_than_s=0) == 1

    async def test_without_a_gateway_it_says_what_is_missing(
        self, in_s3: Files, nats_connection: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("switchyard.services.files.s3.reading.PAUSES_S", ())
        info = await put(in_s3, b"x")
        with pytest.raises(S3Error, match="no gateway that has them"):
            await read(Files(nats_connection, timeout_s=1.0), info)


class TestAddresses:
    async def test_a_client_loads_a_file_down_by_an_address_without_any_secret(
        self, in_s3: Files, s3: S3
    ) -> None:
        info = await put(in_s3, RANGED, name="ä b.pdf")
        url = await Addresses(in_s3._nc, s3, timeout_s=20).download(info, lasts_s=60)
        assert url is not None
        assert SECRET not in url
        async with (
            aiohttp.ClientSession() as session,
            session.get(yarl.URL(url, encoded=True), headers={"Range": "bytes=3-9"}) as answer,
        ):
            assert (answer.status, await answer.read()) == (206, RANGED[3:10])
            assert answer.headers["Content-Disposition"].startswith("attachment")

    async def test_no_address_of_what_is_locked_or_in_the_broker(self, in_s3: Files, s3: S3) -> None:
        addresses = Addresses(in_s3._nc, s3, timeout_s=20)
        locked = await put(in_s3, b"x", erasable=True)
        here = await put(in_s3, b"x", in_broker=True)
        assert [await addresses.download(info, lasts_s=60) for info in (locked, here)] == [None, None]

    async def test_size_and_type_of_an_upload_are_signed(self, in_s3: Files, s3: S3) -> None:
        address = await Addresses(in_s3._nc, s3, timeout_s=20).upload(
            "acme", size_bytes=5, type="text/plain", lasts_s=60
        )
        signed = yarl.URL(address.url).query["X-Amz-SignedHeaders"].split(";")
        assert {"content-length", "content-type", "host"} <= set(signed)
        assert address.headers == {"Content-Type": "text/plain", "Content-Length": "5"}

    async def test_an_upload_that_nobody_completes_is_swept(self, in_s3: Files, s3: S3) -> None:
        addresses = Addresses(in_s3._nc, s3, timeout_s=20)
        address = await addresses.upload("acme", size_bytes=5, type="text/plain", lasts_s=60)
        async with aiohttp.ClientSession() as session:
            url = yarl.URL(address.url, encoded=True)
            async with session.put(url, data=b"hello", headers=address.headers) as answer:
                assert answer.status == 200
        incoming = await addresses.incoming("acme", address.id)
        assert (incoming.size_bytes, incoming.type) == (5, "text/plain")
        assert [block async for block in incoming.body] == [b"hello"]
        with pytest.raises(NotFoundError):
            await addresses.incoming("globex", address.id)
        assert await in_s3.sweep(older_than_s=0) == 0
        assert await hasty(in_s3).sweep(older_than_s=0) == 1
        with pytest.raises(NotFoundError):
            await addresses.incoming("acme", address.id)


KILLED = """
import asyncio, sys
from switchyard.services.broker.connection import connect
from switchyard.services.files import Files
from switchyard.services.files.s3 import S3
from tests.files.s3.server import s3_settings

async def endless():
    for _ in range(100):
        yield bytes(128 * 1024)
    print("half", flush=True)
    await asyncio.Event().wait()

async def main():
    nc = await connect(sys.argv[1], name="killed")
    files = Files(nc, timeout_s=20, s3=S3(s3_settings(sys.argv[2], s3_bucket=sys.argv[3])))
    about = {"tenant": "acme", "name": "a", "type": "text/plain", "ttl_s": 999}
    await files.put(file_id="whole", body=once(), max_bytes=99, **about)
    print("stored", flush=True)
    await files.put(file_id="half", body=endless(), max_bytes=2**30, **about)

async def once():
    yield b"acknowledged"

asyncio.run(main())
"""


async def test_a_process_that_is_killed_leaves_what_it_acknowledged_and_nothing_else(
    in_s3: Files, s3: S3, s3_url: str, broker: NatsServer
) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, broker.url, s3_url, s3.bucket, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(6 * DEADLINE_S):
        assert await process.stdout.readline() == b"stored\n"
        assert await process.stdout.readline() == b"half\n"
        while not await uploads_in(s3):
            await asyncio.sleep(0.05)
    process.kill()
    await process.wait()
    assert await read(in_s3, await in_s3.info("acme", "whole")) == b"acknowledged"
    with pytest.raises(NotFoundError):
        await in_s3.info("acme", "half")
    assert await hasty(in_s3).sweep(older_than_s=0) == 1
    assert await read(in_s3, await in_s3.info("acme", "whole")) == b"acknowledged"
    assert await uploads_in(s3) == []


async def test_no_key_stands_in_what_is_stored_or_shown(in_s3: Files, s3: S3) -> None:
    await put(in_s3, b"x")
    shown = f"{s3.settings!r} {s3.settings.model_dump_json()}"
    metas = await read_range(in_s3._nc, subjects.FILES, ">", timeout_s=20)
    stored = b"".join(meta.data for meta in metas)
    for secret in (KEY, SECRET):
        assert secret not in shown
        assert secret.encode() not in stored
