"""The text layer of a PDF page as lines, in the order of its content."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

import pypdfium2 as pdfium
from pypdfium2 import raw

from services.connectors.convert.blocks import Box
from services.connectors.convert.layout import Line, Word

BOLD: Final = re.compile(r"bold|black|heavy|semibold|demi|cmbx", re.IGNORECASE)
ITALIC_NAME: Final = re.compile(r"italic|oblique", re.IGNORECASE)
ITALIC: Final = 1 << 6  # ISO 32000-1, table 123
FORCE_BOLD: Final = 1 << 18
BOLD_WEIGHT: Final = 600
HYPHEN: Final = "\x02"  # pdfium writes a hyphen at a line's end so, and the next line right after it
HYPHEN_CODES: Final = frozenset({0x02, 0xFFFE})
WORD_GAP: Final = 1.0  # em: letters that stand farther apart are not of one word
MAX_JOIN: Final = 12  # em: parts of one line that lie farther apart are different columns


class Style(NamedTuple):
    """How a character looks."""

    bold: bool
    italic: bool


PLAIN: Final = Style(bold=False, italic=False)


@dataclass(frozen=True, slots=True)
class Frame:
    """How a page's own coordinates, upwards from anywhere, become those of a reader."""

    left: float
    bottom: float
    right: float
    top: float
    rotation: int

    @classmethod
    def of(cls, page: pdfium.PdfPage) -> Frame:
        """The frame of a page."""
        left, bottom, right, top = page.get_mediabox()
        return cls(left, bottom, right, top, page.get_rotation())

    def box(self, x0: float, y0: float, x1: float, y1: float) -> Box:
        """Left, top, right, bottom as read, downwards from the top left."""
        match self.rotation:
            case 90:
                return y0 - self.bottom, x0 - self.left, y1 - self.bottom, x1 - self.left
            case 180:
                return self.right - x1, y0 - self.bottom, self.right - x0, y1 - self.bottom
            case 270:
                return self.top - y1, self.right - x1, self.top - y0, self.right - x0
            case _:
                return x0 - self.left, self.top - y1, x1 - self.left, self.top - y0


class _Builder:
    """Gathers the characters of one line."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._text: list[str] = []
        self._boxes: list[Box] = []
        self._words: list[Word] = []
        self._word_at = 0
        self._word_box: Box | None = None
        self._bold = self._italic = 0
        self._glyph: Box | None = None
        self._glyph_at = 0

    def add(self, character: str, box: Box, style: Style) -> None:
        before = self._text[-1] if self._text else ""
        if is_rtl(character):
            if box == self._glyph:  # pdfium turns the letters of a ligature round with the line
                self._text.insert(self._glyph_at, character)
                return
            self._glyph, self._glyph_at = box, len(self._text)
            if is_latin(before):
                self._space()  # the two scripts are never of one word
        elif is_latin(character) and is_rtl(before):
            self._space()
        if character.isspace():
            self._space()
            return
        left, top, right, bottom = shown = self._frame.box(*box)
        if (word := self._word_box) is not None:
            if left - word[2] > WORD_GAP * (bottom - top):
                self._end_word()
            else:
                shown_word = min(left, word[0]), min(top, word[1]), max(right, word[2]), max(bottom, word[3])
                self._word_box = shown_word
        if self._word_box is None:
            self._word_box = shown
        self._text.append(character)
        self._boxes.append(shown)
        self._bold += style.bold
        self._italic += style.italic

    def _space(self) -> None:
        self._end_word()
        self._text.append(" ")
        self._word_at = len(self._text)

    def _end_word(self) -> None:
        if self._word_box is not None:
            self._words.append(Word("".join(self._text[self._word_at :]), *self._word_box))
            self._word_box = None
            self._word_at = len(self._text)

    def leaves_line(self, box: Box) -> bool:
        """Whether a character stands back and above or below: on turned pages pdfium joins lines."""
        if not self._boxes:
            return False
        left, top, _, bottom = self._frame.box(*box)
        before = self._boxes[-1]
        return left < before[0] and (top >= before[3] or bottom <= before[1])

    def line(self) -> Line | None:
        text = re.sub(r"\s+", " ", "".join(self._text)).strip()
        if not text or not self._boxes:
            return None
        self._end_word()
        heights = sorted(bottom - top for _, top, _, bottom in self._boxes)
        top, bottom = min(box[1] for box in self._boxes), max(box[3] for box in self._boxes)
        sideways = self._frame.rotation in (90, 270)  # there the boxes are those of the ink, not of the font
        return Line(
            text,
            min(box[0] for box in self._boxes),
            top,
            max(box[2] for box in self._boxes),
            bottom,
            bottom - top if sideways else heights[len(heights) // 2],
            bold=self._bold * 2 > len(self._boxes),
            italic=self._italic * 2 > len(self._boxes),
            words=tuple(self._words),
        )


def is_rtl(character: str) -> bool:
    """Whether a character is of a script that is written from right to left."""
    return "\u0590" <= character <= "\u08ff" or "\ufb1d" <= character <= "\ufefc"


def is_latin(character: str) -> bool:
    """Whether a character is a Latin letter."""
    return character.isalpha() and character <= "\u024f"


def lines(page: pdfium.PdfPage) -> list[Line]:
    """The lines of a page's text layer; parts that pdfium found on one line are joined."""
    joined: list[Line] = []
    for line in _segments(page):
        if joined and _same_line(joined[-1], line):
            joined[-1] = _merged(joined[-1], line)
        else:
            joined.append(line)
    return joined


