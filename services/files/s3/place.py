"""A bucket as a place for the bytes of files."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, Final

import structlog
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import UnavailableError
from switchyard.services.broker.jetstream import api
from switchyard.services.files.info import FileInfo, Remote
from switchyard.services.files.keys import Lock
from switchyard.services.files.s3.client import GONE, S3, S3Error, said
from switchyard.services.files.s3.keys import key_of
from switchyard.services.files.s3.reading import READ_BYTES, GoneError, Reading
from switchyard.services.files.s3.sweeper import S3Sweeper
from switchyard.services.files.s3.upload import S3Upload

log = structlog.get_logger()

CHANGED: Final = frozenset({"412", "PreconditionFailed", "InvalidRange", "416"})


class S3Place:
    """That place. What it stores is under the prefix of the settings and the mark of this installation.

    Args:
        nc: an open connection.
        current: what is known of a tenant's file now.
        s3: the bucket.
        timeout_s: seconds to wait for any answer of the broker.
    """

    def __init__(
        self, nc: Client, current: Callable[[str, str], Awaitable[FileInfo]], s3: S3, *, timeout_s: float
    ) -> None:
        self._nc = nc
        self._s3 = s3
        self._timeout_s = timeout_s
        self._reading = Reading(self._opened, current)
        self._sweeper = S3Sweeper(nc, s3, timeout_s=timeout_s)

    async def check_room(self, size_bytes: int, reserve: float) -> int:
        """There is room for whatever comes."""
        del size_bytes, reserve
        return sys.maxsize

    async def upload(self, *, owner: str, ttl_s: float, max_bytes: int, lock: Lock | None) -> S3Upload:
        """Begin an upload."""
        del ttl_s  # the sweep finds what is in no file any more
        client = await self._s3.client()
        return S3Upload(self._s3, client, root=await self.root(), owner=owner, max_bytes=max_bytes, lock=lock)

    def read(self, info: FileInfo, first: int, last: int) -> AsyncGenerator[tuple[int, bytes], None]:
        """Chunks by number; the network's buffers are all that is read ahead of the reader."""
        return self._reading.read(info, first, last)

    async def remove(self, nuid: str, owner: str, remote: Remote | None) -> None:
        """Delete the object of an upload; parts of one that never ended are swept."""
        client = await self._s3.client()
        bucket = self._s3.bucket if remote is None else remote.bucket
        key = key_of(await self.root(), nuid, owner) if remote is None else remote.object
        with said("to remove a file"):
            await client.delete_object(Bucket=bucket, Key=key)

    async def sweep(self, *, older_than_s: float) -> int:
        """Remove objects and parts that belong to no file, a few pages of them."""
        try:
            return await self._sweeper.sweep(await self.root(), older_than_s=older_than_s)
        except S3Error as error:  # another sweep goes on from there, and this one has more to do
            log.warning("s3_sweep_broken_off", error=str(error))
            return 0

    async def root(self) -> str:
        """What the keys of this installation begin with."""
        return await root_of(self._nc, self._s3, timeout_s=self._timeout_s)

    @contextlib.asynccontextmanager
    async def _opened(self, info: FileInfo, start: int, end: int) -> AsyncIterator[AsyncIterator[bytes]]:
        if info.remote is None:
            raise ValueError("its bytes are in the broker")
        client = await self._s3.client()
        wanted: Any = {"IfMatch": f'"{info.remote.etag}"'} if info.remote.etag else {}
        try:
            with said("to read a file"):
                answer = await client.get_object(
                    Bucket=info.remote.bucket,
                    Key=info.remote.object,
                    Range=f"bytes={start}-{end - 1}",
                    **wanted,
                )
        except S3Error as error:
            if error.code in GONE | CHANGED:
                raise GoneError(str(error), error.code) from error
            raise
        async with answer["Body"] as body:
            yield _blocks(body)


async def root_of(nc: Client, s3: S3, *, timeout_s: float) -> str:
    """What the keys of this installation begin with, so that two in one bucket do not sweep each other's.

    Its mark is when the stream of files was made: a copy of the data that was put back has the same.

    Raises:
        UnavailableError: the broker does not answer.
    """
    answer = await api(nc, f"STREAM.INFO.{subjects.FILES}", timeout_s=timeout_s)
    if "error" in answer:
        raise UnavailableError(f"the broker has no stream {subjects.FILES}")
    mark = "".join(filter(str.isalnum, str(answer["created"])))
    return f"{s3.settings.s3_prefix}{mark}/"


async def _blocks(body: Any) -> AsyncIterator[bytes]:
    with said("to read on"):
        async for block in body.iter_chunks(READ_BYTES):
            yield block
