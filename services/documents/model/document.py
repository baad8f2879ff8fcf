"""What every reader is given and gives back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from switchyard.services.documents.errors import FatalError
from switchyard.services.documents.model import blocks as made_of
from switchyard.services.documents.model.blocks import Block
from switchyard.services.documents.ocr.machine.cores import Cores

if TYPE_CHECKING:  # the worker's own process holds no library that parses
    from switchyard.services.documents.model.album import Album
    from switchyard.services.documents.trail import Trail

Format = Literal["pdf", "png", "jpeg", "tiff", "docx", "pptx", "xlsx", "html", "rtf"]
Ocr = Literal["auto", "always", "never"]


@dataclass(frozen=True, slots=True)
class Options:
    """How a document is to be read.

    Args:
        album: takes the images of the document; they are not saved without.
        comments: whether what readers remarked is wanted too.
        cores: the processors that OCR shares with other documents; as many as there are without.
        trail: takes which page of a PDF is read, and says which ones are to be left out.
    """

    ocr: Ocr
    languages: tuple[str, ...]
    max_pages: int
    cores: Cores | None = None
    album: Album | None = None
    comments: bool = False
    trail: Trail | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """One page, slide or sheet as Markdown.

    Args:
        blocks: what the Markdown is made of, where a reader knows them.
        confidence: of OCR, 0 to 100; None without OCR.
        running: how many lines were left out as headers, footers and page numbers.
        pictured: how many letters OCR read in pictures on it.
    """

    markdown: str
    by_ocr: bool = False
    warnings: tuple[str, ...] = ()
    blocks: tuple[Block, ...] = ()
    confidence: float | None = None
    running: int = 0
    pictured: int = 0

    @classmethod
    def of(
        cls, blocks: tuple[Block, ...], *, warnings: tuple[str, ...] = (), confidence: float | None = None
    ) -> Page:
        """A page made of blocks; one with a confidence was read by OCR."""
        return cls(made_of.join(blocks), confidence is not None, warnings, blocks, confidence)


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