def _segments(page: pdfium.PdfPage) -> Iterator[Line]:
    frame = Frame.of(page)
    textpage = page.get_textpage()
    try:
        builder = _Builder(frame)
        for character, box, style in _characters(textpage.raw, textpage.count_chars()):
            if character == HYPHEN:
                builder.add("-", box, style)
            ends = character in f"\r\n{HYPHEN}"
            if ends or (not character.isspace() and builder.leaves_line(box)):
                if line := builder.line():
                    yield line
                builder = _Builder(frame)
            if not ends:
                builder.add(character, box, style)
        if line := builder.line():
            yield line
    finally:
        textpage.close()


def _characters(textpage: raw.FPDF_TEXTPAGE, count: int) -> Iterator[tuple[str, Box, Style]]:
    """Each character with its box (left, bottom, right, top) and its style."""
    box = raw.FS_RECTF()
    style = PLAIN
    high = 0
    at_start = True
    for index in range(count):
        code = raw.FPDFText_GetUnicode(textpage, index)
        if 0xD800 <= code < 0xDC00:  # the first half of a pair
            high = code
            continue
        if 0xDC00 <= code < 0xE000:
            code = 0x10000 + ((high - 0xD800) << 10) + (code - 0xDC00) if high else 0xFFFD
        high = 0
        character = HYPHEN if code in HYPHEN_CODES else chr(code)
        if code < 0x20 and character not in f"\r\n\t{HYPHEN}":
            continue
        if at_start:  # a font is asked for once a word
            style = _style(textpage, index)
        at_start = character.isspace()
        raw.FPDFText_GetLooseCharBox(textpage, index, box)
        yield character, (box.left, box.bottom, box.right, box.top), style


def _style(textpage: raw.FPDF_TEXTPAGE, index: int) -> Style:
    name = ctypes.create_string_buffer(256)
    flags = ctypes.c_int()
    raw.FPDFText_GetFontInfo(textpage, index, name, len(name), flags)
    found = _style_of_font(name.value, flags.value)
    if not found.bold and raw.FPDFText_GetFontWeight(textpage, index) >= BOLD_WEIGHT:
        return found._replace(bold=True)
    return found


@lru_cache(maxsize=1000)
def _style_of_font(name: bytes, flags: int) -> Style:
    text = name.decode("utf-8", errors="replace")
    bold = BOLD.search(text) is not None or bool(flags & FORCE_BOLD)
    return Style(bold, ITALIC_NAME.search(text) is not None or bool(flags & ITALIC))


def _same_line(before: Line, after: Line) -> bool:
    overlap = min(before.bottom, after.bottom) - max(before.top, after.top)
    height = min(before.bottom - before.top, after.bottom - after.top)
    gap = after.left - before.right
    return overlap > height * 0.5 and -before.size * 0.5 < gap < before.size * MAX_JOIN


def _merged(before: Line, after: Line) -> Line:
    return Line(
        f"{before.text} {after.text}",
        before.left,
        min(before.top, after.top),
        max(before.right, after.right),
        max(before.bottom, after.bottom),
        before.size if len(before.text) > len(after.text) else after.size,
        bold=before.bold and after.bold,
        italic=before.italic and after.italic,
        words=before.words + after.words,
    )
