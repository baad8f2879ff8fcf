"""What an OLE file is, by the names of the streams in its directory.

Source: [MS-CFB] 2.2 (header), 2.3 (sectors of the allocation table) and 2.6 (entries of the directory).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

ENTRY_BYTES: Final = 128
NAME_BYTES: Final = 64
HEADER_BYTES: Final = 512
IN_HEADER: Final = 109  # sectors of the table that the header itself names
MAX_SECTORS: Final = 1_000  # of a directory
SHIFTS: Final = (7, 9, 12)
SEARCHED_BYTES: Final = 1024 * 1024
SHORT: Final = 6  # a name of so few letters may be any text
# Streams by which programs know their own files; one that is protected encloses another.
KINDS: Final = (
    ("EncryptedPackage", "encrypted"),  # [MS-OFFCRYPTO] 2.3.4.4
    ("__properties_version1.0", "outlook"),
    ("WordDocument", "old_word"),
    ("Workbook", "old_excel"),
    ("Book", "old_excel"),
    ("PowerPoint Document", "old_powerpoint"),
    ("VisioDocument", "visio"),
    ("Quill", "publisher"),
    ("HwpSummaryInformation", "hangul"),
    ("MatOST", "works"),
    ("MM", "works"),
)


def kind(path: Path) -> str:
    """What an OLE file is: `encrypted`, or one of the names in `sniff.NAMES`, `ole` where it is not known."""
    with path.open("rb") as file:
        names = {name.strip("\x01\x05\x06") for name in _names(file)}
        if not names:  # its directory is not where the header says
            file.seek(0)
            start = file.read(SEARCHED_BYTES)
            names = {name for name, _ in KINDS if len(name) > SHORT and name.encode("utf-16-le") in start}
    return next((found for name, found in KINDS if name in names), "ole")


def _names(file: IO[bytes]) -> Iterator[str]:
    """The names in the directory, as far as it can be followed."""
    header = file.read(HEADER_BYTES)
    if len(header) < HEADER_BYTES:
        return
    (shift,) = struct.unpack_from("<H", header, 30)
    (sector,) = struct.unpack_from("<I", header, 48)
    if shift not in SHIFTS:
        return
    size = 1 << shift
    tables = struct.unpack_from(f"<{IN_HEADER}I", header, 76)
    for _ in range(MAX_SECTORS):
        data = _sector(file, sector, size)
        for at in range(0, len(data) - ENTRY_BYTES + 1, ENTRY_BYTES):
            (length,) = struct.unpack_from("<H", data, at + NAME_BYTES)
            if 2 < length <= NAME_BYTES:
                yield data[at : at + length - 2].decode("utf-16-le", errors="replace")
        number, place = divmod(sector, size // 4)
        table = _sector(file, tables[number], size) if number < IN_HEADER else b""
        if len(data) < size or len(table) < size:
            return
        (sector,) = struct.unpack_from("<I", table, place * 4)


def _sector(file: IO[bytes], number: int, size: int) -> bytes:
    """A sector; nothing where there is none, as behind the last one."""
    file.seek((number + 1) * size)
    return file.read(size)
