"""Text recognition by the tesseract program."""

from __future__ import annotations

import io
import re
import subprocess
from dataclasses import dataclass
from typing import Final
from xml.etree.ElementTree import Element

from defusedxml import ElementTree
from PIL import Image

from services.connectors.convert import layout
from services.connectors.convert.aligned import find_tables
from services.connectors.convert.blocks import Block
from services.connectors.convert.lines import Body, Line, Table
from services.connectors.convert.scanned import Row, Word, with_bullets
from services.connectors.convert.tesseract import Installed, installed
from services.connectors.protocol import FatalError, RetryableError
from services.worker.child import die_with_parent

DPI: Final = 300
GOOD_CONFIDENCE: Final = 60.0  # of 100; below it the page may stand on its head
TURNS: Final = (180, 90, 270)
MAX_PIXELS: Final = 40_000_000  # beyond A3 at 300 dpi more pixels do not help
SIZE_SLACK: Final = 1.12  # tesseract estimates sizes from the letters a line happens to have
LINES: Final = frozenset({"ocr_line", "ocr_header", "ocr_caption", "ocr_textfloat"})
BOX: Final = re.compile(r"bbox (-?\d+) (-?\d+) (-?\d+) (-?\d+)")
SIZE: Final = re.compile(r"x_size ([\d.]+)")
CONFIDENCE: Final = re.compile(r"x_wconf (\d+)")


@dataclass(frozen=True, slots=True)
class Recognised:
    """The text of one image.

    Args:
        confidence: 0 to 100, weighted by length.
        size: width and height of the image in pixels, as it was read; None where not told.
    """

    lines: tuple[Line, ...]
    tables: tuple[Table, ...]
    confidence: float
    size: tuple[float, float] | None = None

    def blocks(self) -> tuple[Block, ...]:
        """The page as blocks."""
        body = Body.of(self.lines)
        return layout.arrange(self.lines, body=body, tables=self.tables, slack=SIZE_SLACK, size=self.size)


def recognise(image: Image.Image, languages: tuple[str, ...]) -> Recognised:
    """Read the text of an image, turned if it makes no sense as it stands.

    Raises:
        FatalError: codes `ocr_unavailable` and `ocr_language_missing`.
        RetryableError: code `ocr_failed`.
    """
    found = _required(languages)
    if image.width * image.height > MAX_PIXELS:
        shrink = (MAX_PIXELS / (image.width * image.height)) ** 0.5
        image.thumbnail((image.width * shrink, image.height * shrink))
    best = _read(found, image, languages)
    for turn in TURNS:
        if best.confidence >= GOOD_CONFIDENCE or not best.lines:
            break
        turned = _read(found, image.rotate(turn, expand=True), languages)
        best = max(best, turned, key=lambda read: read.confidence)
    return best


def _required(languages: tuple[str, ...]) -> Installed:
    found = installed()
    if found is None:
        raise FatalError(
            "ocr_unavailable",
            "the document must be read by OCR, and no OCR program is installed on this worker",
        )
    if missing := [language for language in languages if language not in found.languages]:
        raise FatalError(
            "ocr_language_missing",
            f"OCR cannot read {', '.join(missing)} on this worker; it knows {', '.join(found.languages)}",
        )
    return found


def _read(found: Installed, image: Image.Image, languages: tuple[str, ...]) -> Recognised:
    data = io.BytesIO()
    image.save(data, "PNG", compress_level=1)
    # 1 finds out how the page is turned, for which it needs data of its own.
    segmentation = "1" if found.finds_orientation else "3"
    done = subprocess.run(  # noqa: S603 - found on PATH; the model admits names of languages only
        [
            *(found.program, "stdin", "stdout", "-l", "+".join(languages)),
            *("--dpi", str(DPI), "--psm", segmentation, "hocr"),
        ],
        input=data.getvalue(),
        capture_output=True,
        check=False,
        preexec_fn=die_with_parent,
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()[-500:]
        if "bad_alloc" in said:
            raise MemoryError(said)
        raise RetryableError("ocr_failed", f"the OCR program ended with status {done.returncode}: {said}")
    return parse(done.stdout)


def parse(hocr: bytes) -> Recognised:
    """The lines of an hOCR page. Source: the hOCR specification, version 1.2."""
    rows: list[Row] = []
    weighted = letters = 0
    root = ElementTree.fromstring(hocr)
    for paragraph in _of_class(root, frozenset({"ocr_par"})):
        starts = True
        for element in _of_class(paragraph, LINES):
            words: list[Word] = []
            for word in _of_class(element, frozenset({"ocrx_word"})):
                text = "".join(word.itertext()).strip()
                box, confidence = BOX.search(word.get("title", "")), CONFIDENCE.search(word.get("title", ""))
                if text and box is not None and confidence is not None:
                    words.append(Word(text, float(box[1]), float(box[3])))
                    weighted += int(confidence[1]) * len(text)
                    letters += len(text)
            title = element.get("title", "")
            box, size = BOX.search(title), SIZE.search(title)
            if words and box is not None and size is not None:
                rows.append(Row(tuple(words), float(box[2]), float(box[4]), float(size[1]), starts=starts))
                starts = False
    rows = with_bullets(rows)
    pages = _of_class(root, frozenset({"ocr_page"}))
    page = BOX.search(pages[0].get("title", "")) if pages else None
    return Recognised(
        tuple(row.line() for row in rows),
        tuple(find_tables(rows)),
        weighted / letters if letters else 0.0,
        (float(page[3]), float(page[4])) if page is not None else None,
    )


def _of_class(element: Element, names: frozenset[str]) -> list[Element]:
    return [child for child in element.iter() if child.get("class") in names]
