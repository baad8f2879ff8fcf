"""What a document is, and a PDF in parts that an engine takes; called in a child process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from switchyard.services.connectors.convert.engine import refusals
from switchyard.services.documents.convert import from_its_header
from switchyard.services.documents.errors import FatalError
from switchyard.services.documents.sniff import sniff

ROOM: Final = 0.8
"""How much of the limit pages of average size may fill, since each part has the shared fonts whole."""


def look(arguments: dict[str, Any], report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """What a document is: `format`, `pages` (None where that is not known), `warnings`, and its `parts`.

    Each part is `{"path", "first", "pages"}`, with its first page counted from 0.

    Args:
        arguments: `source`, `name`, `media_type`, `directory`, `max_pages` (None for any number),
            `part_pages` and `part_bytes`, the most of a part of a PDF (None for no parts).
        report: takes `{"page", "pages"}` after each part.

    Raises:
        FatalError: the document cannot be read, or is longer than it may be.
    """
    with refusals():
        source, directory = Path(arguments["source"]), Path(arguments["directory"])
        found, warnings = sniff(source, name=arguments["name"], media_type=arguments["media_type"])
        pages: int | None = None
        parts = [{"path": str(source), "first": 0, "pages": pages}]
        if found == "pdf":
            source = from_its_header(source, directory)
            pages, parts = _parts(source, directory, arguments, report)
        elif found in ("png", "jpeg"):
            pages = 1
            parts[0]["pages"] = 1
        return {"format": found, "pages": pages, "warnings": list(warnings), "parts": parts}


def _parts(
    source: Path, directory: Path, arguments: dict[str, Any], report: Callable[[dict[str, Any]], None]
) -> tuple[int, list[dict[str, Any]]]:
    import pypdfium2 as pdfium  # noqa: PLC0415 - only for what is a PDF
    from pypdfium2 import raw  # noqa: PLC0415

    try:
        document = pdfium.PdfDocument(source)
    except pdfium.PdfiumError as error:
        if error.err_code == raw.FPDF_ERR_PASSWORD:
            raise FatalError("encrypted_file", "the PDF is protected by a password") from error
        raise FatalError("corrupt_file", "the PDF is damaged and cannot be opened") from error
    with document:
        total = len(document)
        if not total:
            raise FatalError("corrupt_file", "the PDF has no pages")
        most = arguments["max_pages"]
        if most is not None and total > most:
            raise FatalError("too_many_pages", f"the document has {total} pages; {most} are allowed")
        part_pages, part_bytes = arguments["part_pages"], arguments["part_bytes"]
        size = source.stat().st_size
        if part_pages is None or (total <= part_pages and size <= part_bytes):
            return total, [{"path": str(source), "first": 0, "pages": total}]
        count = min(part_pages, max(1, int(total * part_bytes * ROOM / size)))
        parts: list[dict[str, Any]] = []
        first = 0
        while first < total:
            count = min(count, total - first)
            path = directory / f"part-{len(parts) + 1}.pdf"
            _save(document, first, count, path)
            if path.stat().st_size > part_bytes:
                if count == 1:
                    raise FatalError(
                        "page_too_large", f"page {first + 1} alone has more than {part_bytes} bytes"
                    )
                count = (count + 1) // 2
                continue
            parts.append({"path": str(path), "first": first, "pages": count})
            first += count
            report({"page": first, "pages": total})
        return total, parts


def _save(document: Any, first: int, count: int, path: Path) -> None:
    import pypdfium2 as pdfium  # noqa: PLC0415

    with pdfium.PdfDocument.new() as part:
        try:
            part.import_pages(document, list(range(first, first + count)))
        except pdfium.PdfiumError as error:
            raise FatalError(
                "corrupt_file", f"pages {first + 1} to {first + count} of the PDF cannot be taken out of it"
            ) from error
        part.save(path)
