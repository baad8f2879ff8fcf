"""Conversion of documents: text layers beside pypdfium2's own text, scans beside the bare OCR program."""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pypdfium2 as pdfium

from switchyard.services.documents.model.document import Options
from switchyard.services.documents.ocr import reading
from switchyard.services.documents.ocr.machine.cores import Cores, count
from switchyard.services.documents.ocr.machine.tesseract import installed
from switchyard.services.documents.pdf import read

DOCUMENTS: Final = Path(__file__).parents[1] / "tests" / "documents"
TEXT: Final = ("docling_wiki.pdf", "docling_duck.pdf", "fieldreport.pdf", "invoice.pdf")
SCANS: Final = ("docling_wiki_scan.pdf", "docling_duck_scan.pdf", "fieldreport_scan.pdf", "invoice_scan.pdf")
TEXT_TIMES, SCAN_TIMES = 20, 4


async def measure() -> list[dict[str, Any]]:
    """Pages a second, of text on one core and of scans on all."""
    os.environ["OMP_THREAD_LIMIT"] = "1"  # as in the worker's processes
    with tempfile.TemporaryDirectory() as directory:
        return await asyncio.to_thread(_rows, Path(directory))


def _rows(directory: Path) -> list[dict[str, Any]]:
    text = _joined(directory / "text.pdf", TEXT, TEXT_TIMES)
    rows = [_row("PDF pages with text, one core", _paced(_plain, text), _paced(_converted, text), 20.0)]
    if installed() is not None:
        scans = _joined(directory / "scans.pdf", SCANS, SCAN_TIMES)
        cores = Cores(directory)
        ours = _paced(lambda path: _converted(path, cores), scans)
        rows.append(_row(f"scanned pages, {count()} cores", _paced(_recognised, scans), ours, None))
    return rows


def _row(what: str, floor: float, ours: float, least: float | None) -> dict[str, Any]:
    label = what if least is None else f"{what} (at least {least:g}/s)"
    return {"what": label, "unit": "/s", "raw": floor, "ours": ours, "ratio": ours / floor, "goal": None}


def _joined(path: Path, names: tuple[str, ...], times: int) -> Path:
    """One PDF of the pages of several, so many times."""
    with pdfium.PdfDocument.new() as made:
        for name in names * times:
            with pdfium.PdfDocument(DOCUMENTS / name) as source:
                made.import_pages(source)
        made.save(path)
    return path


def _paced(convert: Callable[[Path], int], path: Path) -> float:
    """Pages a second."""
    started = time.perf_counter()
    pages = convert(path)
    return pages / (time.perf_counter() - started)


def _plain(path: Path) -> int:
    """The raw text, with no order, headings or tables."""
    with pdfium.PdfDocument(path) as document:
        return sum(bool(page.get_textpage().get_text_bounded()) for page in document)


def _converted(path: Path, cores: Cores | None = None) -> int:
    return sum(1 for _ in read.read(path, Options("auto", ("eng",), 10_000, cores)).pages)


def _recognised(path: Path) -> int:
    """The program alone over the pages as images, one on each core; rendering counts for it as well."""
    with pdfium.PdfDocument(path) as document, ThreadPoolExecutor(count()) as pool:
        images = [page.render(scale=reading.DPI / 72, grayscale=True).to_pil() for page in document]
        return sum(pool.map(_bare, images))


def _bare(image: Any) -> int:
    with tempfile.NamedTemporaryFile(suffix=".pgm") as file:
        image.save(file, "PPM")
        file.flush()
        command = ["tesseract", file.name, "stdout", "--dpi", str(reading.DPI), "--psm", "1", "hocr"]
        subprocess.run(command, check=True, capture_output=True)
    return 1
