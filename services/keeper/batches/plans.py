"""Reads the plan of a batch from any place of it on."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import AsyncIterator
from typing import Final, NamedTuple

from switchyard.services.files import FileInfo, Files
from switchyard.services.intake.batches.lines import lines_of
from switchyard.services.intake.batches.plan import Planned, decode

READ_BYTES: Final = 256 * 1024
PAGE: Final = 256


class Placed(NamedTuple):
    """A line of the plan, and the place after it in bytes."""

    planned: Planned
    end: int


class Plan:
    """The plan of one batch.

    Args:
        files: where it is stored.
        info: the file.
    """

    def __init__(self, files: Files, info: FileInfo) -> None:
        self._files = files
        self.info = info
        self._most = info.size_bytes  # it was made here: its lines are no longer than they may be
        self._ahead: deque[Placed] = deque()
        self._next = 0

    async def take(self, place: int, most: int) -> list[Placed]:
        """Lines from a place on, some at least where there are any; the next call gives them again.

        Args:
            place: in bytes.
            most: how many.

        Raises:
            NotFoundError, DamagedFileError: the file is gone, or not what was stored.
            UnavailableError: the broker does not answer.
        """
        while self._ahead and self._ahead[0].end <= place:
            self._ahead.popleft()
        if len(self._ahead) < most and max(self._next, place) < self.info.size_bytes:
            if not self._ahead:
                self._next = place
            await self._read()
        return [self._ahead[index] for index in range(min(most, len(self._ahead)))]

    async def _read(self) -> None:
        """Hold the lines that begin in the next block, if those that are held are few."""
        start, size_bytes = self._next, self.info.size_bytes
        end = start + READ_BYTES
        while True:
            body = self._files.read(self.info, start, min(end, size_bytes))
            found: list[Placed] = []
            async with contextlib.aclosing(body) as blocks:
                async for line in lines_of(blocks, self._most):
                    is_whole = line.end < end - start or end >= size_bytes
                    if line.text is not None and is_whole:
                        found.append(Placed(decode(line.text), start + line.end))
            if found or end >= size_bytes:
                break
            end += READ_BYTES
        self._ahead.extend(found)
        self._next = found[-1].end if found else size_bytes

    async def pages(self) -> AsyncIterator[list[Planned]]:
        """All lines, some at a time.

        Raises:
            NotFoundError, DamagedFileError, UnavailableError: as for `take`.
        """
        page: list[Planned] = []
        async with contextlib.aclosing(self._files.read(self.info)) as blocks:
            async for line in lines_of(blocks, self._most):
                page.append(decode(line.text or b""))
                if len(page) == PAGE:
                    yield page
                    page = []
        if page:
            yield page
