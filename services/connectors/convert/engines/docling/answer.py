"""A result of docling-serve, judged by its own status and written down; in a child process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import orjson

from switchyard.services.connectors.convert.engines.docling.api import NAME, models_lacking
from switchyard.services.connectors.convert.engines.pages import MadePage, made, referring, write
from switchyard.services.connectors.convert.engines.protocol import BAD, MODELS, REFUSED
from switchyard.services.connectors.protocol import FatalError, RetryableError
from switchyard.services.documents.model.album import Album
from switchyard.services.documents.write.outputs import NAMES

SHOWN: Final = 5
SHOWN_CHARS: Final = 300


def collect(arguments: dict[str, Any], _report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Write what a result has, and return what is said of it.

    Args:
        arguments: `path` of the result, `directory`, `format`, `formats`, `images` (whether they are
            saved), `mark` (what stands between two pages), `page_breaks`, `pages` (None where that is not
            known), `ocr` and `warnings`.

    Raises:
        RetryableError: codes `bad_answer`, `engine_without_models`.
        FatalError: codes `document_refused`, `output_too_large`.
    """
    try:
        said = orjson.loads(Path(arguments["path"]).read_bytes())
    except orjson.JSONDecodeError as error:
        raise RetryableError(BAD, "the answer is no JSON") from error
    if not isinstance(said, dict):
        raise RetryableError(BAD, "the answer is no JSON object")
    status, errors = said.get("status"), _errors(said.get("errors"))
    why = "; ".join(errors[:SHOWN]) or "without a reason"
    if status in ("failure", "skipped"):
        if lacking := models_lacking(why):
            raise RetryableError(MODELS, lacking)
        raise FatalError(REFUSED, f"{NAME} does not convert the document ({status}): {why}")
    document = said.get("document")
    markdown = document.get("md_content") if isinstance(document, dict) else None
    if status not in ("success", "partial_success") or not isinstance(markdown, str):
        raise RetryableError(
            BAD, f"the answer has no Markdown, or no status that is known ({str(status)[:80]})"
        )
    warnings = [*arguments["warnings"], *errors]
    if status == "partial_success" and not errors:
        warnings.append("the engine has converted only a part of the document, and does not say which")
    directory = Path(arguments["directory"])
    album = Album(directory) if arguments["images"] else None
    pages = _pages(markdown, arguments, album, warnings)
    if "markdown" in arguments["formats"]:
        write(directory, pages, page_breaks=arguments["page_breaks"])
    if "text" in arguments["formats"]:
        text = document.get("text_content") if isinstance(document, dict) else None
        if not isinstance(text, str):
            raise RetryableError(BAD, "the answer has no text")
        (directory / NAMES["text"]).write_text(text, encoding="utf-8", errors="replace")
    if not markdown.strip():
        warnings.append("the engine has found nothing in the document")
    count = arguments["pages"] or len(pages)
    by_ocr = {"always": count, "never": 0}.get(arguments["ocr"])
    return made(arguments["format"], count, warnings, album, ocr_pages=by_ocr)


def _errors(said: Any) -> list[str]:
    """The errors of a result, each in a line."""
    found = []
    for error in said if isinstance(said, list) else []:
        text = error.get("error_message") if isinstance(error, dict) else error
        page = error.get("page_no") if isinstance(error, dict) else None
        line = " ".join(str(text).split())[:SHOWN_CHARS]
        found.append(f"page {page}: {line}" if type(page) is int else line)
    return found


def _pages(
    markdown: str, arguments: dict[str, Any], album: Album | None, warnings: list[str]
) -> list[MadePage]:
    """The pages, as far as the engine says where each begins."""

    def name_of(reference: str) -> str | None:
        if not reference.startswith("data:"):
            return None
        return album.add_data(reference) if album is not None else ""

    texts, known = markdown.split(arguments["mark"]), arguments["pages"]
    if known is not None and len(texts) != known:
        if arguments["page_breaks"] or album is not None:
            warnings.append(f"the engine has marked {len(texts)} pages of {known}: none is numbered")
        return [MadePage(1, "\n\n".join(referring(text, name_of).strip("\n") for text in texts))]
    made_pages = []
    for number, text in enumerate(texts, 1):
        if album is not None:
            album.page = number
        made_pages.append(MadePage(number, referring(text, name_of)))
    return made_pages
