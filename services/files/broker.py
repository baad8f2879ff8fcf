"""Bytes of files in the broker: a message for each chunk, in the format of NATS's object store (ADR-20)."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final

import structlog
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import UnavailableError
from switchyard.events.subjects import JOB_ID
from switchyard.services.broker.bucket import Bucket
from switchyard.services.broker.jetstream import api
from switchyard.services.broker.publisher import Publisher
from switchyard.services.broker.quarantine import read_or
from switchyard.services.broker.reader import Stored, last_message, last_of_leader, read_range
from switchyard.services.files.chunks import Chunks
from switchyard.services.files.info import FileInfo, Remote, nuid_of
from switchyard.services.files.keys import Lock
from switchyard.services.files.resumable.record import UPLOADS
from switchyard.services.files.room import FileRoom
from switchyard.services.files.sweeper import Sweeper
from switchyard.services.files.upload import Upload

log = structlog.get_logger()

CHUNKS_IN_FLIGHT: Final = 64  # of all uploads together: 8 MiB


async def last_of(nc: Client, meta: str, *, timeout_s: float) -> Stored | None:
    """The newest description under a subject, also one of a file that was deleted.

    Raises:
        UnavailableError: the broker does not answer.
    """
    message = await last_message(nc, subjects.FILES, meta, timeout_s=timeout_s)
    if message is None:  # any replica may have answered that
        message = await last_of_leader(nc, subjects.FILES, meta, timeout_s=timeout_s)
    return message


class BrokerPlace:
    """That place.

    Args:
        nc: an open connection.
        current: what is known of a tenant's file now.
        timeout_s: seconds to wait for any answer of the broker.
        room: looked at before and while a file is stored; None where nothing is stored.
    """

    def __init__(
        self,
        nc: Client,
        current: Callable[[str, str], Awaitable[FileInfo]],
        *,
        timeout_s: float,
        room: FileRoom | None,
    ) -> None:
        self._nc = nc
        self._timeout_s = timeout_s
        self._room = room
        self._sweeper = Sweeper(nc, timeout_s=timeout_s)
        self._chunks = Chunks(nc, current, timeout_s=timeout_s)
        self._publisher: Publisher | None = None
        self._opening = asyncio.Lock()

    async def check_room(self, size_bytes: int, reserve: float) -> int:
        """After how many bytes to look again; never, where no room is looked at."""
        return sys.maxsize if self._room is None else await self._room.check(size_bytes, reserve)

    async def upload(self, *, owner: str, ttl_s: float, max_bytes: int, lock: Lock | None) -> Upload:
        """Begin an upload of any size."""
        del max_bytes
        publisher = await self.publisher()
        return Upload(publisher, self._purge, owner=owner, ttl_s=ttl_s, settle_s=self._timeout_s, lock=lock)

    def read(self, info: FileInfo, first: int, last: int) -> AsyncGenerator[tuple[int, bytes], None]:
        """Chunks by number; nothing is read ahead of the reader but one batch."""
        return self._chunks.read(info, first, last)

    async def remove(self, nuid: str, owner: str = "", remote: Remote | None = None) -> None:
        """Purge the chunks of an upload."""
        del owner, remote
        await self._purge(nuid)

    async def sweep(self, *, older_than_s: float) -> int:
        """Remove chunks that belong to no file."""
        swept = 0
        for nuid in await self._sweeper.candidates(older_than_s=older_than_s):
            if await self._is_orphan(nuid):
                await self._purge(nuid)
                swept += 1
                log.info("orphaned_chunks_removed", nuid=nuid)
        return swept

    async def publisher(self) -> Publisher:
        """The publisher, opened by the first write; it lasts as long as the connection."""
        async with self._opening:
            if self._publisher is None:
                publisher = Publisher(self._nc, window=CHUNKS_IN_FLIGHT, timeout_s=self._timeout_s)
                await publisher.start()
                self._publisher = publisher
            return self._publisher

    async def _is_orphan(self, nuid: str) -> bool:
        chunks = subjects.file_chunks(nuid)
        found = await read_range(self._nc, subjects.FILES, chunks, limit=1, timeout_s=self._timeout_s)
        if not found or subjects.H_FILE not in found[0].headers:
            return False
        return not await is_owned(
            self._nc, found[0].headers[subjects.H_FILE], nuid, timeout_s=self._timeout_s
        )

    async def _purge(self, nuid: str) -> None:
        call = f"STREAM.PURGE.{subjects.FILES}"
        query = {"filter": subjects.file_chunks(nuid)}
        answer = await api(self._nc, call, query, timeout_s=self._timeout_s)
        if "error" in answer:
            raise UnavailableError(f"the broker does not purge a file: {answer['error']['description']}")


async def is_owned(nc: Client, owner: str, nuid: str, *, timeout_s: float) -> bool:
    """Whether an upload is the file of that name, or may be: under a description that cannot be read.

    Raises:
        UnavailableError: the broker does not answer.
    """
    tenant, _, file_id = owner.partition("/")
    meta = subjects.file_meta(tenant, file_id)
    message = await last_of_leader(nc, subjects.FILES, meta, timeout_s=timeout_s)
    # What cannot be read may be the description of a file that is to be repaired.
    if message is not None and await read_or(nc, subjects.FILES, message, _nuid, nuid) == nuid:
        return True
    return await _is_part(nc, tenant, file_id, nuid, timeout_s=timeout_s)


async def _is_part(nc: Client, tenant: str, file_id: str, nuid: str, *, timeout_s: float) -> bool:
    """Whether it is a part of an upload that has not ended, or may be."""
    if JOB_ID.fullmatch(file_id) is None:
        return False
    found = await Bucket(nc, UPLOADS, timeout_s=timeout_s).get((tenant, file_id))
    if found.value is None:
        return found.is_unreadable
    return any(part.nuid == nuid for part in found.value.parts)


def _nuid(meta: Stored) -> str | None:
    return nuid_of(meta.data)
