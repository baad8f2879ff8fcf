"""What the readers of Office documents and HTML find, piece by piece."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final, Literal

from switchyard.services.documents.model import runs
from switchyard.services.documents.model.blocks import Block
from switchyard.services.documents.write import markdown

MAX_DEPTH: Final = 12  # of items; deeper ones stand there
MAX_REPEATED: Final = 200  # characters of a cell that spans several, which each of them repeats
Kind = Literal["heading", "paragraph", "item", "table", "code", "image", "quote", "footnote"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a document.

    Args:
        text: inline Markdown, which may have line breaks; of code, as it is.
        level: a heading's from 1, an item's from 0; a paragraph within an item has one more than that.
        mark: an item's "-" or "3.", a footnote's name, the language of code.
        rows: those of a table, its cells as inline Markdown.
        source: where an image is.
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
        yield Piece("heading", flat(text), level=min(max(level, 1), 6))


def paragraph(text: str) -> Iterator[Piece]:
    """A paragraph, unless it has no text."""
    if text:
        yield Piece("paragraph", text)


def table(rows: Iterable[Iterable[str]]) -> Iterator[Piece]:
    """A table without its empty rows and columns; one of a single cell is a paragraph."""
    filled = [[flat(cell) for cell in row] for row in rows]
    filled = [row for row in filled if any(row)]
    width = max((len(row) for row in filled), default=0)
    filled = [row + [""] * (width - len(row)) for row in filled]
    used = [column for column in range(width) if any(row[column] for row in filled)]
    if len(filled) == 1 and len(used) == 1:
        yield Piece("paragraph", filled[0][used[0]])
    elif filled:
        yield Piece("table", rows=tuple(tuple(row[column] for column in used) for row in filled))


def spread(text: str, places: int) -> list[str]:
    """A cell's text in each place that it spans, or, where it is long, in the first alone."""
    if len(text) <= MAX_REPEATED:
        return [text] * places
    return [text, *[""] * (places - 1)]


def flat(text: str) -> str:
    """Inline Markdown without line breaks."""
    return text.replace("\n", " ")


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
        return min(len(self._open) - 1, MAX_DEPTH)

    @property
    def within(self) -> int:
        """How deep what continues the last item is; 0 after `end`."""
        return min(len(self._open), MAX_DEPTH + 1)

    def end(self) -> None:
        """Something that is in no item follows."""
        self._open.clear()


def settled(found: Iterable[Piece]) -> Iterator[Piece]:
    """Pieces whose items are as deep as Markdown can show, and whose paragraphs keep to the items before."""
    depths = Depths()
    for piece in found:
        if piece.kind == "item":
            yield replace(piece, level=depths.of(piece.level))
        elif piece.kind == "paragraph" and piece.level and depths.within:
            yield replace(piece, level=depths.within)
        else:
            depths.end()
            yield replace(piece, level=0) if piece.kind == "paragraph" else piece


def blocks(found: Iterable[Piece]) -> tuple[Block, ...]:
    """All of it as blocks."""
    return tuple(
        Block(piece.kind, _written(piece), _plain(piece), piece.level, image=piece.source) for piece in found
    )


def _plain(piece: Piece) -> str:
    match piece.kind:
        case "table":
            return "\n".join("\t".join(markdown.plain(cell) for cell in row) for row in piece.rows)
        case "code":
            return piece.text
        case _:
            return markdown.plain(piece.text)


def _written(piece: Piece) -> str:
    indent = markdown.INDENT * piece.level
    match piece.kind:
        case "heading":
            return f"{'#' * piece.level} {piece.text}"
        case "item":
            return f"{indent}{piece.mark} {_lines(piece.text, indent + markdown.INDENT)}"
        case "table":
            return markdown.table([[cell.replace("|", "\\|") for cell in row] for row in piece.rows])
        case "code":
            return markdown.fenced(piece.text, piece.mark)
        case "image":
            return runs.image(piece.text, piece.source)
        case "quote":
            return f"> {_lines(piece.text, '> ')}"
        case "footnote":
            return f"[^{piece.mark}]: {_lines(piece.text, markdown.INDENT)}"
        case "paragraph":
            return f"{indent}{_lines(piece.text, indent)}"


def _lines(text: str, indent: str) -> str:
    """Text in which no line reads as a block of its own, and each line is broken as it was."""
    return f"  \n{indent}".join(markdown.unlike_blocks(line) for line in text.split("\n"))
