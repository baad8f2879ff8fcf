"""The text layer of a PDF page as lines, in the order of its content."""

from __future__ import annotations

import ctypes
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from math import hypot
from typing import Final, NamedTuple

import pypdfium2 as pdfium
from pypdfium2 import raw

from switchyard.services.documents.model import scripts
from switchyard.services.documents.model.blocks import Box
from switchyard.services.documents.model.runs import PLAIN
from switchyard.services.documents.page.lines import Line, Word, most_of, spaced
from switchyard.services.documents.pdf.frame import Frame
from switchyard.services.documents.pdf.tags import structure
from switchyard.services.documents.pdf.text import letters, levels, markers, turns
from switchyard.services.documents.pdf.text.faces import Face, Faces
from switchyard.services.documents.self_check import letters as letters_of

HYPHENS: Final = "\x02\ufffe"  # pdfium writes a hyphen at a line's end so, and the next line right after it
PIECE: Final = re.compile(rf"[\r\n]+|[{HYPHENS}]|[^\s{HYPHENS}]+")
FIRST: Final = re.compile(r"(?<![^\r\n])(\w) ")  # a letter that stands alone at a line's start
RTL: Final = re.compile("[\u0590-\u08ff\ufb1d-\ufefc]")
SURROGATES: Final = re.compile("[\ud800-\udfff]")
CONTROL: Final = re.compile("[\x00-\x1f]+")
SIGN: Final = re.compile("[\x21-\x7e\ue000-\uf8ff]")  # of a font of signs, where the letter means nothing
BULLET: Final = "\u2022"
WIDE: Final = 1.2  # em: a word whose letters take more has gaps in it
ALIKE: Final = 0.1  # of a letter's height
RAISED: Final = 0.2  # em
BULLETS: Final = (0.25, 1.0)  # of the tallest letter beside them
ASCENT, DESCENT = 0.69, 0.21  # of the size, as of most fonts
MUCH_TALLER: Final = 2.0
SQUARE: Final = 0.65  # of the longer side
SMALLER: Final = 0.85  # of the smallest letter beside it
FLOATS: Final = 0.1  # of the tallest letter beside it
# Where what is raised or lowered may stand within a word whose first and last letter are alike.
WITHIN: Final = re.compile(r"(?<=[^\W\d_])\d|\d(?=[^\W\d_\u00b7\u00d7*])|(?<=\d)[-+\u2212](?=\d)")


class _Span(NamedTuple):
    """A word, or a part of one that looks different, by the places of its characters."""

    start: int
    end: int
    box: Box
    face: Face


def lines(page: pdfium.PdfPage) -> list[Line]:
    """The lines of a page's text layer; parts that pdfium found on one line are joined."""
    return read(page)[0]


def read(page: pdfium.PdfPage) -> tuple[list[Line], int]:
    """The lines of a page's text layer, and how many letters that has; the page is turned as they run."""
    textpage = page.get_textpage()
    try:
        if turns.turn(page, textpage):
            textpage.close()
            textpage = page.get_textpage()
        joined: list[Line] = []
        reader = _Reader(textpage.raw, textpage.count_chars(), page)
        for line in reader.lines():
            if joined and markers.same_line(joined[-1], line):
                joined[-1] = markers.merged(joined[-1], levels.scripted(joined[-1], line))
            else:
                joined.append(line)
        return markers.with_markers(joined), letters_of(reader.text)
    finally:
        textpage.close()


def bare(page: pdfium.PdfPage) -> list[str]:
    """The lines of a page's text layer as the library parts them; none where it cannot."""
    try:
        textpage = page.get_textpage()
    except pdfium.PdfiumError:
        return []
    try:
        text: str = textpage.get_text_range()
        return text.translate(dict.fromkeys(map(ord, HYPHENS), "-")).splitlines()
    finally:
        textpage.close()


