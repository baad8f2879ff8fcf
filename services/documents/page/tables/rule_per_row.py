"""Tables with a line below each row, whose cells may be wrapped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from switchyard.services.documents.page.hyphens import unbroken
from switchyard.services.documents.page.lines import Start, Table
from switchyard.services.documents.page.tables import columns as white
from switchyard.services.documents.page.tables.aligned import MAX_COLUMNS
from switchyard.services.documents.page.tables.cells import Placed
from switchyard.services.documents.page.tables.columns import Span
from switchyard.services.documents.page.tables.grid import Rule
from switchyard.services.documents.page.tables.rows import Row
from switchyard.services.documents.page.tables.three_rules import HEADER_ROWS, titles_of
from switchyard.services.documents.write import markdown

APART: Final = 0.9  # of the size: white within what stands between two lines parts it
NEAR: Final = 1.5  # of the size, from the names of the columns to the line below them
MOSTLY: Final = 0.5  # of the rows
SAME_SIZE: Final = 0.1  # of the size
MIN_ROWS: Final = 2


@dataclass(slots=True)
class _Part:
    """Some lines of one table.

    Args:
        header: what stands above the first of them.
        rows: what stands between each two.
        rest: what stands directly below the last of them.
    """

    start: float
    end: float
    header: list[Row]
    rows: list[list[Row]] = field(default_factory=list)
    rest: list[Row] = field(default_factory=list)


def tables(rules: Sequence[Rule], rows: Sequence[Row]) -> Iterator[Table]:
    """The tables between lines that start and end at the same places.

    Args:
        rules: from the top; those of several tables may be among them.
        rows: lines of text as wide as these or narrower, from the top.
    """
    for part in _parts(rules, rows):
        if (table := _table(part, rules[0].start, rules[0].end)) is not None:
            yield table


def are_several(rules: Sequence[Rule], rows: Sequence[Row]) -> bool:
    """Whether text that is no row stands between two of the lines, such as a heading."""
    for upper, lower in pairwise(rules):
        clusters = _clusters([row for row in rows if upper.at <= row.middle < lower.at])
        if any(all(len(row.chunks) == 1 for row in cluster) for cluster in clusters[:-1]):
            return True
    return False


def _parts(rules: Sequence[Rule], rows: Sequence[Row]) -> Iterator[_Part]:
    above = [row for row in rows if row.middle < rules[0].at]
    part = _Part(rules[0].at, rules[0].at, _header(above, rules[0]))
    for upper, lower in pairwise(rules):
        between = [row for row in rows if upper.at <= row.middle < lower.at]
        if between and len(_clusters(between)) > 1:  # text, and the names of the next table
            yield part
            part = _Part(lower.at, lower.at, _header(between, lower))
        else:
            part.end = lower.at
            if between:
                part.rows.append(between)
    below = _clusters([row for row in rows if row.middle >= rules[-1].at])
    part.rest = below[0] if below else []
    yield part


def _clusters(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows with little white between them."""
    clusters: list[list[Row]] = []
    reached = 0.0
    for row in rows:
        if clusters and row.top - reached <= min(row.size, clusters[-1][-1].size) * APART:
            clusters[-1].append(row)
        else:
            clusters.append([row])
        reached = max(reached, row.bottom)
    return clusters


def _header(above: Sequence[Row], rule: Rule) -> list[Row]:
    """The names of columns directly above a line."""
    if not above:
        return []
    last = _clusters(above)[-1]
    near = rule.at - last[-1].bottom <= last[-1].size * NEAR
    several = max(len(row.chunks) for row in last) > 1
    return last if near and several and len(last) <= HEADER_ROWS else []


def _table(part: _Part, left: float, right: float) -> Table | None:
    body = [row for rows in part.rows for row in rows]
    if len(part.rows) + bool(part.header) < MIN_ROWS or not body:
        return None
    found = white.columns(body)
    titles = titles_of(part.header, found) if part.header else []
    if part.header and not (titles and all(titles)):
        found = white.columns([*part.header, *body])
        titles = titles_of(part.header, found)
    if not 2 <= len(found) <= MAX_COLUMNS or (part.header and not titles):
        return None
    cells = [_cells(rows, found) for rows in part.rows]
    several = [row for row in cells if row is not None and sum(map(bool, row)) > 1]
    single = [row for row in several if min(len(lines) for lines in row if lines) == 1]
    least = len(cells) * MOSTLY if part.header else len(cells)
    if None in cells or len(several) < least or len(single) <= len(several) * MOSTLY:
        return None
    rest = part.rest if _goes_on(part, found) else []
    if rest:
        cells.append(_cells(rest, found))
    texts = [titles] if titles else []
    texts += [[unbroken(lines) for lines in row] for row in cells if row is not None]
    top = min([part.start, *(row.top for row in part.header)])
    return Table(
        left, top, right, max([part.end, *(row.bottom for row in rest)]),
        markdown.table([[markdown.cell(text) for text in row] for row in texts]),
        frozenset[Start]().union(*(row.line_starts() for row in (*part.header, *body, *rest))),
        tuple(found),
    )  # fmt: skip


def _goes_on(part: _Part, found: Sequence[Span]) -> bool:
    """Whether what stands below the last line is a row: of a table that has none above it there may be one.

    It stands as near to the line as the names of the columns to theirs.
    """
    if not part.header or not part.rest:
        return False
    size = part.rest[0].size
    near = part.rest[0].top - part.end <= size * APART
    cells = _cells(part.rest, found)
    single = cells is not None and min(len(lines) for lines in cells if lines) == 1
    several = cells is not None and sum(map(bool, cells)) > 1
    alike = abs(size - part.header[-1].size) <= size * SAME_SIZE
    return near and alike and single and several


def _cells(rows: Sequence[Row], found: Sequence[Span]) -> list[list[str]] | None:
    """The lines of each cell of a row; None where words stand over several."""
    cells: list[list[str]] = [[] for _ in found]
    for row in rows:
        placed = Placed(row, white.pieces(row, found))
        if placed.spans():
            return None
        for piece in placed.pieces:
            cells[piece.first].append(piece.text)
    return cells
