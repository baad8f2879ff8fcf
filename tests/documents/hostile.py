"""Files made to do harm, and what must come of them."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from switchyard.services.connectors.convert.connector import ConvertConnector
from switchyard.services.connectors.protocol import FatalError, Outcome
from tests.connectors.attempts import LocalAttempt

MIB: Final = 1024 * 1024
# The ways in which a file that cannot be read may be reported; anything else is a fault of ours.
REASONS: Final = frozenset(
    {
        "archive_too_large",
        "corrupt_file",
        "empty_file",
        "encrypted_file",
        "image_too_large",
        "memory_exceeded",
        "mislabelled_file",
        "output_too_large",
        "reader_crashed",
        "reader_failed",
        "too_deep",
        "too_many_pages",
        "unsafe_file",
        "unsupported_format",
    }
)


async def convert(
    connector: ConvertConnector, directory: Path, data: bytes, name: str, media_type: str = "", **payload: Any
) -> Outcome:
    """Convert bytes as a file of a name."""
    path = directory / "hostile"
    path.write_bytes(data)
    attempt = LocalAttempt(directory)
    attempt.payload = {
        "file": attempt.offer(path, name=name, media_type=media_type),
        "ocr": "never",
    } | payload
    return await connector.run(attempt)


async def verdict(
    connector: ConvertConnector, directory: Path, data: bytes, name: str, **payload: Any
) -> str | None:
    """The code with which a file is refused, or None if it can be read after all; the next file is read."""
    refused: FatalError | None = None
    try:
        await convert(connector, directory, data, name, **payload)
    except FatalError as error:
        refused = error
    if refused is not None:
        assert len(refused.message) > 10
        assert str(directory) not in refused.message
        assert refused.code in REASONS
    after = await convert(connector, directory, b"<html><p>still here</p></html>", "next.html")
    assert after.result["markdown"] == "still here\n"
    return refused.code if refused is not None else None


def zipped(parts: dict[str, bytes]) -> bytes:
    """An archive of these members."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    return data.getvalue()


def deflated(size_bytes: int, byte: bytes = b" ", *, times: int = 1) -> bytes:
    """Many equal bytes, compressed as often as asked for."""
    packer = zlib.compressobj(1)
    block = byte * MIB
    packed = b"".join(packer.compress(block) for _ in range(size_bytes // MIB)) + packer.flush()
    for _ in range(times - 1):
        packed = zlib.compress(packed)
    return packed


def pdf(*objects: bytes, trailer: bytes = b"") -> bytes:
    """A PDF of objects numbered from 1, of which the first is the catalog."""
    data = b"%PDF-1.7\n"
    offsets = []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    size = len(objects) + 1
    table = b"xref\n0 %d\n0000000000 65535 f \n" % size
    table += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    end = b"trailer\n<< /Size %d /Root 1 0 R %s >>\nstartxref\n%d\n%%%%EOF\n" % (size, trailer, len(data))
    return data + table + end


def stream(body: bytes, entries: bytes = b"") -> bytes:
    """A stream object."""
    return b"<< /Length %d %s >>\nstream\n%s\nendstream" % (len(body), entries, body)


def pdf_page(content: bytes, *more: bytes, resources: bytes = b"", entries: bytes = b"") -> bytes:
    """A PDF of one page: its content is object 4, the font is 5, what follows counts from 6."""
    return pdf(
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 300] /Contents 4 0 R"
        b" /Resources << /Font << /F 5 0 R >> %s >> %s >>" % (resources, entries),
        content,
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        *more,
    )


def png_chunks(*chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of chunks."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack("!I", len(body)) + kind + body + struct.pack("!I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def tiff_directory(entries: dict[int, tuple[int, int]], *, following: int, at: int = 8) -> bytes:
    """A little-endian TIFF of one directory: type and value by tag, and where the next directory is."""
    header = b"II*\0" + struct.pack("<I", at)
    body = struct.pack("<H", len(entries))
    for tag, (kind, value) in sorted(entries.items()):
        body += struct.pack("<HHII", tag, kind, 1, value)
    return header + body + struct.pack("<I", following)


def nested(opening: str, closing: str, depth: int, inner: str = "") -> str:
    """A text within so many others."""
    return opening * depth + inner + closing * depth


def mutations(data: bytes, chance: Any, count: int) -> Iterator[bytes]:
    """Copies of a file with bytes changed, taken out, put in and repeated."""
    for _ in range(count):
        changed = bytearray(data)
        for _ in range(chance.randrange(1, 12)):
            at, length = chance.randrange(len(changed)), chance.choice([1, 1, 2, 8, 64, 512])
            match chance.randrange(4):
                case 0:
                    changed[at : at + length] = chance.randbytes(length)
                case 1 if len(changed) > 2 * length:
                    del changed[at : at + length]
                case 2:
                    changed[at:at] = chance.randbytes(length)
                case _:
                    changed[at:at] = changed[at : at + length]
        yield bytes(changed)
