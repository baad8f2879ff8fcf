"""Small images of stored ones: made beside the event loop, a few at a time, and kept for a while.

A file says itself how many pixels it unpacks to; one of too many is refused before it is unpacked.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import importlib.util
import io
from collections import OrderedDict
from typing import Any, Final, NamedTuple

from switchyard.events.errors import RejectedError, SwitchyardError, UnavailableError
from switchyard.services.files import FileInfo, Files
from switchyard.services.gateway.operations.left.artifacts import size_of

FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF")
SOURCE_BYTES: Final = 32 * 1024 * 1024
SOURCE_PIXELS: Final = 2**26
"""8192 x 8192, which takes up to 256 MiB while it is unpacked."""
LEAST_SIDE: Final = 16
MOST_SIDE: Final = 1024
AT_ONCE: Final = 1
WAITING: Final = 64
KEPT_BYTES: Final = 16 * 1024 * 1024
QUALITY: Final = 80
RETRY_S: Final = 1.0
READ_BYTES: Final = 128 * 1024


class NoThumbnailError(RejectedError):
    """The file is no image of which a small one can be made."""

    status = 415
    code = "no_thumbnail"


class NotInstalledError(SwitchyardError):
    """This gateway has no library for images."""


class Thumbnail(NamedTuple):
    """A small image."""

    data: bytes
    type: str


class Thumbnails:
    """Makes small images, and keeps those that were asked for last.

    Args:
        files: where the large ones are stored.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._kept: OrderedDict[tuple[str, int], Thumbnail] = OrderedDict()
        self._kept_bytes = 0
        self._places = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0

    async def of(self, info: FileInfo, side: int) -> Thumbnail:
        """A file's image with neither side longer than `side` pixels.

        Raises:
            NoThumbnailError: it is no image, or too large a one.
            NotInstalledError: Pillow is missing.
            UnavailableError: too many wait for one, or the broker does not answer.
        """
        if not is_installed():
            raise NotInstalledError("this gateway makes no thumbnails: Pillow is not installed")
        if info.size_bytes > SOURCE_BYTES:
            raise NoThumbnailError(
                f"file {info.id} has {info.size_bytes} bytes; thumbnails are made of at most {SOURCE_BYTES}"
            )
        key = info.sha256, side
        if (kept := self._find(key)) is not None:
            return kept
        if self._waiting >= WAITING:
            raise UnavailableError(f"{WAITING} requests wait for a thumbnail", retry_after_s=RETRY_S)
        self._waiting += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1
        if (kept := self._find(key)) is not None:
            self._places.release()
            return kept
        return await self._made(info, side)

    async def _made(self, info: FileInfo, side: int) -> Thumbnail:
        """Make one; the place is free again when the thread has ended, whoever has stopped waiting for it."""
        try:
            head = b"".join([block async for block in self._files.read(info, 0, READ_BYTES)])
            check_pixels(info.id, size_of(head))
            data = b"".join([block async for block in self._files.read(info)])
            work = asyncio.get_running_loop().run_in_executor(None, made, info.id, data, side)
        except BaseException:
            self._places.release()
            raise
        work.add_done_callback(functools.partial(self._ended, (info.sha256, side)))
        return await asyncio.shield(work)

    def _ended(self, key: tuple[str, int], work: asyncio.Future[Thumbnail]) -> None:
        """Keep it, though nobody may wait for it any more; only then is it another one's turn."""
        if not work.cancelled() and work.exception() is None:
            self._keep(key, work.result())
        self._places.release()

    def _find(self, key: tuple[str, int]) -> Thumbnail | None:
        kept = self._kept.get(key)
        if kept is not None:
            self._kept.move_to_end(key)
        return kept

    def _keep(self, key: tuple[str, int], found: Thumbnail) -> None:
        if len(found.data) <= KEPT_BYTES and key not in self._kept:
            self._kept[key] = found
            self._kept_bytes += len(found.data)
            while self._kept_bytes > KEPT_BYTES:
                _, oldest = self._kept.popitem(last=False)
                self._kept_bytes -= len(oldest.data)


def is_installed() -> bool:
    """Whether Pillow is there."""
    return importlib.util.find_spec("PIL") is not None


def check_pixels(file_id: str, size: tuple[int, int] | None) -> None:
    """Refuse an image that unpacks to too much.

    Raises:
        NoThumbnailError: it does, or is none.
    """
    if size is None:
        raise NoThumbnailError(f"file {file_id} is none of {', '.join(FORMATS)}")
    width, height = size
    if width * height > SOURCE_PIXELS:
        raise NoThumbnailError(
            f"file {file_id} has {width} x {height} pixels; thumbnails are made of at most {SOURCE_PIXELS}"
        )


def made(file_id: str, data: bytes, side: int) -> Thumbnail:
    """A small image; it computes for a while.

    Args:
        file_id: for the message.
        data: the large one.
        side: the longest in pixels.

    Raises:
        NoThumbnailError: it is no such image.
    """
    images: Any = importlib.import_module("PIL.Image")
    operations: Any = importlib.import_module("PIL.ImageOps")
    try:
        with images.open(io.BytesIO(data), formats=FORMATS) as image:
            check_pixels(file_id, image.size)  # what is unpacked, whatever the first bytes said
            image.draft("RGB", (2 * side, 2 * side))
            has_alpha = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
            small = image.convert("RGBA" if has_alpha else "RGB")
            small.thumbnail((side, side))
            small = operations.exif_transpose(small)
        written = io.BytesIO()
        small.save(written, "WEBP" if has_alpha else "JPEG", quality=QUALITY)
    except NoThumbnailError:
        raise
    except Exception as error:  # noqa: BLE001 - foreign bytes in a foreign library
        raise NoThumbnailError(f"file {file_id} cannot be read as an image: {error}"[:300]) from None
    return Thumbnail(written.getvalue(), "image/webp" if has_alpha else "image/jpeg")
