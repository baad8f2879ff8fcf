"""The images of a document, saved as files that its Markdown refers to."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import re
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from PIL import Image

from switchyard.services.documents.model.blocks import Box

MAX_IMAGES: Final = 1_000
MAX_BYTES: Final = 64 * 1024 * 1024  # of one
MAX_TOTAL_BYTES: Final = 512 * 1024 * 1024
MAX_PIXELS: Final = 100_000_000  # A2 at 300 dpi is 35 million
MAX_KNOWN: Final = 20_000  # also those not worth saving
MIN_PIXELS: Final = 16  # each way; smaller ones are bullets and rules
KINDS: Final = {
    "PNG": ("png", "image/png"), "JPEG": ("jpg", "image/jpeg"), "GIF": ("gif", "image/gif"),
    "BMP": ("bmp", "image/bmp"), "TIFF": ("tiff", "image/tiff"), "WEBP": ("webp", "image/webp"),
}  # fmt: skip
# Drawings, whose size in pixels is up to who draws them.
DRAWINGS: Final = (
    (re.compile(rb"\x01\x00\x00\x00.{36} EMF", re.DOTALL), ("emf", "image/emf")),
    (re.compile(rb"\xd7\xcd\xc6\x9a|[\x01\x02]\x00\x09\x00\x00[\x01\x03]"), ("wmf", "image/wmf")),
    (re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:<[?!][^>]{0,1000}>\s*){0,5}<svg[\s>]"), ("svg", "image/svg+xml")),
)
DATA: Final = re.compile(r"\s*data:image/[\w.+-]{1,40}((?:;[\w=-]{1,40}){0,3}),", re.IGNORECASE)
TOO_MUCH: Final = "too many, or too large"
UNREADABLE: Final = "damaged, or of a format that is not known"


class TooLargeError(Exception):
    """An image has more pixels or bytes than are read."""


def key_of(identity: bytes) -> bytes:
    """What an image is known by that has some identity."""
    return hashlib.sha256(identity).digest()


@dataclass(slots=True)
class Album:
    """Saves images, each once however often a document shows it.

    Args:
        directory: where they are saved.
        page: which is being read, from 1.
    """

    directory: Path
    page: int = 1
    images: list[dict[str, Any]] = field(default_factory=list)
    _names: dict[bytes, str] = field(default_factory=dict)
    _left_out: Counter[str] = field(default_factory=Counter)
    _bytes: int = 0

    def once(
        self, identity: bytes, data: Callable[[], bytes], *, page: int | None = None, box: Box | None = None
    ) -> str:
        """Save an image and return its name; nothing for one that is too small, too large, or none.

        Args:
            identity: the same for the same image, which is then not read again.
            data: reads it; may raise `TooLargeError`, and `ValueError` for one that is damaged.
            page: where it is shown, from 1; the one being read without.
            box: where on the page, as a block has it.
        """
        return self.keyed(key_of(identity), data, page=page, box=box)

    def keyed(
        self, key: bytes, data: Callable[[], bytes], *, page: int | None = None, box: Box | None = None
    ) -> str:
        """Save an image by its `key_of`; see `once`."""
        if key not in self._names:
            if self._is_full():
                return self.leave_out()
            try:
                self._names[key] = self.add(data(), page=page, box=box)
            except (TooLargeError, ValueError) as error:
                self._names[key] = self._without(error)
        return self._names[key]

    def add(self, data: bytes, *, page: int | None = None, box: Box | None = None) -> str:
        """Save an image that has been read; see `once`."""
        key = hashlib.sha256(data).digest()
        if key not in self._names:
            if self._is_full():
                return self.leave_out()
            self._names[key] = self._saved(data, page or self.page, box)
        return self._names[key]

    def leave_out(self) -> str:
        """Save nothing, for there is too much; the name of nothing."""
        self._left_out[TOO_MUCH] += 1
        return ""

    def _without(self, error: TooLargeError | ValueError) -> str:
        self._left_out[TOO_MUCH if isinstance(error, TooLargeError) else UNREADABLE] += 1
        return ""

    def _is_full(self) -> bool:
        return len(self._names) >= MAX_KNOWN or len(self.images) >= MAX_IMAGES

    def _saved(self, data: bytes, page: int, box: Box | None) -> str:
        try:
            extension, media_type, *size = _described(data)
        except (TooLargeError, ValueError) as error:
            return self._without(error)
        if min(size, default=MIN_PIXELS) < MIN_PIXELS:
            return ""
        if len(data) > MAX_BYTES or self._bytes + len(data) > MAX_TOTAL_BYTES:
            return self.leave_out()
        name = f"image-{len(self.images) + 1}.{extension}"
        (self.directory / name).write_bytes(data)
        self._bytes += len(data)
        width, height = size or (None, None)
        where = box and [round(at, 4) for at in box]
        self.images.append(
            {"name": name, "type": media_type, "page": page, "box": where, "width": width, "height": height}
        )
        return name

    def add_data(self, address: str) -> str:
        """Save the image in a `data:` address and return its name; nothing where there is none."""
        found = DATA.match(address)
        if found is None:
            return ""
        if len(address) > MAX_BYTES * 2:
            return self.leave_out()
        body = unquote_to_bytes(address[found.end() :])
        if ";base64" in found[1].lower():
            try:
                body = base64.b64decode(body + b"==")  # which many leave out, and more does no harm
            except binascii.Error as error:
                return self._without(error)
        return self.add(body)

    def warnings(self) -> list[str]:
        """What was left out."""
        return [f"images left out: {count} ({why})" for why, count in sorted(self._left_out.items())]


def _described(data: bytes) -> tuple[Any, ...]:
    """Extension, media type and, where known, width and height in pixels, by the head of the data alone.

    Raises:
        TooLargeError: unpacked it would fill the memory.
        ValueError: it is no image.
    """
    for pattern, kind in DRAWINGS:
        if pattern.match(data):
            return kind
    try:
        with warnings.catch_warnings(), io.BytesIO(data) as file:
            warnings.simplefilter("ignore")  # of the size, which is looked at below
            with Image.open(file, formats=tuple(KINDS)) as image:
                kind, width, height = KINDS[str(image.format)], image.width, image.height
    except Image.DecompressionBombError as error:
        raise TooLargeError from error
    except Exception as error:  # damaged data makes Pillow raise anything
        raise ValueError("no image") from error
    if width * height > MAX_PIXELS:
        raise TooLargeError
    return (*kind, width, height)
