"""Uploads in several requests: each stores parts, and the last makes a file of them.

A part is stored in the place of files, and counts once the upload's record names it. That is written over the
revision that the writer knew, so of two writers at one offset the slower stores nothing. With the last byte
the parts are read once more into a file of the upload's id; so its digest needs no state between requests,
and one that did not get so far is made by whoever looks at the upload next. Parts that no record names are
swept, see `switchyard.services.files.broker.is_owned`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Final
from weakref import WeakValueDictionary

import msgspec
import structlog
from nats.aio.client import Client

from switchyard.events.errors import (
    ConflictError,
    NotFoundError,
    SwitchyardError,
    UnavailableError,
    VersionConflictError,
)
from switchyard.events.subjects import JOB_ID
from switchyard.services import clock
from switchyard.services.broker.bucket import Bucket, Entry
from switchyard.services.broker.publisher import AckLostError, Publisher
from switchyard.services.files.chunks import DamagedFileError
from switchyard.services.files.info import FileInfo
from switchyard.services.files.keys import Lock, LockedError
from switchyard.services.files.place import Intake
from switchyard.services.files.resumable.bodies import Body, part_bytes
from switchyard.services.files.resumable.record import UPLOADS, Part, Upload
from switchyard.services.files.store import Files
from switchyard.services.ids import new_id
from switchyard.services.settings import Settings

log = structlog.get_logger()

SHOWN_CHARS: Final = 36
MOST_SMALL: Final = 64
"""Small parts of an upload before they are joined."""


class Described(msgspec.Struct, frozen=True):
    """What is locked of an upload that can be erased."""

    metadata: str
    name: str


_DESCRIBED: Final = msgspec.json.Decoder(Described)
Check = Callable[[], Awaitable[object]]


class Uploads:
    """Begins, continues and ends them.

    Args:
        nc: an open connection.
        publisher: started, on the same connection.
        files: has the parts, and gets the files.
        settings: limits and timeouts.
    """

    def __init__(self, nc: Client, publisher: Publisher, files: Files, settings: Settings) -> None:
        self.bucket = Bucket(
            nc, UPLOADS, publisher, timeout_s=settings.request_timeout_s, tries=settings.append_tries
        )
        self._publisher = publisher
        self._files = files
        self._ending: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def create(self, upload: Upload) -> Entry[Upload]:
        """Begin an upload.

        Raises:
            UnavailableError: the broker does not answer, or has no room.
        """
        if upload.erasable:
            nuid = new_id()
            lock = await self._files.keys.draw(
                self._publisher, tenant=upload.tenant, file_id=upload.id, nuid=nuid,
                expires_at=upload.expires_at,
            )  # fmt: skip
            plain = msgspec.json.encode(Described(upload.metadata, upload.name))
            sealed = base64.b64encode(lock.description(plain)).decode()
            upload = msgspec.structs.replace(upload, metadata="", name="", seal=nuid, sealed=sealed)
        return await self._written(upload, 0)

    async def get(self, tenant: str, upload_id: str) -> Entry[Upload]:
        """An upload.

        Raises:
            NotFoundError: the tenant has none of this id, or no longer.
            UnavailableError: the broker does not answer.
        """
        if JOB_ID.fullmatch(upload_id) is not None:
            entry = await self.bucket.get((tenant, upload_id))
            if entry.value is not None and entry.value.expires_at > clock.now():
                return entry
        raise NotFoundError(f"there is no upload {upload_id[:SHOWN_CHARS]!r}", field="id")

    async def described(self, upload: Upload) -> Described:
        """Metadata and name of an upload.

        Raises:
            NotFoundError: it was erased.
            UnavailableError: the broker does not answer.
        """
        if not upload.sealed:
            return Described(upload.metadata, upload.name)
        lock = await self._lock(upload, upload.seal)
        try:
            return _DESCRIBED.decode(lock.open_description(base64.b64decode(upload.sealed)))
        except (LockedError, ValueError) as error:
            raise DamagedFileError(f"what is known of upload {upload.id} cannot be read: {error}") from error

    async def append(self, entry: Entry[Upload], body: Body, check: Check | None = None) -> Entry[Upload]:
        """Store a body, as far as it comes.

        Args:
            entry: the upload as the caller knows it.
            body: what comes after what is stored.
            check: called at the end, may refuse all of the body; without, what came is kept part by part.

        Returns:
            The upload as it stands then; whether the body broke off is said by the body.

        Raises:
            ConflictError: somebody else went on with the upload.
            RejectedError: as for `Body` and `check`.
            StorageFullError, UnavailableError: as for `Files.put`.
        """
        held: list[Intake] = []
        try:
            while await body.begin():
                held.append(await self._taken(_upload(entry), body.part()))
                if check is None:
                    stored, held = held, []
                    entry = await self._added(entry, stored)
            if check is not None:
                await check()
                stored, held = held, []
                entry = await self._added(entry, stored)
        finally:
            for intake in held:
                await self._files.discard_part(intake)
        return entry

    async def end(self, entry: Entry[Upload]) -> tuple[Entry[Upload], FileInfo | None]:
        """Make the file of an upload whose bytes are all there, if nobody has.

        Returns:
            The upload as it stands then, and the file if it was made here.

        Raises:
            NotFoundError: the upload was removed.
            UnavailableError: the broker or S3 does not answer; another try may go on.
        """
        upload = _upload(entry)
        if upload.is_done or upload.offset < upload.length:
            return entry, None
        async with self._ending.setdefault(upload.id, asyncio.Lock()):
            entry = await self.get(upload.tenant, upload.id)
            upload = _upload(entry)
            if upload.is_done:
                return entry, None
            try:
                info = await self._file(upload)
            except (NotFoundError, DamagedFileError):
                # Another gateway may have ended it, and removed the parts.
                entry = await self.get(upload.tenant, upload.id)
                if not _upload(entry).is_done:
                    raise
                return entry, None
            with contextlib.suppress(VersionConflictError):  # another gateway did it as well
                done = msgspec.structs.replace(upload, parts=(), is_done=True, sealed="", seal="")
                entry = await self._written(done, entry.revision)
                await self._clear(upload)
        log.info("upload_ended", file=upload.id, tenant=upload.tenant, size_bytes=upload.length)
        return entry, info

    async def remove(self, entry: Entry[Upload]) -> None:
        """Remove an upload with all that has come; a file that was made of it stays.

        Raises:
            ConflictError: somebody goes on with it at this time.
            UnavailableError: the broker does not answer.
        """
        upload = _upload(entry)
        try:
            await self.bucket.delete((upload.tenant, upload.id), revision=entry.revision)
        except VersionConflictError as error:
            raise _overtaken() from error
        await self._clear(upload)

    async def _file(self, upload: Upload) -> FileInfo:
        with contextlib.suppress(NotFoundError):  # it was made, and the record not written
            return await self._files.info(upload.tenant, upload.id)
        described = await self.described(upload)
        return await self._files.put(
            tenant=upload.tenant, file_id=upload.id, name=described.name, type=upload.type,
            body=self._read(upload, upload.parts), max_bytes=max(upload.length, 1), ttl_s=upload.ttl_s,
            key=upload.key, erasable=upload.erasable,
        )  # fmt: skip

    async def _read(self, upload: Upload, parts: tuple[Part, ...]) -> AsyncIterator[bytes]:
        for part in parts:
            info = _info(upload, part)
            if upload.erasable:
                info = replace(info, lock=await self._lock(upload, part.nuid))
            async with contextlib.aclosing(self._files.read_part(info)) as chunks:
                async for chunk in chunks:
                    yield chunk

    async def _lock(self, upload: Upload, nuid: str) -> Lock:
        lock = await self._files.keys.find(upload.tenant, upload.id, nuid)
        if lock is None:
            raise NotFoundError(f"upload {upload.id} was erased", field="id")
        return lock

    async def _taken(self, upload: Upload, blocks: AsyncIterator[bytes]) -> Intake:
        return await self._files.take_part(
            blocks, tenant=upload.tenant, file_id=upload.id, max_bytes=part_bytes(upload.length),
            ttl_s=max(1.0, (upload.expires_at - clock.now()).total_seconds()), erasable=upload.erasable,
        )  # fmt: skip

    async def _added(self, entry: Entry[Upload], stored: list[Intake]) -> Entry[Upload]:
        """Name parts in the record; after another failure than a faster writer it may, and they are left."""
        if not stored:
            return entry
        upload = _upload(entry)
        more = tuple(_part(upload, intake) for intake in stored)
        try:
            entry = await self._written(
                msgspec.structs.replace(upload, parts=upload.parts + more), entry.revision
            )
        except VersionConflictError as error:
            for intake in stored:
                await self._files.discard_part(intake)
            raise _overtaken() from error
        return await self._joined(entry)

    async def _joined(self, entry: Entry[Upload]) -> Entry[Upload]:
        """Make one part of the small ones at the end, where they are many, so that the record stays small."""
        upload, size_bytes = _upload(entry), 0
        most, first = part_bytes(upload.length), len(upload.parts)
        while first and size_bytes + upload.parts[first - 1].size_bytes <= most:
            first -= 1
            size_bytes += upload.parts[first].size_bytes
        small = upload.parts[first:]
        if len(small) < MOST_SMALL:
            return entry
        intake = await self._taken(upload, self._read(upload, small))
        joined = msgspec.structs.replace(upload, parts=(*upload.parts[:first], _part(upload, intake)))
        try:
            entry = await self._written(joined, entry.revision)
        except VersionConflictError as error:
            await self._files.discard_part(intake)
            raise _overtaken() from error
        await self._clear(msgspec.structs.replace(upload, parts=small, seal=""))
        return entry

    async def _clear(self, upload: Upload) -> None:
        """Remove parts that no record names any more; what stays behind is swept."""
        for part in upload.parts:
            with contextlib.suppress(SwitchyardError):
                await self._files.remove_bytes(_info(upload, part))
        with contextlib.suppress(SwitchyardError):
            for nuid in [part.nuid for part in upload.parts if upload.erasable] + [upload.seal]:
                if nuid:
                    await self._files.keys.erase_upload(upload.tenant, upload.id, nuid)

    async def _written(self, upload: Upload, revision: int) -> Entry[Upload]:
        left_s = max(1.0, (upload.expires_at - clock.now()).total_seconds())
        key = (upload.tenant, upload.id)
        try:
            return await self.bucket.put(key, upload, revision=revision, ttl_s=math.ceil(left_s))
        except AckLostError as error:
            raise UnavailableError(f"the broker did not acknowledge an upload: {error}") from error


def _upload(entry: Entry[Upload]) -> Upload:
    if entry.value is None:
        raise ValueError("an upload was expected")
    return entry.value


def _part(upload: Upload, intake: Intake) -> Part:
    return Part(
        nuid=intake.nuid, size_bytes=intake.size_bytes, chunks=intake.chunks,
        first_seq=intake.index[0] if intake.index else 0,
        sha256="" if upload.erasable else intake.digest.hexdigest(), remote=intake.remote,
    )  # fmt: skip


def _info(upload: Upload, part: Part) -> FileInfo:
    """A part as what reads and removes files knows it: it is read from its first chunk on."""
    return FileInfo(
        id=upload.id, tenant=upload.tenant, name=upload.id, type=upload.type, size_bytes=part.size_bytes,
        sha256=part.sha256, created_at=upload.created_at, expires_at=upload.expires_at, nuid=part.nuid,
        chunks=part.chunks, index=(part.first_seq,), remote=part.remote,
    )  # fmt: skip


def _overtaken() -> ConflictError:
    message = "somebody else went on with this upload: ask for its offset"
    return ConflictError(message, code="upload_conflict")
