"""Both places in which the bytes of files may lie."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from nats.aio.client import Client

from switchyard.services.broker import topology
from switchyard.services.files import Files
from switchyard.services.files.s3 import S3
from tests.files.s3.server import keys_in, make_bucket, moto, s3_settings, uploads_in


@pytest.fixture(scope="session")
def s3_url() -> Iterator[str]:
    """A server of S3, for all tests of a process."""
    with moto() as url:
        yield url


@pytest.fixture
async def s3(s3_url: str) -> AsyncIterator[S3]:
    """An empty bucket."""
    bucket = S3(s3_settings(s3_url))
    await make_bucket(bucket)
    yield bucket
    await bucket.aclose()


@pytest.fixture
async def in_s3(nats_connection: Client, s3: S3) -> AsyncIterator[Files]:
    """Files in an empty bucket, where in the end nothing may be that belongs to no file."""
    await topology.apply(nats_connection)
    files = Files(nats_connection, timeout_s=20, s3=s3)
    yield files
    owned = set()
    for key in await keys_in(s3):
        _, tenant, file_id = key.split("~")
        found = await files.info(tenant, file_id)
        assert found.remote is not None
        owned.add(found.remote.object)
    assert set(await keys_in(s3)) == owned
    assert await uploads_in(s3) == []