class _Reader:
    """Reads the characters of one page."""

    def __init__(self, textpage: raw.FPDF_TEXTPAGE, count: int, page: pdfium.PdfPage) -> None:
        self._textpage = textpage
        self._frame = Frame.of(page)
        self._text = _text(textpage, count)
        self._firsts = Counter(FIRST.findall(self._text))
        self._faces = Faces(textpage, tagged=structure.is_tagged(page))
        self._levels = levels.Levels(textpage)
        self._rect = raw.FS_RECTF()

    @property
    def text(self) -> str:
        """Its characters."""
        return _paired(self._text) if SURROGATES.search(self._text) else self._text

    def lines(self) -> Iterator[Line]:
        """Lines as pdfium parts them, or finer where it joins what is not of one line."""
        pieces: list[tuple[int, int]] = []
        for found in PIECE.finditer(self._text):
            piece = found[0]
            if piece[0] in HYPHENS and pieces:  # one that begins a line is a letter without a meaning
                yield from self._line(pieces, hyphen=True)
                pieces = []
            elif piece[0] in "\r\n":
                yield from self._line(pieces)
                pieces = []
            else:
                pieces.append(found.span())
        yield from self._line(pieces)

    def _line(self, pieces: Sequence[tuple[int, int]], *, hyphen: bool = False) -> Iterator[Line]:
        if not pieces:
            return
        start, end = pieces[0][0], pieces[-1][1]
        if self._frame.sideways or RTL.search(self._text, start, end):
            yield from letters.lines(self._letters(start, end, hyphen=hyphen), self._frame)
            return
        words: list[Word] = []
        base: tuple[Word, int] | None = None  # the last that stands on the line, and its first letter
        bullet = self._begins_with_bullet(pieces)
        for at, stop in pieces:
            above: Box = (0.0, 0.0, 0.0, 0.0)
            for number, span in enumerate(self._alike(at, stop) or self._spans(at, stop)):
                word, scripted = self._word(span, words[-1] if words else None, base, glued=number > 0)
                if bullet and at == start:
                    word = word._replace(text=BULLET)
                below = number > 0 and self._begins_below(span.start, span.box, above, span.face)
                above = span.box
                if words and (below or _leaves_line(words[-1], word)):
                    yield _line_of(words)
                    words = []
                if not scripted:
                    base = word, span.start
                if word.text:
                    words.append(word)
        if words and hyphen:
            words[-1] = words[-1]._replace(text=f"{words[-1].text}-")
        if words:
            yield _line_of(words)

    def _begins_with_bullet(self, pieces: Sequence[tuple[int, int]]) -> bool:
        """Whether a line's first letter is drawn as a bullet, whatever the text layer takes it for."""
        (at, stop), *others = pieces
        letter = self._text[at]
        if stop - at > 1 or not others or not (letter.isalpha() or letter < " " or letter in HYPHENS):
            return False
        if letter.isalpha() and (
            self._firsts[letter] < 2 or self._faces.font(at) == self._faces.font(others[0][0])
        ):
            return False
        left, bottom, right, top = self._inked(at)
        beside = [self._inked(index) for index in range(*others[0]) if self._text[index].isalnum()]
        size = max((box[3] - box[1] for box in beside), default=0.0)
        shorter, longer = sorted((right - left, top - bottom))
        if not BULLETS[0] * size <= longer <= BULLETS[1] * size or shorter < longer * SQUARE:
            return False
        if not letter.isalpha():
            return True
        # No letter is smaller than all those of the word after it, and floats above their feet.
        floats = bottom > max(box[1] for box in beside) + size * FLOATS
        return floats and longer < min(box[3] - box[1] for box in beside) * SMALLER

    def _letters(self, start: int, end: int, *, hyphen: bool) -> Iterator[letters.Letter]:
        base: int | None = None  # the last that stands on the line
        for index in range(start, end):
            character = self._text[index]
            if "\ud800" <= character < "\udc00":  # the first half of a pair, which comes with the second
                continue
            if "\udc00" <= character < "\ue000":
                character = _paired(self._text[index - 1 : index + 1])
            if character < " ":
                if not character.isspace():
                    continue
                character = " "  # fonts have tabs for spaces
            script = "" if base is None or character == " " else self._levels.script(base, index)
            if not script and character.isalnum():
                base = index
            face = self._faces.at(index)
            yield letters.Letter(character, self._box_at(index, face), face, script)
        if hyphen:
            face = self._faces.at(end - 1)
            yield letters.Letter("-", self._box_at(end - 1, face), face)

    def _alike(self, start: int, end: int) -> tuple[_Span, ...]:
        """A word whose letters look the same; nothing where they may look different."""
        face, last = self._faces.at(start), self._faces.at(end - 1)
        if face is not last and face != last:
            return ()
        first_box = self._box_at(start, face)
        last_box = self._box_at(end - 1, last) if end - start > 1 else first_box
        height = first_box[3] - first_box[1]
        if not abs(last_box[3] - last_box[1] - height) < height * ALIKE:
            return ()
        if self._begins_below(end - 1, last_box, first_box, face):
            return ()
        box = _around(first_box, last_box) if end - start > 1 else first_box
        if box[2] - box[0] > height * WIDE * (end - start):
            return ()
        # Such as a bracket around code.
        if not self._text[start].isalnum() and self._faces.at((start + end) // 2) != face:
            return ()
        # Letters alone are never doubtful.
        if end - start > 2 and not face.upended and not self._text[start:end].isalpha():
            for index in self._doubtful(start, end):
                if not self._is_alike(index, face, height):
                    return ()
        return (_Span(start, end, box, face),)

    def _spans(self, start: int, end: int) -> Iterator[_Span]:
        """A word, parted where its letters look different."""
        face = self._faces.at(start)
        at, around = start, self._box_at(start, face)
        height = around[3] - around[1]
        for index in range(start + 1, end):
            now = self._faces.at(index)
            here = self._box_at(index, now)
            tall = here[3] - here[1]
            gap = here[0] - around[2] > letters.WORD_GAP * height
            # Ligatures that a font lacks are smaller as well, but stand on the line.
            resized = abs(tall - height) > height * (1 - levels.SAME_SIZE) and (
                levels.MARK.fullmatch(self._text[index if tall < height else at])
                or self._levels.are_apart(at, index)
            )
            if gap or now != face or resized or self._begins_below(index, here, around, now):
                yield _Span(at, index, around, face)
                at, around, face, height = index, here, now, tall
            else:
                around = _around(around, here)
        yield _Span(at, end, around, face)

    def _begins_below(self, index: int, box: Box, before: Box, face: Face) -> bool:
        """Whether a digit stands below what comes before it: pdfium joins the numbers of a column."""
        return box[3] <= before[1] and not face.upended and self._text[index - 1 : index + 1].isdecimal()

    def _doubtful(self, start: int, end: int) -> Iterator[int]:
        """The letters within a word that may stand above or below the line though its ends do not."""
        last = end - 1
        while last > start and not self._text[last].isalnum():
            last -= 1
        if start < last < end - 1:
            yield last
        for found in WITHIN.finditer(self._text, start + 1, last):
            yield found.start()

    def _is_alike(self, index: int, face: Face, height: float) -> bool:
        if self._faces.at(index) != face:
            return False
        box = self._box_at(index, face)
        return abs(box[3] - box[1] - height) < height * ALIKE

    def _word(
        self, span: _Span, before: Word | None, base: tuple[Word, int] | None, *, glued: bool
    ) -> tuple[Word, bool]:
        """A word, and whether it stands above or below the line."""
        text = self._text[span.start : span.end]
        if not text.isprintable():  # as most is
            text = CONTROL.sub("", _paired(text) if SURROGATES.search(text) else text)
        left, top, right, bottom = self._frame.box(*span.box)
        raised, script, face = False, "", span.face
        if before is not None and base is not None:
            on_line, first = base
            height = on_line.bottom - on_line.top
            small = bottom - top < height * levels.SAME_SIZE and not face.upended
            raised = (
                small
                and on_line.bottom - bottom > height * RAISED
                and levels.MARK.fullmatch(text) is not None
            )
            near = left - before.right < height * levels.NEAR
            beside = near and left - before.right > -height * levels.NEAR
            if (
                raised or (beside and (small or glued) and levels.SCRIPT.fullmatch(text))
            ) and not face.upended:
                script = self._levels.script(first, span.start)
                script = script if levels.may_be_script(text, script) else ""
            raised = raised and script != scripts.DOWN
            glued = (
                near
                if raised
                else bool(script)
                or (left - before.right < (before.bottom - before.top) * letters.WORD_GAP if glued else False)
            )
        if before is None and (SIGN.fullmatch(text) if face.signs else text == "o" and face.look.code):
            text = BULLET  # word processors take an o of a typewriter for the second level
        if raised or script:
            text = scripts.marked(text, script or scripts.UP)
        made = Word(
            text, left, top, right, bottom, face.look, face.font, glued, raised, face.upended, face.mark
        )
        return made, raised or bool(script)

    def _box_at(self, index: int, face: Face) -> Box:
        rect = self._rect
        raw.FPDFText_GetLooseCharBox(self._textpage, index, rect)
        box = rect.left, rect.bottom, rect.right, rect.top
        return self._whole_height(index, box) if face.squat and not face.upended else box

    def _whole_height(self, index: int, box: Box) -> Box:
        """A letter's box as tall as those of other letters, whatever its font claims."""
        x, y, matrix = ctypes.c_double(), ctypes.c_double(), raw.FS_MATRIX()
        raw.FPDFText_GetCharOrigin(self._textpage, index, x, y)
        raw.FPDFText_GetMatrix(self._textpage, index, matrix)
        size = raw.FPDFText_GetFontSize(self._textpage, index) * hypot(matrix.c, matrix.d)
        left, bottom, right, top = box
        lower, upper = min(bottom, y.value - size * DESCENT), max(top, y.value + size * ASCENT)
        # Fonts that are drawings may have any size.
        return (left, lower, right, upper) if upper - lower < (top - bottom) * MUCH_TALLER else box

    def _inked(self, index: int) -> Box:
        """What a letter covers with ink."""
        left, right, bottom, top = (ctypes.c_double() for _ in range(4))
        raw.FPDFText_GetCharBox(self._textpage, index, left, right, bottom, top)
        return left.value, bottom.value, right.value, top.value


def _text(textpage: raw.FPDF_TEXTPAGE, count: int) -> str:
    """The page's characters, each at its place; half a pair of UTF-16 counts as one."""
    units = (ctypes.c_ushort * (count + 1))()
    if raw.FPDFText_GetText(textpage, 0, count, units) == count + 1:
        found = bytes(units)[: count * 2].decode("utf-16-le", errors="surrogatepass")
        return found if len(found) == count else "".join(map(chr, units[:count]))
    # Some characters are left out of the text, and it does not say which.
    return "".join(chr(raw.FPDFText_GetUnicode(textpage, index)) for index in range(count))


def _paired(text: str) -> str:
    """Text with halves of pairs put together; a half alone cannot be read."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _around(one: Box, other: Box) -> Box:
    return min(one[0], other[0]), min(one[1], other[1]), max(one[2], other[2]), max(one[3], other[3])


def _leaves_line(before: Word, word: Word) -> bool:
    """Whether a word stands back and above or below, or runs another way."""
    back = word.left < before.left and (word.top >= before.bottom or word.bottom <= before.top)
    return back or word.upended != before.upended


def _line_of(words: Sequence[Word]) -> Line:
    # Code within a line is often set smaller.
    prose = [word for word in words if not word.look.code] or words
    heights = sorted([(word.bottom - word.top, len(word.text)) for word in prose])
    plain = all(word.look is PLAIN for word in words)  # as most are
    count = sum([len(word.text) for word in words])
    upended = words[0].upended
    left, right = min(word.left for word in words), max(word.right for word in words)
    return Line(
        spaced(words),
        left,
        min(word.top for word in words),
        right,
        max(word.bottom for word in words),
        right - left if upended else _median(heights),
        # A line that only begins in bold is one of a paragraph.
        bold=words[-1].look.bold and sum(len(word.text) for word in words if word.look.bold) * 2 > count,
        italic=not plain and sum(len(word.text) for word in words if word.look.italic) * 2 > count,
        words=tuple(words),
        upended=upended,
        font=most_of(words),
    )


def _median(weighted: Sequence[tuple[float, int]]) -> float:
    """The value in the middle of a sorted sequence of values and how often each occurs."""
    total = sum(times for _, times in weighted)
    passed = 0
    for value, times in weighted:
        passed += times
        if passed * 2 >= total:
            return value
    return weighted[-1][0]
