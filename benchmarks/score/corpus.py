"""A directory of documents, each with the Markdown or text it should become."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from switchyard.services.documents.ocr.machine.tesseract import installed

MANIFEST: Final = "manifest.json"
CORPUS: Final = Path(__file__).parents[2] / "tests" / "documents"
CATEGORIES: Final = {
    "pdf": "PDF with text", "ocr": "scans", "docx": "DOCX", "xlsx": "XLSX", "html": "HTML", "pptx": "PPTX",
}  # fmt: skip
TESSERACT_NAMES: Final = {
    "en": "eng", "de": "deu", "fr": "fra", "it": "ita", "es": "spa", "pt": "por", "ar": "ara", "he": "heb",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a corpus.

    Args:
        name: unlike that of any other.
        languages: by tesseract's names, those it has data for.
    """

    name: str
    category: str
    path: Path
    expected: Path
    languages: tuple[str, ...]

    def wanted(self) -> str:
        """What it should become."""
        return self.expected.read_text(encoding="utf-8")


def read(directory: Path = CORPUS) -> list[Document]:
    """The documents that `manifest.json` in the directory lists.

    Each entry has `id`, `file` and `expected` (paths within the directory), `category` (a key of
    CATEGORIES) and `lang` (two letters each, joined with `+`).
    """
    ocr = installed()
    known = ocr.languages if ocr else ()
    entries = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
    documents = []
    for entry in entries:
        asked = [TESSERACT_NAMES.get(code, code) for code in entry.get("lang", "en").split("+")]
        documents.append(
            Document(
                entry["id"],
                entry["category"],
                directory / entry["file"],
                directory / entry["expected"],
                tuple(code for code in asked if code in known) or ("eng",),
            )
        )
    return documents
