"""The table between lines that meet: which places are one cell, and the words in each."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from switchyard.services.documents.page.hyphens import unbroken
from switchyard.services.documents.page.lines import Table, Word
from switchyard.services.documents.page.tables import cell_lines
from switchyard.services.documents.write import markdown

NEAR: Final = 3.0  # points within which lines are one, and meet
MAX_CELLS: Final = 20_000
MAX_CELL_CHARS: Final = 1_500  # a box with more around it frames a part of the page
MAX_REPEATED: Final = 200  # characters of a cell that is repeated in each of its places
MAX_ODD: Final = 0.2  # of the words, in cells that are no rectangles
MIN_SIZE: Final = 6.0  # points, of a row or column that has empty cells only
MIN_CROSSING: Final = 2
CLOSE: Final = 4  # times as many cells beside each other may be as close as words as are farther apart
CROWDED: Final = 3  # lines of several cells within one: its columns are not ruled


@dataclass(slots=True)
class Rule:
    """A line across or down, in points from the top left; `at` is its place in the other direction."""

    at: float
    start: float
    end: float


class Grid:
    """Rows and columns between lines that meet; where a line is missing, cells are one.

    What stands beyond the outermost lines in one direction, but between those in the other, is in the
    table too: many tables are open at their sides.
    """

    def __init__(self, across: list[Rule], down: list[Rule]) -> None:
        self._across, self._down = across, down
        self._ys = _widened(_places(across), down)
        self._xs = _widened(_places(down), across)
        self._rows, self._columns = len(self._ys) - 1, len(self._xs) - 1
        self._cells: list[int] = []
        self._places: Counter[int] = Counter()  # of each cell
        self._odd: set[int] = set()  # cells that are no rectangles

    def table(self, words: Sequence[Word], before: Sequence[float] = ()) -> tuple[Table, set[int]] | None:
        """The table; None for a mere frame, a drawing, and where columns stand within the cells.

        Args:
            words: those on the page; those in the table are recognised by their `id`.
            before: the edges of the table that the page before ends with: of it one row may be left.
        """
        if self._rows * self._columns not in range(2, MAX_CELLS):
            return None
        words = [
            word for word in words
            if word.right > self._xs[0] and word.left < self._xs[-1]
            and word.bottom > self._ys[0] and word.top < self._ys[-1]
        ]  # fmt: skip
        texts = self._texts(words)
        if self._without_stubs(texts):
            texts = self._texts(words)
        if any(_is_crowded(lines) for lines in texts.values()) or self._is_drawing(texts):
            return None
        if self._is_crossed(words):
            return None
        rows: list[list[_Cell]] = []
        heights: list[float] = []
        for number in range(self._rows):
            parts = self._parted(number, texts)
            rows += parts
            heights += [self._ys[number + 1] - self._ys[number]] * len(parts)
        rows = _distinct(rows, heights)
        if not rows:
            return None
        widths = [right - left for left, right in pairwise(self._xs)]
        columns = _distinct([list(column) for column in zip(*rows, strict=True)], widths)
        own = sum(
            any(
                cell.lines and not (before and cell.is_one_with(before[at])) for at, cell in enumerate(column)
            )
            for before, column in zip([None, *columns], columns, strict=False)
        )
        rows = [list(row) for row in zip(*columns, strict=True)]
        written = _written(rows, self._odd)
        rest = len(written) == 1 and self._has_edges(before)
        if (len(written) < 2 and not rest) or own < 2:  # a frame around text is no table
            return None
        if max(len(text) for row in written for text in row) > MAX_CELL_CHARS:
            return None
        taken = {id(word) for row in rows for cell in row for line in cell.lines for word in line.words}
        table = Table(
            self._xs[0], self._ys[0], self._xs[-1], self._ys[-1], markdown.table(written),
            continues=rest, edges=tuple(self._xs),
        )  # fmt: skip
        return table, taken

    def _has_edges(self, edges: Sequence[float]) -> bool:
        """Whether its columns begin and end where those of another table do."""
        return len(edges) == len(self._xs) and all(
            abs(one - other) <= NEAR for one, other in zip(edges, self._xs, strict=True)
        )

    def _texts(self, words: Sequence[Word]) -> dict[int, list[cell_lines.TextLine]]:
        self._cells = self._united()
        self._places = Counter(self._cells)
        return {number: cell_lines.text_lines(held) for number, held in self._held(words).items()}

    def _without_stubs(self, texts: dict[int, list[cell_lines.TextLine]]) -> bool:
        """Leave out lines across that part no text, only empty cells; whether there were any."""
        kept = [self._ys[0]]
        for row in range(1, self._rows):
            first = row * self._columns
            parted = (
                (self._cells[number - self._columns], self._cells[number])
                for number in range(first, first + self._columns)
            )
            if any(above != below and (above in texts or below in texts) for above, below in parted):
                kept.append(self._ys[row])
        kept.append(self._ys[-1])
        stubs = len(kept) < len(self._ys)
        self._ys, self._rows = kept, len(kept) - 1
        return stubs

    def _held(self, words: Sequence[Word]) -> dict[int, list[Word]]:
        held: dict[int, list[Word]] = defaultdict(list)
        for word in words:
            row = _between(self._ys, (word.top + word.bottom) / 2)
            column = _between(self._xs, (word.left + word.right) / 2)
            if row is not None and column is not None:
                held[self._cells[row * self._columns + column]].append(word)
        return held

    def _is_drawing(self, texts: dict[int, list[cell_lines.TextLine]]) -> bool:
        """Whether much of the text stands in places that are no rectangle together."""
        corners: dict[int, tuple[int, int, int, int]] = {}
        for place, number in enumerate(self._cells):
            row, column = divmod(place, self._columns)
            top, left, bottom, right = corners.get(number, (row, column, row, column))
            corners[number] = min(top, row), min(left, column), max(bottom, row), max(right, column)
        self._odd = {
            number
            for number, (top, left, bottom, right) in corners.items()
            if self._places[number] < (bottom - top + 1) * (right - left + 1)
        }
        words = {number: sum(len(line.words) for line in lines) for number, lines in texts.items()}
        return sum(words.get(number, 0) for number in self._odd) > sum(words.values()) * MAX_ODD

    def _is_crossed(self, words: Sequence[Word]) -> bool:
        """Whether lines of text continue across the lines between columns."""
        crossing = apart = 0
        for before, after in pairwise(words):
            height = min(before.bottom - before.top, after.bottom - after.top)
            gap = after.left - before.right
            overlap = min(before.bottom, after.bottom) - max(before.top, after.top)
            if overlap < height * cell_lines.SAME_LINE or gap < 0 or after.glued:
                continue
            one, other = (_between(self._xs, (word.left + word.right) / 2) for word in (before, after))
            row = _between(self._ys, (before.top + before.bottom) / 2)
            if row is None or one is None or other is None or one == other:
                continue
            first = row * self._columns
            if self._cells[first + one] != self._cells[first + other]:
                crossing += gap < height * cell_lines.SPACE
                apart += gap >= height * cell_lines.SPACE
        # Cells may be as close as words, but not all of them are, and no line goes through a word.
        close = crossing <= apart * CLOSE and not any(map(self._is_cut, words))
        return crossing > max(apart, MIN_CROSSING) and not close

    def _is_cut(self, word: Word) -> bool:
        """Whether a line between two cells goes through a word."""
        row = _between(self._ys, (word.top + word.bottom) / 2)
        reach = (word.bottom - word.top) * cell_lines.SPACE
        one, other = (_between(self._xs, at) for at in (word.left + reach, word.right - reach))
        if row is None or one is None or other is None or one >= other:
            return False
        first = row * self._columns
        return self._cells[first + one] != self._cells[first + other]

    def _parted(self, row: int, texts: dict[int, list[cell_lines.TextLine]]) -> list[list[_Cell]]:
        """A row between lines, as the rows of text that it holds."""
        first = row * self._columns
        numbers = [self._cells[first + column] for column in range(self._columns)]
        inside = {}
        for column, number in enumerate(numbers):
            alone = self._places[number] == numbers.count(number)
            if alone and number not in inside and texts.get(number):
                stop = column + numbers.count(number)
                inside[number] = (texts[number], self._xs[stop])
        levels = cell_lines.levels(list(inside.values()), header=row == 0 and self._rows > 1)
        if len(levels) < 2:
            return [[_Cell(number, 0, tuple(texts.get(number, ()))) for number in numbers]]
        parted: list[list[_Cell]] = []
        for part, (top, bottom) in enumerate(levels):
            made: list[_Cell] = []
            for number in numbers:
                lines = texts.get(number, [])
                if number not in inside or cell_lines.is_beside_all(lines, levels):
                    made.append(_Cell(number, 0, tuple(lines)))
                else:
                    held = tuple(line for line in lines if top <= line.middle < bottom)
                    made.append(_Cell(number, part, held))
            parted.append(made)
        return parted

    def _united(self) -> list[int]:
        """For each place of the grid, row by row, the first place of the same cell."""
        parents = list(range(self._rows * self._columns))
        downs = [_near(self._down, at) for at in self._xs]
        acrosses = [_near(self._across, at) for at in self._ys]
        for row in range(self._rows):
            for column in range(self._columns):
                number = row * self._columns + column
                if column and not _covers(downs[column], self._ys[row], self._ys[row + 1]):
                    unite(parents, number - 1, number)
                if row and not _covers(acrosses[row], self._xs[column], self._xs[column + 1]):
                    unite(parents, number - self._columns, number)
        # The topmost, then leftmost place stands for its cell, whatever was united first.
        firsts: dict[int, int] = {}
        for number in range(len(parents)):
            firsts.setdefault(root(parents, number), number)
        return [firsts[root(parents, number)] for number in range(len(parents))]


@dataclass(frozen=True, slots=True)
class _Cell:
    """What stands at one place; those of the same number and part are one cell."""

    number: int
    part: int
    lines: tuple[cell_lines.TextLine, ...]

    def is_one_with(self, other: _Cell) -> bool:
        return self.number == other.number and self.part == other.part


def _distinct(rows: list[list[_Cell]], sizes: Sequence[float]) -> list[list[_Cell]]:
    """Rows that have text of their own, or more empty cells of their own than text of those beside them."""
    filled = [(row, size) for row, size in zip(rows, sizes, strict=True) if any(cell.lines for cell in row)]
    found: list[list[_Cell]] = []
    for number, (row, size) in enumerate(filled):
        beside = [*found[-1:], *(after for after, _ in filled[number + 1 : number + 2])]
        own = [not any(cell.is_one_with(other[at]) for other in beside) for at, cell in enumerate(row)]
        text = any(mine and cell.lines for mine, cell in zip(own, row, strict=True))
        empty = sum(mine and not cell.lines for mine, cell in zip(own, row, strict=True))
        if text or (size >= MIN_SIZE and empty > len(row) - sum(own)):
            found.append(row)
    return found


def _written(rows: Sequence[Sequence[_Cell]], odd: AbstractSet[int]) -> list[list[str]]:
    """The text of each cell in all of its places, of a long or odd one in the first."""
    written: set[tuple[int, int]] = set()

    def text(cell: _Cell) -> str:
        found = markdown.cell(unbroken(line.text for line in cell.lines))
        repeated = len(found) <= MAX_REPEATED and cell.number not in odd
        if repeated or (cell.number, cell.part) not in written:
            written.add((cell.number, cell.part))
            return found
        return ""

    return [[text(cell) for cell in row] for row in rows]


def _is_crowded(lines: Sequence[cell_lines.TextLine]) -> bool:
    """Whether a cell holds lines with wide gaps one below the other, as of a table."""
    return sum(line.has_gap() for line in lines) >= CROWDED


def _widened(places: list[float], crossing: Iterable[Rule]) -> list[float]:
    """Places with the ends of the lines that cross, where these go beyond."""
    start, end = min(rule.start for rule in crossing), max(rule.end for rule in crossing)
    before = [start] if start < places[0] - NEAR else []
    after = [end] if end > places[-1] + NEAR else []
    return [*before, *places, *after]


def _places(rules: Iterable[Rule]) -> list[float]:
    found: list[float] = []
    for at in sorted({rule.at for rule in rules}):
        if not found or at - found[-1] > NEAR:
            found.append(at)
    return found


def _between(places: Sequence[float], at: float) -> int | None:
    """Between which two places, counted from 0, something lies."""
    number = bisect_right(places, at) - 1
    return number if 0 <= number < len(places) - 1 else None


def _near(rules: Iterable[Rule], at: float) -> list[Rule]:
    return [rule for rule in rules if abs(rule.at - at) <= NEAR]


def _covers(rules: Iterable[Rule], start: float, end: float) -> bool:
    """Whether a line passes the middle of a stretch."""
    middle = (start + end) / 2
    return any(rule.start <= middle <= rule.end for rule in rules)


def root(parents: list[int], number: int) -> int:
    """The one that stands for all of its group."""
    while parents[number] != number:
        parents[number] = parents[parents[number]]
        number = parents[number]
    return number


def unite(parents: list[int], one: int, other: int) -> None:
    """Make two groups one."""
    parents[root(parents, other)] = root(parents, one)
