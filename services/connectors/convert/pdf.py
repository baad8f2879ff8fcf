"""PDF: the text layer where a page has one worth reading, OCR where it has not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

import pdfplumber
import pypdfium2 as pdfium
from PIL import Image
from pypdfium2 import raw

from services.connectors.convert import layout, markdown, ocr, text_layer
from services.connectors.convert.document import Document, Options, Page, check_pages
from services.connectors.convert.layout import Line, Table
from services.connectors.protocol import FatalError

SAMPLED_PAGES: Final = 12  # enough to tell the size of plain text
ENOUGH_LETTERS: Final = 50  # fewer on a page of pictures are a stamp or a page number
PICTURE_SHARE: Final = 0.3
OUTLINED_PATHS: Final = 20  # letters drawn as shapes
UNREADABLE_SHARE: Final = 0.3
TABLE_RULES: Final = range(4, 5_000)  # fewer rule no table, more are a drawing
RULE_THICKNESS: Final = 3.0  # points
RULE_LENGTH: Final = 12.0
BOX_SEGMENTS: Final = 6  # of a rectangle at most; a letter or a drawing has more
BATCH: Final = 32  # pages after which the libraries, which keep all they have read, start afresh
MAX_RENDERED_PIXELS: Final = 40_000_000
POINTS_PER_INCH: Final = 72


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
    with pdf:
        total = len(pdf)
        if not total:
            raise FatalError("corrupt_file", "the PDF has no pages")
        check_pages(total, options)
        sample = _sample(pdf)
    body = layout.body_size([line for lines in sample.values() for line in lines])
    return Document(total, _pages(path, total, body, sample, options))


def _pages(
    path: Path, total: int, body: float, sample: dict[int, list[Line]], options: Options
) -> Iterator[Page]:
    damaged = 0
    for first in range(0, total, BATCH):
        batch = range(first, min(first + BATCH, total))
        with pdfium.PdfDocument(path) as pdf, _Tables(path, batch) as tables:
            for number in batch:
                try:
                    page = pdf[number]
                except pdfium.PdfiumError:
                    damaged += 1
                    yield Page("", warnings=(f"page {number + 1} is damaged and was left out",))
                    continue
                try:
                    lines = sample.pop(number, None) or text_layer.lines(page)
                    yield _page(page, number, lines, body, tables, options)
                finally:
                    page.close()
    if damaged == total:
        raise FatalError("corrupt_file", "the PDF is damaged: none of its pages can be read")


def _sample(pdf: pdfium.PdfDocument) -> dict[int, list[Line]]:
    """The lines of some pages spread over the document, by which plain text is known; by page from 0."""
    sampled: dict[int, list[Line]] = {}
    for number in range(0, len(pdf), max(1, len(pdf) // SAMPLED_PAGES)):
        try:
            page = pdf[number]
        except pdfium.PdfiumError:
            continue
        sampled[number] = text_layer.lines(page)
        page.close()
    return sampled


def _page(
    page: pdfium.PdfPage, number: int, lines: list[Line], body: float, tables: _Tables, options: Options
) -> Page:
    pictures, paths, rules = _drawn(page)
    if options.ocr == "always" or (options.ocr == "auto" and _needs_ocr(lines, pictures, paths)):
        read = ocr.recognise(_rendered(page), options.languages)
        return Page.of(read.blocks(), confidence=read.confidence)
    warnings: list[str] = []
    if options.ocr == "never" and _needs_ocr(lines, pictures, paths):
        warnings.append(f"page {number + 1} is a picture, and OCR was switched off")
    found: list[Table] = []
    if lines and rules in TABLE_RULES:
        try:
            found = tables.on(number)
        except (MemoryError, OSError):
            raise
        except Exception as error:  # noqa: BLE001 - pdfminer raises of every kind; the text is there without it
            warnings.append(f"tables of page {number + 1} were not found ({type(error).__name__}: {error})")
    made = layout.arrange(lines, body=body, tables=found, size=page.get_size())
    return Page.of(made, warnings=tuple(warnings))


def _drawn(page: pdfium.PdfPage) -> tuple[float, int, int]:
    """The share of the page under pictures, the number of shapes on it, and of those that may rule one."""
    covered = 0.0
    paths = rules = 0
    for drawn in page.get_objects(filter=(raw.FPDF_PAGEOBJ_IMAGE, raw.FPDF_PAGEOBJ_PATH)):
        left, bottom, right, top = drawn.get_bounds()
        if drawn.type == raw.FPDF_PAGEOBJ_PATH:
            paths += 1
            thickness, length = sorted((right - left, top - bottom))
            is_box = raw.FPDFPath_CountSegments(drawn.raw) <= BOX_SEGMENTS
            rules += length >= RULE_LENGTH and (thickness <= RULE_THICKNESS or is_box)
        else:
            covered += max(0.0, right - left) * max(0.0, top - bottom)
    return covered / max(1.0, page.get_width() * page.get_height()), paths, rules


def _needs_ocr(lines: list[Line], pictures: float, paths: int) -> bool:
    text = "".join(line.text for line in lines)
    letters = sum(character.isalnum() for character in text)
    unreadable = sum(character == "\ufffd" or "\ue000" <= character <= "\uf8ff" for character in text)
    if unreadable > len(text) * UNREADABLE_SHARE:
        return True
    if letters >= ENOUGH_LETTERS:
        return False
    return pictures > PICTURE_SHARE or (not letters and (pictures > 0 or paths >= OUTLINED_PATHS))


def _rendered(page: pdfium.PdfPage) -> Image.Image:
    """The page as OCR wants it: grey, at 300 dpi or as much as a huge page allows."""
    scale = ocr.DPI / POINTS_PER_INCH
    pixels = page.get_width() * page.get_height() * scale**2
    bitmap = page.render(
        scale=scale * min(1.0, (MAX_RENDERED_PIXELS / max(pixels, 1)) ** 0.5), grayscale=True
    )
    image: Image.Image = bitmap.to_pil()
    return image


class _Tables:
    """Finds ruled tables by pdfplumber, which is opened when the first page needs it."""

    def __init__(self, path: Path, pages: range) -> None:
        self._path = path
        self._pages = pages
        self._pdf: pdfplumber.pdf.PDF | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pdf is not None:
            self._pdf.close()

    def on(self, number: int) -> list[Table]:
        """The tables of one of the pages, which are counted from 0."""
        if self._pdf is None:
            self._pdf = pdfplumber.open(self._path, pages=[page + 1 for page in self._pages])
        page = self._pdf.pages[self._pages.index(number)]
        try:
            return [table for found in page.find_tables() if (table := _table(page, found)) is not None]
        finally:
            page.close()


def _table(page: pdfplumber.page.Page, found: pdfplumber.table.Table) -> Table | None:
    rows = [[markdown.cell(cell or "") for cell in row] for row in found.extract()]
    full = [row for row in rows if any(row)]
    if len(full) < 2 or max(len(row) for row in full) < 2:  # a frame around text is no table
        return None
    left, top, right, bottom = found.bbox
    return Table(
        left - page.bbox[0],
        top - page.bbox[1],
        right - page.bbox[0],
        bottom - page.bbox[1],
        markdown.table(full),
    )
