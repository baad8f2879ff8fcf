"""PDF: pages as they were read, put together with all that looks over them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

from switchyard.services.documents import defeated, self_check
from switchyard.services.documents.errors import FatalError
from switchyard.services.documents.model import blocks
from switchyard.services.documents.model.document import Document, Options, Page
from switchyard.services.documents.ocr.ahead import page_of
from switchyard.services.documents.ocr.recognised import Recognised
from switchyard.services.documents.page import across_pages, assemble, reading_order
from switchyard.services.documents.page import footnotes as notes
from switchyard.services.documents.page.hyphens import Vocabulary
from switchyard.services.documents.page.kept_once import KeptOnce
from switchyard.services.documents.page.lines import Body, Line
from switchyard.services.documents.page.running_lines import NEAR_PAGES, Running, Seen
from switchyard.services.documents.page.tables import next_page, open_grid
from switchyard.services.documents.page.tables.next_page import OpenTable
from switchyard.services.documents.pdf import forms
from switchyard.services.documents.pdf.kept_pictures import KeptPictures
from switchyard.services.documents.pdf.links import linked
from switchyard.services.documents.pdf.page_model import PageText, ReadPage
from switchyard.services.documents.pdf.pictures import Pictures
from switchyard.services.documents.pdf.reader import PdfReader
from switchyard.services.documents.pdf.surroundings import is_picture
from switchyard.services.documents.pdf.tags import tables
from switchyard.services.documents.pdf.tags.structure import Structure, Structures
from switchyard.services.documents.pdf.text_in_pictures import Found, TextInPictures
from switchyard.services.documents.self_check import letters

ENOUGH_HEADINGS: Final = 2  # tagged as such: a document with one may have a title alone
PICTURES: Final = "pictures"  # of the album's directory


class Source(Protocol):
    """The pages of a document as they were read, here or elsewhere."""

    @property
    def total(self) -> int:
        """How many there are."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is said of the document as a whole."""

    def sample(self) -> dict[int, PageText]:
        """The texts of the pages of `sampled`, by their numbers in their order; without what is damaged."""

    def pages(self) -> Iterator[ReadPage]:
        """All pages in their order; called once."""

    def picture(self, key: bytes) -> bytes:
        """The data of a picture that a page shows; may raise `TooLargeError` and `ValueError`."""


def read(path: Path, options: Options) -> Document:
    """A PDF as a document that is read page by page.

    Raises:
        FatalError: codes `encrypted_file`, `corrupt_file` and `too_many_pages`.
    """
    kept = KeptPictures(options.album.directory / PICTURES) if options.album is not None else None
    return joined(PdfReader(path, options, kept=kept), options)


def joined(source: Source, options: Options) -> Document:
    """Pages that were read as a document."""
    join = _Join(source, options)
    made = join.kept.at_end(across_pages.continued(join.pages()), source.total)
    return Document(source.total, _warned(made, source.warnings))


def _warned(pages: Iterator[Page], warnings: tuple[str, ...]) -> Iterator[Page]:
    """Pages with warnings of the document on the first one."""
    for number, page in enumerate(pages):
        yield page if number or not warnings else replace(page, warnings=(*warnings, *page.warnings))


@dataclass(frozen=True, slots=True)
class _Taken:
    """A page, its structure, and what is remembered of it for its neighbours, unless it was left out."""

    page: ReadPage
    structure: Structure
    seen: Seen | None


