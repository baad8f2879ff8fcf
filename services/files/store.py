"""Stores, reads and removes files in the object store `files`, a chunk at a time.

The format is that of NATS's object store (ADR-20), so `nats object get files <tenant>/<id>` works. What is
ours: nats-py's store reads its source blocking and cannot stream a body, its chunks are acknowledged one by
one, and it cannot start in the middle.

Chunks and meta carry `Nats-TTL`, so the broker itself removes an expired file. Chunks outlive their meta
by the longest time that an upload may take, since the first is stored that much earlier, and a little
more, so that a download that has begun can end. The stream must not have `subject_delete_marker_ttl`: the
broker would raise every shorter TTL to it, and put an empty message in a meta's place, on which
`nats object ls` hangs and nats-py's `list` fails (tried with nats-server 2.15.1 and nats-py 2.16).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

import structlog
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import (
    InvalidError,
    LimitError,
    NotFoundError,
    StorageFullError,
    SwitchyardError,
    UnavailableError,
)
from switchyard.services import clock
from switchyard.services.broker.jetstream import api
from switchyard.services.broker.publisher import AckLostError, NoRoomError, Publisher
from switchyard.services.broker.quarantine import read_or
from switchyard.services.broker.reader import Stored, last_message, last_of_leader, read_range
from switchyard.services.files.info import (
    CHUNK_BYTES,
    CHUNKS_PER_ENTRY,
    ID,
    FileInfo,
    check,
    decode,
    encode,
    encode_deleted,
    nuid_of,
)
from switchyard.services.files.room import RETRY_S, FileRoom
from switchyard.services.files.sweeper import Sweeper
from switchyard.services.files.upload import Upload, limited, ttl

log = structlog.get_logger()

CHUNKS_IN_FLIGHT: Final = 64  # of all uploads together: 8 MiB
CHUNKS_PER_READ: Final = 8  # what a reader holds at most: 1 MiB
READ_GRACE_S: Final = 60.0
SHOWN_ID_CHARS: Final = 200
# A replica may be a moment behind the leader that acknowledged the upload.
LAG_RETRIES_S: Final = (0.05, 0.4)


class DamagedFileError(SwitchyardError):
    """A stored file lacks a chunk, or its bytes are not those that were stored."""


class Files:
    """The files of all tenants.

    Args:
        nc: an open connection. Uploads put megabytes on it, so a process in which something else must be
            quick gives them a connection of their own.
        timeout_s: seconds to wait for any answer of the broker.
        upload_timeout_s: the longest time that an upload may take, in seconds.
        room: looked at before and while a file is stored; None where nothing is stored.
    """

    def __init__(
        self,
        nc: Client,
        *,
        timeout_s: float,
        upload_timeout_s: float = 3600.0,
        room: FileRoom | None = None,
    ) -> None:
        self._nc = nc
        self._timeout_s = timeout_s
        self._upload_timeout_s = upload_timeout_s
        self._room = room
        self._sweeper = Sweeper(nc, timeout_s=timeout_s)
        self._publisher: Publisher | None = None
        self._opening = asyncio.Lock()

    async def put(
        self,
        *,
        tenant: str,
        file_id: str,
        name: str,
        type: str,  # noqa: A002 - the word of the API
        body: AsyncIterator[bytes],
        max_bytes: int,
        ttl_s: float,
        sha256: str | None = None,
        on_bytes: Callable[[int], None] | None = None,
        reserve: float = 1.0,
        key: str = "",
    ) -> FileInfo:
        """Store a file as its bytes come; it is there when all of them are, and else nothing of it is.

        Args:
            tenant: whose file it is.
            file_id: replaces what the tenant has under this id.
            name: what a download is called.
            type: its media type.
            body: its bytes, in blocks of any size.
            max_bytes: the most it may have.
            ttl_s: seconds that it is kept, counted from its last byte.
            sha256: what its digest must be, in hex.
            on_bytes: called with the size of every block before it is stored; may raise.
            reserve: the part of the reserve for the ends of jobs that it has to leave.
            key: the id of the API key by which it is stored, or "".

        Raises:
            InvalidError: id, name or type break a rule, or the digest is not `sha256`.
            LimitError: it is too large (413) or too slow (408).
            StorageFullError: there is no room for it.
            UnavailableError: the broker does not answer.
        """
        check(file_id=file_id, name=name, media_type=type)
        if name in (".", ".."):  # no rule for those that are stored: they are to be had
            raise InvalidError("a file's name is not that of a directory", field="name")
        await self.check_room(0, reserve)
        publisher = await self._open()
        upload = Upload(
            publisher,
            owner=subjects.file_name(tenant, file_id),
            ttl_s=ttl_s + self._upload_timeout_s + READ_GRACE_S,
        )
        try:
            async with asyncio.timeout(self._upload_timeout_s) as limit:
                await upload.take(self._with_room(limited(body, max_bytes, on_bytes), reserve), sha256)
        except BaseException as error:
            await self._discard(upload)
            if isinstance(error, TimeoutError) and limit.expired():
                message = f"the upload took longer than {self._upload_timeout_s:g} s"
                raise LimitError(message, status=408, code="upload_timeout") from error
            if isinstance(error, NoRoomError):
                raise StorageFullError(str(error), retry_after_s=RETRY_S) from error
            if isinstance(error, AckLostError):
                raise UnavailableError(f"the broker did not acknowledge a chunk: {error}") from error
            raise
        now = clock.now()
        info = FileInfo(
            id=file_id,
            tenant=tenant,
            name=name,
            type=type,
            size_bytes=upload.size_bytes,
            sha256=upload.digest.hexdigest(),
            created_at=_as_stored(now),
            expires_at=_as_stored(now + timedelta(seconds=ttl_s)),
            nuid=upload.nuid,
            chunks=upload.chunks,
            index=tuple(upload.index),
            key=key,
        )
        return replace(info, seq=await self._commit(publisher, upload, info, ttl_s))

    async def check_room(self, size_bytes: int, reserve: float = 1.0) -> int:
        """After how many bytes to look again, given that there is room for so many.

        Raises:
            StorageFullError: there is none.
            UnavailableError: the broker does not answer.
        """
        return sys.maxsize if self._room is None else await self._room.check(size_bytes, reserve)

    async def _with_room(self, body: AsyncIterator[bytes], reserve: float) -> AsyncIterator[bytes]:
        """The blocks of a body for as long as there is room."""
        left = 0
        async for block in body:
            if len(block) > left:
                left = max(len(block), await self.check_room(len(block), reserve))
            left -= len(block)
            yield block

    async def _commit(self, publisher: Publisher, upload: Upload, info: FileInfo, ttl_s: float) -> int:
        """Make a file of stored chunks, in the place of the one that had its id."""
        meta = subjects.file_meta(info.tenant, info.id)
        try:
            replaced = await self._find(meta)
            seq = await publisher.publish(meta, encode(info), {subjects.H_ROLLUP: "sub", **ttl(ttl_s)})
        except AckLostError as error:
            seq = 0
            # It may be stored or not, or be so in a moment: without its chunks it would be a damaged file.
            found = await self._find(meta)
            if found is None or found.nuid != info.nuid:
                raise UnavailableError(f"the broker did not acknowledge the file: {error}") from error
        except SwitchyardError as error:
            await self._discard(upload)
            if isinstance(error, NoRoomError):
                raise StorageFullError(str(error), retry_after_s=RETRY_S) from error
            raise
        if replaced is not None:
            with contextlib.suppress(SwitchyardError):  # what stays behind is swept
                await self._purge(replaced.nuid)
        return seq

    async def _discard(self, upload: Upload) -> None:
        with contextlib.suppress(SwitchyardError):  # what stays behind is swept
            await upload.settle(self._timeout_s)
            await self._purge(upload.nuid)

    async def info(self, tenant: str, file_id: str) -> FileInfo:
        """What is known of a tenant's file.

        Raises:
            NotFoundError: the tenant has no such file, or no longer.
            UnavailableError: the broker does not answer.
        """
        info = None
        if ID.fullmatch(file_id):
            info = await self._find(subjects.file_meta(tenant, file_id))
        if info is None:
            raise NotFoundError(f"there is no file {file_id[:SHOWN_ID_CHARS]!r}")
        return info

    async def exists(self, tenant: str, file_id: str) -> bool:
        """Whether the tenant has a file of this id."""
        try:
            await self.info(tenant, file_id)
        except NotFoundError:
            return False
        return True

    async def read(
        self, info: FileInfo, start: int = 0, end: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """The file's bytes from `start` to before `end`, as fast as they are taken.

        Nothing is read ahead of the reader but one batch. The last chunk of a file read whole is held back
        until the digest was found right.

        Raises:
            NotFoundError: it was deleted or has expired meanwhile.
            DamagedFileError: it is not what was stored.
            UnavailableError: the broker does not answer.
        """
        end = info.size_bytes if end is None else min(end, info.size_bytes)
        if start >= end:
            return
        first, last = start // CHUNK_BYTES, (end - 1) // CHUNK_BYTES
        digest = hashlib.sha256() if start == 0 and end == info.size_bytes else None
        async for number, chunk in self._chunks(info, first, last):
            if digest is not None:
                digest.update(chunk)
                if number == last and digest.hexdigest() != info.sha256:
                    raise DamagedFileError(f"the bytes of file {info.id} are not those that were stored")
            offset = number * CHUNK_BYTES
            yield chunk[max(0, start - offset) : end - offset]

    async def delete(self, tenant: str, file_id: str) -> None:
        """Remove a file; a download that has begun breaks off.

        What takes its place lives as long as the file would have, so that nobody who reads the stream later
        takes the file for present.

        Raises:
            NotFoundError: the tenant has no such file.
            UnavailableError: the broker does not answer.
        """
        info = await self.info(tenant, file_id)
        publisher = await self._open()
        remaining_s = (info.expires_at - clock.now()).total_seconds()
        headers = {subjects.H_ROLLUP: "sub", **ttl(remaining_s)}
        try:
            await publisher.publish(subjects.file_meta(tenant, file_id), encode_deleted(info), headers)
        except AckLostError as error:
            raise UnavailableError(f"the broker did not acknowledge the deletion: {error}") from error
        with contextlib.suppress(SwitchyardError):  # what stays behind is swept
            await self._purge(info.nuid)

    async def sweep(self, *, older_than_s: float) -> int:
        """Remove chunks that belong to no file and are older than an upload can last.

        Returns:
            How many uploads were removed.

        Raises:
            UnavailableError: the broker does not answer.
        """
        swept = 0
        for nuid in await self._sweeper.candidates(
            older_than_s=max(older_than_s, self._upload_timeout_s + READ_GRACE_S)
        ):
            if await self._is_orphan(nuid):
                await self._purge(nuid)
                swept += 1
                log.info("orphaned_chunks_removed", nuid=nuid)
        return swept

    async def _is_orphan(self, nuid: str) -> bool:
        chunks = subjects.file_chunks(nuid)
        found = await read_range(self._nc, subjects.FILES, chunks, limit=1, timeout_s=self._timeout_s)
        if not found or subjects.H_FILE not in found[0].headers:
            return False
        tenant, _, file_id = found[0].headers[subjects.H_FILE].partition("/")
        meta = subjects.file_meta(tenant, file_id)
        message = await last_of_leader(self._nc, subjects.FILES, meta, timeout_s=self._timeout_s)
        if message is None:
            return True
        # Under one that cannot be read, the chunks may be those of a file that is to be repaired.
        return await read_or(self._nc, subjects.FILES, message, _nuid, nuid) != nuid

    async def _open(self) -> Publisher:
        """The publisher, opened by the first write; it lasts as long as the connection."""
        async with self._opening:
            if self._publisher is None:
                publisher = Publisher(self._nc, window=CHUNKS_IN_FLIGHT, timeout_s=self._timeout_s)
                await publisher.start()
                self._publisher = publisher
            return self._publisher

    async def _find(self, meta: str) -> FileInfo | None:
        message = await last_message(self._nc, subjects.FILES, meta, timeout_s=self._timeout_s)
        if message is None:  # any replica may have answered that
            message = await last_of_leader(self._nc, subjects.FILES, meta, timeout_s=self._timeout_s)
        if message is None:
            return None
        # One that cannot be read stands for no file: it is set aside, and an upload may take its place.
        return await read_or(self._nc, subjects.FILES, message, _info, None)

    async def _chunks(self, info: FileInfo, first: int, last: int) -> AsyncGenerator[tuple[int, bytes], None]:
        """Chunks by number, each checked for its place and size."""
        number = first - first % CHUNKS_PER_ENTRY
        seq = info.index[number // CHUNKS_PER_ENTRY]
        while number <= last:
            batch = await self._batch(info, seq, min(CHUNKS_PER_READ, last - number + 1))
            for message in batch:
                size = min(CHUNK_BYTES, info.size_bytes - number * CHUNK_BYTES)
                if message.headers.get(subjects.H_CHUNK) != str(number) or len(message.data) != size:
                    raise DamagedFileError(f"file {info.id} lacks its chunk {number} of {info.chunks}")
                if number >= first:
                    yield number, message.data
                number += 1
            seq = batch[-1].seq + 1

    async def _batch(self, info: FileInfo, seq: int, count: int) -> list[Stored]:
        for wait_s in (*LAG_RETRIES_S, None):
            batch = await read_range(
                self._nc,
                subjects.FILES,
                subjects.file_chunks(info.nuid),
                start=seq,
                limit=count,
                timeout_s=self._timeout_s,
            )
            if len(batch) == count:
                return batch
            if wait_s is not None:
                await asyncio.sleep(wait_s)
        if (await self.info(info.tenant, info.id)).nuid != info.nuid:
            raise NotFoundError(f"file {info.id} was replaced while it was read")
        raise DamagedFileError(f"file {info.id} lacks some of its {info.chunks} chunks")

    async def _purge(self, nuid: str) -> None:
        call = f"STREAM.PURGE.{subjects.FILES}"
        query = {"filter": subjects.file_chunks(nuid)}
        answer = await api(self._nc, call, query, timeout_s=self._timeout_s)
        if "error" in answer:
            raise UnavailableError(f"the broker does not purge a file: {answer['error']['description']}")


def _info(meta: Stored) -> FileInfo | None:
    """The file that a meta stands for; None when it was deleted or has expired."""
    try:
        return decode(meta.data)
    except NotFoundError:
        return None


def _nuid(meta: Stored) -> str | None:
    return nuid_of(meta.data)


def _as_stored(at: datetime) -> datetime:
    """A time as finely as a description holds it."""
    return at.replace(microsecond=at.microsecond // 1000 * 1000)
