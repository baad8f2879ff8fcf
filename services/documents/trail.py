"""Which page is read, in a file that outlives the process that reads it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

NAME: Final = "page"
CRASHED: Final = "made its reader crash and was left out"


class Trail:
    """Writes down which page is read.

    Args:
        directory: where the file is.
        skip: why some pages are left out, by their numbers from 0.
    """

    def __init__(self, directory: Path, skip: Mapping[int, str]) -> None:
        self.skip = skip
        self._file = os.open(directory / NAME, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)

    def at(self, number: int) -> None:
        """A page, from 0, is read now."""
        os.pwrite(self._file, b"%08d" % number, 0)

    def close(self) -> None:
        """Close the file; nothing is read any more, and no page to blame."""
        os.ftruncate(self._file, 0)
        os.close(self._file)


def ended_at(directory: Path) -> int | None:
    """The page, from 0, that was read last in a directory; None where none was."""
    with suppress(OSError, ValueError):
        return int((directory / NAME).read_bytes())
    return None
