"""Pages of Markdown that an engine has made, written as this converter writes its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

from switchyard.services.connectors.protocol import FatalError
from switchyard.services.documents.convert import MAX_WARNINGS
from switchyard.services.documents.model.album import Album
from switchyard.services.documents.write.outputs import MAX_CHARS, NAMES

REFERENCE: Final = re.compile(r"!\[(?P<text>[^\[\]\n]{0,1000})\]\((?P<at>[^()\s]+)\)")


class MadePage(NamedTuple):
    """A page.

    Args:
        number: from 1.
        markdown: as the engine has it.
    """

    number: int
    markdown: str


def write(directory: Path, pages: Iterable[MadePage], *, page_breaks: bool) -> None:
    """Write the Markdown.

    Raises:
        FatalError: code `output_too_large`.
    """
    chars = 0
    with (directory / NAMES["markdown"]).open("w", encoding="utf-8", errors="replace", newline="\n") as file:
        for page in pages:
            text = page.markdown.replace("\r\n", "\n").strip("\n")
            if page_breaks and page.number > 1:
                chars += file.write(f"\n<!-- page {page.number} -->\n")
            if text:
                chars += file.write(f"\n{text}\n" if chars else f"{text}\n")
            if chars > MAX_CHARS:
                raise FatalError(
                    "output_too_large", "the markdown of this document would be larger than 200 MB"
                )


def referring(markdown: str, name_of: Callable[[str], str | None]) -> str:
    """Markdown whose images have other names.

    Args:
        markdown: as the engine has it.
        name_of: the name of an image by what refers to it; "" for one that is not saved, of which its
            description stays, None for what is to stay as it is.
    """

    def replaced(found: re.Match[str]) -> str:
        name = name_of(found["at"])
        if name is None:
            return found[0]
        text = "" if found["text"] == found["at"] else found["text"]
        return f"![{text}]({name})" if name else text

    return REFERENCE.sub(replaced, markdown)


def made(
    found: str, pages: int, warnings: list[str], album: Album | None, *, ocr_pages: int | None
) -> dict[str, Any]:
    """What is said of a document, as this converter says it."""
    if album is not None:
        warnings = [*warnings, *album.warnings()]
    if (left_out := len(warnings) - MAX_WARNINGS) > 0:
        warnings = [*warnings[:MAX_WARNINGS], f"and {left_out} more"]
    return {
        "pages": pages,
        "ocr_pages": ocr_pages,
        "running_lines": 0,
        "confidence": None,
        "format": found,
        "images": album.images if album is not None else [],
        "warnings": warnings,
    }
