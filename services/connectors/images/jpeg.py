"""The EXIF block of JPEG files. Source: ITU-T T.81, annex B; CIPA DC-008: it stands in a segment APP1."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

START: Final = b"\xff\xd8"
APP0: Final = 0xE0
APP1: Final = 0xE1
SCAN: Final = 0xDA
SAYS_SOMETHING: Final = (APP1, 0xED, 0xFE)
"""EXIF and XMP, Photoshop's block, and comments."""
LABEL: Final = b"Exif\0\0"
MOST: Final = 65_533 - len(LABEL)


class Segment(NamedTuple):
    """One segment with its marker: where it begins and ends."""

    marker: int
    start: int
    end: int


def segments(data: memoryview) -> Iterator[Segment]:
    """The segments before the first scan, as far as they are whole."""
    place = len(START)
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # a fill byte
            place += 1
            continue
        (length,) = struct.unpack_from(">H", data, place + 2)
        end = place + 2 + length
        if marker == SCAN or length < 2 or end > len(data):
            return
        yield Segment(marker, place, end)
        place = end


def block_of(data: memoryview) -> bytes:
    """The EXIF block; b"" where there is none."""
    for segment in segments(data):
        body = bytes(data[segment.start + 4 : segment.end]) if segment.marker == APP1 else b""
        if body.startswith(LABEL):
            return body.removeprefix(LABEL)
    return b""


def without_block(data: memoryview) -> list[memoryview]:
    """The file in parts, without what says something of it."""
    parts, end = [data[: len(START)]], len(START)
    for segment in segments(data):
        end = segment.end
        if segment.marker not in SAYS_SOMETHING:
            parts.append(data[segment.start : end])
    return [*parts, data[end:]]


def with_block(data: memoryview, block: bytes) -> list[memoryview]:
    """The file in parts, with an EXIF block; [] where it has no room for that, or is damaged."""
    first = next(segments(data), None)
    if first is None or len(block) > MOST:
        return []
    place = first.end if first.marker == APP0 else first.start
    length = struct.pack(">H", 2 + len(LABEL) + len(block))
    return [data[:place], memoryview(b"\xff\xe1" + length + LABEL + block), data[place:]]
