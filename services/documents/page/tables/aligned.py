"""Tables that no lines rule: rows of cells that stand below each other."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import median
from typing import Final

from switchyard.services.documents.page.lines import Start, Table
from switchyard.services.documents.page.tables import columns as white
from switchyard.services.documents.page.tables.cell_lines import BULLETS, is_numeric
from switchyard.services.documents.page.tables.cells import Placed, logical
from switchyard.services.documents.page.tables.columns import Piece, Span
from switchyard.services.documents.page.tables.grid import Rule
from switchyard.services.documents.page.tables.rows import Row
from switchyard.services.documents.write import markdown

MIN_ROWS: Final = 2
MIN_NAMES: Final = 4  # columns of a table that has one row below its header only
MAX_ROWS: Final = 500
MAX_COLUMNS: Final = 40
MAX_CELL_CHARS: Final = 40  # on average; longer ones are columns of prose
NEXT: Final = 2.5  # of the size, between rows
MOST_LINES: Final = 8  # of a cell
NUMBERS: Final = 0.8  # of a column's cells below the first
SURE_COLUMNS: Final = 3  # what stands in two may be read one after the other
FILLED: Final = 0.5  # of the rows
BETWEEN: Final = 2  # rows of one cell in succession: a label, or the rest of a cell
HEADING: Final = 1.15  # of the size of the rows before: larger ones are headings
LABEL_CHARS: Final = 60
PROSE_CHARS: Final = 18
PROSE_FILL: Final = 0.8  # of the column's width, by a line in the middle
MIN_FILLED: Final = 0.3  # of the places
MIN_PAIRS: Final = 4  # rows, of two columns of words or where it must be sure
LONELY: Final = 0.34  # of the columns, with one cell only: a drawing
MAX_SPANNING: Final = 0.25  # of the rows
MIN_GAP: Final = 0.9  # of the size, between columns in most rows
MAX_NARROW: Final = 0.3  # of the gaps between columns
GAP_OF_WORDS: Final = 2.5
FEW: Final = 8  # a column with one cell in so many rows may be out of line
MOST_PAGES: Final = 0.8  # of the lines end with one
PAGE_DIGITS: Final = 5
STEP: Final = 0.01
TITLE_CHARS: Final = 12
LEADERS: Final = re.compile(r"[.\u2026\u00b7_]{4,}")
LINE_NUMBER: Final = re.compile(r"\d{1,3}(?:\.\d{1,3}){2,6}|\d{1,3}(?:\.\d{1,3}){0,6}[:.)]")
PAGE: Final = re.compile(r"\d{1,4}|[ivxlc]{1,7}")
# What no formula has: a word that names no function, and letters of scripts that formulas are not written in.
WORD: Final = re.compile(
    r"(?<![^\W\d_])(?!(?:arg|cos|cot|deg|det|dim|div|exp|inf|ker|lim|log|max|min|mod|sin|sup|tan)(?![^\W\d_]))"
    r"[^\W\d_]{3,}|[\u0530-\u1dff\u3040-\ud7ff]"
)


def find_tables(
    rows: Sequence[Row], across: Sequence[Rule] = (), *, min_rows: int = 2, wrapped: bool = False
) -> Iterator[Table]:
    """The tables among rows: several, one below the other, each of several cells in the same columns.

    Args:
        rows: in the order of the page.
        across: lines on the page.
        min_rows: fewer are none.
        wrapped: whether cells may have many lines, which asks for columns that are surely some.
    """
    for group, rest in _groups(rows, MOST_LINES if wrapped else BETWEEN):
        if wrapped and sum(len(row.chunks) >= SURE_COLUMNS for row in group) < MIN_PAIRS:
            continue
        table = table_of(group, rest, across, min_rows=min_rows, sure=wrapped)
        if table is not None:
            yield table


def _groups(rows: Sequence[Row], most: int) -> Iterator[tuple[list[Row], list[Row]]]:
    """Rows that may be a table, and rows of one cell that follow."""
    group: list[Row] = []
    waiting: list[Row] = []
    for row in rows:
        several = len(row.chunks) > 1 and not any(LEADERS.search(word.text) for word in row.words)
        if group and not (len(group) < MAX_ROWS and follows([*group, *waiting][-1], row)):
            yield group, waiting
            group, waiting = [], []
        if several:
            group += [*waiting, row]
            waiting = []
        elif group and len(waiting) < most and may_be_within(group, row):
            waiting.append(row)
        elif group:
            yield group, waiting
            group, waiting = [], []
    if group:
        yield group, waiting


def follows(before: Row, row: Row) -> bool:
    """Whether a row stands below another, and near it."""
    size = max(before.size, row.size)
    return row.top > before.top + size * 0.3 and row.top - before.bottom <= size * NEXT


def may_be_within(group: Sequence[Row], row: Row) -> bool:
    """Whether a row of one cell may be a label within a table, or the rest of a cell."""
    left, right = min(each.left for each in group), max(each.right for each in group)
    inside = row.left >= left - row.size and row.right <= right + row.size
    larger = row.size > median(each.size for each in group) * HEADING
    return inside and not larger and sum(len(word.text) + 1 for word in row.words) <= LABEL_CHARS


def table_of(
    rows: Sequence[Row],
    rest: Sequence[Row] = (),
    across: Sequence[Rule] = (),
    *,
    min_rows: int = 2,
    sure: bool = False,
) -> Table | None:
    """The table that rows are; None where they are none.

    Args:
        rows: from the top.
        rest: rows that follow, which are in the table if they continue its last cells.
        across: lines on the page.
        min_rows: fewer are none.
        sure: whether it must be one by its numbers too (see `is_sure`).
    """
    if not MIN_ROWS <= len(rows) <= MAX_ROWS:
        return None
    found = white.columns(rows)
    if not 2 <= len(found) <= MAX_COLUMNS:
        return None
    placed = [Placed(row, white.pieces(row, found)) for row in rows]
    while (joined := _without_stray(found, placed)) is not None:
        found = joined
        placed = [Placed(row, white.pieces(row, found)) for row in rows]
    if _is_row_below_header(placed, found):
        min_rows = MIN_ROWS
    if not _is_table(placed, found, min_rows) or (sure and not is_sure(placed, len(found))):
        return None
    for row in rest:
        after = Placed(row, white.pieces(row, found))
        if not after.goes_on(placed[-1], found):
            break
        placed.append(after)
    return made(placed, found, across, min_rows=min_rows)


def made(
    placed: Sequence[Placed], found: Sequence[Span], across: Sequence[Rule], *, min_rows: int = 2
) -> Table | None:
    """The table of lines whose words stand in columns; None where it has fewer rows."""
    lines = logical(placed, found, across)
    texts = [[markdown.cell(text) for text in line] for line in lines]
    if len(texts) < min_rows:
        return None
    return Table(
        min(each.row.left for each in placed),
        min(each.row.top for each in placed),
        max(each.row.right for each in placed),
        max(each.row.bottom for each in placed),
        markdown.table(texts),
        frozenset[Start]().union(*(each.row.line_starts() for each in placed)),
        tuple(found),
    )


def _is_row_below_header(placed: Sequence[Placed], found: Sequence[Span]) -> bool:
    """Whether it is names and then values, all in several columns."""
    full = all(len(each.filled()) == len(found) and not each.spans() for each in placed)
    several = len(placed) == MIN_ROWS and len(found) >= MIN_NAMES and full
    return several and not placed[0].has_number() and placed[1].has_number()


def _without_stray(found: list[Span], placed: Sequence[Placed]) -> list[Span] | None:
    """Columns of which one of a few cells, that stand out of line, is joined with that beside it."""
    rows = [{piece.first for piece in each.pieces if piece.first == piece.last} for each in placed]
    for column in range(len(found)):
        if sum(column in filled for filled in rows) > max(1, len(rows) // FEW):
            continue
        beside = [n for n in (column - 1, column + 1) if 0 <= n < len(found)]
        free = [n for n in beside if not any({n, column} <= filled for filled in rows)]
        if free:
            near = min(free, key=lambda n: found[max(n, column)][0] - found[min(n, column)][1])
            first, last = sorted((near, column))
            return [*found[:first], (found[first][0], found[last][1]), *found[last + 1 :]]
    return None


def _is_table(placed: Sequence[Placed], found: Sequence[Span], min_rows: int) -> bool:
    full = [each for each in placed if len(each.pieces) > 1]
    cells = [piece for each in placed for piece in each.pieces]
    if len(full) < min_rows or len(full) * 2 < len(placed):
        return False
    if sum(len(cell.text) for cell in cells) > MAX_CELL_CHARS * len(cells):
        return False
    by_column: list[list[Piece]] = [[] for _ in found]
    for cell in cells:
        if cell.first == cell.last:
            by_column[cell.first].append(cell)
    if sum(len(held) < 2 for held in by_column) > len(found) * LONELY:
        return False
    if len(cells) < len(placed) * len(found) * MIN_FILLED:
        return False
    if min_rows > MIN_ROWS and len(full) < MIN_PAIRS and not any(_says_much(cell.text) for cell in cells):
        return False  # a matrix of a formula
    if len(found) == 2:
        numbers = sum(is_numeric(cell.text) for cell in by_column[1])
        if len(full) < (MIN_PAIRS if min_rows > 2 else 3) and numbers * 2 <= len(by_column[1]):
            return False
    return not (is_prose(by_column) or _is_loose(placed, found) or is_listed(placed, by_column))


def _says_much(text: str) -> bool:
    """Whether a cell is a number or has a word in it, and is no part of a formula."""
    return is_numeric(text) or WORD.search(text) is not None


def is_sure(placed: Sequence[Placed], columns: int) -> bool:
    """Whether at least three columns are filled in most rows of several cells, and one is of numbers."""
    rows = [each for each in placed if len(each.pieces) > 1]
    held = [[piece for each in rows for piece in each.pieces if piece.first == n] for n in range(columns)]
    if columns < SURE_COLUMNS or len(rows) < MIN_PAIRS or min(map(len, held)) < len(rows) * FILLED:
        return False
    return any(
        sum(is_numeric(piece.text) for piece in pieces[1:]) >= (len(pieces) - 1) * NUMBERS > 0
        for pieces in held[1:]
    )


def is_listed(placed: Sequence[Placed], by_column: Sequence[Sequence[Piece]]) -> bool:
    """Whether it is no table, but contents, a list or the numbers of an axis."""
    return (
        _is_contents(placed)
        or _is_numbered(by_column)
        or any(_is_axis(held) for held in (by_column[0], by_column[-1]))
    )


def is_prose(by_column: Sequence[Sequence[Piece]]) -> bool:
    """Whether most of the columns are filled to their width by long lines, as those of text are."""
    prose = [_fills(held) for held in by_column]
    return prose[0] or (sum(prose) * 2 >= len(prose) and sum(prose) > 1)


def _fills(held: Sequence[Piece]) -> bool:
    if len(held) < MIN_PAIRS:
        return False
    width = max(cell.right for cell in held) - min(cell.left for cell in held)
    chars = sum(len(cell.text) for cell in held) / len(held)
    return chars >= PROSE_CHARS and median(cell.right - cell.left for cell in held) >= width * PROSE_FILL


def _is_loose(placed: Sequence[Placed], found: Sequence[Span]) -> bool:
    """Whether the white between columns is no wider than between words, or often written over."""
    if sum(each.spans() for each in placed[1:]) > len(placed) * MAX_SPANNING:
        return True
    gaps: list[list[float]] = [[] for _ in found]
    for each in placed:
        for before, after in pairwise(each.pieces):
            gaps[after.first].append((after.left - before.right) / each.row.size)
    least = max(MIN_GAP, _word_gap(placed) * GAP_OF_WORDS)
    between = [median(held) for held in gaps if held]
    return sum(gap < least for gap in between) > len(between) * MAX_NARROW


def _word_gap(placed: Sequence[Placed]) -> float:
    """The usual gap between words, of the size; 0 where cells are single words."""
    gaps = [
        (after.left - before.right) / each.row.size
        for each in placed
        for chunk in each.row.chunks
        for before, after in pairwise(chunk)
    ]
    return median(gaps) if len(gaps) > len(placed) else 0.0


def _is_axis(held: Sequence[Piece]) -> bool:
    """Whether a column is a scale of numbers, which fall by the same step."""
    try:
        numbers = [float(cell.text.replace(",", "")) for cell in held]
    except ValueError:
        return False
    steps = [before - after for before, after in pairwise(numbers)]
    return len(steps) >= MIN_PAIRS - 1 and steps[0] > 0 and max(steps) - min(steps) < steps[0] * STEP


def _is_numbered(by_column: Sequence[Sequence[Piece]]) -> bool:
    """Whether it is lines with their marks or numbers, such as a list or a program."""
    marks = [cell for cell in by_column[0] if cell.text in BULLETS or LINE_NUMBER.fullmatch(cell.text)]
    return len(by_column) == 2 and len(marks) * 2 > len(by_column[0])


def _is_contents(placed: Sequence[Placed]) -> bool:
    """Whether it lists titles with their pages."""
    lines = [each for each in placed if len(each.pieces) > 1]
    last = [each.row.words[-1].text for each in lines]
    pages = [int(text) for text in last if text.isdecimal() and len(text) < PAGE_DIGITS]
    numbered = sum(PAGE.fullmatch(text) is not None for text in last)
    if max(len(each.pieces) for each in lines) > 3 or numbered < len(last) * MOST_PAGES:
        return False
    titles = sum(len(each.pieces[-2].text) for each in lines) / len(lines)
    rising = all(before <= after for before, after in pairwise(pages))
    return rising and titles >= TITLE_CHARS
