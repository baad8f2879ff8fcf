"""What a PDF page draws besides text: pictures, shapes, and the lines of tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pypdfium2 as pdfium
from pypdfium2 import raw

from switchyard.services.documents.model.blocks import Box
from switchyard.services.documents.page.lines import Line, Table
from switchyard.services.documents.page.tables.grid import Rule
from switchyard.services.documents.pdf.drawn import bullets
from switchyard.services.documents.pdf.drawn.bullets import Shapes
from switchyard.services.documents.pdf.drawn.matrices import matrix_of, moved
from switchyard.services.documents.pdf.drawn.rules import Rules, Ruling
from switchyard.services.documents.pdf.frame import Frame

TABLE_PATHS: Final = range(1, 5_000)  # more are a drawing
MAX_SEGMENTS: Final = 2_000
SEGMENTS: Final = 12  # of a letter that is drawn as a shape
CORNERS: Final = ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0))  # a picture fills this square

Picture = tuple[pdfium.PdfImage, Box]


@dataclass(frozen=True, slots=True)
class Drawing:
    """What is drawn on a page.

    Args:
        covered: the share of the page under pictures.
        paths: how many shapes there are; one of many segments may be several letters and counts as so many.
        across, down: straight lines that may rule tables; none where the page is all one drawing.
        shapes: what may be bullets.
    """

    covered: float = 0.0
    paths: int = 0
    across: tuple[Rule, ...] = ()
    down: tuple[Rule, ...] = ()
    shapes: frozenset[Box] = frozenset()

    def tables(
        self, lines: Sequence[Line], known: Sequence[Table], before: Sequence[float] = ()
    ) -> tuple[list[Table], list[Line]]:
        """The ruled tables, and the lines of text, parted where they lead into or out of one.

        Args:
            lines: those of the page.
            known: tables whose lines of text are in no other.
            before: the edges of the ruled table that the page before ends with, if it does.
        """
        if not lines or not (self.across or self.down):
            return [], list(lines)
        return Ruling(self.across, self.down).tables(lines, known, before)

    def marked(self, lines: Sequence[Line]) -> list[Line]:
        """The lines with the bullets that are drawn beside them."""
        return bullets.marked(lines, self.shapes)

    def rules(self) -> Sequence[Rule]:
        """The lines across the page, from the top."""
        return Ruling(self.across, ()).across()


def of(page: pdfium.PdfPage) -> tuple[Drawing, tuple[Picture, ...]]:
    """Go through the objects of a page: what is drawn, and the pictures.

    These have their boxes, in points from the top left of the page.
    """
    paths = shapes_drawn = 0
    pictures: list[Picture] = []
    frame = Frame.of(page)
    rules, shapes = Rules(frame), Shapes(frame)
    width, height = page.get_size()
    for drawn in page.get_objects(filter=(raw.FPDF_PAGEOBJ_IMAGE, raw.FPDF_PAGEOBJ_PATH)):
        if drawn.type == raw.FPDF_PAGEOBJ_PATH:
            paths += 1
            segments = raw.FPDFPath_CountSegments(drawn.raw)
            shapes_drawn += max(1, segments // SEGMENTS)
            if paths in TABLE_PATHS and segments <= MAX_SEGMENTS:
                rules.add(drawn)
                shapes.add(drawn)
        else:
            pictures.append((drawn, box := _shown(drawn, frame, width, height)))
            shapes.add_box(box)
    area = sum((right - left) * (bottom - top) for _, (left, top, right, bottom) in pictures)
    across, down = (rules.across, rules.down) if paths in TABLE_PATHS else ((), ())
    covered = area / max(1.0, width * height)
    drawing = Drawing(covered, shapes_drawn, tuple(across), tuple(down), shapes.found())
    return drawing, tuple(pictures)


def _shown(picture: pdfium.PdfObject, frame: Frame, width: float, height: float) -> Box:
    """Where a picture is, as far as it is on the page."""
    matrix = matrix_of(picture)
    xs, ys = zip(*(moved(corner, matrix) for corner in CORNERS), strict=True)
    left, top, right, bottom = frame.box(min(xs), min(ys), max(xs), max(ys))
    left, right = (min(max(at, 0.0), width) for at in (left, right))
    top, bottom = (min(max(at, 0.0), height) for at in (top, bottom))
    return left, top, right, bottom
