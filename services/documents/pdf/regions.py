"""Parts of a PDF page as images for OCR."""

from __future__ import annotations

from typing import Final

import pypdfium2 as pdfium
from PIL import Image

from switchyard.services.documents.model.blocks import Box
from switchyard.services.documents.ocr import reading

POINTS_PER_INCH: Final = 72
MARGIN: Final = 4.0  # points around a part


def whole(page: pdfium.PdfPage) -> tuple[Image.Image, float]:
    """A page as OCR wants it, grey, and its pixels a point: 300 dpi, or as much as a huge page allows."""
    return _drawn(page, (0.0, 0.0, 0.0, 0.0), page.get_width() * page.get_height())


def part(
    page: pdfium.PdfPage, box: Box, *, margin: float = MARGIN
) -> tuple[Image.Image, float, tuple[float, float]]:
    """A part of a page, its pixels a point, and where its top left is on the page, in points."""
    width, height = page.get_width(), page.get_height()
    left, top = max(box[0] - margin, 0.0), max(box[1] - margin, 0.0)
    right, bottom = min(box[2] + margin, width), min(box[3] + margin, height)
    crop = (left, max(height - bottom, 0.0), max(width - right, 0.0), top)
    image, scale = _drawn(page, crop, max(right - left, 1.0) * max(bottom - top, 1.0))
    return image, scale, (left, top)


def _drawn(page: pdfium.PdfPage, crop: Box, area: float) -> tuple[Image.Image, float]:
    scale = reading.DPI / POINTS_PER_INCH
    scale *= min(1.0, (reading.MAX_PIXELS / max(area * scale**2, 1)) ** 0.5)
    image: Image.Image = page.render(scale=scale, crop=crop, grayscale=True).to_pil()
    return image, scale
