"""Many files as one zip archive that is written while it is sent: one block in memory, of any length.

The bytes are not packed again, since images are already. Each entry is written as deflated all the same,
because readers that cannot seek take no other entry whose length comes after it. Archives and entries over
4 GiB have zip64 records. Source: APPNOTE.TXT 6.3.10, sections 4.4.4 and 4.3.9.
"""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import AsyncGenerator, Iterable
from datetime import datetime
from typing import Final, NamedTuple

from switchyard.services.file_names import safe, unique

MODE: Final = 0o100600
FIRST_YEAR: Final = 1980
LAST_YEAR: Final = 2107


class Entry(NamedTuple):
    """One file of an archive.

    Args:
        name: that it is to have; made safe, and unique among the others.
        size_bytes: its length.
        at: when it was made.
        body: its bytes.
    """

    name: str
    size_bytes: int
    at: datetime
    body: AsyncGenerator[bytes, None]


async def zipped(entries: Iterable[Entry]) -> AsyncGenerator[bytes, None]:
    """The archive's bytes, each entry read when it is its turn."""
    sink = _Sink()
    taken: set[str] = set()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED, compresslevel=0) as archive:
        for entry in entries:
            described = zipfile.ZipInfo(unique(safe(entry.name), taken), _time(entry.at))
            described.compress_type = zipfile.ZIP_DEFLATED
            described.external_attr = MODE << 16
            described.file_size = entry.size_bytes  # whether it needs a zip64 record is judged by it
            with archive.open(described, "w") as target:
                async with contextlib.aclosing(entry.body) as blocks:
                    async for block in blocks:
                        target.write(block)
                        if part := sink.taken():
                            yield part
            if part := sink.taken():
                yield part
    yield sink.taken()


def _time(at: datetime) -> tuple[int, int, int, int, int, int]:
    year = min(max(at.year, FIRST_YEAR), LAST_YEAR)
    return year, at.month, at.day, at.hour, at.minute, at.second


class _Sink:
    """What the archive is written to; it cannot be sought in, and keeps only what was not taken yet."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing waits anywhere else."""

    def close(self) -> None:
        """Nothing is open."""

    def taken(self) -> bytes:
        """What was written since."""
        parts, self._parts = self._parts, []
        return b"".join(parts)
