"""PDF: the text layer where a page has one worth reading, OCR where it has not."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, NamedTuple

import pypdfium2 as pdfium
from pypdfium2 import raw

from switchyard.services.documents import defeated, self_check
from switchyard.services.documents.errors import FatalError
from switchyard.services.documents.model import blocks
from switchyard.services.documents.model.document import Document, Options, Page, check_pages
from switchyard.services.documents.ocr.ahead import ahead
from switchyard.services.documents.ocr.machine.tesseract import installed
from switchyard.services.documents.ocr.reading import Reading
from switchyard.services.documents.office import form_states
from switchyard.services.documents.page import across_pages, assemble, reading_order
from switchyard.services.documents.page import footnotes as notes
from switchyard.services.documents.page.hyphens import Vocabulary
from switchyard.services.documents.page.kept_once import KeptOnce
from switchyard.services.documents.page.lines import Body, Line
from switchyard.services.documents.page.running_lines import NEAR_PAGES, Running, Seen
from switchyard.services.documents.page.tables import next_page, open_grid
from switchyard.services.documents.page.tables.next_page import OpenTable
from switchyard.services.documents.pdf import forms, regions, text_in_pictures
from switchyard.services.documents.pdf.drawn import objects
from switchyard.services.documents.pdf.drawn.objects import Drawing
from switchyard.services.documents.pdf.links import linked
from switchyard.services.documents.pdf.pictures import Pictures
from switchyard.services.documents.pdf.tags import tables
from switchyard.services.documents.pdf.tags.structure import Structure, Structures
from switchyard.services.documents.pdf.text import layer
from switchyard.services.documents.pdf.text.garbled import Garbled, is_unreadable
from switchyard.services.documents.self_check import letters

SAMPLED_PAGES: Final = 12  # enough to find the size of plain text
ENOUGH_LETTERS: Final = 50  # fewer on a page of pictures are a stamp or a page number
ENOUGH_HEADINGS: Final = 2  # tagged as such: a document with one may have a title alone
PICTURE_SHARE: Final = 0.3
OUTLINED_PATHS: Final = 20  # letters drawn as shapes
KEPT_OPEN: Final = 8  # sampled pages of the first batch: to open one again costs as much as to lay it out
BATCH: Final = 32  # pages after which the libraries, which keep all they have read, start afresh


@dataclass(frozen=True, slots=True)
class _Text:
    """The text layer of a page, its structure, and what is filled in; or what reading them failed with."""

    lines: list[Line]
    structure: Structure
    filled: forms.Filled
    letters: int = 0
    failed: Exception | None = None

    @classmethod
    def of(cls, page: pdfium.PdfPage, structures: Structures, *, comments: bool) -> _Text:
        try:
            lines, letters = layer.read(page)
            return cls(lines, structures.of(page), forms.of(page, comments=comments), letters)
        except Exception as error:
            if defeated.passed_on(error):
                raise
            return cls([], Structure(), forms.Filled(), failed=error)


@dataclass(frozen=True, slots=True)
class _Opened:
    """A page, its text, and what is remembered of it for its neighbours."""

    page: pdfium.PdfPage
    text: _Text
    seen: Seen


class _Begun(NamedTuple):
    """The document as it was opened to sample it, and the pages of its first batch that are open still."""

    pdf: pdfium.PdfDocument
    pages: dict[int, pdfium.PdfPage]


@dataclass(slots=True)
class _Document:
    """What is known of a document, and learned while its pages are read.

    Args:
        sample: the text of some pages, which were read to learn of the others.
        begun: how far it is open, for the first batch.
        notes: the names that footnotes have.
        open: the table that the page before ended with.
    """

    path: Path
    total: int
    body: Body
    running: Running
    sample: dict[int, _Text]
    begun: _Begun
    structures: Structures
    vocabulary: Vocabulary
    garbled: Garbled
    in_pictures: text_in_pictures.TextInPictures
    saved: Pictures | None
    notes: set[str] = field(default_factory=set)
    kept: KeptOnce = field(default_factory=KeptOnce)
    open: OpenTable | None = None


def read(path: Path, options: Options) -> Document:
    """A PDF as a document that is read page by page.

    Raises:
        FatalError: codes `encrypted_file`, `corrupt_file` and `too_many_pages`.
    """
    try:
        pdf = pdfium.PdfDocument(path)
    except pdfium.PdfiumError as error:
        if error.err_code == raw.FPDF_ERR_PASSWORD:
            raise FatalError("encrypted_file", "the PDF is protected by a password") from error
        raise FatalError("corrupt_file", "the PDF is damaged and cannot be opened") from error
    with ExitStack() as opened:
        opened.enter_context(pdf)
        warnings = (*form_states.begin(pdf), *_enclosed(pdf))
        total = len(pdf)
        if not total:
            raise FatalError("corrupt_file", "the PDF has no pages")
        check_pages(total, options)
        structures = Structures()
        sample, running, pages = _sample(pdf, structures, comments=options.comments)
        opened.pop_all()  # the first batch closes it
    vocabulary = Vocabulary()
    for text in sample.values():
        vocabulary.learn(text.lines)
    headed = sum(text.structure.headings for text in sample.values()) >= ENOUGH_HEADINGS
    sampled = [line for text in sample.values() for line in text.lines]
    body = replace(Body.of(sampled), headed=headed)
    saved = Pictures(options.album, body=body.size) if options.album is not None else None
    document = _Document(
        path,
        total,
        body,
        running,
        sample,
        _Begun(pdf, pages),
        structures,
        vocabulary,
        Garbled(options),
        text_in_pictures.TextInPictures(options),
        saved,
    )
    made = document.kept.at_end(across_pages.continued(ahead(_pages(document, options))), total)
    return Document(total, _warned(made, warnings))


def _enclosed(pdf: pdfium.PdfDocument) -> tuple[str, ...]:
    """What is said of a document that encloses others."""
    count = raw.FPDFDoc_GetAttachmentCount(pdf.raw)
    return (f"the PDF encloses other files, {count} in all, which were not read",) if count > 0 else ()


def _warned(pages: Iterator[Page], warnings: tuple[str, ...]) -> Iterator[Page]:
    """Pages with warnings of the document on the first one."""
    for number, page in enumerate(pages):
        yield page if number or not warnings else replace(page, warnings=(*warnings, *page.warnings))


def _pages(document: _Document, options: Options) -> Iterator[Page | Reading]:
    total, damaged = document.total, 0
    behind: deque[Seen] = deque(maxlen=NEAR_PAGES)
    for first in range(0, total, BATCH):
        batch = range(first, min(first + BATCH, total))
        opened: dict[int, _Opened | None] = {}
        with document.begun.pdf if first == 0 else pdfium.PdfDocument(document.path) as pdf:
            if first:
                forms.begin(pdf)
            for number in batch:
                for each in range(number, min(number + NEAR_PAGES + 1, batch.stop)):
                    if each not in opened:
                        opened[each] = _open(pdf, each, document, options)
                here = opened.pop(number)
                if here is None:
                    damaged += 1
                    yield Page("", warnings=(f"page {number + 1} is damaged and was left out",))
                    continue
                near = [*behind, *(each.seen for each in opened.values() if each is not None)]
                behind.append(here.seen)
                try:
                    yield _made(here, number, near, document, options)
                finally:
                    here.page.close()
    if damaged == total:
        raise FatalError("corrupt_file", "the PDF is damaged: none of its pages can be read")


def _made(
    here: _Opened, number: int, near: list[Seen], document: _Document, options: Options
) -> Page | Reading:
    """A page without what runs through the document; one on which the layout fails as its bare text."""
    if here.text.failed is not None:
        return _bare(here, number, here.text.failed)
    try:
        own, gone = _parted(here, number, near, document)
        made = _page(here, number, own, document, options)
    except Exception as error:
        if defeated.passed_on(error):
            raise
        return _bare(here, number, error)
    if isinstance(made, Page):
        document.kept.add(gone, own)
        left = here.text.letters + made.pictured - sum(letters(line.text) for line in gone)
        more = here.text.filled != forms.Filled()  # of whose letters the text layer has none
        lost = self_check.warning(f"page {number + 1}", left, made.blocks, "its text layer", more=more)
        if drawn := here.text.filled.drawn:
            lost = (
                *lost,
                f"page {number + 1}: the text of {drawn} stamps or fields is drawn and was not read",
            )
        made = replace(made, running=len(gone), warnings=(*made.warnings, *lost))
    return made


def _bare(here: _Opened, number: int, error: Exception) -> Page:
    return defeated.page(layer.bare(here.page), f"page {number + 1}", error)


def _open(pdf: pdfium.PdfDocument, number: int, document: _Document, options: Options) -> _Opened | None:
    """A page with its text; None for one that is damaged."""
    page = document.begun.pages.pop(number, None)
    try:
        page = page or pdf[number]
    except pdfium.PdfiumError:
        return None
    text = document.sample.pop(number, None)
    if text is None:
        text = _Text.of(page, document.structures, comments=options.comments)
        document.vocabulary.learn(text.lines)
    return _Opened(page, text, Seen.of(text.lines, page.get_height(), number + 1))


def _parted(
    opened: _Opened, number: int, near: list[Seen], document: _Document
) -> tuple[list[Line], list[Line]]:
    """The lines that are a page's own, and those that run through the document."""
    lines = opened.text.lines
    own, gone = document.running.parted(
        lines, opened.page.get_height(), near, number=number + 1, own=opened.text.structure.own(lines)
    )
    return (own, gone) if document.kept.room(gone) else (lines, [])


