"""Tables whose columns stand so close that only the white they share distinguishes them from a sentence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import quantiles
from typing import Final

from switchyard.services.documents.page.lines import Table
from switchyard.services.documents.page.tables.aligned import (
    LEADERS,
    MAX_COLUMNS,
    MAX_ROWS,
    follows,
    is_listed,
    is_sure,
    made,
)
from switchyard.services.documents.page.tables.cells import Placed
from switchyard.services.documents.page.tables.columns import Piece, Span
from switchyard.services.documents.page.tables.grid import Rule
from switchyard.services.documents.page.tables.rows import Row

MIN_ROWS: Final = 5
MIN_RIVERS: Final = 2
SAME_SIZE: Final = 1.15
WIDER: Final = 1.25  # than the space between words
WIDE: Final = 0.38  # of the size: no space between words is so wide
NARROW: Final = 0.2  # of the size
BOTH_SIDES: Final = 0.6  # of the rows have words on either side
SPACES: Final = 5  # a fifth of all gaps between words is narrower than the usual space
BESIDE: Final = 2  # of the whites of each row are left and right of all its words
LATER: Final = 3  # rows that may be text above the table


@dataclass(slots=True)
class _Block:
    """Rows with white that goes down through all of them."""

    rows: list[Row]
    rivers: list[Span]


def tables(rows: Sequence[Row], across: Sequence[Rule] = ()) -> Iterator[Table]:
    """The tables among rows: five or more with the same white, wider than between words, and with numbers.

    Args:
        rows: in the order of the page.
        across: lines on the page.
    """
    least = max(min(_space(rows) * WIDER, WIDE), NARROW)
    whites = [_whites(row, least * row.size) for row in rows]
    number = 0
    while number <= len(rows) - MIN_ROWS:
        block = _block(rows, whites, number, least)
        if len(block.rows) < MIN_ROWS:
            number += 1
            continue
        for later in range(1, LATER + 1):
            other = _block(rows, whites, number + later, least)
            if len(other.rows) >= MIN_ROWS and len(other.rivers) > len(block.rivers):
                number, block = number + later, other
                break
        table = _table(block, across)
        if table is not None:
            yield table
        number += len(block.rows) if table is not None else (len(block.rows) + 1) // 2


def _space(rows: Sequence[Row]) -> float:
    """The usual space between words, of the size."""
    gaps = [(after.left - before.right) / row.size for row in rows for before, after in pairwise(row.words)]
    return quantiles(gaps, n=SPACES)[0] if len(gaps) > SPACES else WIDE


def _block(rows: Sequence[Row], whites: Sequence[Sequence[Span]], start: int, least: float) -> _Block:
    """As many rows from one on as share two rivers, and no fewer than the first few of them."""
    block = _Block([], [])
    before = 0  # rivers with words on both sides, without the row
    for row, own in zip(rows[start : start + MAX_ROWS], whites[start : start + MAX_ROWS], strict=True):
        if block.rows and not (follows(block.rows[-1], row) and _are_of_one_size(block.rows[0], row)):
            break
        rivers = _common(block.rivers, own, least * row.size) if block.rows else list(own)
        if not MIN_RIVERS <= len(rivers) - BESIDE < MAX_COLUMNS:
            break
        if len(block.rows) >= MIN_ROWS - 1:
            inner = len(_inner([*block.rows, row], rivers))
            if inner < MIN_RIVERS or inner < before:
                break
            before = inner
        block.rows.append(row)
        block.rivers = rivers
    block.rivers = _inner(block.rows, block.rivers)
    return block


def _are_of_one_size(one: Row, other: Row) -> bool:
    return max(one.size, other.size) <= min(one.size, other.size) * SAME_SIZE


def _whites(row: Row, least: float) -> list[Span]:
    """Where a row has no words, beside and between them."""
    between = [(before.right, after.left) for before, after in pairwise(row.words)]
    gaps = [(left, right) for left, right in between if right - left >= least]
    return [(float("-inf"), row.left), *gaps, (row.right, float("inf"))]


def _common(ones: Sequence[Span], others: Sequence[Span], least: float) -> list[Span]:
    found: list[Span] = []
    position = 0
    for left, right in ones:
        while position < len(others) and others[position][1] <= left:
            position += 1
        for start, end in others[position:]:
            if start >= right:
                break
            common = max(left, start), min(right, end)
            if common[1] - common[0] >= least:
                found.append(common)
    return found


def _inner(rows: Sequence[Row], rivers: Sequence[Span]) -> list[Span]:
    """The rivers with words on both sides of them in most rows."""
    if not rows:
        return []
    least = len(rows) * BOTH_SIDES
    edges = [(row.left, row.right) for row in rows]
    return [
        (left, right)
        for left, right in rivers
        if sum([start < left and end > right for start, end in edges]) >= least
    ]


def _table(block: _Block, across: Sequence[Rule]) -> Table | None:
    if any(LEADERS.search(word.text) for row in block.rows for word in row.words):
        return None
    placed = [Placed(row, _pieces(row, block.rivers)) for row in block.rows]
    several = [number for number, each in enumerate(placed) if len(each.pieces) > 1]
    placed = placed[several[0] : several[-1] + 1]  # what stands above and below may be text
    by_column: list[list[Piece]] = [[] for _ in range(len(block.rivers) + 1)]
    for each in placed[1:]:
        for piece in each.pieces:
            by_column[piece.first].append(piece)
    if not all(any(map(_says_something, held)) for held in by_column) or is_listed(placed, by_column):
        return None
    if not is_sure(placed, len(by_column)):
        return None
    cells = [
        [piece for each in placed for piece in each.pieces if piece.first == n] for n in range(len(by_column))
    ]
    found = [(min(cell.left for cell in held), max(cell.right for cell in held)) for held in cells]
    return made(placed, found, across)


def _says_something(piece: Piece) -> bool:
    """Whether a cell is more than the sign of a currency, which belongs to the next."""
    return any(map(str.isalnum, piece.text))


def _pieces(row: Row, rivers: Sequence[Span]) -> list[Piece]:
    pieces: list[Piece] = []
    for word in row.words:
        column = sum(word.left >= right for _, right in rivers)
        if pieces and pieces[-1].first == column:
            pieces[-1].text += f" {word.text}"
            pieces[-1].right = word.right
        else:
            pieces.append(Piece(word.text, word.left, word.right, column, column))
    return pieces
