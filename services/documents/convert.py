"""The conversion itself, called in a child process."""

from __future__ import annotations

import shutil
import traceback
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from switchyard.services.documents import defeated
from switchyard.services.documents.errors import DocumentError, FatalError
from switchyard.services.documents.model.album import Album
from switchyard.services.documents.model.document import Document, Format, Options, check_pages
from switchyard.services.documents.ocr.machine.cores import Cores
from switchyard.services.documents.sizes import sizes
from switchyard.services.documents.sniff import NAMES, pdf_start, sniff
from switchyard.services.documents.trail import Trail
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

    A PDF of more than `split_over` pages is not converted, and what is said of it has `split`, which is true.

    Args:
        arguments: `source`, `directory`, `name`, `media_type`, `ocr`, `languages`, `formats`, `page_breaks`,
            `max_pages` and, where they are given, `images` (`save`), `scripts` (see `scripts.Form`),
            `comments`, `sizes` (whether those of the pages are said), `cores`, a directory (see `Cores`),
            `skip`, why some pages of a PDF are left out, by their numbers from 0, and `split_over`.
        report: takes the progress.

    Raises:
        FatalError: the file cannot be converted.
    """
    source, directory = Path(arguments["source"]), Path(arguments["directory"])
    found, mismatches = sniff(source, name=arguments["name"], media_type=arguments["media_type"])
    if found == "pdf":
        source = from_its_header(source, directory)
    module, _, name = READERS[found].partition(":")
    with blamed(found, source), options_of(arguments) as options:
        if found == "pdf" and (most := arguments.get("split_over")) is not None:
            total = pages_in(source, options)
            if total > most:
                return {"format": found, "pages": total, "split": True, "warnings": []}
        reader: Callable[[Path, Options], Document] = getattr(import_module(module), name)
        document = reader(source, options)
        written = write(document, arguments, found, report, options.album, mismatches)
        if arguments.get("sizes"):
            written["page_sizes"] = sizes(source, found, document.total)
    return {"format": found, **written}


@contextmanager
def options_of(arguments: dict[str, Any]) -> Iterator[Options]:
    """How a document is to be read, by the arguments of `convert`."""
    directory = Path(arguments["directory"])
    trail = Trail(directory, {int(number): why for number, why in arguments.get("skip", {}).items()})
    try:
        yield Options(
            arguments["ocr"],
            tuple(arguments["languages"]),
            arguments["max_pages"],
            Cores.of(arguments.get("cores")),
            Album(directory) if arguments.get("images") == "save" else None,
            comments=arguments.get("comments", False),
            trail=trail,
        )
    finally:
        trail.close()


@contextmanager
def blamed(found: Format, source: Path) -> Iterator[None]:
    """What a reader fails with is raised as what is wrong with the file, or with the converter."""
    try:
        yield
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


def pages_in(path: Path, options: Options) -> int:
    """How many pages a PDF has; see `PdfReader`."""
    from switchyard.services.documents.pdf.reader import opened  # noqa: PLC0415 - only for what is a PDF

    with opened(path) as pdf:
        total = len(pdf)
    check_pages(total, options)
    return total


def from_its_header(source: Path, directory: Path) -> Path:
    """A PDF without what stands before it, where that is more than its library skips."""
    start = pdf_start(source)
    if not start:
        return source
    with source.open("rb") as given, (directory / "cut.pdf").open("wb") as made:
        given.seek(start)
        shutil.copyfileobj(given, made)
        return Path(made.name)


def write(
    document: Document,
    arguments: dict[str, Any],
    found: Format,
    report: Callable[[dict[str, Any]], None],
    album: Album | None,
    mismatches: tuple[str, ...],
) -> dict[str, Any]:
    """Write a document in the forms that were asked for; what is said of it.

    Args:
        document: what was read.
        arguments: those of `convert`.
        found: what the file is.
        report: takes the progress.
        album: has its images.
        mismatches: what is said of its name and type.
    """
    with Outputs(
        Path(arguments["directory"]), arguments["formats"],
        kind=found, total=document.total, page_breaks=arguments["page_breaks"],
        form=arguments.get("scripts", "unicode"),
    ) as outputs:  # fmt: skip
        return _written(document, outputs, report, album, mismatches)


def _written(
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