class _Join:
    """What is known of a document, and learned while its pages are put together.

    Args:
        source: its pages.
        options: as they were read by.
    """

    def __init__(self, source: Source, options: Options) -> None:
        self._source = source
        self._options = options
        self._structures = Structures()
        sample = source.sample()
        self._sampled = {at: self._structures.counted(text.structure) for at, text in sample.items()}
        self._vocabulary = Vocabulary()
        for text in sample.values():
            self._vocabulary.learn(text.lines)
        self._running = Running([Seen.of(text.lines, text.size[1], at + 1) for at, text in sample.items()])
        headed = sum(structure.headings for structure in self._sampled.values()) >= ENOUGH_HEADINGS
        self._body = replace(
            Body.of([line for text in sample.values() for line in text.lines]), headed=headed
        )
        self._in_pictures = TextInPictures()
        self._saved = (
            Pictures(options.album, source.picture, body=self._body.size)
            if options.album is not None
            else None
        )
        self._notes: set[str] = set()  # the names that footnotes have
        self._open: OpenTable | None = None  # the table that the page before ended with
        self.kept = KeptOnce()

    def pages(self) -> Iterator[Page]:
        """The pages, each put together once those are there that are near."""
        behind: deque[Seen] = deque(maxlen=NEAR_PAGES)
        waiting: deque[_Taken] = deque()
        given = iter(self._source.pages())
        left_out = 0
        while True:
            while len(waiting) <= NEAR_PAGES and (page := next(given, None)) is not None:
                waiting.append(self._taken(page))
            if not waiting:
                break
            here = waiting.popleft()
            number = here.page.number + 1
            if here.seen is None:
                left_out += 1
                yield Page("", warnings=(f"page {number} {here.page.left_out}",))
                continue
            near = [*behind, *(each.seen for each in waiting if each.seen is not None)]
            behind.append(here.seen)
            yield self._made(here, number, near)
        if left_out == self._source.total:
            raise FatalError("corrupt_file", "the PDF is damaged: none of its pages can be read")

    def _taken(self, page: ReadPage) -> _Taken:
        """A page that was read, as it comes in."""
        if page.left_out:
            return _Taken(page, Structure(), None)
        text = page.text
        structure = self._sampled.get(page.number)
        if structure is None:
            structure = self._structures.counted(text.structure)
            self._vocabulary.learn(text.lines)
        return _Taken(page, structure, Seen.of(text.lines, text.size[1], page.number + 1))

    def _made(self, here: _Taken, number: int, near: list[Seen]) -> Page:
        """A page without what runs through the document; one on which the layout fails as its bare text."""
        text, what = here.page.text, f"page {number}"
        if text.failed:
            return defeated.page(text.bare, what, text.failed)
        try:
            if (scan := here.page.scan) is not None:
                return _as_shown(self._scan(scan, here.page, number), text.turned)
            own, gone = self._parted(here, number, near)
            made = self._page(here, number, own)
        except Exception as error:
            if defeated.passed_on(error):
                raise
            return defeated.page((line.text for line in text.lines), what, error)
        self.kept.add(gone, own)
        left = text.letters + made.pictured - sum(letters(line.text) for line in gone)
        more = text.filled != forms.Filled()  # of whose letters the text layer has none
        lost = self_check.warning(what, left, made.blocks, "its text layer", more=more)
        if drawn := text.filled.drawn:
            lost = (*lost, f"{what}: the text of {drawn} stamps or fields is drawn and was not read")
        made = _as_shown(made, text.turned)
        return replace(made, running=len(gone), warnings=(*made.warnings, *lost))

    def _parted(self, here: _Taken, number: int, near: list[Seen]) -> tuple[list[Line], list[Line]]:
        """The lines that are a page's own, and those that run through the document."""
        lines = here.page.text.lines
        own, gone = self._running.parted(
            lines, here.page.text.size[1], near, number=number, own=here.structure.own(lines)
        )
        return (own, gone) if self.kept.room(gone) else (list(lines), [])

    def _scan(self, scan: Recognised, page: ReadPage, number: int) -> Page:
        self._open = None
        size, filled = page.text.size, page.text.filled
        shown = self._saved.beside_scans(page.shown, page.text, number) if self._saved else ()
        made = page_of(scan, (*shown, *filled.remarks), filled.blocks(size))
        if not page.blank:
            return made
        blank = f"page {number} shows nothing, though pictures are on it ({page.blank}): they may be damaged"
        return replace(made, warnings=(*made.warnings, blank))

    def _page(self, here: _Taken, number: int, lines: list[Line]) -> Page:
        page, body, tree = here.page, self._body, here.structure
        filled, size, drawing = page.text.filled, page.text.size, page.drawing
        before, self._open = self._open, None
        warnings: list[str] = []
        seen = Found()
        if self._options.ocr == "never" and is_picture(lines, drawing):
            warnings.append(f"page {number} is a picture, and OCR was switched off")
        if page.in_pictures:
            typed = forms.standing_alone(filled.fields)
            seen = self._in_pictures.found(page.in_pictures, [*lines, *typed], size=size, body=body.size)
        lines = forms.placed(lines, filled.fields, body)
        lines = self._vocabulary.with_hyphens(lines)
        lines = drawing.marked([*tree.tagged(linked(lines, page.links)), *seen.lines])
        found, lines = tables.tables(tree, lines, sure=True)
        ruled, lines = drawing.tables(lines, found, before.edges if before is not None else ())
        found += ruled
        unsure, lines = tables.tables(tree, lines, found, sure=False)
        found += unsure
        free = [line for line in lines if not any(table.holds(line) for table in (*found, *seen.tables))]
        if before is not None and (rest := before.rest(free)) is not None:
            found.append(rest)
            free = [line for line in free if not rest.holds(line)]
        found += open_grid.tables(free, drawing.rules(), code=not body.mono)
        self._open = next_page.at_end(lines, found)
        if self._saved is not None:
            lines += self._saved.shown(page.shown, page.text, number)
        ordered = reading_order.in_order(lines, [*found, *seen.tables], body=body.size)
        in_text, noted = notes.parted(ordered, body=body.size)
        made = assemble.arrange(
            in_text,
            body=body,
            tables=[*found, *seen.tables],
            notes=notes.named(noted, self._notes, number),
            size=size,
        )
        made = blocks.among(made, filled.remarks)
        pictured = sum(letters(line.text) for line in seen.lines)
        return replace(Page.of(made, warnings=tuple(warnings), confidence=seen.confidence), pictured=pictured)


def _as_shown(page: Page, turned: int) -> Page:
    """A page that was turned to be read, with its blocks where it shows them."""
    if not turned:
        return page
    return replace(
        page,
        blocks=tuple(replace(block, box=blocks.turned_back(block.box, turned)) for block in page.blocks),
    )
