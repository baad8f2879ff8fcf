"""How large the pages of a document are."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from switchyard.services.documents.model.document import Format

POINTS: Final = 72
"""Points of a PDF to an inch."""
IMAGES: Final = frozenset({"png", "jpeg", "tiff"})


def sizes(path: Path, found: Format, total: int) -> list[dict[str, int] | None]:
    """Width, height and dots per inch of each page; None for one of which nothing is known.

    Args:
        path: the document.
        found: its format.
        total: how many pages it has.
    """
    known: list[dict[str, int] | None] = []
    if found == "pdf":
        known = _pdf(path, total)
    elif found in IMAGES:
        known = _images(path, total)
    return known if any(known) else []


def _pdf(path: Path, total: int) -> list[dict[str, int] | None]:
    import pypdfium2 as pdfium  # noqa: PLC0415 - a process holds only the libraries it needs

    with pdfium.PdfDocument(path) as pdf:
        return [_sized(*_of_page(pdf, number), POINTS) for number in range(min(total, len(pdf)))]


def _of_page(pdf: Any, number: int) -> tuple[float, float]:
    import pypdfium2 as pdfium  # noqa: PLC0415 - likewise

    try:
        width, height = pdf.get_page_size(number)
    except pdfium.PdfiumError:
        return 0.0, 0.0
    return float(width), float(height)


def _images(path: Path, total: int) -> list[dict[str, int] | None]:
    from PIL import Image  # noqa: PLC0415 - likewise

    with Image.open(path) as image:
        found = []
        for number in range(total):
            if number:
                image.seek(number)
            dpi = image.info.get("dpi")
            across = float(dpi[0]) if isinstance(dpi, tuple) and dpi else 0.0
            found.append(_sized(*image.size, round(across) if 1 <= across <= 10_000 else POINTS))
        return found


def _sized(width: float, height: float, dpi: int) -> dict[str, int] | None:
    if not (0 < width < 10**6 and 0 < height < 10**6):
        return None
    return {"width": max(1, round(width)), "height": max(1, round(height)), "dpi": dpi}
