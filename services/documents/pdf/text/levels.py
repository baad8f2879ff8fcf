"""Which letters of a PDF page stand above or below the line that others stand on."""

from __future__ import annotations

import ctypes
import re
from dataclasses import replace
from math import hypot
from typing import Final, NamedTuple

from pypdfium2 import raw

from switchyard.services.documents.model import scripts
from switchyard.services.documents.page.lines import Line

SIZE: Final = (0.4, 0.87)  # of the text beside it; browsers take 0.83
UP, DOWN = 0.15, -0.05  # of the size of the text beside it, from line to line
FAR: Final = 1.0
ASKEW: Final = 0.02
# Where only boxes are known, all of the height of what is on the line.
SAME_SIZE: Final = 0.85
LEAST: Final = 0.4
BELOW: Final = 0.23  # of a letter's height, below the line that it stands on
BOX_UP, BOX_DOWN = 0.12, -0.05
NEAR: Final = 0.15  # a mark this near is of the word before it
# Numbers and signs, or a few letters of a formula: whole words are another text that stands near.
SCRIPT: Final = re.compile(
    "(?=.{1,12}$)(?:[\\W\\d]*[A-Za-z\\u0370-\\u03ff\\U0001d400-\\U0001d7ff]{0,3}[\\W\\d]*|max|min)"
)
LONELY: Final = frozenset("\u2022\u00b0")
CAPITALS: Final = re.compile("[A-Z]+")  # such as that of LaTeX's own name
RAISED_CAPITALS: Final = frozenset({"T", "TM", "SM"})
MARK: Final = re.compile(r"[\d*\u2217\u2020\u2021\u00a7\u00b6,()\[\]\u00b9\u00b2\u00b3]{1,6}")


class Levels:
    """Compares letters of one page, whichever way they run."""

    def __init__(self, textpage: raw.FPDF_TEXTPAGE) -> None:
        self._textpage = textpage

    def script(self, base: int, index: int) -> str:
        """Whether a letter is smaller than one before it, and stands above or below its line."""
        first, own = self._set(base), self._set(index)
        moved = _moved(first, own)
        least, most = SIZE
        if moved is None or not least * first.size < own.size < most * first.size:
            return ""
        moved /= first.size
        return scripts.UP if FAR > moved > UP else scripts.DOWN if -FAR < moved < DOWN else ""

    def are_apart(self, one: int, other: int) -> bool:
        """Whether two letters of different sizes stand on different lines."""
        first, second = self._set(one), self._set(other)
        larger, smaller = (first, second) if first.size > second.size else (second, first)
        moved = _moved(larger, smaller)
        return moved is not None and not DOWN <= moved / larger.size <= UP

    def _set(self, index: int) -> _Set:
        x, y, matrix = ctypes.c_double(), ctypes.c_double(), raw.FS_MATRIX()
        raw.FPDFText_GetCharOrigin(self._textpage, index, x, y)
        raw.FPDFText_GetMatrix(self._textpage, index, matrix)
        scale = hypot(matrix.c, matrix.d)
        size = raw.FPDFText_GetFontSize(self._textpage, index) * scale
        return _Set(size, x.value, y.value, matrix.c / (scale or 1.0), matrix.d / (scale or 1.0))


class _Set(NamedTuple):
    """A letter's size, where on its line it begins, and which way is up for it."""

    size: float
    x: float
    y: float
    up_x: float
    up_y: float


def _moved(base: _Set, other: _Set) -> float | None:
    """How far a letter stands above the line of another; None where they run different ways, or askew."""
    up_x, up_y = base.up_x, base.up_y
    askew = min(abs(up_x), abs(up_y)) > ASKEW
    if not (base.size and other.size) or askew or hypot(up_x - other.up_x, up_y - other.up_y) > ASKEW:
        return None
    return (other.x - base.x) * up_x + (other.y - base.y) * up_y


def scripted(before: Line, after: Line) -> Line:
    """What continues a line; pdfium may part from it a word that stands above or below it."""
    word = after.words[0] if after.words else None
    base = next((word for word in reversed(before.words) if not scripts.is_marked(word.text)), None)
    if word is None or base is None or before.upended or after.upended or scripts.is_marked(word.text):
        return after
    height, own = base.bottom - base.top, word.bottom - word.top
    if not LEAST * height < own < height * SAME_SIZE or len(after.words) > 1:
        return after
    if not -NEAR < (word.left - before.right) / height < NEAR:
        return after
    moved = (base.bottom - word.bottom) / height - BELOW * (1 - own / height)
    script = scripts.UP if moved > BOX_UP else scripts.DOWN if moved < BOX_DOWN else ""
    if not script or not may_be_script(word.text, script):
        return after
    raised = script == scripts.UP and MARK.fullmatch(word.text) is not None
    marked = word._replace(text=scripts.marked(word.text, script), glued=True, raised=raised)
    return replace(after, words=(marked, *after.words[1:]))


def may_be_script(text: str, script: str) -> bool:
    """Whether text may be meant to stand above or below the line, and is no play with capitals."""
    if SCRIPT.fullmatch(text) is None or text in LONELY:
        return False
    return script == scripts.DOWN or not CAPITALS.fullmatch(text) or text in RAISED_CAPITALS
