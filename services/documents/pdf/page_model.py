"""A page of a PDF as it was read: all that the page itself says, and nothing of the pages around it.

What looks over pages, such as running lines, sizes of headings or tables that continue, is made of these.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from switchyard.services.documents.model.blocks import Box
from switchyard.services.documents.ocr.recognised import Recognised
from switchyard.services.documents.page.lines import Line
from switchyard.services.documents.pdf.drawn.objects import Drawing
from switchyard.services.documents.pdf.forms import Filled
from switchyard.services.documents.pdf.links import Link
from switchyard.services.documents.pdf.tags.structure import Structure

DAMAGED: Final = "is damaged and was left out"


@dataclass(frozen=True, slots=True)
class PageText:
    """The text layer of a page, its structure, and what is filled in.

    Args:
        size: width and height of the page, in points.
        letters: how many the text layer has.
        failed: the name of what reading the page failed with; empty where it did not.
        bare: the lines of a page that failed, as the library parts them.
        turned: by how many degrees clockwise the page was turned to be read, from how it is shown.
    """

    lines: tuple[Line, ...] = ()
    size: tuple[float, float] = (0.0, 0.0)
    letters: int = 0
    structure: Structure = field(default_factory=Structure)
    filled: Filled = field(default_factory=Filled)
    failed: str = ""
    bare: tuple[str, ...] = ()
    turned: int = 0


@dataclass(frozen=True, slots=True)
class InPicture:
    """What OCR read in a picture.

    Args:
        digest: the same for pictures that are alike.
        box: where the picture is, in points from the top left.
        scale: pixels a point.
        origin: where the top left of what was read is on the page, in points.
        size: width and height of what was read, in pixels.
    """

    digest: bytes
    box: Box
    scale: float
    origin: tuple[float, float]
    size: tuple[int, int]
    said: Recognised


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture that is to be saved.

    Args:
        key: the same for the same picture; empty for one of too many.
        box: where it is, in points from the top left.
    """

    key: bytes
    box: Box


@dataclass(frozen=True, slots=True)
class ReadPage:
    """One page.

    Args:
        number: from 0.
        left_out: why nothing of it is known; empty for a page that was read.
        scan: what OCR read of the whole page; None where its text layer stands.
        in_pictures: what OCR read in its pictures.
        shown: the pictures to save; of a scan, those that show no paper.
        blank: how many pictures a page has that is all of one shade, so that none of them can be seen.
    """

    number: int
    text: PageText = field(default_factory=PageText)
    left_out: str = ""
    links: tuple[Link, ...] = ()
    drawing: Drawing = field(default_factory=Drawing)
    scan: Recognised | None = None
    in_pictures: tuple[InPicture, ...] = ()
    shown: tuple[Shown, ...] = ()
    blank: int = 0
