"""Running headers, footers and page numbers: what stands outside the text at the edge of many pages.

A line is running by its words, which other pages have at the same place; a number in it must be the same
there or count with the pages. A row of a table, a label's value and what stands within the text are none.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Final

from switchyard.services.documents.page.lines import PAGINATION, Line
from switchyard.services.documents.page.page_number import NUMBERED, ONLY_NUMBER, number_in, numbers_in

EDGE: Final = 0.12  # of the page's height
MIN_PAGES: Final = 3
SHARE: Final = 0.3  # left and right pages may differ
STEP: Final = 6.0  # points within which a place is the same
NUMBER_EDGE: Final = 0.18  # of the page's height: a page's own number may stand higher than other lines
APART: Final = 1.0  # of the size
NEAR_PAGES: Final = 4  # on each side: a chapter's header is on left or right pages alone
OUTSIDE: Final = (
    1.25,
    2.2,
)  # times the usual gap between lines, or of the size, what stands outside the text
LEAST_GAP: Final = 0.4  # of the size
FEW_ROWS: Final = 4  # with fewer, a page has no usual gap
CELL_GAP: Final = 1.0  # of the size
MIN_CELLS: Final = 3
ALIGNED: Final = 2.5  # points
FAR: Final = 60  # pages before the first: a number that is farther from the page's may count something else

Key = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Seen:
    """What is remembered of a page while its neighbours are read.

    Args:
        keys: what the lines at its edges are known by.
        body: stands for all else on it; pages with the same are copies, which say nothing of each other.
    """

    keys: frozenset[Key]
    body: int

    @classmethod
    def of(cls, lines: Sequence[Line], height: float, number: int) -> Seen:
        """What is remembered of the page of that number, from 1."""
        edge = [line for line in lines if _is_at_edge(line, height)]
        at_edge = {id(line) for line in edge}
        body = hash(tuple(line.text for line in lines if id(line) not in at_edge))
        return cls(frozenset(key for line in edge for key in _keys(line, height, number)), body)


class Running:
    """Knows a document's running lines from some of its pages."""

    def __init__(self, pages: Sequence[Seen]) -> None:
        seen = Counter(key for page in {page.body: page for page in pages}.values() for key in page.keys)
        enough = max(MIN_PAGES, len(pages) * SHARE)
        self._keys = {key for key, times in seen.items() if times >= enough}

    def parted(
        self,
        lines: Sequence[Line],
        height: float,
        near: Sequence[Seen],
        *,
        number: int,
        own: Sequence[Line] = (),
    ) -> tuple[list[Line], list[Line]]:
        """The lines that are the page's own, and those that run through the document.

        Args:
            lines: those of the page.
            height: that of the page.
            near: what is remembered of the pages before and after it.
            number: that of the page, from 1.
            own: those of the lines that the document says are headings, items or in tables.
        """
        body = Seen.of(lines, height, number).body
        others: defaultdict[Key, set[int]] = defaultdict(set)  # the pages that have a key
        for page in near:
            if page.body != body:
                for key in page.keys:
                    others[key].add(page.body)
        kept = {id(line) for line in own} | _repeated(lines, height)
        rows = _rows(lines)
        running: dict[int, bool] = {}  # the lines that may be, and whether a number in them counts the pages
        for row in rows:
            for line in row:
                if id(line) in kept or not _is_at_edge(line, height):
                    continue
                same = [key for key in _keys(line, height, number) if self._is_known(key, others)]
                if same and not _is_value(line, row, number):
                    running[id(line)] = any(NUMBERED in text for text, _ in same)
        gone = {
            id(line) for line in lines if id(line) not in kept and _is_running(line, lines, height, number)
        }
        usual = _usual_gap([row for row in rows if not any(id(line) in running for line in row)])
        for at, row in enumerate(rows):
            if not any(id(line) in running for line in row):
                continue
            inner = _inner(rows, at, running, height)
            if _is_row_above(row, inner[1]):
                continue
            outside = _is_outside(row, inner, usual)
            gone |= {id(line) for line in row if outside or running.get(id(line))} & running.keys()
        texts = [line for line in lines if not line.upended]
        gone |= {
            id(line)
            for line in lines
            if line.upended
            and _is_beside(line, texts)
            and any(self._is_known(key, others) for key in _keys(line, height, number))
        }
        return [line for line in lines if id(line) not in gone], [line for line in lines if id(line) in gone]

    def _is_known(self, key: Key, others: dict[Key, set[int]]) -> bool:
        text, place = key
        beside = [(text, place + by) for by in (-1, 0, 1)]
        pages = set[int]().union(*(others.get(each, ()) for each in beside))
        return len(pages) >= MIN_PAGES - 1 or any(each in self._keys for each in beside)


def _keys(line: Line, height: float, number: int) -> list[Key]:
    """What a line is known by: its text and place, and the same with a page's number as far as it counts."""
    at = line.top if line.top < height / 2 else line.top - height  # pages may differ in height
    place, text = round(at / STEP), line.text.casefold()
    return [
        (text, place),
        *(
            (f"{text[:start]}{NUMBERED}{value - number}{NUMBERED}{text[end:]}", place)
            for start, end, value in numbers_in(line)
        ),
    ]


