"""Files that clients load up past the gateway: one is there once it was completed, and counted."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import aiohttp
import pytest
import yarl
from nats.aio.client import Client

from switchyard.events.errors import InvalidError, LimitError, NotFoundError
from switchyard.services.broker import topology
from switchyard.services.files import Files
from switchyard.services.files.s3 import S3
from switchyard.services.files.s3.signing import Addresses, UploadAddress
from switchyard.services.gateway.operations.files import TenantFiles
from switchyard.services.gateway.operations.transfers.addressed import AddressedFiles
from switchyard.services.ids import new_id
from tests.files.s3.server import keys_in, make_bucket, moto, s3_settings

DAY_S = 86400.0
DATA = bytes(range(256)) * 400


class NoIndex:
    """A read model that knows of no file."""

    def files_kept(self, tenant: str, now: datetime) -> tuple[int, int, int]:  # noqa: ARG002
        return 0, 0, 0

    def files(self, *_: Any, **__: Any) -> tuple[list[dict[str, Any]], str | None]:
        return [], None


@pytest.fixture
async def s3() -> AsyncIterator[S3]:
    with moto() as url:
        bucket = S3(s3_settings(url, file_bytes=200_000, tenant_bytes=150_000))
        await make_bucket(bucket)
        yield bucket
        await bucket.aclose()


@pytest.fixture
async def addressed(nats_connection: Client, s3: S3) -> AddressedFiles:
    await topology.apply(nats_connection)
    files = Files(nats_connection, timeout_s=20, s3=s3)
    addresses = Addresses(nats_connection, s3, timeout_s=20)
    return AddressedFiles(TenantFiles(files, NoIndex(), s3.settings, addresses), s3.settings)


async def put_at(address: UploadAddress | None, data: bytes) -> None:
    assert address is not None
    url = yarl.URL(address.url, encoded=True)
    async with (
        aiohttp.ClientSession() as session,
        session.put(url, data=data, headers=address.headers) as answer,
    ):
        assert answer.status == 200


@pytest.mark.parametrize("erasable", [False, True])
async def test_what_was_put_at_an_address_is_a_file_once_it_is_completed(
    addressed: AddressedFiles, s3: S3, *, erasable: bool
) -> None:
    address = await addressed.upload("acme", size_bytes=len(DATA), type="text/plain")
    await put_at(address, DATA)
    assert address is not None
    files = addressed.tenant_files.files
    with pytest.raises(NotFoundError):
        await files.info("acme", address.id)
    about: dict[str, Any] = {"name": "a.txt", "ttl_s": DAY_S, "erasable": erasable}
    info = await addressed.complete("acme", address.id, **about)
    assert (info.id, info.name, info.type) == (address.id, "a.txt", "text/plain")
    assert (info.size_bytes, info.sha256) == (len(DATA), hashlib.sha256(DATA).hexdigest())
    assert len(await keys_in(s3)) == 1
    again = await addressed.complete("acme", address.id, **about)
    assert (again.nuid, again.id) == (info.nuid, info.id)
    await put_at(address, DATA[::-1])  # the address is good still, and changes nothing
    assert b"".join([block async for block in files.read(info)]) == DATA
    assert (await addressed.download(info) is None) == erasable


async def test_what_is_not_there_or_anothers_cannot_be_completed(addressed: AddressedFiles) -> None:
    address = await addressed.upload("acme", size_bytes=len(DATA))
    assert address is not None
    for tenant, upload in (
        ("acme", address.id),
        ("globex", address.id),
        ("acme", new_id()),
        ("acme", "../x"),
    ):
        with pytest.raises(NotFoundError):
            await addressed.complete(tenant, upload, name="a", ttl_s=DAY_S)


async def test_an_upload_over_a_limit_gets_no_address_and_is_no_file(
    addressed: AddressedFiles, s3: S3
) -> None:
    for size, code in ((200_001, "file_too_large"), (150_001, "quota_exceeded")):
        with pytest.raises(LimitError) as refused:
            await addressed.upload("acme", size_bytes=size)
        assert refused.value.code == code
    first, second = [await addressed.upload("acme", size_bytes=len(DATA)) for _ in range(2)]
    for address in (first, second):
        await put_at(address, DATA)
    assert first is not None
    assert second is not None
    await addressed.complete("acme", first.id, name="a", ttl_s=DAY_S)
    with pytest.raises(LimitError):
        await addressed.complete("acme", second.id, name="a", ttl_s=DAY_S)
    with pytest.raises(NotFoundError):
        await addressed.tenant_files.files.info("acme", second.id)


async def test_other_bytes_than_announced_are_no_file(addressed: AddressedFiles) -> None:
    address = await addressed.upload("acme", size_bytes=len(DATA))
    await put_at(address, DATA)
    assert address is not None
    with pytest.raises(InvalidError) as refused:
        await addressed.complete("acme", address.id, name="a", ttl_s=DAY_S, sha256="0" * 64)
    assert refused.value.code == "digest_mismatch"
    with pytest.raises(InvalidError):
        await addressed.complete("acme", address.id, name="a/b", ttl_s=DAY_S)


async def test_without_s3_there_are_no_addresses(nats_connection: Client, s3: S3) -> None:
    await topology.apply(nats_connection)
    files = Files(nats_connection, timeout_s=20)
    addressed = AddressedFiles(TenantFiles(files, NoIndex(), s3.settings), s3.settings)
    assert await addressed.upload("acme", size_bytes=5) is None
    with pytest.raises(NotFoundError):
        await addressed.complete("acme", new_id(), name="a", ttl_s=DAY_S)
