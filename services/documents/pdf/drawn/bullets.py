"""Bullets of lists that a PDF draws as small shapes, where its text layer has none."""

from __future__ import annotations

import ctypes
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import pypdfium2 as pdfium
from pypdfium2 import raw

from switchyard.services.documents.model.blocks import Box
from switchyard.services.documents.page.lines import Line, Word, spaced
from switchyard.services.documents.pdf.drawn.matrices import Point, moved, outer_matrix_of
from switchyard.services.documents.pdf.frame import Frame

BULLET: Final = "\u2022"
SIZES: Final = (0.2, 0.65)  # em: smaller ones are dots of a drawing, larger ones boxes to tick
POINTS: Final = (1.0, 24.0)  # of any bullet, whatever the text
SQUARE: Final = 0.7  # of the longer side
NEAR: Final = 2.0  # em: from a bullet to its text
MIDDLE: Final = 0.35  # of a line's height: how far from its middle a bullet may be
ALIKE: Final = 0.5  # points
SAME_GAP: Final = 1.0  # points
WITH_TEXT: Final = 0.75  # of the shapes below each other: an item may be empty
MAX_SHAPES: Final = 400  # more on a page are a drawing


class _Place(NamedTuple):
    """Before which word of which line a shape stands."""

    line: int
    word: int


class Shapes:
    """The small shapes of a page, gathered while its objects are gone through."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._shapes: set[Box] = set()
        self._bounds = ctypes.c_float(), ctypes.c_float(), ctypes.c_float(), ctypes.c_float()

    def add(self, path: pdfium.PdfObject) -> None:
        """Take in a path if it is as small as a bullet."""
        left, bottom, right, top = self._bounds
        if not raw.FPDFPageObj_GetBounds(path.raw, left, bottom, right, top):
            return
        corners: tuple[Point, Point] = (left.value, bottom.value), (right.value, top.value)
        if path.container is not None:
            matrix = outer_matrix_of(path)
            corners = moved(corners[0], matrix), moved(corners[1], matrix)
        (x0, y0), (x1, y1) = corners
        self.add_box(self._frame.box(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)))

    def add_box(self, box: Box) -> None:
        """Take in what is drawn there if it is as small as a bullet."""
        left, top, right, bottom = box
        shorter, longer = sorted((right - left, bottom - top))
        if POINTS[0] <= longer <= POINTS[1] and shorter >= longer * SQUARE:
            self._shapes.add((round(left, 1), round(top, 1), round(right, 1), round(bottom, 1)))

    def found(self) -> frozenset[Box]:
        """What may be bullets; nothing of a drawing."""
        return frozenset(self._shapes) if 2 <= len(self._shapes) <= MAX_SHAPES else frozenset()


def marked(lines: Sequence[Line], shapes: frozenset[Box]) -> list[Line]:
    """The lines, with a bullet in the text where a column of like shapes stands left of it.

    Shapes are bullets only together: two or more of one size below each other, nearly all with text, or
    as far from their text as each other.
    """
    made = list(lines)
    if not shapes:
        return made
    found: list[tuple[_Place, Box]] = []
    alone: list[tuple[_Place, Box]] = []
    for column in _columns(shapes):
        beside = [(place, shape) for shape in column if (place := _place(shape, lines)) is not None]
        if len(beside) >= len(column) * WITH_TEXT:
            (found if len(beside) > 1 else alone).extend(beside)
    alone = [(place, shape) for place, shape in alone if place.word == 0]
    both = dict((*alone, *found))
    if len(both) >= max(2, len(shapes) * WITH_TEXT):  # the page is no drawing
        # One of its level stands before its text as others do.
        gaps = [_gap(place, shape, lines) for place, shape in both.items()]
        found += [
            (place, shape)
            for place, shape in alone
            if sum(abs(gap - _gap(place, shape, lines)) <= SAME_GAP for gap in gaps) > 1
        ]
    places: dict[int, dict[int, Box]] = defaultdict(dict)
    for place, shape in found:
        places[place.line][place.word] = shape
    for number, at in places.items():
        made[number] = _with_bullets(lines[number], at)
    return made


def _gap(place: _Place, shape: Box, lines: Sequence[Line]) -> float:
    """How far a shape is from its text."""
    return lines[place.line].words[place.word].left - shape[2]


def _columns(shapes: Iterable[Box]) -> list[list[Box]]:
    """Shapes of one size that begin at one place across the page."""
    columns: list[list[Box]] = []
    for shape in sorted(shapes):
        width = shape[2] - shape[0]
        for column in reversed(columns):
            first = column[0]
            if shape[0] - first[0] > ALIKE:
                continue
            if abs(first[2] - first[0] - width) <= ALIKE:
                column.append(shape)
                break
        else:
            columns.append([shape])
    return columns


def _place(shape: Box, lines: Sequence[Line]) -> _Place | None:
    """The text that a shape stands directly left of; None where there is none."""
    left, top, right, bottom = shape
    middle, size = (top + bottom) / 2, max(right - left, bottom - top)
    for number, line in enumerate(lines):
        height = line.bottom - line.top
        if (
            line.upended
            or abs(middle - (line.top + line.bottom) / 2) > height * MIDDLE
            or not SIZES[0] * line.size <= size <= SIZES[1] * line.size
        ):
            continue
        for at, word in enumerate(line.words):
            free = at == 0 or line.words[at - 1].right <= left
            if free and right <= word.left <= right + line.size * NEAR:
                return _Place(number, at)
    return None


def _with_bullets(line: Line, shapes: dict[int, Box]) -> Line:
    """A line with bullets before some of its words."""
    words: list[Word] = []
    for at, word in enumerate(line.words):
        if at in shapes:
            left, _, right, _ = shapes[at]
            words.append(Word(BULLET, left, line.top, right, line.bottom))
            words.append(word._replace(glued=False))
        else:
            words.append(word)
    return replace(line, text=spaced(words), left=words[0].left, words=tuple(words))
