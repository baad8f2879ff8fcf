"""Stores, reads and removes files in the object store `files`, a chunk at a time.

Where there is S3, it has the bytes, and the object store what is known of them; see
`switchyard.services.files.place`.

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

import contextlib
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Final, Self

from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import (
    InvalidError,
    NotFoundError,
    StorageFullError,
    SwitchyardError,
    UnavailableError,
    VersionConflictError,
)
from switchyard.services import clock
from switchyard.services.broker.publisher import AckLostError, NoRoomError
from switchyard.services.broker.quarantine import read_or
from switchyard.services.broker.reader import Stored
from switchyard.services.files.broker import BrokerPlace, last_of
from switchyard.services.files.chunks import DamagedFileError
from switchyard.services.files.hidden import hidden_id, hidden_ids
from switchyard.services.files.info import (
    CHUNK_BYTES,
    ID,
    FileInfo,
    StandsError,
    as_stored,
    check,
    current,
    encode,
    encode_deleted,
    opened,
    sealed,
)
from switchyard.services.files.keys import FileKeys, scope_of
from switchyard.services.files.place import Intake, Place
from switchyard.services.files.room import RETRY_S, FileRoom
from switchyard.services.files.s3 import S3, remote_place
from switchyard.services.files.taking import READ_GRACE_S, Taker
from switchyard.services.files.upload import ttl
from switchyard.services.settings import Settings

ANY_TYPE: Final = "application/octet-stream"
SHOWN_ID_CHARS: Final = 200


class Files:
    """The files of all tenants.

    One that can be erased stands encrypted, see `switchyard.services.files.keys`; it is read like any other.

    Args:
        nc: an open connection. Uploads put megabytes on it, so a process in which something else must be
            quick gives them a connection of their own.
        timeout_s: seconds to wait for any answer of the broker.
        upload_timeout_s: the longest time that an upload may take, in seconds.
        room: looked at before and while a file is stored; None where nothing is stored.
        s3: takes the bytes of new files, and has those of some; None where all are in the broker.
    """

    def __init__(
        self,
        nc: Client,
        *,
        timeout_s: float,
        upload_timeout_s: float = 3600.0,
        room: FileRoom | None = None,
        s3: S3 | None = None,
    ) -> None:
        self._nc = nc
        self.s3 = s3
        self._timeout_s = timeout_s
        self._upload_timeout_s = upload_timeout_s
        self.keys = FileKeys(nc, timeout_s=timeout_s)
        self._broker = BrokerPlace(nc, self.info, timeout_s=timeout_s, room=room)
        self._remote = remote_place(nc, self.info, s3, timeout_s=timeout_s)
        self._place: Place = self._broker if s3 is None else self._remote
        self._taker = Taker(self._broker, self.keys, upload_timeout_s=upload_timeout_s)

    @classmethod
    def of(cls, nc: Client, settings: Settings) -> Self:
        """Those of a process: to be closed in the end by `async with`."""
        return cls(
            nc, timeout_s=settings.request_timeout_s, upload_timeout_s=settings.upload_timeout_s,
            room=FileRoom(nc, settings), s3=S3.of(settings),
        )  # fmt: skip

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.s3 is not None:
            await self.s3.aclose()

    async def put(
        self,
        *,
        tenant: str,
        file_id: str,
        name: str,
        type: str | Callable[[], str],  # noqa: A002 - the word of the API
        body: AsyncIterator[bytes],
        max_bytes: int,
        ttl_s: float,
        sha256: str | None = None,
        on_bytes: Callable[[int], None] | None = None,
        reserve: float = 1.0,
        key: str = "",
        erasable: bool = False,
        in_broker: bool = False,
        only_new: bool = False,
    ) -> FileInfo:
        """Store a file as its bytes come; it is there when all of them are, and else nothing of it is.

        Args:
            tenant: whose file it is.
            file_id: replaces what the tenant has under this id; an artifact that can be erased gets another,
                which does not say its name, and is found by both.
            name: what a download is called.
            type: its media type, or says so once the last byte is there.
            body: its bytes, in blocks of any size.
            max_bytes: the most it may have.
            ttl_s: seconds that it is kept, counted from its last byte.
            sha256: what its digest must be, in hex.
            on_bytes: called with the size of every block before it is stored; may raise.
            reserve: the part of the reserve for the ends of jobs that it has to leave.
            key: the id of the API key by which it is stored, or "".
            erasable: whether it is stored so that it can be erased: encrypted, with its name.
            in_broker: whether its bytes go to the broker wherever those of others go.
            only_new: whether it replaces none.

        Raises:
            StandsError: there is one under the id that it may not replace.
            InvalidError: id, name or type break a rule, or the digest is not `sha256`.
            LimitError: it is too large (413) or too slow (408).
            StorageFullError: there is no room for it.
            UnavailableError: the broker or S3 does not answer.
        """
        check(file_id=file_id, name=name, media_type=ANY_TYPE if callable(type) else type)
        if name in (".", ".."):  # no rule for those that are stored: they are to be had
            raise InvalidError("a file's name is not that of a directory", field="name")
        place = self._broker if in_broker else self._place
        file_id = await hidden_id(self.keys, tenant, file_id) if erasable else file_id
        upload = await self._taker.take(
            place, body, tenant=tenant, file_id=file_id, max_bytes=max_bytes, ttl_s=ttl_s, sha256=sha256,
            on_bytes=on_bytes, reserve=reserve, erasable=erasable,
        )  # fmt: skip
        now = clock.now()
        info = FileInfo(
            id=file_id,
            tenant=tenant,
            name=name,
            type=type() if callable(type) else type,
            size_bytes=upload.size_bytes,
            sha256=upload.digest.hexdigest(),
            created_at=as_stored(now),
            expires_at=as_stored(now + timedelta(seconds=ttl_s)),
            nuid=upload.nuid,
            chunks=upload.chunks,
            index=tuple(upload.index),
            key=key,
            remote=upload.remote,
        )
        info = info if upload.lock is None else sealed(info, upload.lock)
        return replace(info, seq=await self._commit(upload, info, ttl_s, only_new=only_new))

    async def take_part(
        self, body: AsyncIterator[bytes], *, tenant: str, file_id: str, max_bytes: int, ttl_s: float,
        erasable: bool,
    ) -> Intake:  # fmt: skip
        """Store bytes that belong to no file yet; the arguments are those of `put`, and so are the errors."""
        return await self._taker.take(
            self._place, body, tenant=tenant, file_id=file_id, max_bytes=max_bytes, ttl_s=ttl_s,
            erasable=erasable,
        )  # fmt: skip

    async def discard_part(self, upload: Intake) -> None:
        """Remove such bytes again."""
        await self._taker.discard(upload)

    async def check_room(self, size_bytes: int, reserve: float = 1.0) -> int:
        """After how many bytes to look again, given that there is room for so many.

        Raises:
            StorageFullError: there is none.
            UnavailableError: the broker does not answer.
        """
        return await self._place.check_room(size_bytes, reserve)

    async def _commit(self, upload: Intake, info: FileInfo, ttl_s: float, *, only_new: bool) -> int:
        """Make a file of stored chunks, in the place of the one that had its id, unless it may have none."""
        meta = subjects.file_meta(info.tenant, info.id)
        headers = {subjects.H_ROLLUP: "sub", **ttl(ttl_s)}
        try:
            last = await last_of(self._nc, meta, timeout_s=self._timeout_s)
            replaced = None if last is None else await self._read(last)
            if only_new:
                if replaced is not None:
                    raise StandsError(replaced, upload.digest.hexdigest())
                headers[subjects.H_EXPECTED_SEQ] = "0" if last is None else str(last.seq)
            publisher = await self._broker.publisher()
            seq = await publisher.publish(meta, encode(info), headers)
        except AckLostError as error:
            seq = 0
            # It may be stored or not, or be so in a moment: without its chunks it would be a damaged file.
            found = await self._find(meta)
            if found is None or found.nuid != info.nuid:
                raise UnavailableError(f"the broker did not acknowledge the file: {error}") from error
        except SwitchyardError as error:
            await self._taker.discard(upload)
            if isinstance(error, NoRoomError):
                raise StorageFullError(str(error), retry_after_s=RETRY_S) from error
            if isinstance(error, VersionConflictError):  # another upload was faster
                if (stands := await self._find(meta)) is not None:
                    raise StandsError(stands, upload.digest.hexdigest()) from error
                raise UnavailableError("the file came and went meanwhile") from error
            raise
        if replaced is not None:
            with contextlib.suppress(SwitchyardError):  # what stays behind is swept
                await self.remove_bytes(replaced)
        return seq

    async def info(self, tenant: str, file_id: str) -> FileInfo:
        """What is known of a tenant's file.

        Raises:
            NotFoundError: the tenant has no such file, or no longer.
            UnavailableError: the broker does not answer.
        """
        info = None
        if ID.fullmatch(file_id):
            info = await self._find(subjects.file_meta(tenant, file_id))
            for hidden in await hidden_ids(self.keys, tenant, file_id) if info is None else ():
                info = info or await self._find(subjects.file_meta(tenant, hidden))
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

    async def read_part(self, info: FileInfo) -> AsyncGenerator[bytes, None]:
        """All bytes of what belongs to no file yet; they are checked by its digest, or by its lock.

        Raises:
            NotFoundError, DamagedFileError, UnavailableError: as for `read`.
        """
        digest = hashlib.sha256()
        if info.chunks:
            chunks = self._place_of(info).read(info, 0, info.chunks - 1)
            async with contextlib.aclosing(chunks):
                async for _, chunk in chunks:
                    digest.update(chunk)
                    yield chunk
        if info.lock is None and digest.hexdigest() != info.sha256:
            raise DamagedFileError(f"the bytes of upload {info.id} are not those that were stored")

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
        async with contextlib.aclosing(self._place_of(info).read(info, first, last)) as chunks:
            async for number, chunk in chunks:
                if digest is not None:
                    digest.update(chunk)
                    if number == last and digest.hexdigest() != info.sha256:
                        raise DamagedFileError(f"the bytes of file {info.id} are not those that were stored")
                offset = number * CHUNK_BYTES
                yield chunk[max(0, start - offset) : end - offset]

    async def delete(self, tenant: str, file_id: str) -> bool:
        """Remove a file; a download that has begun breaks off; whether a key of it was overwritten.

        What takes its place lives as long as the file would have, so that nobody who reads the stream later
        takes the file for present.

        Raises:
            NotFoundError: the tenant has no such file.
            UnavailableError: the broker does not answer.
        """
        info = await self.info(tenant, file_id)
        publisher = await self._broker.publisher()
        remaining_s = (info.expires_at - clock.now()).total_seconds()
        headers = {subjects.H_ROLLUP: "sub", **ttl(remaining_s)}
        try:
            await publisher.publish(subjects.file_meta(tenant, info.id), encode_deleted(info), headers)
        except AckLostError as error:
            raise UnavailableError(f"the broker did not acknowledge the deletion: {error}") from error
        return await self.remove_bytes(info)

    async def erase(self, tenant: str, scope: str) -> int:
        """Erase the files of a job's attempts, or an upload; how many keys were overwritten.

        Args:
            tenant: whose they are.
            scope: the id of a job or an upload; or `<file>/<nuid>`, what was stored once under an id.

        Only what was stored to be erasable is found. The key goes last: by it the rest is found again.

        Raises:
            UnavailableError: the broker does not answer.
        """
        erased, (owner, _, only) = 0, scope.partition("/")
        for entry in await self.keys.under(tenant, scope_of(owner)):
            if only not in ("", entry.key[-1]):
                continue
            nuid, file_id = entry.key[-1], entry.value.file if entry.value else ""
            with contextlib.suppress(NotFoundError):
                if (await self.info(tenant, file_id)).nuid == nuid:
                    erased += await self.delete(tenant, file_id)
                    continue
            for place in (self._broker, self._remote):
                await place.remove(nuid, subjects.file_name(tenant, file_id), None)
            erased += await self.keys.erase(entry.key)
        return erased

    def _place_of(self, info: FileInfo) -> Place:
        return self._broker if info.remote is None else self._remote

    async def remove_bytes(self, info: FileInfo) -> bool:
        """Make the bytes of a file unreadable, and give their room back."""
        locked = info.lock is not None
        erased = locked and await self.keys.erase_upload(info.tenant, info.id, info.nuid)
        with contextlib.suppress(SwitchyardError):  # what stays behind is swept
            owner = subjects.file_name(info.tenant, info.id)
            await self._place_of(info).remove(info.nuid, owner, info.remote)
        return erased

    async def sweep(self, *, older_than_s: float) -> int:
        """Remove chunks that belong to no file and are older than an upload can last.

        Returns:
            How many uploads were removed.

        Raises:
            UnavailableError: the broker does not answer.
        """
        longest_s = max(older_than_s, self._upload_timeout_s + READ_GRACE_S)
        swept = await self._broker.sweep(older_than_s=longest_s)
        return swept + await self._remote.sweep(older_than_s=longest_s)

    async def _find(self, meta: str) -> FileInfo | None:
        message = await last_of(self._nc, meta, timeout_s=self._timeout_s)
        return None if message is None else await self._read(message)

    async def _read(self, message: Stored) -> FileInfo | None:
        # One that cannot be read stands for no file: it is set aside, and an upload may take its place.
        info = await read_or(self._nc, subjects.FILES, message, current, None)
        if info is None or not info.sealed:
            return info
        lock = await self.keys.find(info.tenant, info.id, info.nuid)
        if lock is None:  # it was erased
            return None
        return await read_or(self._nc, subjects.FILES, message, lambda _: opened(info, lock), None)
