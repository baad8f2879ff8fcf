"""Tables of a PDF page that are ruled by drawn lines."""

from __future__ import annotations

import ctypes
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import pypdfium2 as pdfium
from pypdfium2 import raw

from services.connectors.convert import markdown
from services.connectors.convert.frame import Frame
from services.connectors.convert.lines import Line, Table, Word, spaced
from services.connectors.convert.matrices import Point, matrix_of, moved

NEAR: Final = 3.0  # points within which lines are one, and meet
MIN_LENGTH: Final = 3.0
MAX_RULES: Final = 1_500  # of each direction: more are a drawing
MAX_CELLS: Final = 20_000
MAX_CELL_CHARS: Final = 1_500  # a box with more around it frames a part of the page


@dataclass(slots=True)
class Rule:
    """A line across or down, in points from the top left; `at` is its place in the other direction."""

    at: float
    start: float
    end: float


class Rules:
    """The straight lines of a page, gathered while its objects are gone through."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._across: list[Rule] = []
        self._down: list[Rule] = []

    def add(self, path: pdfium.PdfObject) -> None:
        """Take in the straight lines of a path, which may also be edges of filled boxes."""
        if len(self._across) > MAX_RULES * 4 or len(self._down) > MAX_RULES * 4:
            return
        matrix = matrix_of(path)
        for start, end in _edges(path):
            (x0, y0), (x1, y1) = moved(start, matrix), moved(end, matrix)
            left, top, right, bottom = self._frame.box(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
            if bottom - top <= 1.0 and right - left >= MIN_LENGTH:
                self._across.append(Rule((top + bottom) / 2, left, right))
            elif right - left <= 1.0 and bottom - top >= MIN_LENGTH:
                self._down.append(Rule((left + right) / 2, top, bottom))

    def tables(self, lines: Sequence[Line]) -> list[Table]:
        """The tables that the lines rule, with the words in their cells."""
        across, down = _joined(self._across), _joined(self._down)
        if len(across) > MAX_RULES or len(down) > MAX_RULES:
            return []
        words = [word for line in lines for word in line.words]
        grids = (_Grid(*group) for group in _connected(across, down))
        return [table for grid in grids if (table := grid.table(words)) is not None]


def _edges(path: pdfium.PdfObject) -> Iterator[tuple[Point, Point]]:
    """The straight parts of a path; a curve is left out."""
    x, y = ctypes.c_float(), ctypes.c_float()
    first: Point | None = None
    last: Point | None = None
    for number in range(raw.FPDFPath_CountSegments(path.raw)):
        segment = raw.FPDFPath_GetPathSegment(path.raw, number)
        raw.FPDFPathSegment_GetPoint(segment, x, y)
        here = (x.value, y.value)
        kind = raw.FPDFPathSegment_GetType(segment)
        if kind == raw.FPDF_SEGMENT_MOVETO:
            first = here
        elif kind == raw.FPDF_SEGMENT_LINETO and last is not None:
            yield last, here
        last = here
        if raw.FPDFPathSegment_GetClose(segment) and first is not None:
            yield here, first
            last = first


def _joined(rules: Iterable[Rule]) -> list[Rule]:
    """Lines at about the same place are at one, and those that touch there are one line."""
    joined: list[Rule] = []
    group: list[Rule] = []
    for rule in sorted(rules, key=lambda rule: rule.at):
        if group and rule.at - group[0].at > NEAR:
            joined += _touching(group)
            group = []
        group.append(rule)
    return joined + _touching(group)


def _touching(group: list[Rule]) -> list[Rule]:
    found: list[Rule] = []
    if not group:
        return found
    at = sum(rule.at for rule in group) / len(group)
    for rule in sorted(group, key=lambda rule: rule.start):
        if found and rule.start - found[-1].end <= NEAR:
            found[-1].end = max(found[-1].end, rule.end)
        else:
            found.append(Rule(at, rule.start, rule.end))
    return found


def _connected(across: list[Rule], down: list[Rule]) -> Iterator[tuple[list[Rule], list[Rule]]]:
    """Groups of lines that meet, directly or by others."""
    parents = list(range(len(across) + len(down)))
    for number, rule in enumerate(across):
        for other, cross in enumerate(down, start=len(across)):
            if _meet(rule, cross):
                _unite(parents, number, other)
    groups: dict[int, tuple[list[Rule], list[Rule]]] = defaultdict(lambda: ([], []))
    for number, rule in enumerate(across):
        groups[_root(parents, number)][0].append(rule)
    for number, rule in enumerate(down, start=len(across)):
        groups[_root(parents, number)][1].append(rule)
    for rows, columns in groups.values():
        if len(rows) > 1 and len(columns) > 1:
            yield rows, columns


def _meet(across: Rule, down: Rule) -> bool:
    return (
        across.start - NEAR <= down.at <= across.end + NEAR
        and down.start - NEAR <= across.at <= down.end + NEAR
    )


def _root(parents: list[int], number: int) -> int:
    while parents[number] != number:
        parents[number] = parents[parents[number]]
        number = parents[number]
    return number


def _unite(parents: list[int], one: int, other: int) -> None:
    parents[_root(parents, other)] = _root(parents, one)


class _Grid:
    """Rows and columns between lines that meet; where a line is missing, cells are one."""

    def __init__(self, across: list[Rule], down: list[Rule]) -> None:
        self._across, self._down = across, down
        self._ys = _places(across)
        self._xs = _places(down)
        self._rows, self._columns = len(self._ys) - 1, len(self._xs) - 1

    def table(self, words: Sequence[Word]) -> Table | None:
        """The table as Markdown; None for a mere frame, or for a drawing."""
        if self._rows * self._columns not in range(2, MAX_CELLS):
            return None
        cells = self._cells()
        texts: dict[int, list[Word]] = defaultdict(list)
        for word in words:
            row = _between(self._ys, (word.top + word.bottom) / 2)
            column = _between(self._xs, (word.left + word.right) / 2)
            if row is not None and column is not None:
                texts[_root(cells, row * self._columns + column)].append(word)
        rows = [
            [
                _text(texts.pop(number, [])) if _root(cells, number) == number else ""
                for number in range(row * self._columns, (row + 1) * self._columns)
            ]
            for row in range(self._rows)
        ]
        if max((len(text) for row in rows for text in row), default=0) > MAX_CELL_CHARS:
            return None
        used = [column for column in range(self._columns) if any(row[column] for row in rows)]
        full = [[row[column] for column in used] for row in rows if any(row)]
        if len(full) < 2 or len(used) < 2:  # a frame around text is no table
            return None
        return Table(self._xs[0], self._ys[0], self._xs[-1], self._ys[-1], markdown.table(full))

    def _cells(self) -> list[int]:
        """For each place of the grid, row by row, another of the same cell; the first stands for itself."""
        cells = list(range(self._rows * self._columns))
        for row in range(self._rows):
            for column in range(self._columns):
                number = row * self._columns + column
                if column and not _covers(self._down, self._xs[column], self._ys[row], self._ys[row + 1]):
                    _unite(cells, number - 1, number)
                if row and not _covers(self._across, self._ys[row], self._xs[column], self._xs[column + 1]):
                    _unite(cells, number - self._columns, number)
        # The topmost, then leftmost place stands for its cell, whatever was united first.
        firsts: dict[int, int] = {}
        for number in range(len(cells)):
            firsts.setdefault(_root(cells, number), number)
        return [firsts[_root(cells, number)] for number in range(len(cells))]


def _places(rules: Iterable[Rule]) -> list[float]:
    found: list[float] = []
    for at in sorted({rule.at for rule in rules}):
        if not found or at - found[-1] > NEAR:
            found.append(at)
    return found


def _between(places: Sequence[float], at: float) -> int | None:
    """Between which two places, counted from 0, something lies."""
    return next((n for n in range(len(places) - 1) if places[n] <= at < places[n + 1]), None)


def _covers(rules: Iterable[Rule], at: float, start: float, end: float) -> bool:
    """Whether a line at a place goes by the middle of a stretch."""
    middle = (start + end) / 2
    return any(abs(rule.at - at) <= NEAR and rule.start <= middle <= rule.end for rule in rules)


def _text(words: list[Word]) -> str:
    """The words of a cell, which come in reading order."""
    return markdown.cell(spaced(words))
