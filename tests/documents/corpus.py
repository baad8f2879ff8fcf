"""Documents for the tests of `convert`, and how alike two texts are."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any, Final

import pytest

from benchmarks.score.corpus import CORPUS, read
from benchmarks.score.measures import likeness, plain
from switchyard.services.documents.convert import convert
from switchyard.services.documents.ocr.machine.tesseract import installed

__all__ = [
    "CORPUS",
    "DOCUMENTS",
    "cells",
    "converted",
    "expected",
    "headings",
    "likeness",
    "needs_german",
    "needs_ocr",
    "plain",
    "report",
]

DOCUMENTS: Final = CORPUS
_found = installed()
_languages = _found.languages if _found else ()
needs_ocr = pytest.mark.skipif(
    "eng" not in _languages,
    reason="tesseract with English is missing: apt-get install tesseract-ocr tesseract-ocr-eng",
)
needs_german = pytest.mark.skipif(
    not {"eng", "deu"} <= set(_languages),
    reason="tesseract with German is missing: apt-get install tesseract-ocr-deu",
)


def converted(path: Path, **arguments: Any) -> str:
    """The Markdown of a document, converted in this process."""
    return str(report(path, **arguments)["markdown"])


def report(path: Path, **arguments: Any) -> dict[str, Any]:
    """What the conversion reports of a document, with its Markdown."""
    given = {"ocr": "never", "languages": ["eng"], "page_breaks": False, "max_pages": 1_000, **arguments}
    with tempfile.TemporaryDirectory() as directory:
        place = {"source": str(path), "directory": directory, "name": path.name, "media_type": ""}
        made = convert(place | given | {"formats": ["markdown"]}, lambda _: None)
        return made | {"markdown": (Path(directory) / "document.md").read_text(encoding="utf-8")}


def expected(name: str) -> str:
    """What a document should convert to."""
    return next(document.wanted() for document in read() if document.name == name)


def headings(markdown: str) -> list[str]:
    """The headings without their level."""
    return re.findall(r"^#{1,6} (.+)$", markdown, flags=re.MULTILINE)


def cells(markdown: str) -> list[list[str]]:
    """The rows of all tables, without those that only separate."""
    rows = [line.strip().strip("|") for line in markdown.splitlines() if line.strip().startswith("|")]
    return [[cell.strip() for cell in row.split("|")] for row in rows if not re.fullmatch(r"[-:| ]+", row)]
