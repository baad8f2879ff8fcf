"""Takes a body into a place: there is all of it in the end, or nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Final

from switchyard.events import subjects
from switchyard.events.errors import LimitError, StorageFullError, SwitchyardError, UnavailableError
from switchyard.services import clock
from switchyard.services.broker.publisher import AckLostError, NoRoomError
from switchyard.services.files.broker import BrokerPlace
from switchyard.services.files.keys import FileKeys
from switchyard.services.files.place import Intake, Place
from switchyard.services.files.room import RETRY_S
from switchyard.services.files.upload import limited
from switchyard.services.ids import new_id

READ_GRACE_S: Final = 60.0


class Taker:
    """Takes bodies.

    Args:
        broker: has the publisher.
        keys: draws those for what can be erased.
        upload_timeout_s: the longest time that a body may take, in seconds.
    """

    def __init__(self, broker: BrokerPlace, keys: FileKeys, *, upload_timeout_s: float) -> None:
        self._broker = broker
        self._keys = keys
        self._upload_timeout_s = upload_timeout_s

    async def take(
        self,
        place: Place,
        body: AsyncIterator[bytes],
        *,
        tenant: str,
        file_id: str,
        max_bytes: int,
        ttl_s: float,
        sha256: str | None = None,
        on_bytes: Callable[[int], None] | None = None,
        reserve: float = 1.0,
        erasable: bool = False,
    ) -> Intake:
        """Store a body whose bytes are to belong to a file; the arguments are those of `Files.put`.

        Raises:
            InvalidError: the digest is not `sha256`.
            LimitError: it is too large (413) or too slow (408).
            StorageFullError: there is no room for it.
            UnavailableError: the broker or S3 does not answer.
        """
        await place.check_room(0, reserve)
        publisher = await self._broker.publisher()
        chunks_s = ttl_s + self._upload_timeout_s + READ_GRACE_S
        lock = await self._keys.draw(
            publisher, tenant=tenant, file_id=file_id, nuid=new_id(),
            expires_at=clock.now() + timedelta(seconds=chunks_s),
        ) if erasable else None  # fmt: skip
        upload = await place.upload(
            owner=subjects.file_name(tenant, file_id), ttl_s=chunks_s, max_bytes=max_bytes, lock=lock
        )
        try:
            async with asyncio.timeout(self._upload_timeout_s) as limit:
                await upload.take(_with_room(place, limited(body, max_bytes, on_bytes), reserve), sha256)
        except BaseException as error:
            await self.discard(upload)
            if isinstance(error, TimeoutError) and limit.expired():
                message = f"the upload took longer than {self._upload_timeout_s:g} s"
                raise LimitError(message, status=408, code="upload_timeout") from error
            if isinstance(error, NoRoomError):
                raise StorageFullError(str(error), retry_after_s=RETRY_S) from error
            if isinstance(error, AckLostError):
                raise UnavailableError(f"the broker did not acknowledge a chunk: {error}") from error
            raise
        return upload

    async def discard(self, upload: Intake) -> None:
        """Remove what was taken."""
        with contextlib.suppress(SwitchyardError):  # what stays behind is swept
            await upload.discard()
        with contextlib.suppress(SwitchyardError):
            if upload.lock is not None:
                await self._keys.erase_upload(*subjects.parse_file_name(upload.owner), upload.nuid)


async def _with_room(place: Place, body: AsyncIterator[bytes], reserve: float) -> AsyncIterator[bytes]:
    """The blocks of a body for as long as there is room."""
    left = 0
    async for block in body:
        if len(block) > left:
            left = max(len(block), await place.check_room(len(block), reserve))
        left -= len(block)
        yield block
