"""Rows of text between two rules of a table, where nothing but the text parts them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from switchyard.services.documents.page.lines import Word, spaced

SAME_LINE: Final = 0.5  # of the lower one's height, by which words overlap
ALIGNED: Final = 0.3  # of a line's height
GAP: Final = 1.0  # em, between cells
SPACE: Final = 0.3  # em, between words
MIN_VOTES: Final = 2
MOST: Final = 0.7  # of the lines: when so many begin rows, the others do as well
MANY: Final = 4
ALIKE: Final = 3  # cells with as many lines each
NUMERIC: Final = re.compile(
    r"[-+\u2212\u2013\u00b1(<>~$\u20ac\u00a3\u00a5]*\d[\d.,:/ ]*[%)*\u2020\u2021a-z]{0,3}"
    r"|[-\u2013\u2014]+|n/?a",
    re.IGNORECASE,
)


BULLETS: Final = frozenset("\u2022\u25cf\u25cb\u25e6\u25aa\u25a0\u2013-*\u203b")
LEADERS: Final = re.compile(r" ?(?<![.\u2026\u00b7_])[.\u2026\u00b7_]{3,}$")  # dots up to a cell's end


@dataclass(slots=True)
class TextLine:
    """The words of one line in a cell."""

    words: list[Word]
    top: float
    bottom: float

    @property
    def middle(self) -> float:
        """Where it stands on the page."""
        return (self.top + self.bottom) / 2

    @property
    def height(self) -> float:
        """Its own, in points."""
        return self.bottom - self.top

    @property
    def right(self) -> float:
        """Where it ends."""
        return max(word.right for word in self.words)

    @property
    def text(self) -> str:
        """What it says, without the dots that lead to the next cell."""
        return LEADERS.sub("", spaced(self.words))

    def ends(self) -> bool:
        """Whether dots lead from it to the next cell."""
        return LEADERS.search(self.words[-1].text) is not None

    def has_gap(self) -> bool:
        """Whether it has a gap too wide for one between words."""
        return any(
            after.left - before.right >= self.height * GAP
            for before, after in pairwise(self.words)
            if not before.upended
        )

    def is_numeric(self) -> bool:
        """Whether it is a number, or stands for one."""
        return is_numeric(self.text)


Held = tuple[list[TextLine], float]  # the lines of a cell and where the cell ends


def is_numeric(text: str) -> bool:
    """Whether a cell's text is a number, or stands for one."""
    return NUMERIC.fullmatch(text[:40]) is not None


def text_lines(words: Sequence[Word]) -> list[TextLine]:
    """The lines of a cell from the top; within each, words stay in reading order."""
    lines: list[TextLine] = []
    for word in words:
        line = next((line for line in reversed(lines[-3:]) if _is_on(word, line)), None)
        if line is None:
            lines.append(TextLine([word], word.top, word.bottom))
        else:
            line.words.append(word)
            line.top, line.bottom = min(line.top, word.top), max(line.bottom, word.bottom)
    if any(word.upended for word in words):
        return lines
    return sorted(lines, key=lambda line: line.middle)


def _is_on(word: Word, line: TextLine) -> bool:
    overlap = min(word.bottom, line.bottom) - max(word.top, line.top)
    return overlap > min(word.bottom - word.top, line.height) * SAME_LINE


def levels(held: Sequence[Held], *, header: bool) -> list[tuple[float, float]]:
    """Top and bottom of each row of text, where there are several: cells continue in the same lines.

    Lines of a cell that only continue where its width ends are one row.

    Args:
        held: the lines of each cell.
        header: whether it may be a header, whose lines are broken as one likes.
    """
    middles = _middles(held)
    if len(middles) < 2:
        return []
    starts = [_starts_row(held, lower, header=header) for lower in middles[1:]]
    if not header and _are_complete(held, len(middles)):
        starts = [True] * len(starts)
    if len(middles) >= MANY and sum(starts) >= len(starts) * MOST:
        firsts = held[0][0]
        starts = [
            start or any(_at(line, lower) for line in firsts)
            for start, lower in zip(starts, middles[1:], strict=True)
        ]
    edges = [
        (upper + lower) / 2 for start, (upper, lower) in zip(starts, pairwise(middles), strict=True) if start
    ]
    if not edges:
        return []
    return list(pairwise([float("-inf"), *edges, float("inf")]))


def _are_complete(held: Sequence[Held], rows: int) -> bool:
    """Whether many cells have a line in each row: text that continues would not end alike in all."""
    items = any(
        line.words[0].text in BULLETS for lines, _ in held for line in lines[1:] if len(line.words) > 1
    )
    return rows >= ALIKE and len(held) >= ALIKE and all(len(lines) == rows for lines, _ in held) and not items


def _middles(held: Sequence[Held]) -> list[float]:
    """Where lines stand that are in two cells or more, and the lines between them of the cells with most."""
    most = max((len(lines) for lines, _ in held), default=0)
    found: list[float] = []
    lines = sorted(
        (line for lines, _ in held if len(lines) == most or len(lines) > 1 for line in lines),
        key=lambda line: line.middle,
    )
    for line in lines:
        if not found or line.middle - found[-1] > line.height * SAME_LINE:
            found.append(line.middle)
    return found if most > 1 else []


def _at(line: TextLine, middle: float) -> bool:
    return abs(line.middle - middle) <= line.height * ALIGNED


def _starts_row(held: Sequence[Held], lower: float, *, header: bool) -> bool:
    votes = numbers = against = 0
    for lines, right in held:
        below = next((number for number, line in enumerate(lines) if _at(line, lower)), 0)
        if not below:
            continue
        line, above = lines[below], lines[below - 1]
        first = line.words[0]
        fits = first.right - first.left + above.height * SPACE < right - above.right - above.height * SPACE
        numeric = above.is_numeric() and line.is_numeric()
        if first.text in BULLETS:
            against += 1
        elif fits or numeric or above.ends():
            votes += 1
            numbers += numeric
        else:
            against += 1
    return votes >= MIN_VOTES and votes > against and (numbers > 0 or not header)


def is_beside_all(lines: Sequence[TextLine], parts: Sequence[tuple[float, float]]) -> bool:
    """Whether the only line of a cell stands at the middle of several rows, and so for all of them."""
    return len(lines) == 1 and any(
        abs(lines[0].middle - edge) <= lines[0].height * ALIGNED for _, edge in parts[:-1]
    )
