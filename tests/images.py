"""Small images for the tests of previews."""

from __future__ import annotations

import io
import random
import struct
import zlib
from typing import Final

from PIL import Image


def png(width: int = 2, height: int = 2) -> bytes:
    """A PNG that says it is of this size, with the pixels of one line."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"\0" + b"\x7f" * 3 * min(width, 64))
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def drawn(kind: str, size: tuple[int, int] = (8, 4), mode: str = "RGB", **options: object) -> bytes:
    """An image as Pillow writes it."""
    written = io.BytesIO()
    Image.new(mode, size, 90).save(written, kind, **options)
    return written.getvalue()


def noise(kind: str, side: int, mode: str = "RGB", **options: object) -> bytes:
    """An image that cannot be packed well."""
    pixels = random.Random(7).randbytes(side * side * len(mode))
    written = io.BytesIO()
    Image.frombytes(mode, (side, side), pixels).save(written, kind, **options)
    return written.getvalue()


def padded(size_bytes: int, mark: int = 0) -> bytes:
    """A PNG with a chunk that makes it this long; `mark` distinguishes it from others."""
    plain = png()
    body = struct.pack(">I", mark).ljust(size_bytes - len(plain) - 12, b"\0")
    return plain[:33] + _chunk(b"prVw", body) + plain[33:]


EACH: Final = {
    "image/png": drawn("PNG"), "image/jpeg": drawn("JPEG"), "image/gif": drawn("GIF", mode="L"),
    "image/webp": drawn("WEBP"),
}  # fmt: skip
