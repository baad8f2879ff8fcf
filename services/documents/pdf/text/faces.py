"""How the text of a PDF looks, by the objects that draw it."""

from __future__ import annotations

import ctypes
import re
from dataclasses import replace
from functools import lru_cache
from typing import Final, NamedTuple

from pypdfium2 import raw

from switchyard.services.documents.model.runs import PLAIN, Look
from switchyard.services.documents.page.lines import PAGINATION

BOLD: Final = re.compile(r"bold|black|heavy|semibold|demi|cmbx|cmssbx|sfbx|sfsx|-medi\b", re.IGNORECASE)
ITALIC: Final = re.compile(r"italic|oblique|cmti|cmsl|sfti|sfsl|-(?:regu|medi)ital|slanted", re.IGNORECASE)
CODE: Final = re.compile(
    r"courier|mono(?!type)|consol|menlo|typewriter|cmtt|sftt|inconsolata|lucida ?console|terminal|fira ?code",
    re.IGNORECASE,
)
SIGNS: Final = re.compile(r"wingding|dingbat|webding|symbol|fontawesome|bullet", re.IGNORECASE)
SUBSET: Final = re.compile(r"^[A-Z]{6}\+")
FIXED_PITCH: Final = 1 << 0  # ISO 32000-1, table 123
ITALIC_FLAG: Final = 1 << 6
FORCE_BOLD: Final = 1 << 18
SHALLOW: Final = -0.12  # of the size: letters such as p reach lower
BOLD_WEIGHT: Final = 600
STROKED: Final = (raw.FPDF_TEXTRENDERMODE_FILL_STROKE, raw.FPDF_TEXTRENDERMODE_FILL_STROKE_CLIP)
NAME_BYTES: Final = 256
NAME_UNITS: Final = 64
ARTIFACT: Final = "Artifact\0".encode("utf-16-le")
MAX_MARKS: Final = 10  # of an object, one within the other


class Face(NamedTuple):
    """How the text of one object looks.

    Args:
        font: its name, without the mark of a subset.
        signs: whether the font is of signs, not of letters.
        upended: whether it runs up or down the page.
        squat: whether the font claims that no letter reaches below the line, which some programs write
            of any font.
        mark: the id of the marked content that the object is in; -1 for none, `PAGINATION` for headers,
            footers, page numbers and watermarks.
    """

    look: Look
    font: str
    signs: bool
    upended: bool
    squat: bool = False
    mark: int = -1


UNKNOWN: Final = Face(PLAIN, "", signs=False, upended=False)
# Asked for each word: the address of the object alone takes half the time.
_OBJECT_AT: Final = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)(
    ctypes.cast(raw.FPDFText_GetTextObject, ctypes.c_void_p).value or 0
)


class Faces:
    """Remembers how the objects of one page look; most draw many words.

    Args:
        tagged: whether the document's structure refers to marked content.
    """

    def __init__(self, textpage: raw.FPDF_TEXTPAGE, *, tagged: bool) -> None:
        self._textpage = textpage
        self._tagged = tagged
        self._faces: dict[int | None, Face] = {None: UNKNOWN}
        self._fonts: dict[int, Face] = {}
        self._address = ctypes.cast(textpage, ctypes.c_void_p)

    def at(self, index: int) -> Face:
        """How a character looks."""
        key = _OBJECT_AT(self._address, index)
        found = self._faces.get(key)
        if found is None:
            drawn = raw.FPDFText_GetTextObject(self._textpage, index)
            found = self._face(drawn)
            if self._tagged:
                found = found._replace(mark=_mark(drawn))
            self._faces[key] = found
        return found

    def _face(self, drawn: raw.FPDF_PAGEOBJECT) -> Face:
        font = raw.FPDFTextObj_GetFont(drawn)
        key = ctypes.addressof(font.contents) if font else 0
        face = self._fonts.get(key)
        if face is None:
            face = self._fonts[key] = _font(font)
        if not face.look.bold and raw.FPDFTextObj_GetTextRenderMode(drawn) in STROKED:
            face = face._replace(look=replace(face.look, bold=True))
        matrix = raw.FS_MATRIX()
        if raw.FPDFPageObj_GetMatrix(drawn, matrix) and abs(matrix.b) > abs(matrix.a):
            face = face._replace(upended=True)
        return face

    def font(self, index: int) -> int:
        """What distinguishes the font of a character from others; several may have the same name."""
        drawn = raw.FPDFText_GetTextObject(self._textpage, index)
        font = raw.FPDFTextObj_GetFont(drawn) if drawn else None
        return ctypes.addressof(font.contents) if font else 0


def _mark(drawn: raw.FPDF_PAGEOBJECT) -> int:
    """What an object is marked as; see `Face`. Source: ISO 32000-1, 14.8.2.2."""
    mark: int = raw.FPDFPageObj_GetMarkedContentID(drawn)
    if mark >= 0:
        return mark
    name, length = (ctypes.c_ushort * NAME_UNITS)(), ctypes.c_ulong()
    for number in range(min(raw.FPDFPageObj_CountMarks(drawn), MAX_MARKS)):
        found = raw.FPDFPageObj_GetMark(drawn, number)
        known = raw.FPDFPageObjMark_GetName(found, name, ctypes.sizeof(name), length)
        # Other artifacts, such as leaders, have neither of these.
        if (
            known
            and bytes(name)[: length.value] == ARTIFACT
            and any(
                raw.FPDFPageObjMark_GetParamValueType(found, key) != raw.FPDF_OBJECT_UNKNOWN
                for key in (b"Attached", b"Subtype")
            )
        ):
            return PAGINATION
    return -1


def _font(font: raw.FPDF_FONT) -> Face:
    if not font:
        return UNKNOWN
    name = ctypes.create_string_buffer(NAME_BYTES)
    raw.FPDFFont_GetBaseFontName(font, name, NAME_BYTES)
    face = _named(name.value, raw.FPDFFont_GetFlags(font), raw.FPDFFont_GetWeight(font))
    descent = ctypes.c_float()
    raw.FPDFFont_GetDescent(font, 1.0, descent)
    return face if descent.value < SHALLOW else face._replace(squat=True)


@lru_cache(maxsize=1000)
def _named(name: bytes, flags: int, weight: int) -> Face:
    text = SUBSET.sub("", name.decode("utf-8", errors="replace"))
    bold = BOLD.search(text) is not None or bool(flags & FORCE_BOLD) or weight >= BOLD_WEIGHT
    italic = ITALIC.search(text) is not None or bool(flags & ITALIC_FLAG)
    mono = CODE.search(text) is not None or bool(flags & FIXED_PITCH)
    look = Look(bold=bold, italic=italic, code=mono)
    signs = SIGNS.search(text) is not None
    return Face(PLAIN if look == PLAIN else look, text, signs=signs, upended=False)