def _sample(
    pdf: pdfium.PdfDocument, structures: Structures, *, comments: bool
) -> tuple[dict[int, _Text], Running, dict[int, pdfium.PdfPage]]:
    """The text of some pages by their numbers from 0, what is running in them, and those left open.

    By pages spread over the document, plain text is known; by pages in succession, what runs through them.
    """
    sampled: dict[int, _Text] = {}
    seen: list[Seen] = []
    opened: dict[int, pdfium.PdfPage] = {}
    spread = range(0, len(pdf), max(1, len(pdf) // SAMPLED_PAGES))
    middle = len(pdf) // 2
    for number in sorted({*spread, *range(middle, min(middle + SAMPLED_PAGES // 2, len(pdf)))}):
        try:
            page = pdf[number]
        except pdfium.PdfiumError:
            continue
        sampled[number] = _Text.of(page, structures, comments=comments)
        seen.append(Seen.of(sampled[number].lines, page.get_height(), number + 1))
        if number < BATCH and len(opened) < KEPT_OPEN:
            opened[number] = page
        else:
            page.close()
    return sampled, Running(seen), opened


def _page(
    opened: _Opened, number: int, lines: list[Line], document: _Document, options: Options
) -> Page | Reading:
    page, body, filled = opened.page, document.body, opened.text.filled
    before, document.open = document.open, None
    drawn = objects.of(page)
    warnings: list[str] = []
    seen = text_in_pictures.Found()
    match options.ocr:
        case "never" if _is_picture(lines, drawn):
            warnings.append(f"page {number + 1} is a picture, and OCR was switched off")
        case "always":
            return _reading(opened, number, drawn, document, options)
        case "auto" if installed() is not None or _is_picture(lines, drawn):
            if _is_picture(lines, drawn) or document.garbled.is_garbled(page, lines):
                return _reading(opened, number, drawn, document, options)
            boxes = [box for _, box in drawn.pictures]
            typed = forms.standing_alone(filled.fields)
            seen = document.in_pictures.read(page, boxes, [*lines, *typed], body=body.size)
    lines = forms.placed(lines, filled.fields, body)
    tree = opened.text.structure
    lines = document.vocabulary.with_hyphens(lines)
    lines = drawn.marked([*tree.tagged(linked(lines, page)), *seen.lines])
    found, lines = tables.tables(tree, lines, sure=True)
    ruled, lines = drawn.tables(lines, found)
    found += ruled
    unsure, lines = tables.tables(tree, lines, found, sure=False)
    found += unsure
    free = [line for line in lines if not any(table.holds(line) for table in (*found, *seen.tables))]
    if before is not None and (rest := before.rest(free)) is not None:
        found.append(rest)
        free = [line for line in free if not rest.holds(line)]
    found += open_grid.tables(free, drawn.across(), code=not body.mono)
    document.open = next_page.at_end(lines, found)
    if document.saved is not None:
        lines += document.saved.shown(drawn.pictures, page, number + 1, opened.text.lines)
    ordered = reading_order.in_order(lines, [*found, *seen.tables], body=body.size)
    in_text, noted = notes.parted(ordered, body=body.size)
    made = assemble.arrange(
        in_text,
        body=body,
        tables=[*found, *seen.tables],
        notes=notes.named(noted, document.notes, number + 1),
        size=page.get_size(),
    )
    made = blocks.among(made, filled.remarks)
    pictured = sum(letters(line.text) for line in seen.lines)
    return replace(Page.of(made, warnings=tuple(warnings), confidence=seen.confidence), pictured=pictured)


def _reading(opened: _Opened, number: int, drawn: Drawing, document: _Document, options: Options) -> Reading:
    image, _ = regions.whole(opened.page)
    shown = document.saved.beside_scans(drawn.pictures, opened.page, number + 1) if document.saved else ()
    filled = opened.text.filled
    return Reading(
        image,
        options.languages,
        cores=options.cores,
        pictures=(*shown, *filled.remarks),
        fields=filled.blocks(opened.page.get_size()),
    )


def _is_picture(lines: list[Line], drawn: Drawing) -> bool:
    """Whether a page has no text layer worth reading, and shows something."""
    text = "".join(line.text for line in lines)
    letters = sum(map(str.isalnum, text))
    if is_unreadable(text):
        return True
    if letters >= ENOUGH_LETTERS:
        return False
    return drawn.covered > PICTURE_SHARE or (
        not letters and (drawn.covered > 0 or drawn.paths >= OUTLINED_PATHS)
    )
