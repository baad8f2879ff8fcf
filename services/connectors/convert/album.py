"""The images of a document, saved as files that its Markdown refers to."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from PIL import Image

MAX_IMAGES: Final = 1_000
MAX_BYTES: Final = 64 * 1024 * 1024  # of one
MAX_TOTAL_BYTES: Final = 512 * 1024 * 1024
MIN_PIXELS: Final = 16  # each way; smaller ones are bullets and rules
KINDS: Final = {
    "PNG": ("png", "image/png"), "JPEG": ("jpg", "image/jpeg"), "GIF": ("gif", "image/gif"),
    "BMP": ("bmp", "image/bmp"), "TIFF": ("tiff", "image/tiff"), "WEBP": ("webp", "image/webp"),
}  # fmt: skip
# Drawings, whose size in pixels is up to who draws them.
DRAWINGS: Final = (
    (re.compile(rb"\x01\x00\x00\x00.{36} EMF", re.DOTALL), ("emf", "image/emf")),
    (re.compile(rb"\xd7\xcd\xc6\x9a"), ("wmf", "image/wmf")),
    (re.compile(rb"\s*(?:<\?xml[^>]{0,200}\?>\s*)?<svg[\s>]"), ("svg", "image/svg+xml")),
)
DATA: Final = re.compile(r"data:image/[\w.+-]{1,40}((?:;[\w=-]{1,40}){0,3}),", re.IGNORECASE)


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
    left_out: int = 0
    _names: dict[bytes, str] = field(default_factory=dict)
    _bytes: int = 0

    def add(self, data: bytes, *, page: int | None = None) -> str:
        """Save an image and tell its name; nothing for one that is too small, too large, or none."""
        digest = hashlib.sha256(data).digest()
        if digest in self._names:
            return self._names[digest]
        name = ""
        described = _described(data)
        if described is None or min(described[2:], default=MIN_PIXELS) < MIN_PIXELS:
            pass
        elif (
            len(self.images) >= MAX_IMAGES
            or len(data) > MAX_BYTES
            or self._bytes + len(data) > MAX_TOTAL_BYTES
        ):
            self.left_out += 1
        else:
            extension, media_type, *size = described
            name = f"image-{len(self.images) + 1}.{extension}"
            (self.directory / name).write_bytes(data)
            self._bytes += len(data)
            width, height = size or (None, None)
            self.images.append(
                {
                    "name": name,
                    "type": media_type,
                    "page": page or self.page,
                    "width": width,
                    "height": height,
                }
            )
        self._names[digest] = name
        return name

    def add_data(self, address: str) -> str:
        """Save the image in a `data:` address and tell its name; nothing where there is none."""
        found = DATA.match(address)
        if found is None or len(address) > MAX_BYTES * 2:
            return ""
        body = unquote_to_bytes(address[found.end() :])
        if ";base64" in found[1].lower():
            try:
                body = base64.b64decode(body)
            except (binascii.Error, ValueError):
                return ""
        return self.add(body)

    def warnings(self) -> list[str]:
        """What was left out."""
        if not self.left_out:
            return []
        return [f"{self.left_out} images are left out: there are too many of them, or they are too large"]


def _described(data: bytes) -> tuple[Any, ...] | None:
    """Extension, media type and, where known, width and height in pixels, by the head of the data alone."""
    for pattern, kind in DRAWINGS:
        if pattern.match(data):
            return kind
    try:
        with Image.open(io.BytesIO(data), formats=tuple(KINDS)) as image:
            return (*KINDS[str(image.format)], image.width, image.height)
    except Exception:  # noqa: BLE001 - damaged data makes Pillow raise anything; it is then no image
        return None
