"""What may be done with a tenant's resumable uploads, within its share of files."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Final

import structlog
from nats.aio.client import Client

from switchyard.events.errors import ConflictError, LimitError
from switchyard.services import clock
from switchyard.services.broker.bucket import Bucket, Entry
from switchyard.services.broker.bucket.mirror import Mirror
from switchyard.services.broker.publisher import Publisher
from switchyard.services.files.info import check
from switchyard.services.files.quota import RESERVED_S
from switchyard.services.files.resumable.bodies import Body, part_bytes
from switchyard.services.files.resumable.record import UPLOADS, Upload
from switchyard.services.files.resumable.uploads import Check, Uploads
from switchyard.services.gateway.operations.files import Incoming, TenantFiles
from switchyard.services.ids import new_id
from switchyard.services.settings import Settings

log = structlog.get_logger()

AGAIN_S: Final = RESERVED_S / 3


class ResumableUploads:
    """Begins, continues and ends them for callers; `run` beside, so that all gateways keep room for each.

    Args:
        nc: an open connection.
        publisher: started, on the same connection.
        files: those of the tenants.
        settings: limits and timeouts.
    """

    def __init__(self, nc: Client, publisher: Publisher, files: TenantFiles, settings: Settings) -> None:
        self.uploads = Uploads(nc, publisher, files.files, settings)
        self._files = files
        self._settings = settings
        self._open: Counter[str] = Counter()
        self._sizes: dict[tuple[str, ...], int] = {}
        bucket = Bucket(nc, UPLOADS, timeout_s=settings.request_timeout_s)
        self._mirror = Mirror(bucket, on_change=self._changed)

    async def load(self) -> None:
        """Read what there is.

        Raises:
            UnavailableError: the broker does not answer.
        """
        await self._mirror.load()

    async def run(self) -> None:
        """Follow what other gateways begin and end, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._mirror.run())
            while True:
                await asyncio.sleep(AGAIN_S)
                for entry in list(self._mirror.entries.values()):
                    self._changed(entry)

    async def create(
        self, tenant: str, *, length: int, metadata: str, name: str, media_type: str, ttl_s: float,
        erasable: bool, api_key: str,
    ) -> Entry[Upload]:  # fmt: skip
        """Begin an upload, and keep room for all of it.

        Args:
            tenant: whose file it becomes.
            length: how many bytes come.
            metadata: to be given back as it is.
            name: that of the file.
            media_type: that of the file.
            ttl_s: how long the file is kept.
            erasable: whether the file can be erased.
            api_key: the id of the API key by which it comes, or "".

        Raises:
            RejectedError: it breaks a rule, or the tenant's share.
            StorageFullError: there is no room.
            UnavailableError: the broker does not answer.
        """
        now, upload_id = clock.now(), new_id()
        check(file_id=upload_id, name=name, media_type=media_type)
        self._files.check_size(length)
        if self._open[tenant] >= self._settings.uploads:
            message = f"tenant {tenant} has {self._open[tenant]} resumable uploads, which is the limit"
            raise LimitError(message, code="too_many_uploads")
        # For a moment its parts and its file are both there.
        await self._files.files.check_room(2 * length)
        self._files.quota.reserve(tenant, upload_id, length, length)
        entry = None
        try:
            entry = await self.uploads.create(
                Upload(
                    tenant=tenant, id=upload_id, length=length, metadata=metadata, name=name,
                    type=media_type, ttl_s=ttl_s, erasable=erasable, key=api_key, created_at=now,
                    expires_at=now + timedelta(seconds=self._settings.uploads_ttl_s),
                )
            )  # fmt: skip
        finally:
            if entry is None:
                self._files.quota.settle(tenant, upload_id, None)
        self._mirror.note(entry)
        return entry

    async def get(self, tenant: str, upload_id: str) -> Entry[Upload]:
        """An upload; where all of it has come, its file is made first.

        Raises:
            NotFoundError: the tenant has none of this id.
            UnavailableError: the broker or S3 does not answer.
        """
        return await self._ended(await self.uploads.get(tenant, upload_id))

    async def append(
        self, tenant: str, upload_id: str, offset: int, announced: int | None, opened: Incoming,
        check: Check | None = None,
    ) -> Entry[Upload]:  # fmt: skip
        """Store what comes after an offset.

        Args:
            tenant: whose upload.
            upload_id: which.
            offset: how many bytes there are, as the client believes.
            announced: how many come; None where that is not known.
            opened: has the body.
            check: refuses all of it at the end, or does not.

        Raises:
            NotFoundError: the tenant has none of this id.
            ConflictError: there are not as many, or somebody else goes on with it.
            RejectedError: it is too long, broke off, or was refused; what came may be kept.
            UnavailableError: the broker or S3 does not answer, or too many files are being transferred.
        """
        with self._files.transfer(tenant):
            entry = await self.uploads.get(tenant, upload_id)
            upload = entry.value
            if upload is None or offset != upload.offset:
                have = 0 if upload is None else upload.offset
                message = f"Upload-Offset: {have} bytes are stored, not {offset}"
                raise ConflictError(message, code="offset_conflict")
            left = upload.length - offset
            if announced is not None and announced > left:
                message = f"{announced} bytes come, where {left} of the upload's length are left"
                raise LimitError(message, status=413, code="upload_too_long")
            body = Body(
                opened.body, most_bytes=left, size_bytes=part_bytes(upload.length), checked=check is not None
            )
            entry = await self.uploads.append(entry, body, check)
            self._mirror.note(entry)
            if body.broken is not None:
                raise body.broken
            return await self._ended(entry)

    async def remove(self, tenant: str, upload_id: str) -> None:
        """Remove an upload, with all that has come of it; a file that was made of it stays.

        Raises:
            NotFoundError: the tenant has none of this id.
            ConflictError: somebody goes on with it at this time.
            UnavailableError: the broker does not answer.
        """
        entry = await self.uploads.get(tenant, upload_id)
        await self.uploads.remove(entry)

    async def _ended(self, entry: Entry[Upload]) -> Entry[Upload]:
        entry, info = await self.uploads.end(entry)
        self._mirror.note(entry)
        if info is not None:
            self._files.quota.settle(info.tenant, info.id, (info.size_bytes, info.seq))
        return entry

    def _changed(self, entry: Entry[Upload]) -> None:
        tenant, upload_id = entry.key
        upload = entry.value
        is_open = upload is not None and not upload.is_done and upload.expires_at > clock.now()
        if upload is not None and is_open:
            if entry.key not in self._sizes:
                self._open[tenant] += 1
            self._sizes[entry.key] = upload.length
            self._files.quota.hold(tenant, upload_id, upload.length)
        elif self._sizes.pop(entry.key, None) is not None:
            self._open[tenant] -= 1
            self._files.quota.settle(tenant, upload_id, None)
            if not self._open[tenant]:
                del self._open[tenant]
