"""Lines of a text layer letter by letter: text from right to left, and pages that lie on their side."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Final, NamedTuple

from switchyard.services.documents.model import scripts
from switchyard.services.documents.model.blocks import Box
from switchyard.services.documents.page.lines import Line, Word, most_of
from switchyard.services.documents.pdf.frame import Frame
from switchyard.services.documents.pdf.text.faces import UNKNOWN, Face
from switchyard.services.documents.pdf.text.levels import may_be_script

WORD_GAP: Final = 1.0  # em: letters that stand farther apart are not of one word


class Letter(NamedTuple):
    """A character, where it is on the page, how it looks, and whether it stands above or below the line."""

    character: str
    box: Box
    face: Face
    script: str = ""


class Letters:
    """Gathers the characters of one line."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._text: list[str] = []
        self._boxes: list[Box] = []
        self._words: list[Word] = []
        self._word_at = 0
        self._word_box: Box | None = None
        self._face = UNKNOWN  # of the word
        self._glued = False
        self._bold = self._italic = 0
        self._glyph: Box | None = None
        self._glyph_at = 0

    def add(self, character: str, box: Box, face: Face) -> None:
        """Take in the next character with its box in the page's coordinates: left, bottom, right, top."""
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
            elif face.mark != self._face.mark or (face.look != self._face.look and not is_rtl(character)):
                self._end_word()
                self._glued = True
            else:
                shown_word = min(left, word[0]), min(top, word[1]), max(right, word[2]), max(bottom, word[3])
                self._word_box = shown_word
        if self._word_box is None:
            self._word_box, self._face = shown, face
        self._text.append(character)
        self._boxes.append(shown)
        self._bold += face.look.bold
        self._italic += face.look.italic

    def _space(self) -> None:
        self._end_word()
        self._text.append(" ")
        self._word_at = len(self._text)

    def _end_word(self) -> None:
        if self._word_box is not None:
            text = "".join(self._text[self._word_at :])
            face = self._face
            self._words.append(Word(text, *self._word_box, face.look, face.font, self._glued, mark=face.mark))
            self._glued = False
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
        """What was gathered."""
        text = re.sub(r"\s+", " ", "".join(self._text)).strip()
        if not text or not self._boxes:
            return None
        self._end_word()
        heights = sorted(bottom - top for _, top, _, bottom in self._boxes)
        left, right = min(box[0] for box in self._boxes), max(box[2] for box in self._boxes)
        top, bottom = min(box[1] for box in self._boxes), max(box[3] for box in self._boxes)
        upended = self._frame.sideways and self._is_upended()
        size = heights[len(heights) // 2]
        if self._frame.sideways:  # the boxes are those of the ink, not of the font
            size = right - left if upended else bottom - top
        return Line(
            text,
            left,
            top,
            right,
            bottom,
            size,
            bold=self._bold * 2 > len(self._boxes),
            italic=self._italic * 2 > len(self._boxes),
            words=tuple(word._replace(upended=upended) for word in self._words),
            upended=upended,
            font=most_of(self._words),
        )

    def _is_upended(self) -> bool:
        """Whether the letters go up or down the page, such as a page number on one that lies on its side."""
        first, last = self._boxes[0], self._boxes[-1]
        apart = max(first[1], last[1]) >= min(first[3], last[3])
        return apart and min(first[2], last[2]) - max(first[0], last[0]) > (last[2] - last[0]) / 2


def lines(letters: Iterable[Letter], frame: Frame) -> Iterator[Line]:
    """Letters of what pdfium takes for one line as the lines that they are."""
    gathered = Letters(frame)
    for character, box, face, _ in _marked(letters):
        if not character.isspace() and gathered.leaves_line(box):
            if line := gathered.line():
                yield line
            gathered = Letters(frame)
        gathered.add(character, box, face)
    if line := gathered.line():
        yield line


def _marked(letters: Iterable[Letter]) -> Iterator[Letter]:
    """Letters, with marks around those in succession that stand above or below the line."""
    for script, group in groupby(letters, key=lambda letter: letter.script):
        run = list(group)
        if not script or not may_be_script("".join(each.character for each in run), script):
            yield from run
            continue
        before, after = scripts.marked("x", script).split("x")
        yield from (run[0]._replace(character=mark) for mark in before)
        yield from run
        yield from (run[-1]._replace(character=mark) for mark in after)


def is_rtl(character: str) -> bool:
    """Whether a character is of a script that is written from right to left."""
    if "\ufdd0" <= character <= "\ufdef":  # no characters, but marks (see `scripts`)
        return False
    return "\u0590" <= character <= "\u08ff" or "\ufb1d" <= character <= "\ufefc"


def is_latin(character: str) -> bool:
    """Whether a character is a Latin letter."""
    return character.isalpha() and character <= "\u024f"
