"""What the readers of Office documents and HTML find, piece by piece."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from services.connectors.convert import markdown

Kind = Literal["heading", "paragraph", "item", "table", "code", "image", "quote", "footnote"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a document.

    Args:
        text: inline Markdown; of code, as it is.
        level: of a heading from 1, of an item from 0.
        mark: of an item "-" or "3.", of a footnote its name, of code its language.
        rows: of a table, its cells as inline Markdown.
        source: of an image, where it is.
    """

    kind: Kind
    text: str = ""
    level: int = 0
    mark: str = ""
    rows: tuple[tuple[str, ...], ...] = ()
    source: str = ""


def heading(level: int, text: str) -> Iterator[Piece]:
    """A heading, unless it has no text; a line break in one is a space."""
    if text:
        yield Piece("heading", text.replace("\n", " "), level=min(max(level, 1), 6))


def paragraph(text: str) -> Iterator[Piece]:
    """A paragraph, unless it has no text."""
    if text:
        yield Piece("paragraph", text)


def table(rows: Iterable[Iterable[str]]) -> Iterator[Piece]:
    """A table without its empty rows and columns; one of a single cell is a paragraph."""
    filled = [list(row) for row in rows]
    filled = [row for row in filled if any(row)]
    width = max((len(row) for row in filled), default=0)
    filled = [row + [""] * (width - len(row)) for row in filled]
    used = [column for column in range(width) if any(row[column] for row in filled)]
    if len(filled) == 1 and len(used) == 1:
        yield Piece("paragraph", filled[0][used[0]])
    elif filled:
        yield Piece("table", rows=tuple(tuple(row[column] for column in used) for row in filled))


class Depths:
    """Turns the levels that a document gives its items into those that Markdown can show.

    An item may be one deeper than the one before it, whatever the document calls their levels.
    """

    def __init__(self) -> None:
        self._open: list[int] = []

    def of(self, level: int) -> int:
        """The depth, from 0, of the next item."""
        while self._open and self._open[-1] >= level:
            self._open.pop()
        self._open.append(level)
        return len(self._open) - 1

    def end(self) -> None:
        """Something that is no item follows."""
        self._open.clear()


def render(found: Iterable[Piece]) -> str:
    """All of it as Markdown."""
    return markdown.join(_written(piece) for piece in found)


def _written(piece: Piece) -> str:
    match piece.kind:
        case "heading":
            return f"{'#' * piece.level} {piece.text}"
        case "item":
            return f"{'    ' * piece.level}{piece.mark} {piece.text}"
        case "table":
            return markdown.table([[c.replace("|", "\\|") for c in row] for row in piece.rows])
        case "code":
            return f"```{piece.mark}\n{piece.text}\n```"
        case "image":
            return f"![{piece.text}]({piece.source})"
        case "quote":
            return f"> {piece.text}"
        case "footnote":
            return f"[^{piece.mark}]: {piece.text}"
        case _:
            return piece.text
