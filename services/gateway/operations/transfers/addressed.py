"""Files that clients load up and down past the gateway, by addresses in S3."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Final

import structlog

from switchyard.events.errors import NotFoundError
from switchyard.services.files import FileInfo
from switchyard.services.files.s3.signing import UploadAddress
from switchyard.services.gateway.operations.files import TenantFiles
from switchyard.services.settings import Settings

log = structlog.get_logger()

DEFAULT_TYPE: Final = "application/octet-stream"


class AddressedFiles:
    """Gives addresses within the tenants' shares, and makes files of what came by them.

    Args:
        tenant_files: stores files for callers.
        settings: limits.
    """

    def __init__(self, tenant_files: TenantFiles, settings: Settings) -> None:
        self.tenant_files = tenant_files
        self._settings = settings

    async def download(self, info: FileInfo, *, lasts_s: float | None = None) -> str | None:
        """A short-lived address of a file; None where the gateway has to give its bytes.

        Args:
            info: the file.
            lasts_s: seconds for which it opens; those of the settings by default.

        Raises:
            UnavailableError: the address cannot be signed.
        """
        addresses = self.tenant_files.addresses
        if addresses is None:
            return None
        return await addresses.download(info, lasts_s=lasts_s or self._settings.s3_address_s)

    async def upload(
        self,
        tenant: str,
        *,
        size_bytes: int,
        type: str | None = DEFAULT_TYPE,  # noqa: A002 - the word of the API
        lasts_s: float | None = None,
    ) -> UploadAddress | None:
        """A short-lived address that takes a file of this size; None where the gateway has to take it.

        Args:
            tenant: whose it will be.
            size_bytes: its size, exactly.
            type: its media type; None where the PUT may name any.
            lasts_s: seconds within which it has to come; those of the settings by default.

        Raises:
            RejectedError: it is too large, or there is no room for it in the tenant's quota.
            UnavailableError: the broker does not answer.
        """
        addresses = self.tenant_files.addresses
        if addresses is None:
            return None
        self.tenant_files.check_size(size_bytes)
        with self.tenant_files.quota.upload(tenant, size_bytes):
            return await addresses.upload(
                tenant, size_bytes=size_bytes, type=type, lasts_s=lasts_s or self._settings.s3_address_s
            )

    async def complete(
        self,
        tenant: str,
        upload: str,
        *,
        name: str,
        ttl_s: float,
        sha256: str | None = None,
        api_key: str = "",
        erasable: bool = False,
        type: str | None = None,  # noqa: A002 - the word of the API
        awaited: Callable[[FileInfo], bool] | None = None,
    ) -> FileInfo:
        """Make a file of what was put at an address: its bytes are read, counted, and stored by our own hand.

        So what somebody puts there later, while the address is good, changes nothing. A repeated call gives
        the file that the first has made.

        Args:
            tenant: whose it is.
            upload: names the upload, and the file.
            name: what a download is called.
            ttl_s: how long it is kept.
            sha256: what its digest must be, in hex.
            api_key: the id of the API key by which it comes, or "".
            erasable: whether it is stored so that it can be erased.
            type: its media type; what the PUT has named by default.
            awaited: whether a file under this id is no file yet but keeps its place, which it takes.

        Raises:
            NotFoundError: nothing was put there, or too long ago.
            RejectedError: it breaks a rule, or the tenant's quota.
            UnavailableError: the broker or S3 does not answer, or too many files are being transferred.
        """
        files, addresses = self.tenant_files.files, self.tenant_files.addresses
        if addresses is None:
            raise NotFoundError("there is no such upload")
        with contextlib.suppress(NotFoundError):
            earlier = await files.info(tenant, upload)
            if awaited is None or not awaited(earlier):
                return earlier
        incoming = await addresses.incoming(tenant, upload)
        self.tenant_files.check_size(incoming.size_bytes)
        with (
            self.tenant_files.transfer(tenant),
            self.tenant_files.quota.upload(tenant, incoming.size_bytes) as take,
        ):
            try:
                info = await files.put(
                    tenant=tenant, file_id=upload, name=name, type=type or incoming.type or DEFAULT_TYPE,
                    body=incoming.body, max_bytes=self._settings.file_bytes, ttl_s=ttl_s,
                    sha256=sha256, on_bytes=take, key=api_key, erasable=erasable,
                )  # fmt: skip
            finally:
                await incoming.body.aclose()
            take.stored(info.seq)
        await addresses.forget(tenant, upload)
        log.info("file_stored", file=info.id, tenant=tenant, size_bytes=info.size_bytes)
        return info
