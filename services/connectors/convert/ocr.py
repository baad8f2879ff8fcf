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
from services.connectors.convert.layout import Line, Table
from services.connectors.convert.scanned import Row, Word, find_tables, with_bullets
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
    """The text of one image; `confidence` is 0 to 100, weighted by length."""

    lines: tuple[Line, ...]
    tables: tuple[Table, ...]
    confidence: float

    def markdown(self) -> str:
        """The page as Markdown."""
        return layout.render(
            self.lines, body=layout.body_size(self.lines), tables=self.tables, slack=SIZE_SLACK
        )


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
    for paragraph in _of_class(ElementTree.fromstring(hocr), frozenset({"ocr_par"})):
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
    return Recognised(
        tuple(row.line() for row in rows), tuple(find_tables(rows)), weighted / letters if letters else 0.0
    )


def _of_class(element: Element, names: frozenset[str]) -> list[Element]:
    return [child for child in element.iter() if child.get("class") in names]
