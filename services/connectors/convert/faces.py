"""How the text of a PDF looks, by the objects that draw it."""

from __future__ import annotations

import ctypes
import re
from dataclasses import replace
from functools import lru_cache
from typing import Final, NamedTuple

from pypdfium2 import raw

from services.connectors.convert.inline import PLAIN, Look

BOLD: Final = re.compile(r"bold|black|heavy|semibold|demi|cmbx|cmssbx|sfbx|sfsx|-medi\b", re.IGNORECASE)
ITALIC: Final = re.compile(r"italic|oblique|cmti|cmsl|sfti|sfsl|-(?:regu|medi)ital|slanted", re.IGNORECASE)
CODE: Final = re.compile(
    r"courier|mono(?!type)|consol|menlo|typewriter|cmtt|sftt|inconsolata|lucida ?console|terminal|fira ?code",
    re.IGNORECASE,
)
FIXED_PITCH: Final = 1 << 0  # ISO 32000-1, table 123
ITALIC_FLAG: Final = 1 << 6
FORCE_BOLD: Final = 1 << 18
BOLD_WEIGHT: Final = 600
STROKED: Final = (raw.FPDF_TEXTRENDERMODE_FILL_STROKE, raw.FPDF_TEXTRENDERMODE_FILL_STROKE_CLIP)
NAME_BYTES: Final = 256


class Face(NamedTuple):
    """How the text of one object looks, and whether it runs up or down the page."""

    look: Look
    upended: bool


UNKNOWN: Final = Face(PLAIN, upended=False)


class Faces:
    """Remembers how the objects of one page look; most draw many words."""

    def __init__(self, textpage: raw.FPDF_TEXTPAGE) -> None:
        self._textpage = textpage
        self._faces: dict[int, Face] = {}

    def at(self, index: int) -> Face:
        """How a character looks."""
        drawn = raw.FPDFText_GetTextObject(self._textpage, index)
        if not drawn:
            return UNKNOWN
        key = ctypes.addressof(drawn.contents)
        found = self._faces.get(key)
        if found is None:
            found = self._faces[key] = _face(drawn)
        return found


def _face(drawn: raw.FPDF_PAGEOBJECT) -> Face:
    look = _look(raw.FPDFTextObj_GetFont(drawn))
    if not look.bold and raw.FPDFTextObj_GetTextRenderMode(drawn) in STROKED:
        look = replace(look, bold=True)
    matrix = raw.FS_MATRIX()
    upended = bool(raw.FPDFPageObj_GetMatrix(drawn, matrix)) and abs(matrix.b) > abs(matrix.a)
    return Face(look, upended)


def _look(font: raw.FPDF_FONT) -> Look:
    if not font:
        return PLAIN
    name = ctypes.create_string_buffer(NAME_BYTES)
    raw.FPDFFont_GetBaseFontName(font, name, NAME_BYTES)
    return _look_of(name.value, raw.FPDFFont_GetFlags(font), raw.FPDFFont_GetWeight(font))


@lru_cache(maxsize=1000)
def _look_of(name: bytes, flags: int, weight: int) -> Look:
    text = name.decode("utf-8", errors="replace")
    bold = BOLD.search(text) is not None or bool(flags & FORCE_BOLD) or weight >= BOLD_WEIGHT
    italic = ITALIC.search(text) is not None or bool(flags & ITALIC_FLAG)
    mono = CODE.search(text) is not None or bool(flags & FIXED_PITCH)
    look = Look(bold=bold, italic=italic, code=mono)
    return PLAIN if look == PLAIN else look
