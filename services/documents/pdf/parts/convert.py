"""A PDF converted in parts: pages are read here and there, and put together in one place."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, Final

from switchyard.services.documents.convert import blamed, from_its_header, options_of, write
from switchyard.services.documents.errors import FatalError, RetryableError
from switchyard.services.documents.pdf.kept_pictures import KeptPictures
from switchyard.services.documents.pdf.parts.file import Head, PartError, PartFile, PartWriter
from switchyard.services.documents.pdf.parts.source import Parts
from switchyard.services.documents.pdf.read import PICTURES, joined
from switchyard.services.documents.pdf.reader import PdfReader
from switchyard.services.documents.sniff import sniff

NAME: Final = "pages.bin"


def read_part(arguments: dict[str, Any], report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Read some pages of the PDF at `source` into the file `pages.bin` of `directory`.

    Args:
        arguments: those of `convert`, `first`, the first page from 0, `count`, and `total`, how many pages
            the document is known to have; `goes_on`, whether the other pages are wanted where the OCR program
            fails on each page of these that it is to read.
        report: takes `{"page", "pages"}` after each page, counted in this part.

    Raises:
        FatalError: the file cannot be converted, or has another number of pages.
    """
    source, directory = Path(arguments["source"]), Path(arguments["directory"])
    found, mismatches = sniff(source, name=arguments["name"], media_type=arguments["media_type"])
    if found != "pdf":
        raise FatalError("not_in_parts", "only a PDF is converted in parts")
    source = from_its_header(source, directory)
    first, pages = arguments["first"], arguments["count"]
    with blamed(found, source), options_of(arguments) as options:
        kept = KeptPictures(directory / PICTURES) if options.album is not None else None
        goes_on = bool(arguments.get("goes_on"))
        reader = PdfReader(source, options, range(first, first + pages), kept=kept, goes_on=goes_on)
        if reader.total != arguments["total"] or first + pages > reader.total:
            raise FatalError(
                "not_in_parts",
                f"the document has {reader.total} pages, and {arguments['total']} were expected",
            )
        head = Head(reader.total, first, pages, read_by(arguments), reader.warnings, mismatches)
        with PartWriter(directory / NAME, head, kept) as writer:
            for number, page in zip(count(1), reader.pages(), strict=False):
                writer.add(page)
                report({"page": number, "pages": pages})
    return {"pages": pages}


def join(arguments: dict[str, Any], report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Put the pages of a PDF together; as `convert`, which it equals.

    Args:
        arguments: those of `convert` without what is of the file, `total`, `parts`, the paths of files that
            `read_part` wrote, and `missing`, why the pages of no file are left out, by their numbers from 0.
        report: takes the progress.

    Raises:
        FatalError: none of the pages can be read, OCR failed on all, or more was made than may be.
        RetryableError: the parts do not fit together.
    """
    missing = {int(number): why for number, why in arguments["missing"].items()}
    with blamed("pdf", Path(arguments["directory"])), options_of(arguments) as options:
        try:
            files = [PartFile(Path(path)) for path in arguments["parts"]]
            source = Parts(arguments["total"], files, missing, read_by(arguments))
            document = joined(source, options)
            written = write(document, arguments, "pdf", report, options.album, source.mismatches)
        except PartError as error:
            raise RetryableError("bad_part", f"the parts of the document do not fit: {error}") from error
    return {"format": "pdf", **written}


def read_by(arguments: dict[str, Any]) -> dict[str, str]:
    """The options that change what a page says."""
    return {
        "ocr": arguments["ocr"],
        "languages": "+".join(arguments["languages"]),
        "images": arguments.get("images", "none"),
        "comments": str(arguments.get("comments", False)).lower(),
    }
