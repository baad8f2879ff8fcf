"""One upload on its way to S3: a single request for what fits into a part, else one for each part."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from typing import TYPE_CHECKING, Any, Final

from switchyard.events.errors import LimitError
from switchyard.services.files.info import Remote
from switchyard.services.files.keys import Lock
from switchyard.services.files.place import Intake
from switchyard.services.files.s3.client import GONE, S3, S3Error, said
from switchyard.services.files.s3.keys import key_of

if TYPE_CHECKING:
    from types_aiobotocore_s3.client import S3Client
    from types_aiobotocore_s3.type_defs import CompletedPartTypeDef

MOST_PARTS: Final = 10_000  # Source: S3's limits
MOST_PART_BYTES: Final = 64 * 1024 * 1024
IN_FLIGHT: Final = 2
"""Parts of one upload at once, beside the one that fills."""
KMS: Final = "aws:kms"


class S3Upload(Intake):
    """Stores chunks in parts of one object.

    Args:
        s3: the bucket.
        client: that of the library.
        root: what the keys of this installation begin with.
        owner: the name of the file that the bytes are to belong to; a sweep looks it up.
        max_bytes: the most that come.
        lock: locks every chunk, of a file that can be erased.

    Raises:
        LimitError: no upload can be so large.
    """

    def __init__(
        self, s3: S3, client: S3Client, *, root: str, owner: str, max_bytes: int, lock: Lock | None = None
    ) -> None:
        super().__init__(owner=owner, lock=lock)
        self._s3 = s3
        self._client = client
        self._key = key_of(root, self.nuid, owner)
        # A lock makes chunks a little longer.
        least = -(-(max_bytes + max_bytes // 4096) // (MOST_PARTS - 1))
        self._part_bytes = max(s3.settings.s3_part_bytes, least)
        if self._part_bytes > MOST_PART_BYTES:
            message = f"S3 takes at most {(MOST_PARTS - 1) * MOST_PART_BYTES} bytes of one file"
            raise LimitError(message, status=413, code="file_too_large")
        self._filling = bytearray()
        self._upload = ""
        self._stored_bytes = 0
        self._digests: list[bytes] = []
        self._etags: list[str] = []
        self._tasks: list[asyncio.Task[str]] = []
        self._is_kms = False

    async def send(self, stored: bytes) -> None:
        """Add a chunk to the part that fills, and send that when it is full."""
        self._filling += stored
        if len(self._filling) >= self._part_bytes:
            await self._part()

    async def finish(self) -> None:
        """Send what is left, and make one object of the parts.

        Raises:
            S3Error: S3 does not have all bytes, or says so wrongly.
        """
        if not self._upload:
            etag = await self._whole()
        else:
            if self._filling:
                await self._part()
            while self._tasks:
                await self._acknowledged()
            etag = await self._complete()
        self.remote = Remote(bucket=self._s3.bucket, object=self._key, etag=etag)

    async def discard(self) -> None:
        """Stop the parts that are on their way, and remove what came.

        Raises:
            S3Error: S3 does not answer; what stays behind is swept.
        """
        self._filling = bytearray()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        if self._upload:
            with said("to remove an upload", unless=GONE):
                await self._client.abort_multipart_upload(
                    Bucket=self._s3.bucket, Key=self._key, UploadId=self._upload
                )
        with said("to remove a file"):  # a request that seemed to fail may have made it
            await self._client.delete_object(Bucket=self._s3.bucket, Key=self._key)

    async def _whole(self) -> str:
        body = bytes(self._filling)
        self._filling = bytearray()
        self._stored_bytes = len(body)
        digest = await _md5(body)
        async with self._s3.parts:
            with said("to store a file"):
                answer = await self._client.put_object(
                    Bucket=self._s3.bucket, Key=self._key, Body=body, ContentMD5=_text(digest),
                    ContentType="application/octet-stream",
                )  # fmt: skip
        self._look_at(answer)
        return self._checked(answer["ETag"], digest.hex(), "a file")

    async def _part(self) -> None:
        if not self._upload:
            with said("to begin an upload"):
                begun = await self._client.create_multipart_upload(
                    Bucket=self._s3.bucket, Key=self._key, ContentType="application/octet-stream"
                )
            self._upload = begun["UploadId"]
        body = bytes(self._filling)
        self._filling = bytearray()
        self._stored_bytes += len(body)
        number = len(self._etags) + len(self._tasks) + 1
        digest = await _md5(body)
        self._digests.append(digest)
        self._tasks.append(asyncio.create_task(self._send_part(number, body, digest)))
        del body
        while len(self._tasks) > IN_FLIGHT:
            await self._acknowledged()

    async def _acknowledged(self) -> None:
        self._etags.append(await self._tasks[0])
        del self._tasks[0]

    async def _send_part(self, number: int, body: bytes, digest: bytes) -> str:
        async with self._s3.parts:
            with said(f"to store part {number}"):
                answer = await self._client.upload_part(
                    Bucket=self._s3.bucket, Key=self._key, UploadId=self._upload, PartNumber=number,
                    Body=body, ContentMD5=_text(digest),
                )  # fmt: skip
        self._look_at(answer)
        return self._checked(answer["ETag"], digest.hex(), f"part {number}", quoted=True)

    async def _complete(self) -> str:
        parts: list[CompletedPartTypeDef] = [
            {"ETag": etag, "PartNumber": number} for number, etag in enumerate(self._etags, 1)
        ]
        etag = ""
        failed: S3Error | None = None
        try:
            with said("to end an upload"):
                answer = await self._client.complete_multipart_upload(
                    Bucket=self._s3.bucket, Key=self._key, UploadId=self._upload,
                    MultipartUpload={"Parts": parts},
                )  # fmt: skip
            etag = answer["ETag"]
        except S3Error as error:  # it may have been done, the answer lost, and done again in vain
            failed = error
        # What S3 has is looked at: an answer is no proof of an object of this size.
        try:
            with said("to look at a file"):
                found = await self._client.head_object(Bucket=self._s3.bucket, Key=self._key)
        except S3Error as error:
            if failed is None and error.code in GONE:
                raise S3Error("S3 lacks a file that it said to have stored") from error
            raise failed or error from error
        if found["ContentLength"] != self._stored_bytes:
            raise S3Error(f"S3 has {found['ContentLength']} bytes of {self._stored_bytes} that were sent")
        whole = hashlib.md5(b"".join(self._digests), usedforsecurity=False).hexdigest()
        self._checked(etag or found["ETag"], f"{whole}-{len(parts)}", "a file")
        return self._checked(found["ETag"], f"{whole}-{len(parts)}", "a file")

    def _look_at(self, answer: Any) -> None:
        self._is_kms |= str(answer.get("ServerSideEncryption", "")).startswith(KMS)

    def _checked(self, etag: str, wanted: str, what: str, *, quoted: bool = False) -> str:
        """The tag that S3 gave: a digest of the bytes, except where it encrypts them with a key of KMS."""
        plain = etag.strip('"')
        if not self._is_kms and plain.lower() != wanted:
            raise S3Error(f"S3 stored other bytes of {what} than were sent: its tag is {plain[:80]!r}")
        return etag if quoted else plain


async def _md5(body: bytes) -> bytes:
    return await asyncio.to_thread(lambda: hashlib.md5(body, usedforsecurity=False).digest())


def _text(digest: bytes) -> str:
    return base64.b64encode(digest).decode()
