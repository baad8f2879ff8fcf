"""Pages whose text runs up, down or upside down as they are shown, such as those with a wide table."""

from __future__ import annotations

from collections import Counter
from math import atan2, pi
from typing import Final

import pypdfium2 as pdfium
from pypdfium2 import raw

QUARTER: Final = 90  # degrees
SAMPLED: Final = 200  # letters of a page
FEWEST: Final = 20  # letters that run one way: fewer are a label
MOSTLY: Final = 0.75  # of the letters


def turn(page: pdfium.PdfPage, textpage: pdfium.PdfTextPage) -> bool:
    """Turn a page on which most of the text does not run across, so that it does; whether it was turned."""
    count = textpage.count_chars()
    matrix = raw.FS_MATRIX()
    ways: Counter[int] = Counter()
    for index in range(0, count, max(1, count // SAMPLED)):
        letter = chr(raw.FPDFText_GetUnicode(textpage.raw, index))
        if letter.isalnum() and raw.FPDFText_GetMatrix(textpage.raw, index, matrix):
            ways[round(atan2(matrix.b, matrix.a) / (pi / 2)) % 4 * QUARTER] += 1
    way, most = max(ways.items(), key=lambda found: found[1], default=(0, 0))
    if way == page.get_rotation() or most < max(FEWEST, ways.total() * MOSTLY):
        return False
    page.set_rotation(way)
    return True


class Turns:
    """Remembers how the pages of a document are shown, and how they were turned to be read."""

    def __init__(self) -> None:
        self._given: dict[int, int] = {}  # the rotation of each page that was read
        self._read: dict[int, int] = {}  # that of each that was turned

    def given(self, number: int, page: pdfium.PdfPage) -> None:
        """Take in how a page is shown, before its text is read."""
        self._given.setdefault(number, page.get_rotation())

    def turned(self, number: int, page: pdfium.PdfPage) -> int:
        """By how many degrees clockwise a page was turned whose text was read."""
        by = int(page.get_rotation() - self._given[number]) % 360
        if by:
            self._read[number] = page.get_rotation()
        return by

    def again(self, number: int, page: pdfium.PdfPage) -> None:
        """Turn a page that is opened again as it was turned before."""
        if number in self._read:
            page.set_rotation(self._read[number])
