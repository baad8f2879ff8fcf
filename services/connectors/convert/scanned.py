"""What recognised words tell by where they stand: bullets that were misread, and tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from services.connectors.convert import markdown
from services.connectors.convert.lines import Line, Table

# A bullet has no letter of its own in the OCR data and comes out as one of these.
BULLET_SIGNS: Final = frozenset("\u2022\u00b7\u00a2\u00a9\u00ae\u00bb\u00b0*+")
BULLET_LETTERS: Final = frozenset("eoO")
BULLET: Final = "\u2022"
RULES: Final = frozenset({"|", "||", "[", "]", "!", "_", "\u2014"})  # how ruled lines come out
CELL_GAP: Final = 1.2  # of the size; between words it is about 0.3
MAX_CELL_CHARS: Final = 40  # on average; longer ones are columns of prose


@dataclass(frozen=True, slots=True)
class Word:
    """One recognised word."""

    text: str
    left: float
    right: float


@dataclass(frozen=True, slots=True)
class Row:
    """The words of one line."""

    words: tuple[Word, ...]
    top: float
    bottom: float
    size: float
    starts: bool

    @property
    def left(self) -> float:
        """Where the line begins."""
        return self.words[0].left

    def line(self) -> Line:
        """The line without the places of its words."""
        text = " ".join(word.text for word in self.words)
        right = self.words[-1].right
        return Line(text, self.left, self.top, right, self.bottom, self.size, starts=self.starts)

    def cells(self) -> list[Word]:
        """The words, those of one cell put together."""
        cells: list[Word] = []
        apart = True
        for word in self.words:
            if word.text in RULES:
                apart = True
            elif cells and not apart and word.left - cells[-1].right < self.size * CELL_GAP:
                cells[-1] = Word(f"{cells[-1].text} {word.text}", cells[-1].left, word.right)
            else:
                cells.append(word)
                apart = False
        return cells


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


def find_tables(rows: Sequence[Row]) -> Iterator[Table]:
    """The tables: two lines or more, one below the other, each of several cells in the same columns."""
    group: list[Row] = []
    for row in rows:
        if group and row.top - group[-1].bottom > row.size * 2.5:
            yield from _table(group)
            group = []
        if len(row.cells()) > 1:
            group.append(row)
        else:
            yield from _table(group)
            group = []
    yield from _table(group)


def _table(rows: Sequence[Row]) -> Iterator[Table]:
    cells = [row.cells() for row in rows]
    columns = _columns([cell for line in cells for cell in line])
    letters = sum(len(cell.text) for line in cells for cell in line)
    if len(rows) < 2 or len(columns) < 2 or letters > MAX_CELL_CHARS * sum(len(line) for line in cells):
        return
    texts = [
        [
            markdown.cell(" ".join(cell.text for cell in line if left <= cell.left and cell.right <= right))
            for left, right in columns
        ]
        for line in cells
    ]
    yield Table(
        min(row.left for row in rows),
        min(row.top for row in rows),
        max(row.words[-1].right for row in rows),
        max(row.bottom for row in rows),
        markdown.table(texts),
    )


def _columns(cells: Sequence[Word]) -> list[tuple[float, float]]:
    """The stretches across the page that cells cover, those that overlap being one."""
    columns: list[tuple[float, float]] = []
    for cell in sorted(cells, key=lambda cell: cell.left):
        if columns and cell.left < columns[-1][1]:
            columns[-1] = (columns[-1][0], max(columns[-1][1], cell.right))
        else:
            columns.append((cell.left, cell.right))
    return columns
