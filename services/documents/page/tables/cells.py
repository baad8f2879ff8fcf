"""Rows of a table as they are meant: cells over several lines put together, headers over their columns."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Final

from switchyard.services.documents.page.hyphens import unbroken
from switchyard.services.documents.page.tables.cell_lines import is_numeric
from switchyard.services.documents.page.tables.columns import Piece, Span
from switchyard.services.documents.page.tables.grid import Rule
from switchyard.services.documents.page.tables.rows import Row

TIGHT: Final = 1.5  # of the size: the pitch of lines in one cell
SAME: Final = 1.12  # of the smallest pitch: lines of one cell
APART: Final = 1.25  # of the smallest pitch: rows
COMMON: Final = 0.3  # of the pitches are between rows
WIDE: Final = 0.8  # of the table: a line that parts rows
CENTRED: Final = 0.8  # of the size
HEADER_ROWS: Final = 3
MOST_PARTS: Final = 0.7
BAND_ROWS: Final = 4  # lines between two rules, where rules part all rows


@dataclass(slots=True)
class Placed:
    """A line of text with its words by columns."""

    row: Row
    pieces: list[Piece]

    @property
    def middle(self) -> float:
        """Where it stands on the page."""
        return self.row.middle

    def filled(self) -> set[int]:
        """The columns that it has words in."""
        return {n for piece in self.pieces for n in range(piece.first, piece.last + 1)}

    def has_number(self) -> bool:
        """Whether a cell but the first is a number."""
        return any(is_numeric(piece.text) for piece in self.pieces if piece.first)

    def spans(self) -> bool:
        """Whether words stand over several columns."""
        return any(piece.last > piece.first for piece in self.pieces)

    def clashes(self, other: Placed) -> bool:
        """Whether both have numbers in the same column."""
        numbers = {piece.first for piece in self.pieces if is_numeric(piece.text)}
        return any(piece.first in numbers for piece in other.pieces if is_numeric(piece.text))

    def goes_on(self, before: Placed, found: Sequence[Span]) -> bool:
        """Whether it only has the rest of cells of the line before: the first word had no room there."""
        if 0 in self.filled() or not self.filled() <= before.filled() or self.spans():
            return False
        if self.row.top - before.row.top > before.row.size * TIGHT or self.has_number():
            return False
        above = {piece.last: piece for piece in before.pieces}
        return all(
            piece.text[:1].islower()
            or piece.text.startswith("(")
            or (
                piece.first in above and above[piece.first].right + _first_word(piece) > found[piece.first][1]
            )
            for piece in self.pieces
        )


def _first_word(piece: Piece) -> float:
    """About how wide its first word is."""
    return (piece.right - piece.left) * (len(piece.text.split(" ", 1)[0]) + 1) / max(1, len(piece.text))


def logical(placed: Sequence[Placed], found: Sequence[Span], across: Sequence[Rule]) -> list[list[str]]:
    """The texts of rows by columns."""
    bands = _bands(placed, found, across)
    _widen_headers(placed, found, across)
    groups = _grouped(placed, found, bands)
    header = next((n for n, group in enumerate(groups) if any(each.has_number() for each in group)), 1)
    texts: list[list[str]] = []
    for number, group in enumerate(groups):
        cells: list[list[str]] = [[] for _ in found]
        for piece in (piece for each in group for piece in each.pieces):
            last = piece.last if number < max(header, 1) else piece.first
            for column in range(piece.first, last + 1):
                cells[column].append(piece.text)
        texts.append([unbroken(parts) for parts in cells])
    return texts


def _bands(placed: Sequence[Placed], found: Sequence[Span], across: Sequence[Rule]) -> list[int]:
    """For each line of text, between which lines on the page it stands."""
    left, right = found[0][0], found[-1][1]
    ats = [
        rule.at
        for rule in across
        if min(rule.end, right) - max(rule.start, left) >= (right - left) * WIDE
        and placed[0].middle < rule.at < placed[-1].middle
    ]
    return [bisect_right(ats, each.middle) for each in placed]


def _grouped(placed: Sequence[Placed], found: Sequence[Span], bands: Sequence[int]) -> list[list[Placed]]:
    count = bands[-1] + 1
    all_ruled = count > HEADER_ROWS and _are_rows(placed, bands)
    header_rows = bands.count(0) if count > 1 else 0
    pitches = [after.row.top - before.row.top for before, after in pairwise(placed)]
    smallest = min(pitches, default=0.0)
    smallest = max(smallest, median(each.row.size for each in placed) * 0.8)
    parted_by_gaps = _are_parted_by_gaps(placed, pitches, smallest)
    groups = [[placed[0]]]
    for number, each in enumerate(placed[1:], start=1):
        before = placed[number - 1]
        same_band = bands[number] == bands[number - 1]
        known = {column for one in groups[-1] for column in one.filled()}
        near = pitches[number - 1] <= smallest * SAME and pitches[number - 1] <= each.row.size * TIGHT
        clashes = any(one.clashes(each) for one in groups[-1])
        partial = each.filled() <= known and len(each.filled()) < len(known)
        header = number < header_rows <= HEADER_ROWS
        if not same_band or clashes or before.spans() or each.spans():
            joins = False
        elif all_ruled or header:
            joins = _has_no_room(groups[-1], each, found) and (header or not each.has_number() or partial)
        else:
            joins = (parted_by_gaps and near and partial) or each.goes_on(before, found)
        if joins:
            groups[-1].append(each)
        else:
            groups.append([each])
    return groups


def _are_parted_by_gaps(placed: Sequence[Placed], pitches: Sequence[float], smallest: float) -> bool:
    """Whether lines that stand close to the one before are mostly parts of it, and others are common."""
    apart = sum(pitch >= smallest * APART for pitch in pitches)
    close = [n for n, pitch in enumerate(pitches) if pitch <= smallest * SAME]
    parts = sum(placed[n + 1].filled() < placed[n].filled() for n in close)
    return apart >= len(pitches) * COMMON and parts >= len(close) * MOST_PARTS


def _are_rows(placed: Sequence[Placed], bands: Sequence[int]) -> bool:
    """Whether what stands between two lines on the page is one row: its later lines are parts of it."""
    if max(Counter(bands).values()) > BAND_ROWS:
        return False
    later = parts = 0
    for number in range(1, len(placed)):
        if bands[number] == bands[number - 1]:
            later += 1
            filled, above = placed[number].filled(), placed[number - 1].filled()
            parts += len(filled) < len(filled | above)
    return parts >= later * MOST_PARTS


def _has_no_room(group: Sequence[Placed], each: Placed, found: Sequence[Span]) -> bool:
    """Whether the first words of most cells had no room on the lines before."""
    last = {piece.last: piece for one in group for piece in one.pieces}
    votes = 0
    for piece in each.pieces:
        above = last.get(piece.first)
        if above is not None:
            votes += 1 if above.right + _first_word(piece) > found[piece.first][1] else -1
    return votes >= 0


def _widen_headers(placed: Sequence[Placed], found: Sequence[Span], across: Sequence[Rule]) -> None:
    """Let a header stand over all the columns that a line below it covers, or that it is centred over."""
    for each, after in pairwise(placed[: HEADER_ROWS + 1]):
        if each.has_number() or len(each.pieces) >= len(found):
            return
        below = after.filled()
        taken = each.filled()
        for piece in each.pieces:
            own = set(range(piece.first, piece.last + 1))
            first, last = _under_rule(piece, each, after, found, across) or _centred(
                piece, found, below, taken - own, each.row.size * CENTRED
            )
            if not (set(range(first, last + 1)) - own) & taken:
                piece.first, piece.last = first, last
                taken |= set(range(first, last + 1))


def _under_rule(
    piece: Piece, each: Placed, after: Placed, found: Sequence[Span], across: Sequence[Rule]
) -> tuple[int, int] | None:
    width = found[-1][1] - found[0][0]
    for rule in across:
        between = each.middle < rule.at < after.middle and rule.end - rule.start < width * WIDE
        if between and rule.start <= piece.middle <= rule.end:
            inside = [
                n for n, (left, right) in enumerate(found) if rule.start <= (left + right) / 2 <= rule.end
            ]
            if inside:
                return min(inside[0], piece.first), max(inside[-1], piece.last)
    return None


def _centred(
    piece: Piece, found: Sequence[Span], below: set[int], others: set[int], near: float
) -> tuple[int, int]:
    """The most columns with cells below, and no other header, that it stands in the middle of."""
    best = piece.first, piece.last
    for first in range(piece.first, -1, -1):
        if first in others or first not in below:
            break
        for last in range(piece.last, len(found)):
            if last in others or last not in below:
                break
            middle = (found[first][0] + found[last][1]) / 2
            if abs(middle - piece.middle) <= near and last - first > best[1] - best[0]:
                best = first, last
    return best
