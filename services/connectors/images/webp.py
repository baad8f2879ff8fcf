"""The EXIF block of WebP files. Source: RFC 9649, section 2: chunks, padded to even lengths."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from switchyard.events.encoding.preview import TYPES

EXIF: Final = b"EXIF"
SAYS_SOMETHING: Final = (EXIF, b"XMP ")
EXIF_FLAG: Final = 0x08
XMP_FLAG: Final = 0x04
ALPHA_FLAG: Final = 0x10
BLOCK_BYTES: Final = 16 * 1024**2
HEAD: Final = 12
IMAGES: Final = (b"VP8 ", b"VP8L", b"ANMF", b"ALPH")


class Chunk(NamedTuple):
    """One chunk: where it begins, where its content ends, and where the next one begins."""

    kind: bytes
    start: int
    end: int
    next: int


def is_webp(head: bytes) -> bool:
    """Whether a file that begins so is one."""
    return head[:4] == b"RIFF" and head[8:12] == b"WEBP"


def chunks(data: memoryview) -> Iterator[Chunk]:
    """The chunks as far as they are whole."""
    place = HEAD
    (size,) = struct.unpack_from("<I", data, 4)
    most = min(len(data), size + 8)
    while place + 8 <= most:
        (length,) = struct.unpack_from("<I", data, place + 4)
        end = place + 8 + length
        if end > most:
            return
        yield Chunk(bytes(data[place : place + 4]), place, end, min(end + length % 2, len(data)))
        place = end + length % 2


def block_of(data: memoryview) -> bytes:
    """The EXIF block; b"" where there is none."""
    for chunk in chunks(data):
        if chunk.kind == EXIF and chunk.end - chunk.start <= BLOCK_BYTES:
            block = bytes(data[chunk.start + 8 : chunk.end])
            return block.removeprefix(b"Exif\0\0")  # some write what only JPEG has
    return b""


def without_block(data: memoryview) -> list[memoryview]:
    """The file in parts, without EXIF and XMP."""
    parts, end, kept = [], HEAD, True
    for chunk in chunks(data):
        end = chunk.next
        kept = chunk.kind not in SAYS_SOMETHING
        if kept:
            parts.append(_flagged(data, chunk, off=EXIF_FLAG | XMP_FLAG))
    if bytes(data[end : end + 4]) in IMAGES:
        parts.append(data[end:])  # a file that was cut off within its pixels stays as good as it was
    return _riff(parts)


def with_block(data: memoryview, block: bytes) -> list[memoryview]:
    """The file in parts, with an EXIF block; [] where it is damaged."""
    found = list(chunks(data))
    try:
        width, height = TYPES["image/webp"](bytes(data[:64]))
    except (ValueError, IndexError, struct.error):
        return []
    if not found or not any(chunk.kind in IMAGES for chunk in found):
        return []
    parts = [_flagged(data, chunk, on=EXIF_FLAG) for chunk in found]
    if found[0].kind != b"VP8X":
        has_alpha = found[0].kind == b"VP8L" and data[24] & 0x10
        flags = EXIF_FLAG | (ALPHA_FLAG if has_alpha else 0)
        body = struct.pack("<I", flags) + _three(width - 1) + _three(height - 1)
        parts.insert(0, memoryview(b"VP8X" + struct.pack("<I", len(body)) + body))
    chunk = EXIF + struct.pack("<I", len(block)) + block + bytes(len(block) % 2)
    return _riff([*parts, memoryview(chunk)])


def _three(number: int) -> bytes:
    return number.to_bytes(3, "little")


def _flagged(data: memoryview, chunk: Chunk, *, on: int = 0, off: int = 0) -> memoryview:
    """A chunk; the flags of one that has them say what will be there."""
    part = data[chunk.start : chunk.next]
    if chunk.kind != b"VP8X" or len(part) < 9:
        return part
    changed = bytearray(part)
    changed[8] = changed[8] & ~off | on
    return memoryview(changed)


def _riff(parts: list[memoryview]) -> list[memoryview]:
    size = 4 + sum(map(len, parts))
    return [memoryview(b"RIFF" + struct.pack("<I", size) + b"WEBP"), *parts]
