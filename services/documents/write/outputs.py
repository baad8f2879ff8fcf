"""A document in the forms that were asked for, each written a page at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Self, TextIO

import orjson

from switchyard.services.documents.errors import FatalError
from switchyard.services.documents.model import scripts
from switchyard.services.documents.model.document import Format, Page
from switchyard.services.documents.write.flow import Flow

MAX_CHARS: Final = 200_000_000
NAMES: Final = {"markdown": "document.md", "json": "document.json", "text": "document.txt"}
MEDIA_TYPES: Final = {"markdown": "text/markdown", "json": "application/json", "text": "text/plain"}
PAGE_END: Final = "\f"


class Outputs:
    """Files of one document, in a directory.

    Args:
        directory: where they are made, under the names in `NAMES`.
        formats: which of `markdown`, `json` and `text`.
        page_breaks: whether a comment in the Markdown names each page after the first; otherwise text
            that continues on the next page is joined.
        form: how to write what stands above or below the line.
    """

    def __init__(
        self,
        directory: Path,
        formats: list[str],
        *,
        kind: Format,
        total: int,
        page_breaks: bool,
        form: scripts.Form = "unicode",
    ) -> None:
        self._directory = directory
        self._formats = formats
        self._head = {"format": kind, "pages": total}
        self._page_breaks = page_breaks
        self._form = form
        self._text_form: scripts.Form = "unicode" if form == "html" else form
        self._files: dict[str, TextIO] = {}
        self._stack = ExitStack()
        self._pages = 0
        self._flow = Flow()
        self._chars = dict.fromkeys(formats, 0)

    def __enter__(self) -> Self:
        """Open the files."""
        for name in self._formats:
            path = self._directory / NAMES[name]
            file = self._stack.enter_context(path.open("w", encoding="utf-8", errors="replace", newline="\n"))
            self._files[name] = file
        if json := self._files.get("json"):
            json.write(f'{{"format": "{self._head["format"]}", "pages": [')
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close them."""
        with self._stack:
            if kind is None and not self._page_breaks and "markdown" in self._files:
                rest = list(self._flow.end())
                self._write(
                    "markdown", self._scripted([*rest, "\n"] if rest or self._chars["markdown"] else rest)
                )
            if (json := self._files.get("json")) and not json.closed:
                json.write("\n]}\n")

    def add(self, page: Page) -> None:
        """Write the next page.

        Raises:
            FatalError: code `output_too_large`.
        """
        self._pages += 1
        for name in self._files:
            match name:
                case "markdown":
                    made = self._scripted(self._markdown(page))
                case "json":
                    made = self._json(page)
                case _:
                    made = self._text(page)
            self._write(name, made)

    def _write(self, name: str, pieces: Iterable[str]) -> None:
        for piece in pieces:
            self._chars[name] += self._files[name].write(piece)
        if self._chars[name] > MAX_CHARS:
            raise FatalError("output_too_large", f"the {name} of this document would be larger than 200 MB")

    def _markdown(self, page: Page) -> Iterator[str]:
        if not self._page_breaks:
            yield from self._flow.add(page)
            return
        if self._pages > 1:
            yield f"\n<!-- page {self._pages} -->\n"
        if page.markdown:
            yield f"\n{page.markdown}\n" if self._chars["markdown"] else f"{page.markdown}\n"

    def _scripted(self, pieces: Iterable[str]) -> Iterator[str]:
        return (scripts.written(piece, self._form) for piece in pieces)

    def _json(self, page: Page) -> Iterator[str]:
        yield "\n" if self._pages == 1 else ",\n"
        blocks: list[dict[str, Any]] = [
            {
                "kind": block.kind,
                "level": block.level,
                "box": block.box and [round(at, 4) for at in block.box],
                "text": scripts.written(block.text, self._text_form),
                "markdown": scripts.written(block.markdown, self._form),
                "continues": block.continues,
                **({"image": block.image or None} if block.kind == "image" else {}),
            }
            for block in page.blocks
        ]
        made = {
            "page": self._pages,
            "ocr": page.by_ocr,
            "confidence": page.confidence,
            "running_lines": page.running,
            "warnings": page.warnings,
            "blocks": blocks,
        }
        yield orjson.dumps(made).decode()

    def _text(self, page: Page) -> Iterator[str]:
        if self._pages > 1:
            yield PAGE_END
        last = ""
        for block in page.blocks:
            if not block.text:  # an image
                continue
            if last:
                yield "\n" if last == block.kind == "item" else "\n\n"
            yield scripts.written(block.text, self._text_form)
            last = block.kind
        if last:
            yield "\n"
