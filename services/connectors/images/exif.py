"""The text of an EXIF block: the comment that holds generation parameters, and what ComfyUI writes.

Source: CIPA DC-008 (Exif 2.3): a TIFF structure whose tag 0x8769 leads to the Exif IFD with tag 0x9286.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

PARAMETERS: Final = "parameters"
EXIF_IFD: Final = 0x8769
USER_COMMENT: Final = 0x9286
UNICODE: Final = b"UNICODE\0"
ASCII: Final = b"ASCII\0\0\0"
UNSAID: Final = bytes(8)
ENTRIES: Final = 500
TEXT_TYPE: Final = 2
SIZES: Final = {1: 1, TEXT_TYPE: 1, 4: 4, 7: 1}
"""Bytes of the types that matter: BYTE, ASCII, LONG, UNDEFINED."""
GRAPHS: Final = ("prompt", "workflow")
"""ComfyUI writes these into WebP as texts `prompt:{...}` of any tag. Source: its SaveAnimatedWEBP."""


def texts_of(block: bytes) -> dict[str, str]:
    """The texts of a block by name: `parameters`, `prompt`, `workflow`; {} for a block that is none."""
    found: dict[str, str] = {}
    try:
        order = {b"II": "<", b"MM": ">"}[block[:2]]
        (first,) = struct.unpack_from(f"{order}I", block, 4)
        for tag, kind, value in _entries(block, first, order):
            if tag == EXIF_IFD and len(value) == 4:
                (inner,) = struct.unpack(f"{order}I", value)
                for other, _, comment in _entries(block, inner, order):
                    if other == USER_COMMENT:
                        found[PARAMETERS] = _decoded(comment)
            elif kind == TEXT_TYPE:
                name, colon, text = value.rstrip(b"\0").decode("utf-8", "replace").partition(":")
                if colon and name in GRAPHS:
                    found[name] = text
    except (KeyError, struct.error):
        pass
    return {name: text for name, text in found.items() if text}


def block_of(parameters: str) -> bytes:
    """A block that holds a text as its comment, and nothing else."""
    comment = UNICODE + parameters.encode("utf-16-be", "replace")
    # Header and first IFD with its one entry take 26 bytes; the Exif IFD has 18 more before the comment.
    head = b"MM\0\x2a" + struct.pack(">I", 8)
    first = struct.pack(">HHHIII", 1, EXIF_IFD, 4, 1, 26, 0)
    inner = struct.pack(">HHHIII", 1, USER_COMMENT, 7, len(comment), 44, 0)
    return head + first + inner + comment


def _entries(block: bytes, at: int, order: str) -> Iterator[tuple[int, int, bytes]]:
    """Tag, type and value of each entry of an IFD that lies within the block."""
    (count,) = struct.unpack_from(f"{order}H", block, at)
    for number in range(min(count, ENTRIES)):
        place = at + 2 + 12 * number
        tag, kind, length = struct.unpack_from(f"{order}HHI", block, place)
        size = SIZES.get(kind, 0) * length
        start = place + 8
        if size > 4:
            (start,) = struct.unpack_from(f"{order}I", block, start)
        if 0 < size <= len(block) - start:
            yield tag, kind, block[start : start + size]


def _decoded(comment: bytes) -> str:
    code, body = comment[:8], comment[8:]
    if code == UNICODE:
        return _unicode(body).strip("\0")
    if code in (ASCII, UNSAID):
        return body.decode("utf-8", "replace").strip("\0")
    return ""


def _unicode(body: bytes) -> str:
    """UTF-16, whose order nobody says: tools write it either way, and most texts have more ASCII than not."""
    if body[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return body.decode("utf-16", "replace")
    little = body[1::2].count(0) > body[::2].count(0)
    return body.decode("utf-16-le" if little else "utf-16-be", "replace")
