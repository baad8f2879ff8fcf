"""What every reader is given and gives back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from services.connectors.protocol import FatalError

Format = Literal["pdf", "png", "jpeg", "tiff", "docx", "pptx", "xlsx", "html"]
Ocr = Literal["auto", "always", "never"]


@dataclass(frozen=True, slots=True)
class Options:
    """How a document is to be read."""

    ocr: Ocr
    languages: tuple[str, ...]
    max_pages: int


@dataclass(frozen=True, slots=True)
class Page:
    """One page, slide or sheet as Markdown."""

    markdown: str
    by_ocr: bool = False
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Document:
    """A document that is read one page at a time."""

    total: int
    pages: Iterator[Page]


def check_pages(total: int, options: Options) -> None:
    """Refuse a document that is longer than it may be.

    Raises:
        FatalError: code `too_many_pages`.
    """
    if total > options.max_pages:
        raise FatalError(
            "too_many_pages", f"the document has {total} pages, and at most {options.max_pages} are allowed"
        )
