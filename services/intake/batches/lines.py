"""The lines of a file as it is read: none is held that is longer than a line may be."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final, NamedTuple

BOM: Final = b"\xef\xbb\xbf"


class Line(NamedTuple):
    """A line.

    Args:
        number: counted from 1, blank ones among them.
        text: without its end; None for one that is too long.
        end: the place after it, in bytes from where the reading began.
    """

    number: int
    text: bytes | None
    end: int


async def lines_of(blocks: AsyncIterator[bytes], most_bytes: int) -> AsyncIterator[Line]:
    """Each line of a body; the last one with or without a line end.

    Args:
        blocks: the body, in blocks of any size.
        most_bytes: what a line may have.
    """
    rest, number, end, is_long = bytearray(), 0, 0, False
    async for block in blocks:
        start = 0
        while (newline := block.find(b"\n", start)) >= 0:
            piece = block[start:newline]
            is_long = is_long or len(rest) + len(piece) > most_bytes
            number, end, start = number + 1, end + len(piece) + 1, newline + 1
            yield Line(number, None if is_long else _plain(bytes(rest) + piece, number), end)
            rest, is_long = bytearray(), False
        piece = block[start:]
        end += len(piece)
        if is_long or len(rest) + len(piece) > most_bytes:
            rest, is_long = bytearray(), True
        else:
            rest += piece
    if rest or is_long:
        yield Line(number + 1, None if is_long else _plain(bytes(rest), number + 1), end)


def _plain(text: bytes, number: int) -> bytes:
    """A line without the marks that editors put at the beginning of files and at the ends of lines."""
    return (text.removeprefix(BOM) if number == 1 else text).removesuffix(b"\r")
