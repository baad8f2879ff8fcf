"""Addresses by which a client loads a file up or down for a short time, past the gateway."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple, Self
from urllib.parse import quote

from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import InvalidError, NotFoundError
from switchyard.events.subjects import JOB_ID
from switchyard.services import clock
from switchyard.services.files.info import MEDIA_TYPE, FileInfo, Remote
from switchyard.services.files.s3.client import GONE, S3, S3Error, said
from switchyard.services.files.s3.keys import key_of
from switchyard.services.files.s3.place import root_of
from switchyard.services.ids import new_id
from switchyard.services.settings import Settings

PIECE_BYTES: Final = 4 * 1024 * 1024
MOST_PUT_BYTES: Final = 5 * 1024**3  # Source: S3's limits


class UploadAddress(NamedTuple):
    """Where a client puts the bytes of a file.

    Args:
        id: names the upload, and the file that is made of it.
        url: takes one PUT of exactly the bytes that were announced.
        key: the key in the bucket under which they lie until then.
        headers: what the PUT has to have.
        expires_at: when it may begin no more.
    """

    id: str
    url: str
    key: str
    headers: dict[str, str]
    expires_at: datetime


class Incoming(NamedTuple):
    """Bytes that a client has put there, which are in no file yet."""

    size_bytes: int
    type: str
    body: AsyncGenerator[bytes, None]


class Addresses:
    """Gives addresses.

    Args:
        nc: an open connection.
        s3: the bucket.
        timeout_s: seconds to wait for any answer of the broker.
    """

    def __init__(self, nc: Client, s3: S3, *, timeout_s: float) -> None:
        self._nc = nc
        self._s3 = s3
        self._timeout_s = timeout_s

    @classmethod
    def of(cls, nc: Client, settings: Settings, s3: S3 | None) -> Self | None:
        """That of a process, if it has a bucket."""
        return None if s3 is None else cls(nc, s3, timeout_s=settings.request_timeout_s)

    async def download(self, info: FileInfo, *, lasts_s: float, plain: bool = True) -> str | None:
        """Where a file's bytes are to be had; None if nowhere: they are in the broker, or locked.

        Args:
            info: the file.
            lasts_s: seconds within which a download has to begin.
            plain: whether bytes that are locked are of no use.

        Raises:
            S3Error: it cannot be signed.
        """
        if info.remote is None or (plain and info.lock is not None):
            return None
        named: Any = {}
        if plain:
            named = {
                # A browser saves it and never shows it, whatever its uploader says that it is.
                "ResponseContentDisposition": f"attachment; filename*=UTF-8''{quote(info.name, safe='')}",
                "ResponseContentType": info.type,
            }
        client = await self._s3.client(public=True)
        with said("to sign an address"):
            url: str = await client.generate_presigned_url(
                "get_object",
                Params={"Bucket": info.remote.bucket, "Key": info.remote.object, **named},
                ExpiresIn=max(1, int(lasts_s)),
            )
        return url

    async def upload(
        self,
        tenant: str,
        *,
        size_bytes: int,
        type: str | None,  # noqa: A002 - the word of the API
        lasts_s: float,
    ) -> UploadAddress:
        """Where a client puts so many bytes; there is no file until the upload is completed.

        Args:
            tenant: whose file it will be.
            size_bytes: its size, exactly.
            type: its media type; None where the PUT may name any.
            lasts_s: seconds within which the upload has to begin.

        Raises:
            InvalidError: the size or the media type breaks a rule.
            UnavailableError: the broker or S3 does not answer.
        """
        if not 0 < size_bytes <= MOST_PUT_BYTES:
            raise InvalidError(
                f"one upload has 1 to {MOST_PUT_BYTES} bytes, not {size_bytes}", field="size_bytes"
            )
        if type is not None and not MEDIA_TYPE.fullmatch(type):
            raise InvalidError(f"a media type reads like 'text/plain', not {type!r}", field="type")
        upload = new_id()
        key, typed = await self._key(tenant, upload), {} if type is None else {"ContentType": type}
        client = await self._s3.client(public=True)
        with said("to sign an address"):
            url: str = await client.generate_presigned_url(
                "put_object",
                Params={
                    "Bucket": self._s3.bucket,
                    "Key": key,
                    "ContentLength": size_bytes,
                    **typed,
                },
                ExpiresIn=max(1, int(lasts_s)),
            )
        headers = {**({} if type is None else {"Content-Type": type}), "Content-Length": str(size_bytes)}
        return UploadAddress(upload, url, key, headers, clock.now() + timedelta(seconds=lasts_s))

    async def incoming(self, tenant: str, upload: str) -> Incoming:
        """What a client has put at an address.

        Raises:
            NotFoundError: nothing, or it came too long ago.
            UnavailableError: the broker or S3 does not answer.
        """
        if not JOB_ID.fullmatch(upload):
            raise NotFoundError("there is no such upload")
        client, key = await self._s3.client(), await self._key(tenant, upload)
        try:
            with said("to look for an upload"):
                found = await client.head_object(Bucket=self._s3.bucket, Key=key)
        except S3Error as error:
            if error.code in GONE:
                raise NotFoundError(f"there are no bytes of upload {upload}") from error
            raise
        remote = Remote(bucket=self._s3.bucket, object=key, etag=found["ETag"].strip('"'))
        return Incoming(
            found["ContentLength"], found.get("ContentType", ""), self._body(remote, found["ContentLength"])
        )

    async def forget(self, tenant: str, upload: str) -> None:
        """Remove what a client has put at an address; what stays behind is swept."""
        with contextlib.suppress(S3Error), said("to remove an upload"):
            client = await self._s3.client()
            await client.delete_object(Bucket=self._s3.bucket, Key=await self._key(tenant, upload))

    async def _body(self, remote: Remote, size_bytes: int) -> AsyncGenerator[bytes, None]:
        client, at = await self._s3.client(), 0
        # In pieces: what takes it may be slow, and S3 does not wait for long.
        while at < size_bytes:
            end = min(at + PIECE_BYTES, size_bytes)
            with said("to read an upload"):
                answer = await client.get_object(
                    Bucket=remote.bucket, Key=remote.object, Range=f"bytes={at}-{end - 1}",
                    IfMatch=f'"{remote.etag}"',
                )  # fmt: skip
                async with answer["Body"] as body:
                    piece = await body.read()
            if len(piece) != end - at:
                raise S3Error(f"S3 gives {len(piece)} bytes of {end - at} that were asked for")
            at = end
            yield piece

    async def _key(self, tenant: str, upload: str) -> str:
        root = await root_of(self._nc, self._s3, timeout_s=self._timeout_s)
        return key_of(root, upload, subjects.file_name(tenant, upload))
