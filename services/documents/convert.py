"""The conversion itself, called in a child process."""

from __future__ import annotations

import shutil
import traceback
import zipfile
import zlib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from switchyard.services.documents import defeated
from switchyard.services.documents.errors import DocumentError, FatalError
from switchyard.services.documents.model.album import Album
from switchyard.services.documents.model.document import Document, Format, Options
from switchyard.services.documents.ocr.machine.cores import Cores
from switchyard.services.documents.sniff import NAMES, pdf_start, sniff
from switchyard.services.documents.write.outputs import Outputs

MAX_WARNINGS: Final = 50
PARSERS: Final = frozenset({"lxml", "pypdfium2", "PIL", "zipfile", "zlib"})
# By name, so that a process holds only the libraries it needs.
READERS: Final[dict[Format, str]] = {
    "pdf": "switchyard.services.documents.pdf.read:read",
    "png": "switchyard.services.documents.ocr.images:read",
    "jpeg": "switchyard.services.documents.ocr.images:read",
    "tiff": "switchyard.services.documents.ocr.images:read",
    "docx": "switchyard.services.documents.office.read:read_docx",
    "pptx": "switchyard.services.documents.office.read:read_pptx",
    "xlsx": "switchyard.services.documents.office.read:read_xlsx",
    "html": "switchyard.services.documents.html.reader:read",
    "rtf": "switchyard.services.documents.rtf:read",
}


def convert(arguments: dict[str, Any], report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Write the document at `source` into `directory`, reporting `{"page", "pages"}` after each page.

    Args:
        arguments: `source`, `directory`, `name`, `media_type`, `ocr`, `languages`, `formats`, `page_breaks`,
            `max_pages` and, where they are given, `images` (`save`), `scripts` (see `scripts.Form`),
            `comments` and `cores`, a directory (see `Cores`).
        report: takes the progress.

    Raises:
        FatalError: the file cannot be converted.
    """
    source = Path(arguments["source"])
    album = Album(Path(arguments["directory"])) if arguments.get("images") == "save" else None
    options = Options(
        arguments["ocr"],
        tuple(arguments["languages"]),
        arguments["max_pages"],
        Cores.of(arguments.get("cores")),
        album,
        comments=arguments.get("comments", False),
    )
    found, mismatches = sniff(source, name=arguments["name"], media_type=arguments["media_type"])
    if found == "pdf":
        source = _from_its_header(source, Path(arguments["directory"]))
    module, _, name = READERS[found].partition(":")
    reader: Callable[[Path, Options], Document] = getattr(import_module(module), name)
    try:
        document = reader(source, options)
        with Outputs(
            Path(arguments["directory"]), arguments["formats"],
            kind=found, total=document.total, page_breaks=arguments["page_breaks"],
            form=arguments.get("scripts", "unicode"),
        ) as outputs:  # fmt: skip
            written = _write(document, outputs, report, album, mismatches)
    except (DocumentError, MemoryError):
        raise
    except RecursionError as error:
        raise FatalError("corrupt_file", "the document is nested too deeply to be read") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk's fault, not the document's
            raise
        if defeated.is_out_of_memory(error):
            raise MemoryError("the XML parser ran out of memory") from error
        what = _described(error, source)
        if not _is_damage(error):
            raise FatalError(
                "reader_failed", f"the converter failed on {NAMES[found]}, which may be sound ({what})"
            ) from error
        raise FatalError(
            "corrupt_file", f"the file looks like {NAMES[found]}, but it is damaged ({what})"
        ) from error
    return {"format": found, **written}


def _from_its_header(source: Path, directory: Path) -> Path:
    """A PDF without what stands before it, where that is more than its library skips."""
    start = pdf_start(source)
    if not start:
        return source
    with source.open("rb") as given, (directory / "cut.pdf").open("wb") as made:
        given.seek(start)
        shutil.copyfileobj(given, made)
        return Path(made.name)


def _write(
    document: Document,
    outputs: Outputs,
    report: Callable[[dict[str, Any]], None],
    album: Album | None,
    mismatches: tuple[str, ...],
) -> dict[str, Any]:
    by_ocr = running = 0
    confidence = letters = 0.0
    warnings = list(mismatches)
    for number, page in enumerate(document.pages, start=1):
        outputs.add(page)
        by_ocr += page.by_ocr
        running += page.running
        if page.confidence is not None:
            letters += len(page.markdown)
            confidence += page.confidence * len(page.markdown)
        warnings += page.warnings
        if album is not None:
            album.page = number + 1
        report({"page": number, "pages": document.total})
    if album is not None:
        warnings += album.warnings()
    left_out = len(warnings) - MAX_WARNINGS
    if left_out > 0:
        warnings[MAX_WARNINGS:] = [f"and {left_out} more"]
    return {
        "pages": document.total,
        "ocr_pages": by_ocr,
        "running_lines": running,
        "confidence": round(confidence / letters, 1) if letters else None,
        "warnings": warnings,
        "images": album.images if album is not None else [],
    }


def _is_damage(error: Exception) -> bool:
    """Whether an error is what a library says of a damaged file; all else may be a fault of ours."""
    if isinstance(error, (zipfile.BadZipFile, zlib.error, EOFError)):
        return True
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    module = str(frame.f_globals.get("__name__", "")).partition(".")[0]
    return module in PARSERS or (module == "openpyxl" and isinstance(error, KeyError))  # a part is missing


def _described(error: Exception, source: Path) -> str:
    """A library's error in a line, without where the file lies on this machine."""
    message = str(error).replace(str(source), source.name)
    text = message.splitlines()[0][:200] if message else ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
