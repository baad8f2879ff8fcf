"""What may be done with a tenant's files: store, list, read and delete them, within its share."""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import datetime
from typing import Any, Final, NamedTuple, Protocol

import structlog

from switchyard.events.errors import ConflictError, LimitError, NotFoundError, UnavailableError
from switchyard.services import clock
from switchyard.services.concurrency import each
from switchyard.services.files import FileInfo, Files, StandsError
from switchyard.services.files.quota import Quota
from switchyard.services.files.s3.signing import Addresses
from switchyard.services.ids import id_for_key, new_id
from switchyard.services.intake.request import parse_key
from switchyard.services.records.room import FOR_ENDS
from switchyard.services.settings import Settings

log = structlog.get_logger()

OPEN_AT_ONCE: Final = 16


class FileIndex(Protocol):
    """What the read model knows of files."""

    def files_kept(self, tenant: str, now: datetime) -> tuple[int, int, int]:
        """How many files a tenant keeps, their bytes, and up to which sequence of the object store."""

    def files(
        self, tenant: str, cursor: str | None, limit: int, *, now: datetime
    ) -> tuple[list[dict[str, Any]], str | None]:
        """A page of a tenant's files, newest first, and the cursor of the next page, if there is one."""


class Incoming(Protocol):
    """A file on its way in."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def type(self) -> str | Callable[[], str]:
        """Its media type, or what says it once the last byte is there."""

    @property
    def sha256(self) -> str | None:
        """What its sender says that its digest is, in hex."""

    @property
    def body(self) -> AsyncIterator[bytes]:
        """Its bytes."""


class Kept(NamedTuple):
    """A file that is stored; `is_new` is False where an earlier upload stored it."""

    info: FileInfo
    is_new: bool


class TenantFiles:
    """Stores files for callers.

    Args:
        files: where they are stored.
        index: lists them and counts their bytes.
        settings: limits.
        addresses: gives clients some in S3; None where the files are in the broker.
    """

    def __init__(
        self, files: Files, index: FileIndex, settings: Settings, addresses: Addresses | None = None
    ) -> None:
        self.files = files
        self.addresses = addresses
        self._index = index
        self._settings = settings
        self.quota = Quota(
            lambda tenant: index.files_kept(tenant, clock.now()),
            limit_files=settings.tenant_files,
            limit_bytes=settings.tenant_bytes,
        )
        self._transfers = 0
        self._transfers_of: Counter[str] = Counter()

    async def store(
        self,
        tenant: str,
        opened: Callable[[], Awaitable[Incoming]],
        *,
        announced: int,
        key: str | None,
        ttl_s: float | Callable[[], float],
        api_key: str = "",
        erasable: bool = False,
        file_id: str | None = None,
    ) -> Kept:
        """Store a file, or find that an earlier upload with the same key did.

        Args:
            tenant: whose it is.
            opened: begins to take it, once there is room.
            announced: bytes that it has at least, as far as its sender says.
            key: its idempotency key.
            ttl_s: how long it is kept, or says so once it is begun to be taken.
            api_key: the id of the API key by which it comes, or "".
            erasable: whether it is stored so that it can be erased.
            file_id: its id, where there is no key; a new one without.

        Raises:
            RejectedError: it breaks a rule, or the tenant's quota.
            ConflictError: the key stands for another file.
            UnavailableError: the broker does not answer, or too many files are being transferred.
        """
        self.check_size(announced)
        with self.transfer(tenant), self.quota.upload(tenant, announced) as take:
            await self.files.check_room(announced)
            upload = await opened()
            of_key = None if key is None else id_for_key(tenant, f"file\0{parse_key(key)}")
            earlier = await self._earlier(tenant, of_key) if of_key else None
            if earlier is not None:
                await _compare(earlier, upload, take)
                return Kept(earlier, is_new=False)
            try:
                info = await self.files.put(
                    tenant=tenant, file_id=of_key or file_id or new_id(), name=upload.name, type=upload.type,
                    body=upload.body, max_bytes=self._settings.file_bytes,
                    ttl_s=ttl_s() if callable(ttl_s) else ttl_s, sha256=upload.sha256, on_bytes=take,
                    key=api_key, erasable=erasable, only_new=of_key is not None,
                )  # fmt: skip
            except StandsError as error:  # a request with this key was faster
                _check_same(error.stored, error.sha256)
                return Kept(error.stored, is_new=False)
            take.stored(info.seq)
        log.info("file_stored", file=info.id, tenant=info.tenant, size_bytes=info.size_bytes)
        return Kept(info, is_new=True)

    async def receive(
        self,
        tenant: str,
        opened: Callable[[], Awaitable[Incoming]],
        *,
        announced: int,
        file_id: str,
        name: str,
        before_commit: Callable[[], Awaitable[object]],
        api_key: str = "",
        erasable: bool = False,
        least_s: float = 0.0,
    ) -> FileInfo:
        """Store a file of an attempt.

        Args:
            tenant: whose file it is.
            opened: begins to take it, once there is room.
            announced: bytes that it has at least, as far as its sender says.
            file_id: its id.
            name: its name.
            before_commit: called when all bytes are there; nothing is kept if it raises.
            api_key: the id of the API key by which it comes, or "".
            erasable: whether it is stored so that it can be erased.
            least_s: how long it is kept at least.

        Raises:
            RejectedError: the body breaks a rule, or the tenant's quota.
            StorageFullError: there is no room for it.
            UnavailableError: the broker does not answer, or too many files are being transferred.
        """
        settings = self._settings
        self.check_size(announced)
        with self.transfer(tenant), self.quota.upload(tenant, announced) as take:
            await self.files.check_room(announced, FOR_ENDS)
            upload = await opened()
            info = await self.files.put(
                tenant=tenant, file_id=file_id, name=name, type=upload.type,
                body=_and_then(upload.body, before_commit), max_bytes=settings.file_bytes,
                ttl_s=max(settings.file_ttl_s, least_s), sha256=upload.sha256, on_bytes=take,
                reserve=FOR_ENDS, key=api_key, erasable=erasable,
            )  # fmt: skip
            take.stored(info.seq)
            return info

    async def page(
        self, tenant: str, cursor: str | None, limit: int
    ) -> tuple[list[dict[str, Any]], str | None]:
        """A page of the tenant's files, newest first, and the cursor of the next.

        The read model knows neither name, type nor digest of one that can be erased: they are looked up.
        """
        rows, more = self._index.files(tenant, cursor, limit, now=clock.now())
        locked = [row for row in rows if row["name"] == row["id"]]
        found = dict(
            zip(
                [row["id"] for row in locked],
                await each(lambda row: self._opened(tenant, row), locked, at_once=OPEN_AT_ONCE),
                strict=True,
            )
        )
        shown = [found.get(row["id"], row) for row in rows]
        return [row for row in shown if row is not None], more

    async def _opened(self, tenant: str, row: dict[str, Any]) -> dict[str, Any] | None:
        """A file of the read model with what it does not know; None when it was erased."""
        info = await self._earlier(tenant, row["id"])
        return None if info is None else {**row, "name": info.name, "type": info.type, "sha256": info.sha256}

    def check_size(self, announced: int) -> None:
        """Refuse what is too large.

        Raises:
            LimitError: status 413, code `file_too_large`.
        """
        most = self._settings.file_bytes
        if announced > most:
            message = f"a file has at most {most} bytes; this one has {announced}"
            raise LimitError(message, status=413, code="file_too_large")

    async def _earlier(self, tenant: str, file_id: str) -> FileInfo | None:
        with contextlib.suppress(NotFoundError):
            return await self.files.info(tenant, file_id)
        return None

    @contextlib.contextmanager
    def transfer(self, tenant: str) -> Iterator[None]:
        """Hold one of the places for files that are being transferred.

        Raises:
            LimitError: the tenant has as many as it may.
            UnavailableError: all have.
        """
        if self._transfers >= self._settings.transfers:
            message = f"{self._settings.transfers} files are being transferred, which is the limit"
            raise UnavailableError(message, retry_after_s=2.0)
        most = self._settings.tenant_transfers
        if self._transfers_of[tenant] >= most:
            message = f"{most} files of tenant {tenant} are being transferred, which is the limit"
            raise LimitError(message, code="too_many_transfers", retry_after_s=2.0)
        self._transfers += 1
        self._transfers_of[tenant] += 1
        try:
            yield
        finally:
            self._transfers -= 1
            self._transfers_of[tenant] -= 1
            if not self._transfers_of[tenant]:
                del self._transfers_of[tenant]


async def _and_then(
    body: AsyncIterator[bytes], check: Callable[[], Awaitable[object]]
) -> AsyncIterator[bytes]:
    async for block in body:
        yield block
    await check()


async def _compare(stored: FileInfo, upload: Incoming, on_bytes: Callable[[int], None]) -> None:
    """Read an upload that was stored before, and store nothing.

    Raises:
        ConflictError: it is another file under the same key.
    """
    digest = hashlib.sha256()
    async for block in upload.body:
        on_bytes(len(block))
        digest.update(block)
    _check_same(stored, digest.hexdigest())


def _check_same(stored: FileInfo, sha256: str) -> None:
    if sha256 != stored.sha256:
        message = f"the idempotency key stands for file {stored.id}, which has other bytes"
        raise ConflictError(message, code="idempotency_conflict")
