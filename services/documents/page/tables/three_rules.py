"""Tables with lines above and below the header and at the end, whose cells are wrapped."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from switchyard.services.documents.page.hyphens import unbroken
from switchyard.services.documents.page.lines import Start, Table
from switchyard.services.documents.page.tables import columns as white
from switchyard.services.documents.page.tables.aligned import MAX_COLUMNS, MAX_ROWS, is_prose
from switchyard.services.documents.page.tables.cell_lines import is_numeric
from switchyard.services.documents.page.tables.cells import Placed
from switchyard.services.documents.page.tables.columns import Piece, Span
from switchyard.services.documents.page.tables.grid import Rule
from switchyard.services.documents.page.tables.rows import Row
from switchyard.services.documents.write import markdown

MIN_RULES: Final = 3
MIN_ROWS: Final = 2
HEADER_ROWS: Final = 3
LEVEL: Final = 0.3  # of the size: as near are the middles of lines at one height
CLEARLY: Final = 1.15  # times as wide as between lines of a cell is the white between rows

# A line of a cell: its middle, top and bottom on the page, and its words.
_Line = tuple[float, float, float, Piece]


def table(rules: Sequence[Rule], rows: Sequence[Row]) -> Table | None:
    """The table between lines that start and end at the same places; None where it is none.

    Args:
        rules: from the top.
        rows: lines of text between them, from the top.
    """
    if len(rules) < MIN_RULES or not MIN_ROWS <= len(rows) <= MAX_ROWS:
        return None
    header = [row for row in rows if row.middle < rules[1].at]
    body = rows[len(header) :]
    if not 1 <= len(header) <= HEADER_ROWS or not body:
        return None
    found = white.columns(body)
    titles = titles_of(header, found) if found else []
    if not (titles and all(titles)):  # a column may have white cells only, but for its name
        found = white.columns(rows)
        if not found:
            return None
        titles = titles_of(header, found)
    below = [Placed(row, white.pieces(row, found)) for row in body]
    if not 2 <= len(found) <= MAX_COLUMNS or sum(map(bool, titles)) < 2 or any(map(Placed.spans, below)):
        return None
    by_column = [_lines(below, column) for column in range(len(found))]
    if not all(by_column) or is_prose([[piece for *_, piece in held] for held in by_column]):
        return None
    starts = _starts(by_column, rows[0].size)
    if starts is None:
        return None
    texts = [titles]
    for start, end in pairwise([*starts, rules[-1].at]):
        texts.append(
            [
                unbroken(piece.text for middle, _, _, piece in held if start <= middle < end)
                for held in by_column
            ]
        )
    return Table(
        rules[0].start, rules[0].at, rules[0].end, rules[-1].at,
        markdown.table([[markdown.cell(text) for text in line] for line in texts]),
        frozenset[Start]().union(*(row.line_starts() for row in rows)),
        tuple(found),
    )  # fmt: skip


def titles_of(header: Sequence[Row], found: Sequence[Span]) -> list[str]:
    """The names of the columns; none where one stands over several."""
    placed = [Placed(row, white.pieces(row, found)) for row in header]
    titles = [unbroken(piece.text for *_, piece in _lines(placed, column)) for column in range(len(found))]
    names = [" ".join(word.text for word in name) for name in header[0].chunks]
    if not all(titles) and len(header) == 1 and len(names) == len(found):
        return names  # in their order, however they are aligned
    return [] if any(map(Placed.spans, placed)) else titles


def _lines(placed: Sequence[Placed], column: int) -> list[_Line]:
    """The lines in a column, from the top."""
    return [
        (each.middle, each.row.top, each.row.bottom, piece)
        for each in placed
        for piece in each.pieces
        if piece.first == column
    ]


def _starts(by_column: Sequence[Sequence[_Line]], size: float) -> list[float] | None:
    """Where the rows start: where numbers do, or each at the one line of the column with the fewest.

    None where that cannot be.
    """
    anchors = [middle for middle, *_ in min(by_column, key=len)]
    numbers = _numbers(by_column, size)
    first = min(middle for held in by_column for middle, *_ in held)
    if len(numbers) > len(anchors) and numbers[0] - first <= size * LEVEL:
        return [middle - size * LEVEL for middle in numbers]
    lines = sorted({(top, bottom) for held in by_column for _, top, bottom, _ in held})
    gaps: list[tuple[float, float]] = []  # how wide, and where it ends
    reached = lines[0][1]
    for top, bottom in lines[1:]:
        gaps.append((top - reached, top))
        reached = max(reached, bottom)
    widest = sorted(gaps, reverse=True)
    between, within = widest[: len(anchors) - 1], widest[len(anchors) - 1 :]
    apart = not between or not within or between[-1][0] > max(within[0][0], 0.0) * CLEARLY + size * 0.05
    starts = [lines[0][0], *sorted(top for _, top in between)]
    one_each = all(
        sum(start <= anchor < end for anchor in anchors) == 1
        for start, end in pairwise([*starts, float("inf")])
    )
    if apart and one_each:
        return starts
    # Without white between the rows, they start where all of their cells do.
    middles = [[middle for middle, *_ in held] for held in by_column]
    level = all(
        any(abs(anchor - middle) <= size * LEVEL for middle in held) for held in middles for anchor in anchors
    )
    if level and abs(anchors[0] - min(min(held) for held in middles)) <= size * LEVEL:
        return [anchor - size * LEVEL for anchor in anchors]
    return None


def _numbers(by_column: Sequence[Sequence[_Line]], size: float) -> list[float]:
    """Where numbers stand in two columns or more, which wrap in none."""
    middles = sorted(middle for held in by_column for middle, *_, piece in held if is_numeric(piece.text))
    found: list[float] = []
    for one, after in pairwise(middles):
        if after - one <= size * LEVEL and not (found and one - found[-1] <= size * LEVEL):
            found.append(one)
    return found
