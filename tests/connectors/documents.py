"""Documents for the tests of `convert`, and how alike two texts are."""

from __future__ import annotations

import re
from typing import Final

import pytest

from benchmarks.score.corpus import CORPUS, read
from benchmarks.score.measures import likeness, plain
from services.connectors.convert.tesseract import installed

__all__ = ["CORPUS", "DOCUMENTS", "cells", "expected", "headings", "likeness", "needs_ocr", "plain"]

DOCUMENTS: Final = CORPUS
needs_ocr = pytest.mark.skipif(installed() is None, reason="no OCR program: apt-get install tesseract-ocr")


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
