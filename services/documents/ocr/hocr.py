"""Pages in hOCR, as tesseract writes them. Source: the hOCR specification, version 1.2."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Final
from xml.etree.ElementTree import Element

from defusedxml import ElementTree
from PIL import Image

from switchyard.services.documents.model.blocks import Box
from switchyard.services.documents.ocr.ink import Ink
from switchyard.services.documents.ocr.recognised import Recognised, Size, turned
from switchyard.services.documents.ocr.sizes import measured, without_specks
from switchyard.services.documents.ocr.tables import tables_of
from switchyard.services.documents.page.lines import Line, Word
from switchyard.services.documents.page.tables.rows import with_bullets

LINES: Final = frozenset({"ocr_line", "ocr_header", "ocr_caption", "ocr_textfloat"})
BOX: Final = re.compile(r"bbox (-?\d+) (-?\d+) (-?\d+) (-?\d+)")
SIZE: Final = re.compile(r"x_size ([\d.]+)")
ANGLE: Final = re.compile(r"textangle (\d+)")
CONFIDENCE: Final = re.compile(r"x_wconf (\d+)")
QUARTER: Final = 90
SIDEWAYS: Final = (90, 270)


@dataclass(frozen=True, slots=True)
class _Frame:
    """How boxes on the image become those of its text upright."""

    turn: int  # degrees counterclockwise
    size: Size
    upright: Size

    def box(self, title: str) -> Box | None:
        """A box on the image with the text upright."""
        found = BOX.search(title)
        if found is None:
            return None
        left, top, right, bottom = (float(at) for at in found.groups())
        return turned((left, top, right, bottom), self.turn, self.size, self.upright) if self.turn else (
            left, top, right, bottom
        )  # fmt: skip


def parse(hocr: bytes, image: Image.Image | None = None) -> Recognised:
    """The lines of a page, as they stand when most of the text is upright.

    Args:
        hocr: what the program says.
        image: what it read, by which the weight of lines is measured; grey.
    """
    lines: list[Line] = []
    weighted = letters = 0
    root = ElementTree.fromstring(hocr)
    frame = _frame(root)
    for paragraph in _of_class(root, frozenset({"ocr_par"})):
        starts = True
        for element in _of_class(paragraph, LINES):
            words: list[Word] = []
            for word in _of_class(element, frozenset({"ocrx_word"})):
                title = word.get("title", "")
                text = "".join(word.itertext()).strip()
                box, confidence = frame.box(title), CONFIDENCE.search(title)
                if text and box is not None and confidence is not None:
                    words.append(Word(text, *box))
                    weighted += int(confidence[1]) * len(text)
                    letters += len(text)
            title = element.get("title", "")
            box, size = frame.box(title), SIZE.search(title)
            if words and box is not None and size is not None:
                text = " ".join(word.text for word in words)
                line = Line(text, *box, float(size[1]), starts=starts, words=tuple(words))
                lines.append(line)
                starts = False
    upright = image if not frame.turn else None
    lines = with_bullets(measured(without_specks(lines), Ink(upright) if upright is not None else None))
    tables, lines = tables_of(lines, upright)
    return Recognised(
        tuple(lines),
        tuple(tables),
        weighted / letters if letters else 0.0,
        frame.upright if min(frame.upright) > 0 else None,
        turned=frame.turn,
    )


def _frame(root: Element) -> _Frame:
    """By how much tesseract found most of the text turned; it reports boxes on the image as it was given."""
    pages = _of_class(root, frozenset({"ocr_page"}))
    page = BOX.search(pages[0].get("title", "")) if pages else None
    width, height = (float(page[3]), float(page[4])) if page is not None else (0.0, 0.0)
    angles: Counter[int] = Counter()
    for line in _of_class(root, LINES):
        found = ANGLE.search(line.get("title", ""))
        angles[int(found[1]) if found else 0] += 1
    angle = angles.most_common(1)[0][0] if angles else 0
    if angle % QUARTER or not width:
        angle = 0
    return _Frame(-angle % 360, (width, height), (height, width) if angle in SIDEWAYS else (width, height))


def _of_class(element: Element, names: frozenset[str]) -> list[Element]:
    return [child for child in element.iter() if child.get("class") in names]
