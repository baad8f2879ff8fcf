"""Tables of a PDF page that are ruled by drawn lines."""

from __future__ import annotations

import ctypes
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

import pypdfium2 as pdfium
from pypdfium2 import raw

from switchyard.services.documents.page.lines import Line, Table, parted
from switchyard.services.documents.page.tables.grid import NEAR, Grid, Rule, root, unite
from switchyard.services.documents.pdf.drawn.matrices import Point, matrix_of, moved
from switchyard.services.documents.pdf.frame import Frame

MIN_LENGTH: Final = 3.0
MAX_RULES: Final = 1_500  # of each direction: more are a drawing


class Ruling:
    """The straight lines of a page, in points from the top left."""

    def __init__(self, across: Iterable[Rule], down: Iterable[Rule]) -> None:
        self._across = list(across)
        self._down = list(down)

    def across(self) -> list[Rule]:
        """The lines across the page, from the top; none in a drawing."""
        across = _joined(self._across)
        return across if len(across) <= MAX_RULES else []

    def tables(
        self, lines: Sequence[Line], known: Sequence[Table], before: Sequence[float] = ()
    ) -> tuple[list[Table], list[Line]]:
        """The tables that the lines rule, and the text, its lines parted where they lead out of one.

        Args:
            lines: those of the page.
            known: tables whose lines of text are in no other.
            before: the edges of the ruled table that the page before ends with, if it does.
        """
        across, down = _joined(self._across), _joined(self._down)
        found_in = list(lines)
        tables: list[Table] = []
        if len(across) > MAX_RULES or len(down) > MAX_RULES:
            return tables, found_in
        free = (line for line in lines if not any(table.holds(line) for table in known))
        words = [word for line in free for word in line.words]
        for group in _connected(across, down):
            if (found := Grid(*group).table(words, before)) is not None:
                table, taken = found
                words = [word for word in words if id(word) not in taken]
                found_in, starts = parted(found_in, taken)
                tables.append(replace(table, lines=starts))
        return tables, found_in


class Rules:
    """The straight lines of a PDF page, gathered while its objects are gone through."""

    def __init__(self, frame: Frame) -> None:
        self.across: list[Rule] = []
        self.down: list[Rule] = []
        self._frame = frame

    def add(self, path: pdfium.PdfObject) -> None:
        """Take in the straight lines of a path, which may also be edges of filled boxes."""
        if len(self.across) > MAX_RULES * 4 or len(self.down) > MAX_RULES * 4:
            return
        matrix = matrix_of(path)
        for start, end in _edges(path.raw):
            (x0, y0), (x1, y1) = moved(start, matrix), moved(end, matrix)
            left, top, right, bottom = self._frame.box(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
            if bottom - top <= 1.0 and right - left >= MIN_LENGTH:
                self.across.append(Rule((top + bottom) / 2, left, right))
            elif right - left <= 1.0 and bottom - top >= MIN_LENGTH:
                self.down.append(Rule((left + right) / 2, top, bottom))


def _edges(path: raw.FPDF_PAGEOBJECT) -> Iterator[tuple[Point, Point]]:
    """The straight parts of a path; a curve is left out."""
    x, y = ctypes.c_float(), ctypes.c_float()
    first: Point | None = None
    last: Point | None = None
    for number in range(raw.FPDFPath_CountSegments(path)):
        segment = raw.FPDFPath_GetPathSegment(path, number)
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
                unite(parents, number, other)
    groups: dict[int, tuple[list[Rule], list[Rule]]] = defaultdict(lambda: ([], []))
    for number, rule in enumerate(across):
        groups[root(parents, number)][0].append(rule)
    for number, rule in enumerate(down, start=len(across)):
        groups[root(parents, number)][1].append(rule)
    for rows, columns in groups.values():
        if len(rows) > 1 and len(columns) > 1:
            yield rows, columns


def _meet(across: Rule, down: Rule) -> bool:
    return (
        across.start - NEAR <= down.at <= across.end + NEAR
        and down.start - NEAR <= across.at <= down.end + NEAR
    )
