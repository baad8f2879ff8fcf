"""The body of one request of an upload, cut into parts of a bounded size."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

from switchyard.events.errors import LimitError, RejectedError

PART_BYTES: Final = 16 * 1024 * 1024
"""What a gateway that is killed loses of an upload at most."""
MOST_LARGE: Final = 256
KEPT: Final = frozenset({"body_broken_off", "upload_stalled"})
"""Codes of what ends a body early; what came before is good."""


def part_bytes(length: int) -> int:
    """How large the parts of an upload are, so that their list stays short."""
    return max(PART_BYTES, -(-length // MOST_LARGE))


class Body:
    """A body; read part by part until `is_over`.

    Args:
        blocks: its bytes.
        most_bytes: how many there may be.
        size_bytes: that of a part.
        checked: whether a body that breaks off is worth nothing.
    """

    def __init__(
        self, blocks: AsyncIterator[bytes], *, most_bytes: int, size_bytes: int, checked: bool
    ) -> None:
        self._blocks = blocks
        self._left = most_bytes
        self._size_bytes = size_bytes
        self._checked = checked
        self._rest = b""
        self.is_over = False
        self.broken: RejectedError | None = None
        """Why it ended early."""

    async def begin(self) -> bool:
        """Whether there is anything more."""
        if not self._rest and not self.is_over:
            await self._next()
        return bool(self._rest)

    async def part(self) -> AsyncGenerator[bytes, None]:
        """The blocks of the next part.

        Raises:
            LimitError: more comes than may.
            RejectedError: it breaks off, where that leaves nothing of use.
        """
        left = self._size_bytes
        while left and await self.begin():
            block, self._rest = self._rest[:left], self._rest[left:]
            left -= len(block)
            yield block

    async def _next(self) -> None:
        try:
            block = await anext(self._blocks, b"")
        except RejectedError as error:
            if self._checked or error.code not in KEPT:
                raise
            self.broken, block = error, b""
        self._left -= len(block)
        if self._left < 0:
            message = "more bytes come than the upload's length leaves"
            raise LimitError(message, status=413, code="upload_too_long")
        self._rest, self.is_over = block, not block
