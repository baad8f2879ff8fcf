"""The files of an Ilios: in its bucket, or in a copy of that."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from switchyard.events.errors import InvalidError, UnavailableError
from switchyard.services.distribution import how_to_install
from switchyard.services.settings import Settings

if TYPE_CHECKING:
    from switchyard.services.files.s3 import S3

BLOCK_BYTES: Final = 1024 * 1024
SHOWN_CHARS: Final = 100


class Originals(Protocol):
    """Where they are."""

    async def file(self, key: str, scratch: Path) -> Path:
        """A file of this machine with the bytes of a key.

        Args:
            key: that of the bucket.
            scratch: may be written.

        Raises:
            InvalidError: there is none.
            UnavailableError: the bucket does not answer.
        """

    async def aclose(self) -> None:
        """Close what was opened."""


class Copy:
    """A directory that has a copy of the bucket."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory.resolve()

    async def file(self, key: str, scratch: Path) -> Path:
        """As for `Originals`."""
        del scratch
        try:
            path = (self._directory / key).resolve()
            is_there = path.is_relative_to(self._directory) and path.is_file()
        except (OSError, ValueError):
            is_there = False
        if not is_there:
            raise InvalidError(f"its file {key[:SHOWN_CHARS]!r} is not in the copy of the bucket")
        return path

    async def aclose(self) -> None:
        """Nothing was opened."""


class Bucket:
    """The bucket itself."""

    def __init__(self, s3: S3) -> None:
        self._s3 = s3

    async def file(self, key: str, scratch: Path) -> Path:
        """As for `Originals`."""
        from switchyard.services.files.s3.client import GONE, S3Error, said  # noqa: PLC0415 - an extra

        client = await self._s3.client()
        try:
            with said("to read a file"):
                found = await client.get_object(Bucket=self._s3.bucket, Key=key)
                async with found["Body"] as body:
                    with await asyncio.to_thread(scratch.open, "wb") as target:
                        async for block in body.iter_chunks(BLOCK_BYTES):
                            await asyncio.to_thread(target.write, block)
        except S3Error as error:
            if error.code in GONE:
                raise InvalidError(f"its file {key[:SHOWN_CHARS]!r} is not in the bucket") from error
            raise
        return scratch

    async def aclose(self) -> None:
        """Close the connections."""
        await self._s3.aclose()


def bucket_of(settings: Settings) -> Bucket | None:
    """The bucket that the settings name, if they name one.

    Raises:
        UnavailableError: what reads it is not installed.
    """
    if settings.s3_bucket is None:
        return None
    try:
        from switchyard.services.files.s3 import S3  # noqa: PLC0415 - an extra
    except ImportError as error:
        how = f"{how_to_install('server')} and {how_to_install('s3')}"
        raise UnavailableError(f"{how} bring what reads a bucket; --originals takes a copy of it") from error
    return Bucket(S3(settings))
