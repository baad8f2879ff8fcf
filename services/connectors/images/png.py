"""Texts in PNG files. Source: the PNG specification, third edition: `tEXt`, `zTXt`, `iTXt`, `eXIf`."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple

from switchyard.services.connectors.images import exif

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
TEXTS: Final = (b"tEXt", b"zTXt", b"iTXt")
SAYS_SOMETHING: Final = (*TEXTS, b"eXIf", b"tIME")
TEXT_BYTES: Final = 4 * 1024**2
"""What a text may have, unpacked; one of more is left out."""
FIELDS: Final = 100


class Chunk(NamedTuple):
    """One chunk: where it begins and ends in the file, with its length and its check sum."""

    kind: bytes
    start: int
    end: int


def chunks(data: memoryview) -> Iterator[Chunk]:
    """The chunks as far as they are whole, up to `IEND`; what is cut off ends them."""
    place = len(SIGNATURE)
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        kind = bytes(data[place + 4 : place + 8])
        end = place + 12 + length
        if end > len(data):
            return
        yield Chunk(kind, place, end)
        if kind == b"IEND":
            return
        place = end


def texts_of(data: memoryview) -> dict[str, str]:
    """The texts by keyword; the first of a keyword counts."""
    found: dict[str, str] = {}
    for chunk in chunks(data):
        if chunk.kind not in SAYS_SOMETHING or chunk.end - chunk.start > TEXT_BYTES:
            continue
        body = bytes(data[chunk.start + 8 : chunk.end - 4])
        if chunk.kind == b"eXIf":
            texts = exif.texts_of(body)
        else:
            said = _text(chunk.kind, body)
            texts = {} if said is None else {said[0]: said[1]}
        for name, text in texts.items():
            found.setdefault(name, text)
        if len(found) >= FIELDS:
            break
    return found


def _text(kind: bytes, body: bytes) -> tuple[str, str] | None:
    keyword, _, rest = body.partition(b"\0")
    name = keyword.decode("latin-1")
    if kind == b"tEXt":
        return name, rest.decode("latin-1")
    if kind == b"zTXt" and rest[:1] == b"\0":
        plain = _unpacked(rest[1:])
        return None if plain is None else (name, plain.decode("latin-1"))
    if kind == b"iTXt" and len(rest) >= 2:
        packed = rest[0] == 1
        text = rest[2:].split(b"\0", 2)[-1]
        said = _unpacked(text) if packed else text
        return None if said is None else (name, said.decode("utf-8", "replace"))
    return None


def _unpacked(packed: bytes) -> bytes | None:
    """What zlib has packed; None where it is damaged, or far larger than any text."""
    unpack = zlib.decompressobj()
    try:
        plain = unpack.decompress(packed, TEXT_BYTES)
    except zlib.error:
        return None
    return plain if unpack.eof else None


def without_texts(data: memoryview) -> list[memoryview]:
    """The file in parts, without chunks that say something of it; what follows its end is left out, too."""
    parts, end = [data[: len(SIGNATURE)]], len(SIGNATURE)
    kind = b""
    for chunk in chunks(data):
        kind, end = chunk.kind, chunk.end
        if kind not in SAYS_SOMETHING:
            parts.append(data[chunk.start : end])
    if kind != b"IEND" and bytes(data[end + 4 : end + 8]) in (b"IDAT", b"fdAT"):
        parts.append(data[end:])  # a file that was cut off within its pixels stays as good as it was
    return parts


def with_text(data: memoryview, keyword: str, text: str) -> list[memoryview]:
    """The file in parts, with a text before its pixels; [] where it is damaged."""
    first = next(chunks(data), None)
    if first is None or first.kind != b"IHDR":
        return []
    try:
        kind, body = b"tEXt", keyword.encode("latin-1") + b"\0" + text.encode("latin-1")
    except UnicodeEncodeError:
        kind = b"iTXt"
        body = keyword.encode("latin-1") + b"\0\0\0\0\0" + text.encode("utf-8", "replace")
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return [data[: first.end], memoryview(chunk), data[first.end :]]
