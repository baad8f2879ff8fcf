"""Pages of a PDF, each by itself: the text layer where one has it worth reading, OCR where it has not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import pypdfium2 as pdfium
from pypdfium2 import raw

from switchyard.services.documents import defeated
from switchyard.services.documents.errors import FatalError, RetryableError
from switchyard.services.documents.model.document import Options, check_pages
from switchyard.services.documents.ocr.ahead import Pending, ahead
from switchyard.services.documents.ocr.machine.tesseract import installed
from switchyard.services.documents.ocr.reading import Reading
from switchyard.services.documents.ocr.recognised import Recognised
from switchyard.services.documents.office import form_states
from switchyard.services.documents.page.running_lines import NEAR_PAGES
from switchyard.services.documents.pdf import forms, links, regions
from switchyard.services.documents.pdf.drawn import objects
from switchyard.services.documents.pdf.kept_pictures import KeptPictures
from switchyard.services.documents.pdf.page_model import DAMAGED, InPicture, PageText, ReadPage
from switchyard.services.documents.pdf.pictures import PictureFinder
from switchyard.services.documents.pdf.surroundings import Surroundings, sampled
from switchyard.services.documents.pdf.tags.structure import Structures
from switchyard.services.documents.pdf.text import layer
from switchyard.services.documents.pdf.text.turns import Turns
from switchyard.services.documents.pdf.text_in_pictures import PictureReader

NOT_READ: Final = "was left out, for "
"""How it begins why a page is left out on which the OCR program failed."""
KEPT_OPEN: Final = 8  # sampled pages of the first batch: to open one again costs as much as to lay it out
BATCH: Final = 32  # pages after which the libraries, which keep all they have read, start afresh


class PdfReader:
    """Some pages of a PDF, or all.

    Args:
        path: where it lies.
        options: how it is to be read.
        pages: from 0; all without.
        kept: takes the data of pictures; they are left out without.
        goes_on: whether a document whose every page for OCR has failed has its other pages all the same.

    Raises:
        FatalError: codes `encrypted_file`, `corrupt_file` and `too_many_pages`.
    """

    def __init__(
        self,
        path: Path,
        options: Options,
        pages: range | None = None,
        *,
        kept: KeptPictures | None = None,
        goes_on: bool = False,
    ) -> None:
        self._path = path
        self._goes_on = goes_on
        self._options = options
        self._kept = kept
        self._skip: Mapping[int, str] = options.trail.skip if options.trail is not None else {}
        self._was_read = False  # some page by OCR
        self._unread: RetryableError | None = None
        self._structures = Structures()
        self._near: dict[int, PageText | None] = {}
        self._texts: dict[int, PageText] = {}  # of pages that are read and were not made yet
        self._opened: dict[int, pdfium.PdfPage] = {}
        self._turns = Turns()
        self._pdf = opened(path)
        with ExitStack() as closing:
            closing.enter_context(self._pdf)
            self.total = len(self._pdf)
            if not self.total:
                raise FatalError("corrupt_file", "the PDF has no pages")
            check_pages(self.total, options)
            self._range = range(self.total) if pages is None else pages
            self.warnings: tuple[str, ...] = ()
            if self._range.start == 0:
                self.warnings = (*form_states.begin(self._pdf), *_enclosed(self._pdf))
            else:
                forms.begin(self._pdf)
            self._sample()
            closing.pop_all()  # the first batch closes it

    def sample(self) -> dict[int, PageText]:
        """The texts of those of the pages by which the others are read; without what is damaged."""
        return {at: text for at in sampled(self.total) if (text := self._texts.get(at)) is not None}

    def pages(self) -> Iterator[ReadPage]:
        """The pages in their order; to be called once.

        Raises:
            RetryableError: the OCR program failed on each page that it was to read.
        """
        yield from ahead(self._read())
        if self._unread is not None and not self._was_read and not self._goes_on:
            raise self._unread

    def picture(self, key: bytes) -> bytes:
        """The data of a picture; see `KeptPictures.load`."""
        if self._kept is None:
            raise ValueError("no pictures were kept")
        return self._kept.load(key)

    def near(self, number: int) -> PageText | None:
        """The text layer of any page; None for one that is damaged."""
        if number in self._texts:
            return self._texts[number]
        if number in self._near:
            return self._near[number]
        if number in self._skip:
            return None
        self._begin(number)
        try:
            page = self.page(number)
        except pdfium.PdfiumError:
            self._near[number] = None
            return None
        if number in self._range:  # which comes next, or soon
            self._opened[number] = page
            text = self._texts[number] = self._text(number, page, self._structures)
            return text
        try:
            text = self._near[number] = self._text(number, page, None)
        finally:
            page.close()
        return text

    def page(self, number: int) -> pdfium.PdfPage:
        """A page, which the caller closes."""
        page = self._pdf[number]
        self._turns.again(number, page)
        return page

    def _text(self, number: int, page: pdfium.PdfPage, structures: Structures | None) -> PageText:
        """What a page says; see `_text`."""
        self._turns.given(number, page)
        text = _text(page, structures, comments=self._options.comments)
        return replace(text, turned=self._turns.turned(number, page))

    def _begin(self, number: int) -> None:
        """Note that a page is read now."""
        if self._options.trail is not None:
            self._options.trail.at(number)

    def read(self, page: ReadPage, said: Recognised) -> ReadPage:
        """A page with what OCR read."""
        self._was_read = True
        return replace(page, scan=said)

    def not_read(self, page: ReadPage, error: RetryableError) -> ReadPage:
        """A page on which the OCR program failed."""
        self._unread = error
        return ReadPage(page.number, left_out=f"{NOT_READ}{error.message}")

    def _sample(self) -> None:
        """Read the texts of some pages, and leave some of them open."""
        kept: dict[int, pdfium.PdfPage] = {}
        for number in sampled(self.total):
            if number not in self._range or number in self._skip:
                continue
            self._begin(number)
            try:
                page = self.page(number)
            except pdfium.PdfiumError:
                continue
            self._texts[number] = self._text(number, page, self._structures)
            if number < self._range.start + BATCH and len(kept) < KEPT_OPEN:
                kept[number] = page
            else:
                page.close()
        self._opened = kept

    def _read(self) -> Iterator[ReadPage | Pending[ReadPage]]:
        making = _Making(self, self._options, self._kept)
        for first in range(self._range.start, self._range.stop, BATCH):
            if first > self._range.start:
                self._pdf = opened(self._path)
                forms.begin(self._pdf)
            with self._pdf:
                for number in range(first, min(first + BATCH, self._range.stop)):
                    yield self._made(number, making)
                    self._forget(number - NEAR_PAGES)
                for page in self._opened.values():
                    page.close()
                self._opened.clear()

    def _forget(self, number: int) -> None:
        """Give up what is remembered of pages up to one; what sampled pages say is asked for later."""
        for at in [at for at in self._near if at <= number]:
            del self._near[at]
        keep = set(sampled(self.total))
        for at in [at for at in self._texts if at <= number and at not in keep]:
            del self._texts[at]

    def _made(self, number: int, making: _Making) -> ReadPage | Pending[ReadPage]:
        if number in self._skip:
            return ReadPage(number, left_out=self._skip[number])
        self._begin(number)
        try:
            page = self._opened.pop(number, None) or self.page(number)
        except pdfium.PdfiumError:
            return ReadPage(number, left_out=DAMAGED)
        try:
            text = self._texts.get(number)
            if text is None:
                text = self._texts[number] = self._text(number, page, self._structures)
            if text.failed:
                return ReadPage(number, text)
            try:
                return making.made(number, page, text)
            except Exception as error:
                if defeated.passed_on(error):
                    raise
                return ReadPage(number, _failed(text, page, error))
        finally:
            page.close()


class _Making:
    """Makes pages of what stands on them."""

    def __init__(self, reader: PdfReader, options: Options, kept: KeptPictures | None) -> None:
        self._reader = reader
        self._options = options
        self._surroundings = Surroundings(reader, options)
        self._in_pictures = PictureReader(options)
        self._finder = PictureFinder(kept) if kept is not None else None

    def made(self, number: int, page: pdfium.PdfPage, text: PageText) -> ReadPage | Pending[ReadPage]:
        """A page, or one that OCR reads."""
        drawing, pictures = objects.of(page)
        if self._is_scan(number, page, text, drawing):
            image, _ = regions.whole(page)
            shown = self._finder.beside_scans(pictures, page) if self._finder is not None else ()
            darkest, lightest = image.getextrema()
            made = ReadPage(number, text, shown=shown, blank=len(pictures) if darkest == lightest else 0)
            reading = Reading(image, self._options.languages, cores=self._options.cores)
            return Pending(reading, partial(self._reader.read, made), partial(self._reader.not_read, made))
        in_pictures: tuple[InPicture, ...] = ()
        if self._options.ocr == "auto" and installed() is not None:
            lines = [*text.lines, *forms.standing_alone(text.filled.fields)]
            in_pictures = self._in_pictures.read(page, [box for _, box in pictures], lines)
        return ReadPage(
            number,
            text,
            links=tuple(links.of(page)),
            drawing=drawing,
            in_pictures=in_pictures,
            shown=self._finder.found(pictures, page, text.lines) if self._finder is not None else (),
        )

    def _is_scan(self, number: int, page: pdfium.PdfPage, text: PageText, drawing: objects.Drawing) -> bool:
        if self._options.ocr != "auto":
            return self._options.ocr == "always"
        can_read = installed() is not None
        if can_read:
            self._surroundings.see(number, text)
        if self._surroundings.is_picture(number, text, drawing):
            return True
        return can_read and self._surroundings.is_garbled(number, page, text)


def opened(path: Path) -> pdfium.PdfDocument:
    """A PDF, which the caller closes; see `PdfReader`."""
    try:
        return pdfium.PdfDocument(path)
    except pdfium.PdfiumError as error:
        if error.err_code == raw.FPDF_ERR_PASSWORD:
            raise FatalError("encrypted_file", "the PDF is protected by a password") from error
        raise FatalError("corrupt_file", "the PDF is damaged and cannot be opened") from error


def _enclosed(pdf: pdfium.PdfDocument) -> tuple[str, ...]:
    """What is said of a document that encloses others."""
    count = raw.FPDFDoc_GetAttachmentCount(pdf.raw)
    return (f"the PDF encloses other files, {count} in all, which were not read",) if count > 0 else ()


def _text(page: pdfium.PdfPage, structures: Structures | None, *, comments: bool) -> PageText:
    """What a page says; without structures, its text layer alone."""
    text = PageText(size=page.get_size())
    try:
        lines, letters = layer.read(page)
        text = replace(text, size=page.get_size())  # which may have been turned
        if structures is None:
            return replace(text, lines=tuple(lines), letters=letters)
        structure, filled = structures.of(page), forms.of(page, comments=comments)
        return replace(text, lines=tuple(lines), letters=letters, structure=structure, filled=filled)
    except Exception as error:
        if defeated.passed_on(error):
            raise
        return _failed(text, page, error)


def _failed(text: PageText, page: pdfium.PdfPage, error: Exception) -> PageText:
    return replace(text, failed=type(error).__name__, bare=tuple(layer.bare(page)))
