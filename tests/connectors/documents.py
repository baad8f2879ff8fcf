"""Documents for the tests of `convert`, and how alike two texts are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from rapidfuzz.distance import Indel

from services.connectors.convert.tesseract import installed

DOCUMENTS = Path(__file__).parents[1] / "documents"
needs_ocr = pytest.mark.skipif(installed() is None, reason="no OCR program: apt-get install tesseract-ocr")


def expected(name: str) -> str:
    """What a document should convert to."""
    return (DOCUMENTS / "expected" / f"{name}.md").read_text(encoding="utf-8")


def likeness(one: str, other: str) -> float:
    """0 to 1, how alike two pieces of Markdown are as plain text."""
    return Indel.normalized_similarity(plain(one), plain(other))


def plain(markdown: str) -> str:
    """The words of Markdown without its marks."""
    markdown = re.sub(r"<!--.*?-->", "", markdown, flags=re.DOTALL)
    markdown = re.sub(r"^\s*\|?[-:| ]{3,}\|?\s*$", "", markdown, flags=re.MULTILINE)
    markdown = re.sub(r"^\s*(#+|[-*+]|\d+[.)])\s+", "", markdown, flags=re.MULTILINE)
    return re.sub(r"\s+", " ", re.sub(r"[|*_`\\]", " ", markdown)).strip()


def headings(markdown: str) -> list[str]:
    """The headings without their level."""
    return re.findall(r"^#{1,6} (.+)$", markdown, flags=re.MULTILINE)


def cells(markdown: str) -> list[list[str]]:
    """The rows of all tables, without those that only separate."""
    rows = [line.strip().strip("|") for line in markdown.splitlines() if line.strip().startswith("|")]
    return [[cell.strip() for cell in row.split("|")] for row in rows if not re.fullmatch(r"[-:| ]+", row)]
