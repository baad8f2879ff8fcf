"""The pieces a page is made of: what each is, where it stands, and how it is written."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from switchyard.services.documents.write import markdown

Kind = Literal["heading", "paragraph", "item", "table", "code", "image", "footnote", "quote"]
Box = tuple[float, float, float, float]
SEPARATOR: Final = re.compile(r"\|( ?:?-{3,}:? ?\|)+")
BORDER: Final = re.compile(r"(?<!\\)\|")


@dataclass(frozen=True, slots=True)
class Block:
    """One heading, paragraph, list item, table or the like.

    Args:
        text: without marks of Markdown; in a table, cells are parted by tabs and rows by line ends.
        level: that of a heading from 1, of a list item from 0.
        box: left, top, right, bottom as fractions of the page from its top left; None where unknown.
        image: the name of an image, or where the document says that it is.
        continues: whether it continues a block at the end of the page before.
    """

    kind: Kind
    markdown: str
    text: str
    level: int = 0
    box: Box | None = None
    image: str = ""
    continues: bool = False

    @property
    def header(self) -> str:
        """The first row of a table, its cells parted by tabs."""
        return self.text.partition("\n")[0]


def join(blocks: Iterable[Block]) -> str:
    """Blocks as the Markdown of a page."""
    return markdown.join(block.markdown for block in blocks)


def table(written: str, box: Box | None, *, continues: bool = False) -> Block:
    """A block of a table that is Markdown already."""
    rows = [line for line in written.splitlines() if not SEPARATOR.fullmatch(line)]
    cells = [[cell.strip() for cell in BORDER.split(row)[1:-1]] for row in rows]
    text = "\n".join("\t".join(row) for row in cells).replace("\\|", "|").replace("\\<", "<")
    return Block("table", written, text, box=box, continues=continues)


def among(blocks: Iterable[Block], pictures: Iterable[Block]) -> tuple[Block, ...]:
    """Blocks with pictures between them, each before the first block below its top."""
    placed = list(blocks)
    for picture in pictures:
        at = next((at for at, block in enumerate(placed) if _top(block) > _top(picture)), len(placed))
        placed.insert(at, picture)
    return tuple(placed)


def _top(block: Block) -> float:
    return block.box[1] if block.box is not None else 0.0


def fractions(box: Box, size: tuple[float, float] | None) -> Box | None:
    """A box in a page's own unit as fractions of a page of that width and height; None for no size."""
    if size is None or min(size) <= 0:
        return None
    left, top, right, bottom = (
        min(max(at / whole, 0.0), 1.0) for at, whole in zip(box, (*size, *size), strict=True)
    )
    return left, top, right, bottom


def turned_back(box: Box | None, degrees: int) -> Box | None:
    """A box in fractions of a page that was turned clockwise to be read, as the page is shown.

    Args:
        box: left, top, right and bottom; None where unknown.
        degrees: by how many it was turned, a multiple of 90.
    """
    if box is None:
        return None
    left, top, right, bottom = box
    for _ in range(degrees // 90 % 4):
        left, top, right, bottom = top, 1 - right, bottom, 1 - left
    return left, top, right, bottom
