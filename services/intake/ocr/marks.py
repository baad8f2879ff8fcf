"""The Markdown of a conversion with its pages apart, piece by piece, whatever its length."""

from __future__ import annotations

import codecs
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Final, NamedTuple

MARK: Final = re.compile(r"^<!-- page ([0-9]{1,6}) -->$", re.MULTILINE)
"""What the converter writes between pages; text of a document that looks so is escaped there."""
MARK_CHARS: Final = 40
BLOCK_CHARS: Final = 64 * 1024


class Piece(NamedTuple):
    """A part of a page.

    Args:
        page: its number, from 0.
        text: some of it; no line ends at the beginning and the end of the page.
    """

    page: int
    text: str


async def pieces(blocks: AsyncIterator[bytes]) -> AsyncGenerator[Piece, None]:
    """The parts of all pages in their order; a page without text has none.

    Args:
        blocks: the Markdown in UTF-8, in blocks of any size.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    pages = _Pages()
    rest, is_start = "", True
    async for block in blocks:
        piece = rest + decoder.decode(block)
        # A mark that is cut, or whose line may go on, waits for what follows.
        cut = piece.rfind("\n") + 1
        if len(piece) - cut > MARK_CHARS:
            cut = len(piece)
        ready, rest = piece[:cut], piece[cut:]
        if ready:
            for one in pages.add(ready, is_start=is_start):
                yield one
            is_start = ready.endswith("\n")
    rest += decoder.decode(b"", final=True)
    for one in pages.add(rest, is_start=is_start):
        yield one


class _Pages:
    """Where the text stands."""

    def __init__(self) -> None:
        self._page = 0
        self._ends = ""
        """Line ends that are part of the page if more of it follows."""
        self._has_begun = False

    def add(self, text: str, *, is_start: bool) -> Iterator[Piece]:
        """What a piece of the document adds; its first line may be a mark only if it begins one."""
        place = 0
        for mark in MARK.finditer(text):
            if mark.start() == 0 and not is_start:
                continue
            yield from self._text(text[place : mark.start()])
            place = mark.end()
            self._page, self._ends, self._has_begun = int(mark[1]) - 1, "", False
        yield from self._text(text[place:])

    def _text(self, text: str) -> Iterator[Piece]:
        if not self._has_begun:
            text = text.lstrip("\n")
        body = text.rstrip("\n")
        if body:
            self._has_begun = True
            yield Piece(self._page, self._ends + body)
            self._ends = ""
        if self._has_begun:
            self._ends += text[len(body) :]
