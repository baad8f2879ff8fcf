"""Checks on the ZIP archive that an Office document is, before a library unpacks it."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Final

from switchyard.services.documents.errors import FatalError

MAX_MEMBERS: Final = 20_000
MAX_UNPACKED_BYTES: Final = 1024**3
# XML of many like rows shrinks to a hundredth; a bomb to a thousandth.
MAX_RATIO: Final = 200
RATIO_FROM_BYTES: Final = 16 * 1024 * 1024
READ_BYTES: Final = 1024 * 1024
ENCRYPTED: Final = 0x1  # general purpose bit 0, APPNOTE.TXT 4.4.4
BEFORE_XML: Final = b"\xef\xbb\xbf\xff\xfe \t\r\n"
# What is shown or put in as it is and parsed as no part of the document (see `ooxml.Package.parse`).
UNPARSED: Final = (".svg", ".htm", ".html", ".xhtml", ".mht", ".mhtml", ".txt", ".rtf")
DECLARATION: Final = b"<!DOCTYPE"


def check(archive: zipfile.ZipFile) -> None:
    """Refuse an archive that is encrypted or unpacks to far more than it is.

    The sizes are those it declares; `zipfile` reads no member beyond its declared size.

    Raises:
        FatalError: codes `encrypted_file` and `archive_too_large`.
    """
    members = archive.infolist()
    if any(member.flag_bits & ENCRYPTED for member in members):
        raise FatalError("encrypted_file", "the document is protected by a password")
    unpacked = sum(member.file_size for member in members)
    packed = max(1, sum(member.compress_size for member in members))
    if (
        len(members) > MAX_MEMBERS
        or unpacked > MAX_UNPACKED_BYTES
        or (unpacked > RATIO_FROM_BYTES and unpacked > packed * MAX_RATIO)
    ):
        raise FatalError(
            "archive_too_large",
            f"the document unpacks to {unpacked / 1e6:.0f} MB in {len(members)} parts, which is more than a"
            " document needs",
        )


def check_parts(path: Path) -> None:
    """Read all XML of an Office document once and refuse a document type declaration.

    ECMA-376 part 2 forbids them, and entities, which can grow without end, need one.

    Raises:
        FatalError: codes `unsafe_file` and `corrupt_file`.
    """
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if not member.filename.lower().endswith(UNPARSED) and _declares(archive, member):
                raise FatalError(
                    "unsafe_file",
                    f"{member.filename} declares a document type, which Office documents must not",
                )


def _declares(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bool:
    try:
        with archive.open(member) as part:
            tail = b""
            while chunk := part.read(READ_BYTES):
                text = tail + chunk.replace(b"\0", b"")  # so that UTF-16 reads alike
                start = text.lstrip(BEFORE_XML)[:1] if not tail else b""
                if start not in {b"", b"<"}:
                    return False  # no XML, whatever its name is
                if DECLARATION in text:
                    return True
                tail = text[-len(DECLARATION) :]
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise FatalError("corrupt_file", f"{member.filename} inside the document is damaged") from error
    return False
