"""Text in the pictures of a page that has a text layer as well: scanned stamps, tables and pages."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

import pypdfium2 as pdfium
from PIL import Image

from switchyard.services.documents.model.blocks import Box
from switchyard.services.documents.model.document import Options
from switchyard.services.documents.ocr import reading
from switchyard.services.documents.ocr.recognised import Recognised
from switchyard.services.documents.page.lines import Line, Table
from switchyard.services.documents.page.running_lines import EDGE
from switchyard.services.documents.pdf.page_model import InPicture
from switchyard.services.documents.pdf.regions import part

MIN_SHARE: Final = 0.01  # of the page
MIN_HEIGHT: Final = 18.0  # points
MAX_PICTURES: Final = 20  # a page
MAX_KNOWN: Final = 1_000
COVERED: Final = 0.12  # of a picture by text over it, as in a scan with its text behind it
LOOK_WIDTH: Final = 400  # pixels, enough to distinguish paper from a photo
PAPER, INK = 176, 112  # of 255: as light, and as dark
PAPER_SHARE: Final = 0.5
INK_SHARE: Final = (0.004, 0.4)
SURE: Final = 80.0  # of 100, OCR's confidence
MIN_LETTERS: Final = 6
MIN_TEXT: Final = 0.1  # of a picture under its lines of text: labels in a diagram have less
WHOLE: Final = 0.5  # of the page: a picture so large is a scan of one
MIN_TEXT_OF_WHOLE: Final = 0.02


@dataclass(frozen=True, slots=True)
class Found:
    """What the pictures of a page say."""

    lines: tuple[Line, ...] = ()
    tables: tuple[Table, ...] = ()
    confidence: float | None = None


class PictureReader:
    """Reads the pictures of pages, those that are alike once."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._known: dict[bytes, Recognised] = {}

    def read(
        self, page: pdfium.PdfPage, pictures: Sequence[Box], lines: Sequence[Line]
    ) -> tuple[InPicture, ...]:
        """Read the pictures that look like paper and that the text layer does not cover.

        Args:
            page: which they are on.
            pictures: their boxes, in points from the top left.
            lines: those of the text layer.
        """
        area = page.get_width() * page.get_height()
        worth = [
            box
            for box in _united(pictures)
            if _area(box) >= area * MIN_SHARE
            and box[3] - box[1] >= MIN_HEIGHT
            and covered(box, lines) < COVERED
        ]
        found: list[InPicture] = []
        for box in islice(worth, MAX_PICTURES):
            image, scale, origin = part(page, box)
            if is_paper(image):
                digest = hashlib.sha256(image.tobytes()).digest()
                found.append(InPicture(digest, box, scale, origin, image.size, self._said(digest, image)))
        return tuple(found)

    def _said(self, digest: bytes, image: Image.Image) -> Recognised:
        if digest in self._known:
            return self._known[digest]
        read = reading.recognise(image, self._options.languages, turns=False, cores=self._options.cores)
        if len(self._known) < MAX_KNOWN:
            self._known[digest] = read
        return read


class TextInPictures:
    """Finds the text in the pictures of one document; that of a logo is written on one page."""

    def __init__(self) -> None:
        self._known: set[bytes] = set()

    def found(
        self,
        pictures: Sequence[InPicture],
        lines: Sequence[Line],
        *,
        size: tuple[float, float],
        body: float,
    ) -> Found:
        """What the pictures of the next page say.

        Args:
            pictures: as they were read.
            lines: those of the text layer.
            size: width and height of the page.
            body: the size of plain text.
        """
        area = size[0] * size[1]
        found: list[Line] = []
        tables: list[Table] = []
        weighted = letters = 0.0
        for each in pictures:
            box, recognised = each.box, each.said
            # As running lines are, but for the first.
            if self._is_known(each.digest) and _is_at_edge(box, size[1]):
                continue
            text = "".join(line.text for line in recognised.lines)
            is_whole = _area(box) >= area * WHOLE
            if sum(map(str.isalnum, text)) < MIN_LETTERS or not _is_text(each, is_whole=is_whole):
                continue
            says = [line for line in recognised.lines if _says(line)]
            new = [_line(line, each) for line in says]
            for table in recognised.tables:
                placed = _table(table, each)
                if not any(placed.covers(line) for line in lines):
                    starts = (
                        (at.left, at.top) for line, at in zip(says, new, strict=True) if table.holds(line)
                    )
                    tables.append(replace(placed, lines=frozenset(starts)))
            if not is_whole:  # large letters on a stamp head nothing
                new = [replace(line, size=body) for line in new]
            found += (line for line in new if not any(_overlap(line, other) for other in lines))
            weighted += recognised.confidence * len(text)
            letters += len(text)
        return Found(tuple(found), tuple(tables), weighted / letters if found or tables else None)

    def _is_known(self, digest: bytes) -> bool:
        """Whether a picture like it was there before."""
        if digest in self._known:
            return True
        if len(self._known) < MAX_KNOWN:
            self._known.add(digest)
        return False


