"""Removes what is in a bucket and in no file: a page at a time, going on where the last sweep stopped."""

from __future__ import annotations

from typing import Any, Final

import structlog
from nats.aio.client import Client

from switchyard.services import clock
from switchyard.services.concurrency import each
from switchyard.services.files.broker import is_owned
from switchyard.services.files.s3.client import GONE, S3, said
from switchyard.services.files.s3.keys import Owned, began_at, parse

log = structlog.get_logger()

PAGES: Final = 4
"""How many one sweep looks at, of `PAGE` objects each."""
PAGE: Final = 1000
AT_ONCE: Final = 16


class S3Sweeper:
    """Sweeps.

    Args:
        nc: an open connection.
        s3: the bucket.
        timeout_s: seconds to wait for any answer of the broker.
    """

    def __init__(self, nc: Client, s3: S3, *, timeout_s: float) -> None:
        self._nc = nc
        self._s3 = s3
        self._timeout_s = timeout_s
        self._after = ""
        self._uploads_after: dict[str, str] = {}

    async def sweep(self, root: str, *, older_than_s: float) -> int:
        """Remove objects and unfinished uploads under a root; how many.

        Args:
            root: what the keys of this installation begin with.
            older_than_s: seconds since an upload began; it must be longer than one can last.

        Raises:
            S3Error: S3 does not answer.
            UnavailableError: the broker does not answer.
        """
        began_before = clock.time_s() - older_than_s
        return await self._objects(root, began_before) + await self._parts(root, began_before)

    async def _objects(self, root: str, began_before: float) -> int:
        client, swept = await self._s3.client(), 0
        for _ in range(PAGES):
            with said("to list files"):
                page = await client.list_objects_v2(
                    Bucket=self._s3.bucket,
                    Prefix=root,
                    StartAfter=self._after or root,
                    MaxKeys=PAGE,
                )
            keys = [str(found["Key"]) for found in page.get("Contents", ())]
            old = {key: owned for key in keys if (owned := _old(root, key, began_before)) is not None}
            for key, is_kept in zip(
                old, await each(self._is_kept, old.values(), at_once=AT_ONCE), strict=True
            ):
                if is_kept:
                    continue
                with said("to remove a file"):
                    await client.delete_object(Bucket=self._s3.bucket, Key=key)
                swept += 1
                log.info("orphaned_object_removed", object=key)
            self._after = keys[-1] if page.get("IsTruncated") and keys else ""
            if not self._after:
                break
        return swept

    async def _is_kept(self, owned: Owned) -> bool:
        return await is_owned(self._nc, owned.owner, owned.nuid, timeout_s=self._timeout_s)

    async def _parts(self, root: str, began_before: float) -> int:
        """Parts of uploads that never ended: they cost room, and no list of objects shows them."""
        client, swept = await self._s3.client(), 0
        for _ in range(PAGES):
            after: Any = self._uploads_after
            with said("to list uploads"):
                page = await client.list_multipart_uploads(Bucket=self._s3.bucket, Prefix=root, **after)
            for upload in page.get("Uploads", ()):
                if _old(root, upload["Key"], began_before) is None:
                    continue
                with said("to remove an upload", unless=GONE):
                    await client.abort_multipart_upload(
                        Bucket=self._s3.bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                    )
                swept += 1
                log.info("unfinished_upload_removed", object=upload["Key"])
            self._uploads_after = {}
            if not page.get("IsTruncated"):
                break
            self._uploads_after = {
                "KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page.get("NextUploadIdMarker", "")
            }  # fmt: skip
        return swept


def _old(root: str, key: str, began_before: float) -> Owned | None:
    """What a key says, of an upload that began before then."""
    owned = parse(root, key)
    began = None if owned is None else began_at(owned.nuid)
    return owned if began is not None and began < began_before else None
