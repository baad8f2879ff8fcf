"""The order in which the lines of a page are read, where it has columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf
from statistics import median
from typing import Final

from switchyard.services.documents.page.lines import Line, Table, Word
from switchyard.services.documents.pdf.text.letters import is_rtl

GUTTER: Final = 0.8  # of the size of plain text: narrower gaps are between words
MAX_LINES: Final = 3_000  # more on a page are a drawing, whose order is its content's
MAX_DEPTH: Final = 6
MAX_LOOKS: Final = 100_000  # at lines: a page that takes more has rows, which are read as such
MAX_GUTTERS: Final = 12
MIN_LINES: Final = 3  # of a column of prose
PROSE_CHARS: Final = 18  # a line; shorter ones are cells
PROSE_FILL: Final = 0.6  # of the column's width, by a line in the middle
STRAYS: Final = 0.1  # of the shorter column's lines: so many may be out of order
INTRUDERS: Final = 0.15  # of the lines beside a gutter: so many may reach into it
REACH: Final = 2.0  # gutters beyond it
INK: Final = 0.25  # of a line's height above and below the letters, by which lines overlap

Gap = tuple[float, float]


@dataclass(slots=True)
class _Item:
    """A line, a picture, or a table with the lines in it."""

    index: int
    left: float
    top: float
    right: float
    bottom: float
    lines: list[Line]
    is_table: bool = False

    def spans(self, gutter: float) -> Iterator[Gap]:
        """What it covers across the page: its words, and the gaps between them that are no gutters."""
        words = self.lines[0].words if not self.is_table and len(self.lines) == 1 else ()
        if not words:
            yield self.left, self.right
            return
        start, end = words[0].left, words[0].right
        for word in words[1:]:
            if word.left - end >= gutter:
                yield start, end
                start, end = word.left, word.right
            else:
                start, end = min(start, word.left), max(end, word.right)
        yield start, end

    def parted(self, at: float) -> tuple[_Item | None, _Item | None]:
        """What of it is on the left and on the right of a place."""
        if self.right <= at:
            return self, None
        if self.left >= at:
            return None, self
        line = self.lines[0]
        if self.is_table or len(line.words) < 2:
            return (self, None) if (self.left + self.right) / 2 < at else (None, self)
        left = [word for word in line.words if (word.left + word.right) / 2 < at]
        right = [word for word in line.words if (word.left + word.right) / 2 >= at]
        return self._of(left), self._of(right)

    def _of(self, words: Sequence[Word]) -> _Item | None:
        if not words:
            return None
        line = self.lines[0].part(words)
        return _Item(self.index, line.left, self.top, line.right, self.bottom, [line])


def in_order(lines: Sequence[Line], tables: Sequence[Table], *, body: float) -> list[Line]:
    """The lines as they are read; those of a table stay together, those that run up or down come last.

    Where there are no columns, what is above comes first. The gaps between columns show them; they
    are read one after the other where they hold prose, or where the page's content has them so.

    Args:
        lines: in the order of the page's content.
        tables: found among them.
        body: the size of plain text.
    """
    if len(lines) > MAX_LINES or len(lines) < 2:
        return list(lines)
    items = list(_items(lines, tables))
    letters = [character for line in lines for character in line.text if character.isalpha()]
    page = _Page(max(body, 1.0) * GUTTER, rtl=sum(map(is_rtl, letters)) * 2 > len(letters))
    ordered = [line for item in page.read(items, 0) for line in item.lines]
    return ordered + [line for line in lines if line.upended and not any(t.holds(line) for t in tables)]


def _items(lines: Sequence[Line], tables: Sequence[Table]) -> Iterator[_Item]:
    held: dict[int, _Item] = {}
    for index, line in enumerate(lines):
        number = next((number for number, table in enumerate(tables) if table.holds(line)), None)
        if number is not None and number in held:
            held[number].lines.append(line)
        elif number is not None:
            table = tables[number]
            held[number] = _Item(
                index, table.left, table.top, table.right, table.bottom, [line], is_table=True
            )
            yield held[number]
        elif not line.upended:
            is_image = bool(line.image)
            ink = 0 if is_image else (line.bottom - line.top) * INK
            top, bottom = line.top + ink, line.bottom - ink
            yield _Item(index, line.left, top, line.right, bottom, [line], is_table=is_image)


class _Page:
    def __init__(self, gutter: float, *, rtl: bool) -> None:
        self._gutter = gutter
        self._rtl = rtl
        self._looks = MAX_LOOKS

    def read(self, items: Sequence[_Item], depth: int) -> Iterator[_Item]:
        """A part of the page in order."""
        if len(items) < 2 or depth > MAX_DEPTH:
            yield from sorted(items, key=lambda item: item.index)
            return
        slabs = list(_slabs(items))
        frees = [self._free(slab) for slab in slabs]
        within = min(item.left for item in items), max(item.right for item in items)
        at = 0
        while at < len(slabs):
            end, gaps = self._band(slabs, frees, at, within)
            end, columns = self._columns(slabs, at, end, gaps)
            if len(columns) > 1:
                for column in reversed(columns) if self._rtl else columns:
                    yield from self.read(column, depth + 1)
                at = end
            else:
                yield from sorted(slabs[at], key=lambda item: item.index)
                at += 1

    def _free(self, slab: Iterable[_Item]) -> list[Gap]:
        """The gaps that nothing in a part of the page covers, to the edges and beyond."""
        gaps: list[Gap] = []
        covered = -inf
        for start, end in sorted(span for item in slab for span in item.spans(self._gutter)):
            if start - covered >= self._gutter:
                gaps.append((covered, start))
            covered = max(covered, end)
        gaps.append((covered, inf))
        return gaps

    def _band(
        self, slabs: Sequence[list[_Item]], frees: Sequence[list[Gap]], start: int, within: Gap
    ) -> tuple[int, list[Gap]]:
        """How far down the same gaps go, and which they are."""
        if self._looks < 0:
            return start + 1, []
        gaps = self._inside(frees[start], within)
        end, intruders = start + 1, 0
        while end < len(frees) and gaps:
            both = [
                (max(a, c), min(b, d)) for a, b in gaps for c, d in frees[end]
                if d - a >= self._gutter <= b - c and min(b, d) - max(a, c) >= self._gutter
            ]  # fmt: skip
            if not both and intruders < (end - start) * INTRUDERS:
                both = self._nearly_free(slabs[end], gaps)
                intruders += 1
            if not both:
                break
            gaps = both[:MAX_GUTTERS]
            end += 1
        self._looks -= end - start
        return end, gaps

    def _nearly_free(self, slab: Iterable[_Item], gaps: Iterable[Gap]) -> list[Gap]:
        """The gaps into which lines only reach: too long for their column, and not across both."""
        spans = [span for item in slab for span in item.spans(self._gutter)]
        reach = self._gutter * REACH
        return [
            (left, right)
            for left, right in gaps
            if all(
                end <= left
                or start >= right
                or (start < left - self._gutter and end < right + reach)
                or (end > right + self._gutter and start > left - reach)
                for start, end in spans
            )
        ]

    def _inside(self, gaps: Iterable[Gap], within: Gap) -> list[Gap]:
        left, right = within
        inside = [(max(start, left), min(end, right)) for start, end in gaps]
        return [(start, end) for start, end in inside if end - start >= self._gutter][:MAX_GUTTERS]

    def _columns(
        self, slabs: Sequence[list[_Item]], start: int, end: int, gaps: Sequence[Gap]
    ) -> tuple[int, list[list[_Item]]]:
        """The columns between gaps, and where they end; one column where they are none."""
        for gap in gaps:
            at = (gap[0] + gap[1]) / 2
            items = [item for slab in slabs[start:end] for item in slab]
            self._looks -= len(items)
            if self._looks < 0:
                break
            left, right = _parted(items, at)
            if not left or not right:
                continue
            if not (_by_column(left, right) or (_is_prose(left) and _is_prose(right))):
                continue
            while end > start + 1 and _follows(slabs[end - 1], items, at):
                end -= 1
                items = [item for slab in slabs[start:end] for item in slab]
            left, right = _parted(items, at)
            if left and right:
                return end, [left, right]
        return start + 1, []


def _slabs(items: Iterable[_Item]) -> Iterator[list[_Item]]:
    """Parts of the page, from the top, between which nothing stands across."""
    slab: list[_Item] = []
    bottom = -inf
    for item in sorted(items, key=lambda item: (item.top, item.index)):
        if slab and item.top >= bottom:
            yield slab
            slab = []
        slab.append(item)
        bottom = max(bottom, item.bottom)
    if slab:
        yield slab


def _follows(slab: Sequence[_Item], items: Iterable[_Item], at: float) -> bool:
    """Whether a part on one side comes after all above it by the page's content, and so is of no column."""
    if all(_parted(slab, at)):
        return False
    first, top = min(item.index for item in slab), min(item.top for item in slab)
    return all(item.index < first for item in items if item.bottom <= top)


def _parted(items: Iterable[_Item], at: float) -> tuple[list[_Item], list[_Item]]:
    lefts: list[_Item] = []
    rights: list[_Item] = []
    for item in items:
        left, right = item.parted(at)
        if left is not None:
            lefts.append(left)
        if right is not None:
            rights.append(right)
    return lefts, rights


def _by_column(left: Sequence[_Item], right: Sequence[_Item]) -> bool:
    """Whether the page's content has one column after the other, and no lines across both."""
    sides = [(item.index, False) for item in left] + [(item.index, True) for item in right]
    across = len(sides) - len({index for index, _ in sides})
    changes = sum(before[1] != after[1] for before, after in pairwise(sorted(sides)))
    strays = min(len(left), len(right)) * STRAYS
    return len(left) > 1 and len(right) > 1 and across <= strays and changes <= max(1, strays)


def _is_prose(items: Sequence[_Item]) -> bool:
    lines = [item for item in items if not item.is_table]
    if len(lines) < MIN_LINES:
        return False
    width = max(item.right for item in lines) - min(item.left for item in lines)
    chars = sum(len(item.lines[0].text) for item in lines) / len(lines)
    return chars >= PROSE_CHARS and median(item.right - item.left for item in lines) >= width * PROSE_FILL
