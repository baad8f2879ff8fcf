"""Rows that a table without rules has on the next page, too few there to be recognised by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from switchyard.services.documents.page.lines import Line, Start, Table
from switchyard.services.documents.page.tables import columns as white
from switchyard.services.documents.page.tables.cells import Placed, logical
from switchyard.services.documents.page.tables.columns import Piece, Span
from switchyard.services.documents.page.tables.open_grid import stacked
from switchyard.services.documents.write import markdown

MAX_ROWS: Final = 100
NEXT: Final = 2.0  # of the size, between rows
SAME_SIZE: Final = 0.25  # of the size: code is often smaller
REACH: Final = 0.5  # of the size, by which a cell may be wider than those above


@dataclass(frozen=True, slots=True)
class OpenTable:
    """A table at the end of a page.

    Args:
        columns: where they are across the page; none where lines rule them.
        size: that of its text.
        edges: where these lines are.
    """

    columns: tuple[Span, ...]
    size: float
    edges: tuple[float, ...] = ()

    def rest(self, lines: Sequence[Line]) -> Table | None:
        """The rows with which the lines of the next page continue the table; None where they do not."""
        placed: list[Placed] = []
        if not self.columns:  # ruled: what continues it is so, too
            return None
        for row in stacked(lines)[:MAX_ROWS]:
            each = Placed(row, white.pieces(row, self.columns))
            near = not placed or row.top - placed[-1].row.bottom <= self.size * NEXT
            alike = abs(row.size - self.size) <= self.size * SAME_SIZE
            if not (near and alike and not each.spans() and all(map(self._is_in_column, each.pieces))):
                break
            placed.append(each)
        while placed and len(placed[-1].filled()) == 1 and 0 in placed[-1].filled():
            placed.pop()  # a line of text
        if not placed or max(len(each.filled()) for each in placed) < 2 or placed[0].filled() == {0}:
            return None
        texts = [[markdown.cell(text) for text in row] for row in logical(placed, self.columns, ())]
        return Table(
            min(each.row.left for each in placed), placed[0].row.top,
            max(each.row.right for each in placed), placed[-1].row.bottom, markdown.table(texts),
            frozenset[Start]().union(*(each.row.line_starts() for each in placed)),
            self.columns,
            continues=True,
        )  # fmt: skip

    def _is_in_column(self, piece: Piece) -> bool:
        """Whether it begins where its column does, or ends there."""
        left, right = self.columns[piece.first]
        reach = self.size * REACH
        begins = left - reach <= piece.left <= right
        ends = left <= piece.right <= right + reach
        last = piece.first == len(self.columns) - 1
        return (begins and ends) or (
            begins and (last or piece.right < self.columns[piece.first + 1][0] - reach)
        )


def at_end(lines: Sequence[Line], tables: Sequence[Table]) -> OpenTable | None:
    """The table that a page ends with; None where anything stands below it."""
    last = max(tables, key=lambda table: table.bottom, default=None)
    if last is None or any(line.top >= last.bottom and not last.holds(line) for line in lines):
        return None
    if not last.columns and not last.edges:
        return None
    return OpenTable(last.columns, median(line.size for line in lines if last.holds(line)), last.edges)
