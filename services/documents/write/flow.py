"""The pages of a document as one Markdown, a page at a time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from switchyard.services.documents.model.blocks import Block
from switchyard.services.documents.model.document import Page
from switchyard.services.documents.page.across_pages import open_at, together
from switchyard.services.documents.write import markdown

# Numbers with thousands or at least two decimals, in brackets, or with a currency; and days.
AMOUNT: Final = re.compile(
    r"(?:[-\u2212+(]?[$\u20ac\u00a3\u00a5]? ?(?:\d{1,3}(?:[,.' ]\d{3})+(?:[.,]\d+)?|\d+[.,]\d{2,})\)?"
    r"(?: ?[%\u20ac$])?)"
    r"|\(\d+(?:[.,]\d+)?\)|[$\u20ac\u00a3\u00a5] ?\d+|\d{4}-\d\d-\d\d|\d{1,2}[./]\d{1,2}[./]\d{2,4}"
)


class Flow:
    """Writes what continues on the next page without a seam.

    It keeps back the block of each page that may continue, and what stands below that block.
    """

    def __init__(self) -> None:
        self._held: list[Block] = []
        self._last = ""  # of what was written
        self._near: bool | None = None  # whether no blank line parts them; None: by what they are
        self._header = ""  # of the table that is open

    def add(self, page: Page) -> Iterator[str]:
        """What is written now, which the next page will not change."""
        blocks = list(page.blocks)
        if not blocks:
            if page.markdown:
                yield from self.end()
                yield from self._written([Block("paragraph", page.markdown, page.markdown)])
            return
        near = None if blocks[0].continues else False
        if blocks[0].continues and self._held:
            if blocks[0].kind == "table":
                yield from self._with_rows(blocks.pop(0))
            elif blocks[0].kind == "paragraph":
                open_, first = self._held[0], blocks.pop(0)
                self._held[0] = replace(open_, markdown=together(open_.markdown, first.markdown))
            if not blocks:
                return
        yield from self.end()
        self._near = near
        at = open_at(blocks)
        yield from self._written(blocks if at is None else blocks[:at])
        self._held = [] if at is None else blocks[at:]
        if self._held and self._held[0].kind == "table":
            self._header = _header(self._held[0])

    def end(self) -> Iterator[str]:
        """What was kept back."""
        yield from self._written(self._held)
        self._held = []

    def _with_rows(self, table: Block) -> Iterator[str]:
        """Let the rows of a table follow those that were kept back."""
        yield from self._written(self._held[:1])
        self._held[:1] = [replace(table, markdown=_rows(table, self._header))]
        self._near = True

    def _written(self, blocks: Iterable[Block]) -> Iterator[str]:
        for block in blocks:
            if not block.markdown.strip():
                self._near = None
                continue
            if self._last:
                near = markdown.are_near(self._last, block.markdown) if self._near is None else self._near
                yield "\n" if near else "\n\n"
            yield block.markdown
            self._last, self._near = block.markdown, None


def _rows(table: Block, header: str) -> str:
    """The rows of a table that continues, without a header that is repeated."""
    first, _, *others = table.markdown.split("\n")
    return "\n".join(others if header and _header(table) == header else [first, *others])


def _header(table: Block) -> str:
    """What may be a table's header, which the next page may repeat; empty for a row of data.

    Such a row stands in the table again, or has an amount in it: rows may be alike as well.
    """
    first, *others = table.text.split("\n")
    amounts = any(AMOUNT.fullmatch(cell.strip("* ")) for cell in first.split("\t"))
    return "" if first in others or amounts else first
