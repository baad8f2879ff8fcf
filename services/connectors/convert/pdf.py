"""PDF: the text layer where a page has one worth reading, OCR where it has not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pypdfium2 as pdfium
from PIL import Image
from pypdfium2 import raw

from services.connectors.convert import layout, notes, ocr, order, text_layer, unruled
from services.connectors.convert.document import Document, Options, Page, check_pages
from services.connectors.convert.frame import Frame
from services.connectors.convert.lines import Body, Line
from services.connectors.convert.links import linked
from services.connectors.convert.rules import Rules
from services.connectors.convert.running import Running
from services.connectors.protocol import FatalError

SAMPLED_PAGES: Final = 12  # enough to tell the size of plain text
ENOUGH_LETTERS: Final = 50  # fewer on a page of pictures are a stamp or a page number
PICTURE_SHARE: Final = 0.3
OUTLINED_PATHS: Final = 20  # letters drawn as shapes
UNREADABLE_SHARE: Final = 0.3
TABLE_PATHS: Final = range(1, 5_000)  # more are a drawing
MAX_SEGMENTS: Final = 2_000
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
        sample, running = _sample(pdf)
    body = Body.of(line for lines in sample.values() for line in lines)
    return Document(total, _pages(path, total, body, running, sample, options))


def _pages(
    path: Path, total: int, body: Body, running: Running, sample: dict[int, list[Line]], options: Options
) -> Iterator[Page]:
    damaged = 0
    names: set[str] = set()  # of footnotes
    for first in range(0, total, BATCH):
        batch = range(first, min(first + BATCH, total))
        with pdfium.PdfDocument(path) as pdf:
            for number in batch:
                try:
                    page = pdf[number]
                except pdfium.PdfiumError:
                    damaged += 1
                    yield Page("", warnings=(f"page {number + 1} is damaged and was left out",))
                    continue
                try:
                    lines = sample.pop(number, None) or text_layer.lines(page)
                    lines = running.without(lines, page.get_height())
                    yield _page(page, number, lines, body, names, options)
                finally:
                    page.close()
    if damaged == total:
        raise FatalError("corrupt_file", "the PDF is damaged: none of its pages can be read")


def _sample(pdf: pdfium.PdfDocument) -> tuple[dict[int, list[Line]], Running]:
    """The lines of some pages by their numbers from 0, and what is running in them.

    By pages spread over the document, plain text is known; by pages in succession, what runs through them.
    """
    sampled: dict[int, list[Line]] = {}
    heights: dict[int, float] = {}
    spread = range(0, len(pdf), max(1, len(pdf) // SAMPLED_PAGES))
    middle = len(pdf) // 2
    for number in sorted({*spread, *range(middle, min(middle + SAMPLED_PAGES // 2, len(pdf)))}):
        try:
            page = pdf[number]
        except pdfium.PdfiumError:
            continue
        sampled[number] = text_layer.lines(page)
        heights[number] = page.get_height()
        page.close()
    return sampled, Running([(lines, heights[number]) for number, lines in sampled.items()])


def _page(
    page: pdfium.PdfPage, number: int, lines: list[Line], body: Body, names: set[str], options: Options
) -> Page:
    pictures, paths, rules = _drawn(page)
    if options.ocr == "always" or (options.ocr == "auto" and _needs_ocr(lines, pictures, paths)):
        read = ocr.recognise(_rendered(page), options.languages)
        return Page.of(read.blocks(), confidence=read.confidence)
    warnings: list[str] = []
    if options.ocr == "never" and _needs_ocr(lines, pictures, paths):
        warnings.append(f"page {number + 1} is a picture, and OCR was switched off")
    ruled = bool(lines) and paths in TABLE_PATHS
    found = rules.tables(lines) if ruled else []
    free = [line for line in lines if not any(table.holds(line) for table in found)]
    found += unruled.tables(free, rules.across() if ruled else ())
    ordered = order.in_order(linked(lines, page), found, body=body.size)
    in_text, noted = notes.parted(ordered, body=body.size)
    made = layout.arrange(
        in_text, body=body, tables=found, notes=notes.named(noted, names, number + 1), size=page.get_size()
    )
    return Page.of(made, warnings=tuple(warnings))


def _drawn(page: pdfium.PdfPage) -> tuple[float, int, Rules]:
    """The share of the page under pictures, the number of shapes on it, and the lines among them."""
    covered = 0.0
    paths = 0
    rules = Rules(Frame.of(page))
    for drawn in page.get_objects(filter=(raw.FPDF_PAGEOBJ_IMAGE, raw.FPDF_PAGEOBJ_PATH)):
        if drawn.type == raw.FPDF_PAGEOBJ_PATH:
            paths += 1
            if paths in TABLE_PATHS and raw.FPDFPath_CountSegments(drawn.raw) <= MAX_SEGMENTS:
                rules.add(drawn)
        else:
            left, bottom, right, top = drawn.get_bounds()
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
