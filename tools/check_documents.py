"""`python -m tools.check_documents DIRECTORY`: what converting documents loses, repeats and costs.

A document's words are compared with those of its text layer (PDF) or of its XML (Office), each document in a
process of its own.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
import resource
import statistics
import tempfile
import time
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import openpyxl
import pypdfium2 as pdfium
from lxml import etree

from switchyard.services.documents.convert import convert

SUFFIXES: Final = {".pdf", ".docx", ".pptx", ".xlsx"}
WORD: Final = re.compile(r"[^\W_]+")
PARAGRAPH: Final = re.compile(r"\{[^}]*/(?:wordprocessingml|drawingml)[^}]*/main\}p")
SAID: Final = ("main}t", "main}br", "main}tab", "main}cr")  # the others part words
FURNITURE: Final = frozenset({"dt", "ftr", "hdr", "sldNum"})
LEAST: Final = 0.9  # of a page's letters
WORST: Final = 10
MIN_LETTERS: Final = 20  # of a line or page: fewer are a number or a label
Texts = list[list[str]]  # the lines of each page


@dataclass(frozen=True, slots=True)
class Checked:
    """What became of one document.

    Args:
        recall: 0 to 1, of its words as a bag.
        poor: the pages of whose letters less than 90 % came out, from 1.
        lost: lines most of whose words came out less often than they are there.
        doubled: lines that came out more often than they are there.
        error: why it was not converted.
    """

    path: str
    recall: float = 1.0
    pages: int = 0
    poor: tuple[int, ...] = ()
    lost: tuple[str, ...] = ()
    doubled: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0
    peak_bytes: int = 0
    error: str = ""
    words: int = field(default=0, repr=False)


def check(path: Path, *, ocr: str = "never") -> Checked:
    """Convert one document in this process and compare."""
    arguments = {
        "source": str(path), "name": path.name, "media_type": "", "ocr": ocr, "languages": ["eng"],
        "formats": ["json"], "page_breaks": False, "max_pages": 10_000,
    }  # fmt: skip
    started, used = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as directory:
        try:
            made = convert(arguments | {"directory": directory}, lambda _: None)
        except Exception as error:  # noqa: BLE001 - whatever it fails with is the finding
            code = getattr(error, "code", type(error).__name__)
            return Checked(str(path), error=f"{code}: {error}"[:200], seconds=time.perf_counter() - started)
        seconds = time.process_time() - used
        pages = json.loads((Path(directory) / "document.json").read_text(encoding="utf-8"))["pages"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    written = [_text_of(page["blocks"]) for page in pages]
    try:
        source = list(_source(path))
    except Exception as error:  # noqa: BLE001 - the yardstick cannot read what the conversion can
        return Checked(str(path), pages=len(pages), error=f"not compared: {error}"[:200], seconds=seconds)
    return Checked(
        str(path), pages=len(pages), warnings=tuple(made["warnings"]), seconds=seconds, peak_bytes=peak,
        **compared(source, written),
    )  # fmt: skip


def compared(source: Texts, written: Sequence[str]) -> dict[str, Any]:
    """Recall, poor pages, lost and doubled lines of a document's pages.

    Args:
        source: the lines of each page.
        written: what came out of each page; of one page for all where the pages are not known.
    """
    has, got = Counter[str](), Counter[str]()
    for line in (line for page in source for line in page):
        has.update(_words(line))
    for page in written:
        got.update(_words(page))
    out = "".join(_letters(page) for page in written)
    lost: list[str] = []
    lacking = has - got
    seen = Counter[str]()
    for line in (line for page in source for line in page):
        words, letters = _words(line), _letters(line)
        if len(letters) >= MIN_LETTERS:
            seen[letters] += 1
        if words and sum(lacking[word] > 0 for word in words) * 2 > len(words) and letters not in out:
            lost.append(line.strip())
            lacking.subtract(words)
    doubled = [letters for letters, times in seen.items() if _more(out, letters, times, seen)]
    return {
        "recall": (has & got).total() / has.total() if has else 1.0,
        "poor": tuple(_poor(source, written)),
        "lost": tuple(lost),
        "doubled": tuple(doubled),
        "words": has.total(),
    }


def _more(out: str, letters: str, times: int, seen: Counter[str]) -> bool:
    """Whether a line came out more often than it is there, also as a part of others."""
    found = out.count(letters)
    return found > times and found > sum(n * other.count(letters) for other, n in seen.items())


def _poor(source: Texts, written: Sequence[str]) -> Iterator[int]:
    if len(source) != len(written):
        source, written = [[line for page in source for line in page]], ["".join(written)]
    for number, (lines, page) in enumerate(zip(source, written, strict=True), start=1):
        has, got = Counter(_letters("".join(lines))), Counter(_letters(page))
        if has.total() >= MIN_LETTERS and (has & got).total() < has.total() * LEAST:
            yield number


def _text_of(blocks: list[dict[str, Any]]) -> str:
    # The text of an item does not have the number.
    return "\n".join(block["markdown"] if block["kind"] == "item" else block["text"] for block in blocks)


def _words(text: str) -> list[str]:
    return WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def _letters(text: str) -> str:
    return "".join(_words(text))


def _source(path: Path) -> Iterator[list[str]]:
    match path.suffix.lower():
        case ".pdf":
            with pdfium.PdfDocument(path) as pdf:
                for number in range(len(pdf)):
                    try:
                        text = pdf[number].get_textpage().get_text_range()
                    except pdfium.PdfiumError:
                        text = ""
                    yield re.sub("[\x02\ufffe]\r?\n?", "", text).splitlines()
        case ".xlsx":
            book = openpyxl.load_workbook(path, data_only=True, read_only=True)
            for sheet in book.worksheets:
                if sheet.sheet_state == "visible":
                    rows = sheet.iter_rows(values_only=True)
                    yield [" ".join(cell for cell in row if isinstance(cell, str)) for row in rows]
        case suffix:
            names = r"word/document\d*\.xml" if suffix == ".docx" else r"ppt/slides/slide\d+\.xml"
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    if re.fullmatch(names, name):
                        yield list(_paragraphs(etree.fromstring(archive.read(name))))


def _paragraphs(root: Any) -> Iterator[str]:
    for element in root.iter():
        if isinstance(element.tag, str) and PARAGRAPH.fullmatch(element.tag):
            texts = (at for at in element.iter() if isinstance(at.tag, str) and at.tag.endswith(SAID))
            own = (at for at in texts if _owner(at) is element and not _is_left_out(at))
            yield "".join((at.text or "") if at.tag.endswith("}t") else " " for at in own)


def _owner(text: Any) -> Any:
    return next((up for up in text.iterancestors() if PARAGRAPH.fullmatch(str(up.tag))), None)


def _is_left_out(text: Any) -> bool:
    """Whether it is said elsewhere, or is a slide's date, footer or number."""
    for up in text.iterancestors():
        name = str(up.tag).rpartition("}")[2]
        if name in {"Fallback", "moveFrom"}:
            return True
        if name == "sp" and any(at.get("type") in FURNITURE for at in up.iterfind("{*}nvSpPr/{*}nvPr/{*}ph")):
            return True
    return False


