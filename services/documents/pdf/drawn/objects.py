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
from switchyard.services.documents.pdf.drawn.bullets import Bullets
from switchyard.services.documents.pdf.drawn.matrices import matrix_of, moved
from switchyard.services.documents.pdf.drawn.rules import Rules
from switchyard.services.documents.pdf.frame import Frame

TABLE_PATHS: Final = range(1, 5_000)  # more are a drawing
MAX_SEGMENTS: Final = 2_000
CORNERS: Final = ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0))  # a picture fills this square


@dataclass(frozen=True, slots=True)
class Drawing:
    """What is drawn on a page.

    Args:
        pictures: with their boxes, in points from the top left of the page.
        covered: the share of the page under pictures.
        paths: how many shapes there are.
    """

    pictures: tuple[tuple[pdfium.PdfImage, Box], ...]
    covered: float
    paths: int
    rules: Rules
    bullets: Bullets

    def tables(self, lines: Sequence[Line], known: Sequence[Table]) -> tuple[list[Table], list[Line]]:
        """The ruled tables, and the lines of text, parted where they lead into or out of one.

        Args:
            lines: those of the page.
            known: tables whose lines of text are in no other.
        """
        return self.rules.tables(lines, known) if lines and self.paths in TABLE_PATHS else ([], list(lines))

    def marked(self, lines: Sequence[Line]) -> list[Line]:
        """The lines with the bullets that are drawn beside them."""
        return self.bullets.marked(lines)

    def across(self) -> Sequence[Rule]:
        """The lines across the page, where it is not all one drawing."""
        return self.rules.across() if self.paths in TABLE_PATHS else ()


def of(page: pdfium.PdfPage) -> Drawing:
    """Go through the objects of a page."""
    paths = 0
    pictures: list[tuple[pdfium.PdfImage, Box]] = []
    frame = Frame.of(page)
    rules, bullets = Rules(frame), Bullets(frame)
    width, height = page.get_size()
    for drawn in page.get_objects(filter=(raw.FPDF_PAGEOBJ_IMAGE, raw.FPDF_PAGEOBJ_PATH)):
        if drawn.type == raw.FPDF_PAGEOBJ_PATH:
            paths += 1
            if paths in TABLE_PATHS and raw.FPDFPath_CountSegments(drawn.raw) <= MAX_SEGMENTS:
                rules.add(drawn)
                bullets.add(drawn)
        else:
            pictures.append((drawn, box := _shown(drawn, frame, width, height)))
            bullets.add_box(box)
    area = sum((right - left) * (bottom - top) for _, (left, top, right, bottom) in pictures)
    return Drawing(tuple(pictures), area / max(1.0, width * height), paths, rules, bullets)


def _shown(picture: pdfium.PdfObject, frame: Frame, width: float, height: float) -> Box:
    """Where a picture is, as far as it is on the page."""
    matrix = matrix_of(picture)
    xs, ys = zip(*(moved(corner, matrix) for corner in CORNERS), strict=True)
    left, top, right, bottom = frame.box(min(xs), min(ys), max(xs), max(ys))
    left, right = (min(max(at, 0.0), width) for at in (left, right))
    top, bottom = (min(max(at, 0.0), height) for at in (top, bottom))
    return left, top, right, bottom
