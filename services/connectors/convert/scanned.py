"""What recognised words tell by where they stand: rows of cells, and bullets that were misread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from services.connectors.convert.lines import Line, Start

# A bullet has no letter of its own in the OCR data and comes out as one of these.
BULLET_SIGNS: Final = frozenset("\u2022\u00b7\u00a2\u00a9\u00ae\u00bb\u00b0*+")
BULLET_LETTERS: Final = frozenset("eoO")
BULLET: Final = "\u2022"
# How ruled lines come out.
RULES: Final = frozenset({"|", "||", "[", "]", "!", "_", "\u2014", "|}", "{|", "|]", "[|"})
CELL_GAP: Final = 1.0  # of the size; between words it is about 0.3


@dataclass(frozen=True, slots=True)
class Word:
    """One recognised word."""

    text: str
    left: float
    right: float


@dataclass(frozen=True, slots=True)
class Row:
    """The words of one line, or of several beside each other.

    Args:
        lines: where those begin that are one row (left, top); without it, where this does.
    """

    words: tuple[Word, ...]
    top: float
    bottom: float
    size: float
    starts: bool
    lines: frozenset[Start] | None = None
    bold: bool = False

    @property
    def left(self) -> float:
        """Where the line begins."""
        return self.words[0].left

    def line_starts(self) -> frozenset[Start]:
        """Where its lines begin."""
        return frozenset({(self.left, self.top)}) if self.lines is None else self.lines

    @property
    def middle(self) -> float:
        """Where it stands on the page."""
        return (self.top + self.bottom) / 2

    def line(self) -> Line:
        """The line without the places of its words."""
        text = " ".join(word.text for word in self.words)
        right = self.words[-1].right
        return Line(
            text, self.left, self.top, right, self.bottom, self.size, bold=self.bold, starts=self.starts
        )

    @property
    def right(self) -> float:
        """Where the line ends."""
        return self.words[-1].right

    def chunks(self) -> list[list[Word]]:
        """The words, parted where the gap is too wide for one between words."""
        chunks: list[list[Word]] = []
        apart = True
        for word in self.words:
            if word.text in RULES:
                apart = True
            elif chunks and not apart and word.left - chunks[-1][-1].right < self.size * CELL_GAP:
                chunks[-1].append(word)
            else:
                chunks.append([word])
                apart = False
        return chunks


def row_of(line: Line) -> Row:
    """A recognised line as a row."""
    words = tuple(Word(word.text, word.left, word.right) for word in line.words)
    return Row(words, line.top, line.bottom, line.size, starts=line.starts, bold=line.bold)


def with_bullets(rows: Sequence[Row]) -> list[Row]:
    """The lines with a bullet for what stands in its place at the start of two lines or more."""
    marked = [row for row in rows if _may_have_bullet(row)]

    def has_bullet(row: Row) -> bool:
        return row in marked and any(
            other is not row and abs(other.left - row.left) < row.size * 0.5 for other in marked
        )

    return [
        replace(row, words=(replace(row.words[0], text=BULLET), *row.words[1:])) if has_bullet(row) else row
        for row in rows
    ]


def _may_have_bullet(row: Row) -> bool:
    if len(row.words) < 2:
        return False
    first, second = row.words[:2]
    signs = set(first.text)
    if len(first.text) > 2 or not signs <= BULLET_SIGNS | BULLET_LETTERS:
        return False
    return bool(signs & BULLET_SIGNS) or (len(first.text) == 1 and second.text[:1].isupper())