def _is_at_edge(box: Box, height: float) -> bool:
    return box[3] < height * EDGE or box[1] > height * (1 - EDGE)


def _united(boxes: Sequence[Box]) -> list[Box]:
    """Boxes that touch as one: scans are often drawn in strips."""
    united: list[Box] = []
    for box in sorted(boxes, key=lambda box: (box[1], box[0])):
        for number, other in enumerate(united):
            if _touch(box, other):
                united[number] = (
                    min(box[0], other[0]), min(box[1], other[1]), max(box[2], other[2]), max(box[3], other[3])
                )  # fmt: skip
                break
        else:
            united.append(box)
    return united


def _touch(one: Box, other: Box) -> bool:
    return (
        one[0] <= other[2] + 1
        and other[0] <= one[2] + 1
        and one[1] <= other[3] + 1
        and other[1] <= one[3] + 1
    )


def _area(box: Box) -> float:
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)


def covered(box: Box, lines: Sequence[Line]) -> float:
    """The share of a box under lines of text."""
    under = sum(
        _area(
            (max(box[0], line.left), max(box[1], line.top), min(box[2], line.right), min(box[3], line.bottom))
        )
        for line in lines
        if line.left < box[2] and line.right > box[0] and line.top < box[3] and line.bottom > box[1]
    )
    return under / max(_area(box), 1.0)


def is_paper(image: Image.Image) -> bool:
    """Whether it is light for the most part, with some dark on it; photos are neither."""
    small = image.copy()
    small.thumbnail((LOOK_WIDTH, LOOK_WIDTH))
    counts = small.histogram()
    pixels = sum(counts)
    least, most = INK_SHARE
    return (
        sum(counts[PAPER:]) >= pixels * PAPER_SHARE and pixels * least <= sum(counts[:INK]) <= pixels * most
    )


def _is_text(picture: InPicture, *, is_whole: bool) -> bool:
    """Whether a picture shows text, and not a diagram with labels or a pattern that looks like letters."""
    under = sum(_area((line.left, line.top, line.right, line.bottom)) for line in picture.said.lines)
    least = MIN_TEXT_OF_WHOLE if is_whole else MIN_TEXT
    width, height = picture.size
    return picture.said.confidence >= SURE and under >= width * height * least


def _says(line: Line) -> bool:
    """Whether a line says something: specks and borders come out as signs."""
    signs = [character for character in line.text if not character.isspace()]
    return 1 < sum(map(str.isalnum, signs)) >= len(signs) / 2


def _line(line: Line, of: InPicture) -> Line:
    """A line of a picture, on the page."""
    left, top, right, bottom = _placed((line.left, line.top, line.right, line.bottom), of)
    size = line.size / of.scale
    return replace(line, left=left, top=top, right=right, bottom=bottom, size=size, words=())


def _table(table: Table, of: InPicture) -> Table:
    """A table of a picture, on the page."""
    return Table(*_placed((table.left, table.top, table.right, table.bottom), of), table.markdown)


def _placed(box: Box, of: InPicture) -> Box:
    (left, top), scale = of.origin, of.scale
    box = of.said.on_given(box)
    return box[0] / scale + left, box[1] / scale + top, box[2] / scale + left, box[3] / scale + top


def _overlap(line: Line, other: Line) -> bool:
    """Whether a recognised line is one of the text layer, which the picture shows as well."""
    across, down = (line.left + line.right) / 2, (line.top + line.bottom) / 2
    return other.left <= across <= other.right and other.top <= down <= other.bottom
