"""Tables of a PDF page as its structure tree declares them, where the places of their words bear it out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf
from typing import Final

from switchyard.services.documents.model.blocks import Box
from switchyard.services.documents.model.spans import Spanning, spread
from switchyard.services.documents.page.hyphens import unbroken
from switchyard.services.documents.page.lines import Line, Table, Word, parted
from switchyard.services.documents.page.tables import cell_lines
from switchyard.services.documents.pdf.tags.structure import EMPTY, Cell, Structure
from switchyard.services.documents.write import markdown

MAX_CELL_CHARS: Final = 1_500  # a cell with more arranges a part of the page
MAX_COLUMNS: Final = 100
MAX_CELLS: Final = 50_000  # of the page's table, those counted often that span others
ODD: Final = 0.05  # of the cells: so many may stand elsewhere than their row and column
INSIDE: Final = 0.1  # of the letters within a table's bounds: so many may be of none of its cells
SLACK: Final = 0.5  # of a word's height


@dataclass(slots=True)
class _Held:
    """A cell with the words in it."""

    cell: Cell
    words: list[Word] = field(default_factory=list)

    def text(self) -> str:
        lines = cell_lines.text_lines(self.words)
        return markdown.cell(unbroken(line.text for line in lines))

    def exceeds(self, columns: Sequence[tuple[float, float]]) -> bool:
        """Whether it stands in more columns than it declares to span."""
        box = self.box()
        return box is not None and sum(_apart(box, column) < 0 for column in columns) > self.cell.columns

    def box(self) -> Box | None:
        """Left, top, right, bottom of its words; None without any."""
        if not self.words:
            return None
        return (
            min(word.left for word in self.words),
            min(word.top for word in self.words),
            max(word.right for word in self.words),
            max(word.bottom for word in self.words),
        )


_Row = list[_Held]
_Span = tuple[float, float]


def tables(
    structure: Structure, lines: Sequence[Line], known: Sequence[Table] = (), *, sure: bool
) -> tuple[list[Table], list[Line]]:
    """Tables that a page's structure declares, and the text, its lines parted where they lead out of one.

    Args:
        structure: that of the page.
        lines: those of the page.
        known: tables whose lines of text are in no other.
        sure: take those that declare what their cells span, or else the others, of which drawn lines, where
            there are any, say more.
    """
    found: list[Table] = []
    found_in = list(lines)
    if not structure.tables:
        return found, found_in
    words = [word for line in lines if not any(table.holds(line) for table in known) for word in line.words]
    by_mark: defaultdict[int, list[Word]] = defaultdict(list)
    for word in words:
        by_mark[word.mark].append(word)
    for declared in structure.tables:
        rows = [[_Held(cell, _words_of(cell, by_mark)) for cell in row] for row in declared.rows]
        if not _is_table(rows, words):
            continue
        filled = _filled(rows)
        if (filled is not None) != sure:
            continue
        table = _written(filled or rows)
        taken = {id(word) for row in rows for held in row for word in held.words}
        found_in, starts = parted(found_in, taken)
        left, top, right, bottom = _around(rows)
        found.append(Table(left, top, right, bottom, table, starts, continues=declared.continues))
    return found, found_in


def _words_of(cell: Cell, by_mark: dict[int, list[Word]]) -> list[Word]:
    """The words in a cell, which are in no other."""
    return [word for mark in sorted(cell.marks) for word in by_mark.pop(mark, ())]


def _is_table(rows: Sequence[_Row], words: Iterable[Word]) -> bool:
    """Whether it does not only arrange the page, and its cells stand where it says."""
    if sum(held.cell.columns * held.cell.rows for row in rows for held in row) > MAX_CELLS:
        return False
    filled = [[held for held in row if held.words] for row in rows]
    filled = [row for row in filled if row]
    # Without a header, what has one row or one column is a frame around text.
    headed = any(held.cell.heads for row in rows for held in row)
    least = 1 if headed else 2
    if sum(map(len, filled)) < 2 or len(filled) < least or max(map(len, filled)) < least:
        return False
    return not _arranges(rows, headed=headed) and _is_in_place(filled) and _is_whole(rows, words)


def _written(rows: Sequence[_Row]) -> str:
    """The table as Markdown, without empty columns."""
    texts = spread([Spanning(held.text(), held.cell.columns, held.cell.rows) for held in row] for row in rows)
    width = max(map(len, texts))
    texts = [[*row, *[""] * (width - len(row))] for row in texts]
    kept = [at for at in range(width) if any(row[at] for row in texts)]
    return markdown.table([[row[at] for at in kept] for row in texts])


def _filled(rows: Sequence[_Row]) -> Sequence[_Row] | None:
    """The rows, with empty cells where some have fewer than others: many programs do not write these.

    None where a cell stands in more columns than it declares to span.
    """
    widths = [sum(held.cell.columns for held in row) for row in rows]
    width = max(widths)
    if any(held.cell.rows > 1 for row in rows for held in row) or not min(widths) < width <= MAX_COLUMNS:
        return rows
    whole = [row for row, of in zip(rows, widths, strict=True) if of == len(row) == width]
    across = [[(box[0], box[2]) for row in whole if (box := row[at].box())] for at in range(width)]
    if not all(across):
        return None
    columns = [(min(left for left, _ in each), max(right for _, right in each)) for each in across]
    filled = [row if of == width else _in_columns(row, columns) for row, of in zip(rows, widths, strict=True)]
    return None if any(held.exceeds(columns) for row in filled for held in row) else filled


def _in_columns(row: _Row, columns: Sequence[_Span]) -> _Row:
    """A row that has fewer cells than there are columns, each put into the column that it stands in."""
    placed: _Row = []
    at, left = 0, sum(held.cell.columns for held in row)
    for held in row:
        if (box := held.box()) is not None:
            nearest = range(at, len(columns) - left + 1)
            best = min(nearest, key=lambda column: _apart(box, columns[column]))
            placed += [_Held(EMPTY) for _ in range(at, best)]
            at = best
        placed.append(held)
        at += held.cell.columns
        left -= held.cell.columns
    return placed


def _apart(box: Box, column: _Span) -> float:
    """How far a cell is from standing in a column: less than nothing the more of it does."""
    return max(box[0], column[0]) - min(box[2], column[1])


def _arranges(rows: Iterable[_Row], *, headed: bool) -> bool:
    """Whether a table only arranges a page."""
    cells = [held for row in rows for held in row]
    if any(sum(len(word.text) for word in held.words) > MAX_CELL_CHARS for held in cells):
        return True
    return not headed and any(held.cell.has_heading for held in cells)


def _is_in_place(rows: Sequence[_Row]) -> bool:
    """Whether rows stand below each other, and the cells of each side by side."""
    odd = steps = 0
    top = -inf
    for row in rows:
        cells = [(held, box, held.words[0]) for held in row if (box := held.box()) is not None]
        slacks = [(word.bottom - word.top) * SLACK for _, _, word in cells]
        sides = [(box[0], box[2] - by) for (_, box, _), by in zip(cells, slacks, strict=True)]
        right = sum(after[0] < before[1] for before, after in pairwise(sides))
        left = sum(before[0] < after[1] for before, after in pairwise(sides))
        odd += min(left, right)
        own = [box[1] for held, box, _ in cells if held.cell.rows == 1]
        if own:
            odd += min(own) < top
            top = min(own)
        steps += len(cells)
    return odd <= steps * ODD


def _is_whole(rows: Iterable[_Row], words: Iterable[Word]) -> bool:
    """Whether nearly all that stands within a table's bounds is in its cells."""
    left, top, right, bottom = _around(rows)
    taken = {id(word) for row in rows for held in row for word in held.words}
    inside = outside = 0
    for word in words:
        across, down = (word.left + word.right) / 2, (word.top + word.bottom) / 2
        if id(word) in taken:
            inside += len(word.text)
        elif left < across < right and top < down < bottom:
            outside += len(word.text)
    return outside <= inside * INSIDE


def _around(rows: Iterable[_Row]) -> Box:
    boxes = [box for row in rows for held in row if (box := held.box()) is not None]
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)
