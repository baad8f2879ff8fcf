"""What tus 1.0 says, row by row, and what somebody sends who does not keep to it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from switchyard.events.errors import UnavailableError
from switchyard.services.broker.bucket import Bucket
from switchyard.services.broker.reader import Stored, read_range
from switchyard.services.files import Files
from switchyard.services.files.resumable.record import UPLOADS, Upload
from switchyard.services.files.resumable.uploads import Uploads
from switchyard.services.files.s3 import S3
from tests.broker.shared import SharedBroker
from tests.files.conftest import s3_url as s3_url  # noqa: PLC0414 - a fixture
from tests.files.s3.server import make_bucket, s3_settings
from tests.gateway.rest import Gateway, gateway
from tests.gateway.uploads.tus import Tus, checksum, metadata

KIB = 1024
MIB = 1024 * KIB
DATA = os.urandom(3 * MIB + 77)


@pytest.fixture(params=["broker", "s3"])
async def running(
    request: pytest.FixtureRequest, shared_broker: SharedBroker, tmp_path: Path
) -> AsyncIterator[Gateway]:
    """A gateway with either place of files."""
    limits: dict[str, Any] = {"file_bytes": 64 * MIB, "tenant_bytes": 256 * MIB}
    if request.param == "s3":
        settings = (await _bucket(request)).settings
        of_s3 = {name for name in type(settings).model_fields if name.startswith("s3_")}
        limits |= settings.model_dump(include=of_s3)
    async with gateway(shared_broker.url, tmp_path, **limits) as found:
        yield found


async def _bucket(request: pytest.FixtureRequest) -> S3:
    bucket = S3(s3_settings(request.getfixturevalue("s3_url")))
    await make_bucket(bucket)
    await bucket.aclose()
    return bucket


@pytest.fixture
async def tus(running: Gateway) -> Tus:
    return Tus(running.http, running.url, running.token("submitter", "viewer"))


async def record(running: Gateway, place: str) -> Upload:
    bucket = Bucket(running.nc, UPLOADS, timeout_s=20)
    found = (await bucket.get((running.tenant, place.rpartition("/")[2]))).value
    assert found is not None
    return found


async def test_what_is_spoken_is_said(tus: Tus) -> None:
    said = await tus.call("OPTIONS")
    assert said.status == 204
    assert said.headers["Tus-Version"] == said.headers["Tus-Resumable"] == "1.0.0"
    assert said.headers["Tus-Max-Size"] == str(64 * MIB)
    assert said.headers["Tus-Checksum-Algorithm"] == "sha256,sha1,md5"
    assert set(said.headers["Tus-Extension"].split(",")) == {
        "creation", "creation-with-upload", "checksum", "expiration", "termination"
    }  # fmt: skip


@pytest.mark.parametrize("query", ["", "?erasable=true"])
async def test_an_upload_in_pieces_becomes_a_file(tus: Tus, running: Gateway, query: str) -> None:
    said = metadata(filename="Brief für Anna.pdf", filetype="application/pdf", mine="x")
    place = await tus.create(len(DATA), query=query, Upload_Metadata=said)
    assert await tus.offset(place) == 0
    stored = await record(running, place)
    assert stored.name == ("" if query else "Brief für Anna.pdf")
    offset = 0
    for size in (1, 130 * KIB, 128 * KIB, MIB, len(DATA)):
        piece = DATA[offset : offset + size]
        answer = await tus.patch(place, offset, piece)
        assert answer.status == 204, answer
        offset += len(piece)
        assert answer.headers["Upload-Offset"] == str(offset)
        assert "Upload-Expires" in answer.headers
        found = await tus.call("HEAD", place)
        assert found.headers["Upload-Offset"] == str(offset)
        assert found.headers["Upload-Length"] == str(len(DATA))
        if offset < len(DATA):
            assert found.headers["Upload-Metadata"] == said
    assert answer.headers["Switchyard-File"] == place.rpartition("/")[2]
    whole, file = await tus.file(place)
    assert hashlib.sha256(whole).digest() == hashlib.sha256(DATA).digest()
    assert file.headers["Content-Type"] == "application/pdf"
    assert file.headers["ETag"] == f'"{hashlib.sha256(DATA).hexdigest()}"'
    assert (await record(running, place)).parts == ()
    again = await tus.patch(place, len(DATA), b"")
    assert (again.status, again.headers["Upload-Offset"]) == (204, str(len(DATA)))
    assert (await tus.call("DELETE", place)).status == 204
    assert (await tus.call("HEAD", place)).status == 404
    assert (await tus.file(place))[1].status == 200


async def test_creation_takes_the_whole_of_it(tus: Tus) -> None:
    place = await tus.create(len(DATA), DATA, Upload_Checksum=checksum(DATA))
    assert (await tus.file(place))[0] == DATA


async def test_nothing_is_a_file_too(tus: Tus) -> None:
    place = await tus.create(0, Upload_Metadata=metadata(filename="empty.txt"))
    assert await tus.offset(place) == 0
    body, file = await tus.file(place)
    assert (body, file.status) == (b"", 200)


@pytest.mark.parametrize("algorithm", ["sha256", "sha1", "md5"])
async def test_a_body_that_is_not_what_it_says_leaves_nothing(tus: Tus, algorithm: str) -> None:
    place = await tus.create(len(DATA))
    bad = await tus.patch(place, 0, DATA, Upload_Checksum=checksum(b"other", algorithm))
    assert (bad.status, bad.json["code"]) == (460, "checksum_mismatch")
    assert await tus.offset(place) == 0
    good = await tus.patch(place, 0, DATA, Upload_Checksum=checksum(DATA, algorithm))
    assert good.status == 204
    assert (await tus.file(place))[0] == DATA


async def test_what_came_of_a_broken_body_is_kept_unless_it_has_a_checksum(tus: Tus) -> None:
    place = await tus.create(len(DATA))
    cases: tuple[tuple[dict[str, str], bool], ...] = (
        ({"Upload_Checksum": checksum(DATA)}, False),
        ({}, True),
    )
    for sums, kept in cases:
        await _break_off(tus, place, DATA[: 2 * MIB], len(DATA), **sums)
        if kept:
            async with asyncio.timeout(60):
                while not (offset := await tus.offset(place)):
                    await asyncio.sleep(0.02)
            assert 0 < offset <= 2 * MIB
        else:
            assert await tus.offset(place) == 0
    assert (await tus.patch(place, offset, DATA[offset:])).status == 204
    assert (await tus.file(place))[0] == DATA


async def _break_off(tus: Tus, place: str, data: bytes, length: int, **headers: str) -> None:
    """Send a part of a body whose length is announced, and go."""
    host, port = tus.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = [
        f"PATCH {place} HTTP/1.1", f"Host: {host}", f"Authorization: Bearer {tus.token}",
        "Tus-Resumable: 1.0.0",
        "Upload-Offset: 0", "Content-Type: application/offset+octet-stream", f"Content-Length: {length}",
        *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
    ]  # fmt: skip
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode() + data)
    await writer.drain()
    writer.write_eof()
    with contextlib.suppress(ConnectionError):
        await reader.read()
    writer.close()


REFUSED_TO_BEGIN: dict[str, tuple[dict[str, str | None], int]] = {
    "no version": ({"Tus_Resumable": None, "Upload_Length": "1"}, 412),
    "another version": ({"Tus_Resumable": "0.2.2", "Upload_Length": "1"}, 412),
    "no length": ({}, 400),
    "negative": ({"Upload_Length": "-1"}, 400),
    "no number": ({"Upload_Length": "1e3"}, 400),
    "signed": ({"Upload_Length": "+1"}, 400),
    "other digits": ({"Upload_Length": "\u0661"}, 400),
    "huge": ({"Upload_Length": "9" * 16}, 413),
    "beyond numbers": ({"Upload_Length": "9" * 400}, 400),
    "too large": ({"Upload_Length": str(64 * MIB + 1)}, 413),
    "deferred": ({"Upload_Defer_Length": "1"}, 400),
    "concatenated": ({"Upload_Length": "1", "Upload_Concat": "partial"}, 400),
    "no base64": ({"Upload_Length": "1", "Upload_Metadata": "filename !!!"}, 400),
    "padding alone": ({"Upload_Length": "1", "Upload_Metadata": "filename YQ"}, 400),
    "a word twice": ({"Upload_Length": "1", "Upload_Metadata": "a YQ==,a Yg=="}, 400),
    "no word": ({"Upload_Length": "1", "Upload_Metadata": ",,"}, 400),
    "long metadata": ({"Upload_Length": "1", "Upload_Metadata": "a " + "Y" * 8000}, 400),
    "no media type": ({"Upload_Length": "1", "Upload_Metadata": metadata(filetype="x\ny")}, 422),
    "a name of controls": ({"Upload_Length": "1", "Upload_Metadata": metadata(filename="a\0b")}, 422),
}


async def test_what_cannot_begin_is_refused(tus: Tus) -> None:
    found = {}
    for name, (headers, _) in REFUSED_TO_BEGIN.items():
        answer = await tus.call("POST", "", None, **headers)
        found[name] = answer.status
        assert answer.headers["Tus-Resumable"] == "1.0.0"
        if answer.status == 412:
            assert answer.headers["Tus-Version"] == "1.0.0"
    assert found == {name: status for name, (_, status) in REFUSED_TO_BEGIN.items()}


REFUSED_TO_GO_ON: dict[str, tuple[dict[str, str | None], bytes, int]] = {
    "no offset": ({"Upload_Offset": None}, b"x", 400),
    "a lie": ({"Upload_Offset": "3"}, b"x", 409),
    "behind": ({"Upload_Offset": "1"}, b"x", 409),
    "negative": ({"Upload_Offset": "-2"}, b"x", 400),
    "huge": ({"Upload_Offset": "9" * 16}, b"x", 409),
    "too long": ({}, b"x" * 9, 413),
    "of a form": ({"Content_Type": "application/x-www-form-urlencoded"}, b"x", 415),
    "of no type": ({"Content_Type": None}, b"x", 415),
    "compressed": ({"Content_Encoding": "gzip"}, b"x", 415),
    "no version": ({"Tus_Resumable": None}, b"x", 412),
    "unknown sum": ({"Upload_Checksum": "crc32 AAAA"}, b"x", 400),
    "no sum": ({"Upload_Checksum": "sha256 !"}, b"x", 400),
    "short sum": ({"Upload_Checksum": "sha256 AAAA"}, b"x", 400),
}


async def test_what_does_not_go_on_changes_nothing(tus: Tus, running: Gateway) -> None:
    place = await tus.create(10)
    assert (await tus.patch(place, 0, b"ab")).status == 204
    found = {}
    for name, (headers, data, _) in REFUSED_TO_GO_ON.items():
        answer = await tus.patch(place, 2, data, **headers)
        found[name] = answer.status
    assert found == {name: status for name, (_, _, status) in REFUSED_TO_GO_ON.items()}

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x"

    assert (await tus.patch(place, 2, endless())).status == 413
    assert await tus.offset(place) == 2
    stranger = Tus(running.http, running.url, running.token(tenant=running.stranger))
    for method in ("HEAD", "DELETE"):
        assert (await stranger.call(method, place)).status == 404
    assert (await stranger.patch(place, 2, b"x")).status == 404
    assert (await tus.patch(place, 2, b"x" * 8)).status == 204
    assert (await tus.patch(place, 10, b"x")).status == 413
    assert (await tus.file(place))[0] == b"ab" + b"x" * 8
    for odd in ("/v1/uploads/x", "/v1/uploads/..%2f..", f"{place}0", "/v1/uploads/*"):
        assert (await tus.call("HEAD", odd)).status == 404, odd


async def test_of_two_writers_at_one_offset_one_stores_nothing(tus: Tus) -> None:
    place = await tus.create(len(DATA))
    go = asyncio.Event()

    async def slowly(mark: bytes) -> AsyncIterator[bytes]:
        yield mark * MIB
        await go.wait()
        yield mark * (len(DATA) - MIB)

    writers = [asyncio.create_task(tus.patch(place, 0, slowly(mark))) for mark in (b"a", b"b")]
    await asyncio.sleep(0)
    go.set()
    answers = sorted([answer.status for answer in await asyncio.gather(*writers)])
    assert answers in ([204, 409], [204, 413])
    whole, _ = await tus.file(place)
    assert len(whole) == len(DATA)
    assert len(set(whole)) == 1


async def test_a_removed_upload_leaves_nothing(tus: Tus, running: Gateway) -> None:
    place = await tus.create(len(DATA))
    await tus.patch(place, 0, DATA[:MIB])
    part = (await record(running, place)).parts[0]
    assert (await tus.call("DELETE", place)).status == 204
    assert (await tus.call("HEAD", place)).status == 404
    assert (await tus.patch(place, MIB, DATA[MIB:])).status == 404
    assert not await _chunks(running, part.nuid)


async def test_a_sweep_leaves_what_is_to_go_on_and_takes_what_nobody_names(
    running: Gateway, tus: Tus
) -> None:
    place = await tus.create(len(DATA))
    await tus.patch(place, 0, DATA[:MIB])
    async with Files.of(running.nc, running.settings) as own:
        hasty = Files(running.nc, timeout_s=20, upload_timeout_s=-60.0, s3=own.s3)
        upload_id = place.rpartition("/")[2]
        left = await own.take_part(
            _blocks(b"x" * MIB),
            tenant=running.tenant,
            file_id=upload_id,
            max_bytes=MIB,
            ttl_s=60,
            erasable=False,
        )
        if left.remote is None:
            assert await _chunks(running, left.nuid)
        assert await hasty.sweep(older_than_s=-60.0) >= 1
        assert not await _chunks(running, left.nuid)
    assert (await tus.patch(place, MIB, DATA[MIB:])).status == 204
    assert (await tus.file(place))[0] == DATA


async def _blocks(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _chunks(running: Gateway, nuid: str) -> list[Stored]:
    return await read_range(running.nc, "OBJ_files", f"$O.files.C.{nuid}", limit=1, timeout_s=20)


async def test_a_page_of_another_origin_may_read_what_tus_answers(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with gateway(shared_broker.url, tmp_path, cors_origins=["https://app.example"]) as running:
        tus = Tus(running.http, running.url, running.token())
        asked = {"Origin": "https://app.example", "Access_Control_Request_Method": "PATCH"}
        let = await tus.call("OPTIONS", "/v1/uploads/x", **asked)
        methods = let.headers["Access-Control-Allow-Methods"].split(", ")
        assert {"POST", "HEAD", "PATCH", "DELETE", "OPTIONS"} <= {*methods}
        assert {
            "Tus-Resumable",
            "Upload-Length",
            "Upload-Offset",
            "Upload-Metadata",
            "Upload-Checksum",
            "Content-Type",
        } <= {*let.headers["Access-Control-Allow-Headers"].split(", ")}
        made = await tus.call("POST", Origin="https://app.example", Upload_Length="3")
        seen = {*made.headers["Access-Control-Expose-Headers"].split(", ")}
        assert {"Location", "Tus-Resumable", "Upload-Offset", "Upload-Expires", "Switchyard-File"} <= seen


async def test_many_small_pieces_are_joined(tus: Tus, running: Gateway) -> None:
    data = os.urandom(200)
    place = await tus.create(len(data))
    for offset in range(len(data) - 1):
        assert (await tus.patch(place, offset, data[offset : offset + 1])).status == 204
        assert len((await record(running, place)).parts) < 65
    assert (await tus.patch(place, 199, data[199:])).status == 204
    assert (await tus.file(place))[0] == data


async def test_room_is_kept_for_what_is_to_come(running: Gateway) -> None:
    tus = Tus(running.http, running.url, running.token())
    places = [await tus.create(60 * MIB) for _ in range(4)]
    full = await tus.call("POST", Upload_Length=str(60 * MIB))
    assert (full.status, full.json["code"]) == (413, "quota_exceeded")
    await tus.call("DELETE", places[0])
    async with asyncio.timeout(60):
        while (await tus.call("POST", Upload_Length=str(60 * MIB))).status != 201:
            await asyncio.sleep(0.02)


async def test_a_gateway_that_failed_before_the_file_makes_it_when_asked(
    tus: Tus, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object) -> None:
        raise UnavailableError("it died here")

    place = await tus.create(len(DATA))
    with monkeypatch.context() as patch:
        patch.setattr(Uploads, "_file", fails)
        assert (await tus.patch(place, 0, DATA)).status == 503
    assert await tus.offset(place) == len(DATA)
    assert (await tus.file(place))[0] == DATA


async def test_what_has_not_ended_in_time_is_gone(shared_broker: SharedBroker, tmp_path: Path) -> None:
    async with gateway(shared_broker.url, tmp_path, uploads_ttl_s=1.0) as running:
        tus = Tus(running.http, running.url, running.token())
        place = await tus.create(10)
        await tus.patch(place, 0, b"12345")
        async with asyncio.timeout(60):
            while (await tus.call("HEAD", place)).status != 404:
                await asyncio.sleep(0.02)
        assert (await tus.patch(place, 5, b"12345")).status == 404
