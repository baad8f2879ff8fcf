"""The pictures of a PDF page as files and as lines of their own in its text."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Final

import pypdfium2 as pdfium

from services.connectors.convert.album import Album
from services.connectors.convert.blocks import Box
from services.connectors.convert.lines import Line

MAX_PICTURES: Final = 200  # a page
MIN_POINTS: Final = 12.0  # each way, as shown
BACKGROUND: Final = 0.9  # of the page
MAX_PIXELS: Final = 40_000_000
JPEG: Final = ["DCTDecode"]


def shown(
    pictures: Sequence[tuple[pdfium.PdfImage, Box]], album: Album, *, page: int, area: float, body: float
) -> list[Line]:
    """Save pictures, and tell where each stands.

    Args:
        pictures: with their boxes, in points from the top left.
        album: which they go to.
        page: its number from 1.
        area: of the page, in square points.
        body: the size of plain text.
    """
    found: list[Line] = []
    for picture, box in pictures[:MAX_PICTURES]:
        width, height = box[2] - box[0], box[3] - box[1]
        if min(width, height) < MIN_POINTS or width * height > area * BACKGROUND:
            continue
        try:
            data = _data(picture)
        except (pdfium.PdfiumError, OSError, ValueError):  # damaged, as many are; the page is not
            continue
        if data and (name := album.add(data, page=page)):
            found.append(Line("", *box, body, image=name))
    return found


def _data(picture: pdfium.PdfImage) -> bytes:
    """A picture as JPEG where it is one, else as PNG."""
    width, height = picture.get_px_size()
    if width * height > MAX_PIXELS:
        return b""
    if picture.get_filters(skip_simple=True) == JPEG:
        return bytes(picture.get_data(decode_simple=True))
    data = io.BytesIO()
    picture.get_bitmap(render=True).to_pil().save(data, "PNG", compress_level=3)
    return data.getvalue()
