"""What the pages around a page say of it while it is read: whether OCR has to read it.

Whoever reads a page has to come to the same answer, whichever other pages it is to read: all is found by the
sampled pages of the document, and by those that are near.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Protocol

import pypdfium2 as pdfium

from switchyard.services.documents.model.document import Options
from switchyard.services.documents.page.lines import Line
from switchyard.services.documents.page.running_lines import NEAR_PAGES, Running, Seen, may_run
from switchyard.services.documents.pdf.drawn.objects import Drawing
from switchyard.services.documents.pdf.page_model import PageText
from switchyard.services.documents.pdf.text.garbled import differs, is_unreadable, odd_fonts

SAMPLED_PAGES: Final = 12  # enough to find the size of plain text
ENOUGH_LETTERS: Final = 50  # fewer on a page of pictures are a stamp or a page number
PICTURE_SHARE: Final = 0.3
OUTLINED_PATHS: Final = 20  # letters drawn as shapes
WINDOW: Final = 32  # pages of which the first in some fonts is checked, where no sampled one is in them
MAX_CHECKS: Final = 4  # of a window

Fonts = frozenset[str]


class Texts(Protocol):
    """The text layers of all pages of a document."""

    @property
    def total(self) -> int:
        """How many pages it has."""

    def near(self, number: int) -> PageText | None:
        """The text layer of a page, from 0; None for one that is damaged."""

    def page(self, number: int) -> pdfium.PdfPage:
        """A page, which the caller closes."""


def sampled(total: int) -> list[int]:
    """The pages, from 0, by which the others are read.

    By pages spread over the document, plain text is known; by pages in succession, what runs through them.
    """
    spread = range(0, total, max(1, total // SAMPLED_PAGES))
    middle = total // 2
    return sorted({*spread, *range(middle, min(middle + SAMPLED_PAGES // 2, total))})


def is_picture(lines: Sequence[Line], drawing: Drawing) -> bool:
    """Whether a page has no text layer worth reading, and shows something."""
    text = "".join(line.text for line in lines)
    letters = sum(map(str.isalnum, text))
    if is_unreadable(text):
        return True
    if letters >= ENOUGH_LETTERS:
        return False
    return drawing.covered > PICTURE_SHARE or (
        not letters and (drawing.covered > 0 or drawing.paths >= OUTLINED_PATHS)
    )


class Surroundings:
    """Decides which pages OCR reads.

    Args:
        texts: those of all pages; few are asked for, and only where a page itself does not decide.
        options: those of the conversion.
    """

    def __init__(self, texts: Texts, options: Options) -> None:
        self._texts = texts
        self._options = options
        self._running: Running | None = None
        self._odd: dict[Fonts, int] | None = None  # the first sampled page in some fonts
        self._window = -1  # the first page of the one that is being read
        self._before = range(0)  # pages of the window that were not seen
        self._in_window: dict[Fonts, int] = {}
        self._fonts: Fonts | None = None  # of the page seen last, if that looks odd
        self._differs: dict[tuple[Fonts, int], bool] = {}

    def is_picture(self, number: int, text: PageText, drawing: Drawing) -> bool:
        """Whether a page shows something and has no text layer, apart from what runs through the document."""
        lines, height = text.lines, text.size[1]
        sure = [line for line in lines if not may_run(line, height)]
        whole = is_picture(lines, drawing)
        if len(sure) == len(lines) or (is_picture(sure, drawing) == whole and _is_certain(lines, sure)):
            return whole
        seen = [Seen.of(each.lines, each.size[1], at + 1) for at, each in self._near(number)]
        if self._running is None:
            found = ((at, self._texts.near(at)) for at in sampled(self._texts.total))
            self._running = Running(
                [Seen.of(each.lines, each.size[1], at + 1) for at, each in found if each is not None]
            )
        own, _ = self._running.parted(lines, height, seen, number=number + 1)
        return is_picture(own, drawing)

    def _near(self, number: int) -> Iterator[tuple[int, PageText]]:
        for at in range(max(number - NEAR_PAGES, 0), min(number + NEAR_PAGES + 1, self._texts.total)):
            if at != number and (text := self._texts.near(at)) is not None:
                yield at, text

    def see(self, number: int, text: PageText) -> None:
        """Take in the next page, before anything is asked of it."""
        window = number - number % WINDOW
        if window != self._window:
            self._window, self._before, self._in_window = window, range(window, number), {}
        self._fonts = fonts = odd_fonts(text.lines)
        if fonts is None:
            return
        if self._odd is None:
            self._odd = self._firsts(sampled(self._texts.total))
        if fonts in self._odd:
            return
        for odd, at in (*self._firsts(self._before).items(), (fonts, number)):
            if odd not in self._odd and len(self._in_window) < MAX_CHECKS:
                self._in_window.setdefault(odd, at)
        self._before = range(0)

    def is_garbled(self, number: int, page: pdfium.PdfPage, text: PageText) -> bool:
        """Whether the text layer of the page seen last is wrong, as far as OCR can detect.

        It is as wrong as that of the first sampled page that looks odd in the same fonts, or else as that of
        the first such page of its window.
        """
        fonts = self._fonts
        if fonts is None:
            return False
        first = (self._odd or {}).get(fonts, self._in_window.get(fonts))
        if first is None:
            return False
        if (fonts, first) not in self._differs:
            self._differs[fonts, first] = self._is_wrong(first, number, page, text)
        return self._differs[fonts, first]

    def _firsts(self, numbers: Sequence[int]) -> dict[Fonts, int]:
        found: dict[Fonts, int] = {}
        for at in numbers:
            if (text := self._texts.near(at)) is not None and (fonts := odd_fonts(text.lines)) is not None:
                found.setdefault(fonts, at)
        return found

    def _is_wrong(self, first: int, number: int, page: pdfium.PdfPage, text: PageText) -> bool:
        if first == number:
            return differs(page, text.lines, self._options)
        at = self._texts.near(first)
        other = self._texts.page(first)
        try:
            return at is not None and differs(other, at.lines, self._options)
        finally:
            other.close()


def _is_certain(lines: Sequence[Line], sure: Sequence[Line]) -> bool:
    """Whether no choice of lines beside the sure ones has too much that stands for nothing."""
    return not is_unreadable("".join(line.text for line in lines), of=sum(len(line.text) for line in sure))
