"""S3 that refuses, lies, hangs or is away: clear errors, and no file that was acknowledged is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from nats.aio.client import Client

from switchyard.events.errors import NotFoundError, UnavailableError
from switchyard.services.broker import topology
from switchyard.services.files import Files
from switchyard.services.files.s3 import S3, S3Error
from switchyard.services.ids import new_id
from tests.files.s3.hostile import Hostile, refusal
from tests.files.s3.server import SECRET, keys_in, make_bucket, s3_settings, uploads_in
from tests.files.test_files import MIB, RANGED, put, read

LARGE = RANGED * 3
PARTED = pytest.mark.parametrize("data", [b"small", LARGE], ids=["whole", "parts"])


@pytest.fixture
async def hostile(s3_url: str) -> AsyncIterator[Hostile]:
    async with Hostile(s3_url).running() as double:
        yield double


@pytest.fixture
async def bucket(hostile: Hostile) -> AsyncIterator[S3]:
    s3 = S3(s3_settings(hostile.url, s3_timeout_s=2.0, s3_tries=3))
    await make_bucket(s3)
    yield s3
    await s3.aclose()


@pytest.fixture
async def files(nats_connection: Client, bucket: S3) -> Files:
    await topology.apply(nats_connection)
    return Files(nats_connection, timeout_s=20, s3=bucket)


@PARTED
@pytest.mark.parametrize(
    "spoil", [lambda: refusal(503, "SlowDown"), lambda: refusal(500, "InternalError"), lambda: "cut"]
)
async def test_what_passes_is_tried_again_and_the_file_is_whole(
    files: Files, hostile: Hostile, spoil: object, data: bytes
) -> None:
    hostile.times(2, spoil)  # type: ignore[arg-type]
    info = await put(files, data)
    assert await read(files, info) == data


@PARTED
@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        (503, "SlowDown", "asked too much"),
        (403, "AccessDenied", "may not"),
        (403, "SignatureDoesNotMatch", "secret"),
        (403, "RequestTimeTooSkewed", "clock"),
        (404, "NoSuchBucket", "no such bucket"),
        (301, "PermanentRedirect", "another region"),
        (400, "BadDigest", "changed on their way"),
    ],
)
async def test_a_refusal_is_a_clear_error_and_no_file(
    files: Files, hostile: Hostile, bucket: S3, status: int, code: str, says: str, data: bytes
) -> None:
    hostile.fault = lambda request: refusal(status, code) if request.method in ("PUT", "POST") else None
    file_id = new_id()
    with pytest.raises(UnavailableError, match=says) as failed:
        await put(files, data, file_id=file_id)
    assert failed.value.retry_after_s > 0
    assert SECRET not in str(failed.value)
    with pytest.raises(NotFoundError):
        await files.info("acme", file_id)
    hostile.fault = lambda _: None
    assert (await keys_in(bucket), await uploads_in(bucket)) == ([], [])


@PARTED
async def test_a_server_that_is_away_is_a_clear_error(nats_connection: Client, data: bytes) -> None:
    await topology.apply(nats_connection)
    s3 = S3(s3_settings("http://127.0.0.1:9", s3_tries=1))
    files = Files(nats_connection, timeout_s=20, s3=s3)
    with pytest.raises(UnavailableError, match="does not answer"):
        await put(files, data)
    await s3.aclose()


@PARTED
async def test_a_server_that_hangs_is_given_up(files: Files, hostile: Hostile, data: bytes) -> None:
    hostile.fault = lambda request: "hang" if request.method == "PUT" else None
    with pytest.raises(UnavailableError, match="does not answer"):
        await put(files, data)


@PARTED
async def test_a_server_that_stored_other_bytes_is_not_believed(
    files: Files, hostile: Hostile, bucket: S3, data: bytes
) -> None:
    hostile.fault = lambda request: "etag" if request.method == "PUT" else None
    with pytest.raises(UnavailableError, match="other bytes"):
        await put(files, data)
    hostile.fault = lambda _: None
    assert (await keys_in(bucket), await uploads_in(bucket)) == ([], [])


async def test_an_object_that_was_said_to_be_stored_and_is_not_there_is_no_file(
    files: Files, hostile: Hostile
) -> None:
    hostile.fault = lambda request: refusal(404, "NoSuchKey") if request.method == "HEAD" else None
    with pytest.raises(UnavailableError):
        await put(files, LARGE)


async def test_an_upload_whose_last_answer_was_lost_is_a_file(files: Files, hostile: Hostile) -> None:
    lost: list[bool] = []

    def fault(request: object) -> str | None:
        is_last = "POST" in hostile.requests[-1] and "uploadId=" in hostile.requests[-1]
        if is_last and not lost:
            lost.append(True)
            return "lost"
        return None

    hostile.fault = fault
    info = await put(files, LARGE)
    assert lost
    assert await read(files, info) == LARGE


@pytest.mark.parametrize("erasable", [False, True])
async def test_a_download_goes_on_where_the_connection_broke(
    files: Files, hostile: Hostile, *, erasable: bool
) -> None:
    info = await put(files, LARGE, erasable=erasable)
    hostile.times(3, lambda: "short", of="GET")
    assert await read(files, info) == LARGE
    assert await read(files, info, 5 * MIB + 1, 7 * MIB) == LARGE[5 * MIB + 1 : 7 * MIB]


async def test_a_download_that_gets_nowhere_ends(
    files: Files, hostile: Hostile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("switchyard.services.files.s3.reading.PAUSES_S", (0.01, 0.01))
    info = await put(files, LARGE)
    hostile.fault = lambda _: refusal(403, "AccessDenied")
    with pytest.raises(S3Error, match="may not"):
        await read(files, info)
    hostile.fault = lambda _: None
    assert await read(files, info) == LARGE


async def test_a_file_is_deleted_though_s3_is_away_and_swept_later(
    files: Files, hostile: Hostile, bucket: S3
) -> None:
    info = await put(files, b"x")
    hostile.fault = lambda _: refusal(503, "SlowDown")
    await files.delete("acme", info.id)
    with pytest.raises(NotFoundError):
        await files.info("acme", info.id)
    assert await files.sweep(older_than_s=0) == 0  # S3 is away, which is no reason to end the sweep
    hostile.fault = lambda _: None
    assert len(await keys_in(bucket)) == 1
    hasty = Files(files._nc, timeout_s=20, upload_timeout_s=-60.0, s3=bucket)
    assert await hasty.sweep(older_than_s=0) == 1
    assert await keys_in(bucket) == []