def _child(path: str, ocr: str, answer: Any) -> None:
    answer.send(check(Path(path), ocr=ocr))


def _isolated(path: Path, *, ocr: str, timeout_s: float) -> Checked:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(str(path), ocr, sender))
    process.start()
    sender.close()
    try:
        if not receiver.poll(timeout_s):
            return Checked(str(path), error=f"timeout: {timeout_s:g} s", seconds=timeout_s)
        found: Checked = receiver.recv()
    except EOFError:
        process.join()
        return Checked(str(path), error=f"crash: status {process.exitcode}")
    else:
        return found
    finally:
        process.kill()
        process.join()


def report(all_found: Sequence[Checked]) -> str:
    """What was found, in lines."""
    read = [found for found in all_found if not found.error]
    failed = [found for found in all_found if found.error]
    pages, seconds = sum(found.pages for found in read), sum(found.seconds for found in read)
    of = [found.recall for found in read if found.words] or [1.0]
    poor, lost = sum(len(found.poor) for found in read), sum(len(found.lost) for found in read)
    doubled = sum(len(found.doubled) for found in read)
    warned = sum(any("letters" in warning for warning in found.warnings) for found in read)
    memory = max((found.peak_bytes for found in read), default=0)
    longest = max((found.seconds for found in read), default=0)
    lines = [
        f"{len(all_found)} documents, {len(failed)} not converted or compared; {pages} pages",
        f"{pages / (seconds or 1.0):.1f} pages a CPU-second, at most {longest:.1f} s, {memory / 1e6:.0f} MB",
        f"word recall: median {statistics.median(of):.3f}, mean {statistics.mean(of):.3f}",
        f"pages under {LEAST:.0%} of their letters: {poor}; lines lost: {lost}, doubled: {doubled}",
        f"documents that warn of their letters: {warned}",
        *(f"not converted: {found.path}: {found.error}" for found in failed),
        "the worst:",
    ]
    for found in sorted(read, key=lambda found: (found.recall, -len(found.lost)))[:WORST]:
        lines.append(
            f"  {found.recall:.3f} {found.path}: pages {list(found.poor[:5])}, {len(found.lost)} lines lost,"
            f" {len(found.doubled)} doubled, {found.seconds:.1f} s, {found.peak_bytes / 1e6:.0f} MB"
        )
        lines += (f"      {line[:100]}" for line in found.lost[:3])
    return "\n".join(lines)


def main() -> None:
    """Convert every document below a directory and print what is lost, doubled and slow."""
    parser = argparse.ArgumentParser(prog="check_documents", description=main.__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--ocr", choices=("never", "auto"), default="never", help="what has no text layer")
    parser.add_argument("--jobs", type=int, default=2, help="documents at once")
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds a document")
    parser.add_argument("--json", type=Path, help="also write what was found of each document, a line each")
    asked = parser.parse_args()
    paths = sorted(path for path in asked.directory.rglob("*") if path.suffix.lower() in SUFFIXES)
    with ThreadPoolExecutor(asked.jobs) as pool:
        found = list(pool.map(lambda path: _isolated(path, ocr=asked.ocr, timeout_s=asked.timeout), paths))
    print(report(found))
    if asked.json is not None:
        rows = ({name: getattr(one, name) for name in Checked.__slots__} for one in found)
        asked.json.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