def _is_running(line: Line, lines: Iterable[Line], height: float, number: int) -> bool:
    """Whether the document says that a line is a header or footer, or it says which page it is on alone."""
    if not _is_at_edge(line, height, NUMBER_EDGE):
        return False
    if is_marked(line):
        return True
    found = ONLY_NUMBER.fullmatch(line.text)
    return found is not None and int(found[1]) == number and _is_alone(line, lines)


def is_marked(line: Line) -> bool:
    """Whether the document itself says that a line is a header, a footer or a page number."""
    return bool(line.words) and all(word.mark == PAGINATION for word in line.words)


def may_run(line: Line, height: float) -> bool:
    """Whether a line stands where lines stand that run through a document."""
    return line.upended or _is_at_edge(line, height, NUMBER_EDGE)


def _is_alone(line: Line, lines: Iterable[Line]) -> bool:
    """Whether nothing stands beside a line, or directly above and below it."""
    above, below = line.top - line.size * APART, line.bottom + line.size * APART
    return not any(other is not line and other.bottom > above and other.top < below for other in lines)


def _is_at_edge(line: Line, height: float, edge: float = EDGE) -> bool:
    return line.bottom < height * edge or line.top > height * (1 - edge)


def _repeated(lines: Sequence[Line], height: float) -> set[int]:
    """The lines at the edges whose words stand at the same place of a line within the text as well.

    These are rows of a table that are alike, or lines of their cells.
    """
    inner = (line for line in lines if not _is_at_edge(line, height, NUMBER_EDGE))
    within = {(line.text, round(line.left)) for line in inner}
    return {
        id(line)
        for line in lines
        if any(map(str.isalpha, line.text))
        and (line.text, round(line.left)) in within
        and not is_marked(line)
    }


def _is_value(line: Line, row: Sequence[Line], number: int) -> bool:
    """Whether a line is a label with its value beside it, or a value that may be no page's number."""
    others = [other for other in row if other is not line]
    if any(each.text.endswith(":") for each in row) and others:
        return True
    found = number_in(line)
    return bool(others) and found is not None and abs(found[2] - number) > FAR


def _rows(lines: Sequence[Line]) -> list[list[Line]]:
    """The lines of a page from top to bottom, those beside each other together."""
    rows: list[list[Line]] = []
    bottom = 0.0
    for line in sorted((line for line in lines if not line.upended), key=lambda line: line.top):
        if rows and (line.top + line.bottom) / 2 < bottom:
            rows[-1].append(line)
            bottom = max(bottom, line.bottom)
        else:
            rows.append([line])
            bottom = line.bottom
    return rows


def _usual_gap(rows: Sequence[Sequence[Line]]) -> float | None:
    """The space between a page's rows; None for too few."""
    if len(rows) < FEW_ROWS:
        return None
    return median(_gap(above, below) for above, below in pairwise(rows))


def _gap(above: Sequence[Line], below: Sequence[Line]) -> float:
    return min(line.top for line in below) - max(line.bottom for line in above)


def _inner(rows: Sequence[list[Line]], at: int, running: dict[int, bool], height: float) -> list[list[Line]]:
    """A row and those towards the middle, up to the first that is not running; that may be missing."""
    step = 1 if rows[at][0].top < height / 2 else -1
    found = [rows[at]]
    at += step
    while 0 <= at < len(rows):
        found.append(rows[at])
        if not any(id(line) in running for line in rows[at]):
            return found
        at += step
    return [*found, []]


def _is_outside(row: Sequence[Line], inner: Sequence[list[Line]], usual: float | None) -> bool:
    """Whether a row stands farther from the text than its rows from each other, or a rule parts them."""
    if not inner[-1]:
        return True
    times, most = OUTSIDE
    size = max(line.size for line in row)
    least = size * LEAST_GAP if usual is None else max(usual * times, size * LEAST_GAP)
    ruled = any(not any(map(str.isalnum, line.text)) for each in inner[:-1] for line in each)
    gaps = (_gap(*sorted(pair, key=lambda each: each[0].top)) for pair in pairwise(inner))
    return ruled or any(gap > min(least, size * most) for gap in gaps)


def _is_beside(line: Line, texts: Sequence[Line]) -> bool:
    """Whether a line that runs up or down the page is beside all of its text."""
    return all(line.right <= text.left for text in texts) or all(line.left >= text.right for text in texts)


def _is_row_above(row: Sequence[Line], inner: Sequence[Line]) -> bool:
    """Whether a row has cells that the next one has as well, as the header of a table has."""
    cells, below = _cells(row), _cells(inner)
    if min(len(cells), len(below)) < MIN_CELLS:
        return False
    aligned = sum(
        any(min(abs(left - one), abs(right - other)) <= ALIGNED for one, other in below)
        for left, right in cells
    )
    return aligned >= MIN_CELLS


def _cells(row: Sequence[Line]) -> list[tuple[float, float]]:
    """From where to where the parts of a row go that stand apart."""
    found: list[tuple[float, float]] = []
    for line in sorted(row, key=lambda line: line.left):
        spans = [(word.left, word.right) for word in line.words] or [(line.left, line.right)]
        for number, (left, right) in enumerate(spans):
            if found and number and left - found[-1][1] < line.size * CELL_GAP:
                found[-1] = (found[-1][0], max(right, found[-1][1]))
            else:
                found.append((left, right))
    return found
