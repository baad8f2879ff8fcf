"""A PDF that is read in parts comes out as one that is read at once, byte for byte."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import msgspec
import pypdfium2 as pdfium
import pytest
from PIL import Image

from switchyard.services.documents.convert import convert
from switchyard.services.documents.errors import FatalError, RetryableError
from switchyard.services.documents.model.blocks import Block
from switchyard.services.documents.model.runs import Look
from switchyard.services.documents.ocr.reading import Reading
from switchyard.services.documents.ocr.recognised import Recognised
from switchyard.services.documents.page.lines import Line, Table, Word
from switchyard.services.documents.page.tables.grid import Rule
from switchyard.services.documents.pdf.drawn.objects import Drawing
from switchyard.services.documents.pdf.forms import Field, Filled
from switchyard.services.documents.pdf.page_model import InPicture, PageText, ReadPage, Shown
from switchyard.services.documents.pdf.parts import packing
from switchyard.services.documents.pdf.parts.convert import NAME, join, read_part
from switchyard.services.documents.pdf.parts.file import FRAME, START, VERSION, PartError, PartFile
from switchyard.services.documents.pdf.parts.packing import Packer, PackError, Unpacker
from switchyard.services.documents.pdf.parts.pages import packed, unpacked
from switchyard.services.documents.pdf.tags.structure import Cell, Part, Structure, TableOf
from tests.documents.corpus import DOCUMENTS, needs_ocr
from tests.documents.pdf import long_pdf
from tests.documents.pdf_files import pages_of, texts_of

OURS: Final = {"page", NAME, "cut.pdf"}
SENTENCE: Final = (
    "A line of some words that goes on for long enough to be one of plain text, and does not end"
)


def arguments(path: Path, directory: Path, **given: Any) -> dict[str, Any]:
    directory.mkdir(parents=True)
    return {
        "source": str(path), "directory": str(directory), "name": path.name, "media_type": "", "ocr": "never",
        "languages": ["eng"], "formats": ["markdown", "json", "text"], "page_breaks": False, "max_pages": 999,
        "images": "save", "comments": True, **given,
    }  # fmt: skip


def written(directory: Path) -> dict[str, bytes]:
    """What a conversion has left."""
    return {
        path.name: path.read_bytes()
        for path in directory.iterdir()
        if path.is_file() and path.name not in OURS
    }


def unheard(_done: dict[str, Any]) -> None:
    """Nobody hears of this progress."""


def whole(path: Path, tmp_path: Path, **given: Any) -> tuple[dict[str, Any], dict[str, bytes]]:
    """What is said of a document, and what was made of it."""
    place = tmp_path / "whole"
    said = convert(arguments(path, place, **given), unheard)
    return said, written(place)


def parts_of(path: Path, tmp_path: Path, cuts: Sequence[int], **given: Any) -> list[Path]:
    """The files of the parts of a document between some pages."""
    files: list[Path] = []
    for at, (first, end) in enumerate(pairwise(cuts)):
        place = tmp_path / f"part-{len(cuts)}-{at}"
        part = {"first": first, "count": end - first, "total": cuts[-1]}
        read_part(arguments(path, place, **given) | part, unheard)
        files.append(place / NAME)
    return files


def joined(
    files: Sequence[Path], place: Path, total: int, missing: dict[str, str] | None = None, **given: Any
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """What becomes of parts."""
    parts = {"total": total, "parts": [str(file) for file in files], "missing": missing or {}}
    said = join(arguments(Path("a.pdf"), place, **given) | parts, unheard)
    return said, written(place)


def check(path: Path, tmp_path: Path, **given: Any) -> None:
    """A document comes out the same in two, three and seven parts."""
    expected = whole(path, tmp_path, **given)
    total = expected[0]["pages"]
    for count in (2, 3, 7):
        if count <= total:
            cuts = [total * at // count for at in range(count + 1)]
            files = parts_of(path, tmp_path, cuts, **given)
            assert joined(files, tmp_path / f"joined-{count}", total, **given) == expected, (path, count)


def book(tmp_path: Path, pages: int = 9) -> Path:
    """Pages with a header, a page number, a table that continues, and sentences that go on."""
    path = tmp_path / "book.pdf"
    rows = [(72, 690 - 16 * row, f"Row {row}") for row in range(4)]
    cells = [(x, y, f"{x}.{y}") for _, y, _ in rows for x in (200, 300, 400)]
    lines = [(72, 600 - 14 * line, f"{SENTENCE} on {line}") for line in range(30)]
    path.write_bytes(
        pages_of(
            [
                texts_of(
                    [
                        (72, 760, "The Book of Parts"),
                        (300, 30, str(number + 1)),
                        *(rows + cells if number % 2 else ()),
                        *lines,
                        (72, 150, f"a word that is bro-{number}"),
                    ]
                )
                for number in range(pages)
            ]
        )
    )
    return path


def test_a_document_in_parts_is_the_document(tmp_path: Path) -> None:
    for number, path in enumerate((book(tmp_path), DOCUMENTS / "docling_wiki.pdf")):
        place = tmp_path / str(number)
        place.mkdir()
        check(path, place)


def test_pages_that_lie_on_their_side_are_turned_in_parts_as_well(tmp_path: Path) -> None:
    path = tmp_path / "turned.pdf"
    cells = [(x, 690 - 16 * row, f"{x}.{row}") for row in range(6) for x in (100, 200, 300)]
    lines = [(72, 560 - 14 * line, f"{SENTENCE} on {line}") for line in range(9)]
    content = texts_of([(72, 730, "A table and what it says"), *cells, *lines])
    path.write_bytes(pages_of([content, f"q 0 1 -1 0 650 0 cm {content}Q "] * 4))
    check(path, tmp_path)


@pytest.mark.drill
@needs_ocr
def test_scans_in_parts_are_the_document(tmp_path: Path) -> None:
    check(DOCUMENTS / "docling_duck_scan.pdf", tmp_path, ocr="auto")


@pytest.mark.drill
@pytest.mark.timeout(3600)  # a part of them is read by OCR, whole and in twelve parts
@pytest.mark.parametrize("seed", range(50))
def test_fifty_long_documents_in_parts_are_the_documents(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    names = sorted(DOCUMENTS.glob("*.pdf"))
    with pdfium.PdfDocument.new() as made:
        while len(made) <= 20 + seed // 5:
            path = book(tmp_path, 3) if chance.random() < 0.3 else chance.choice(names)
            with pdfium.PdfDocument(path) as source:
                made.import_pages(source)
        made.save(tmp_path / "long.pdf")
    check(tmp_path / "long.pdf", tmp_path, ocr="auto" if seed % 10 == 0 else "never")


def test_pages_that_were_not_read_are_marked_and_the_others_stand(tmp_path: Path) -> None:
    path = book(tmp_path, 6)
    first, _, last = parts_of(path, tmp_path, [0, 2, 4, 6])
    why = "could not be read and was left out (poison)"
    said, made = joined([last, first], tmp_path / "joined", 6, {"2": why, "3": why})
    assert said["pages"] == 6
    assert said["warnings"] == [f"page 3 {why}", f"page 4 {why}"]
    assert made["document.txt"].count(b"\f") == 5
    assert made["document.txt"].count(SENTENCE.encode()) == 4 * 30
    # The same pages left out while all are read at once.
    assert whole(path, tmp_path, skip={"2": why, "3": why}) == (said, made)


@needs_ocr
def test_a_page_on_which_ocr_fails_is_left_out_and_only_where_all_do_none_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = long_pdf.write(tmp_path / "scans.pdf", 4, frozenset({1, 3}))
    bad, seen = [0], list[bytes]()

    class Run:
        """One of a program that fails on some pages, by their order."""

        def __init__(self, image: Image.Image) -> None:
            self._image = image

        def result(self) -> Recognised:
            look = self._image.tobytes()
            if look not in seen:
                seen.append(look)
            if seen.index(look) in bad:
                raise RetryableError("ocr_failed", "for the test")
            return Recognised((), (), 95.0)

    monkeypatch.setattr(Reading, "_started", lambda self, _turn: Run(self._image))
    cuts = [0, 2, 4]  # the first part has no other page for OCR
    expected = whole(path, tmp_path, ocr="auto")
    assert expected[0]["warnings"] == ["page 2 was left out, for for the test"]
    with pytest.raises(RetryableError):
        parts_of(path, tmp_path / "once", cuts, ocr="auto")
    files = parts_of(path, tmp_path / "again", cuts, ocr="auto", goes_on=True)
    assert joined(files, tmp_path / "joined", 4, ocr="auto") == expected
    bad.append(1)
    with pytest.raises(RetryableError):
        convert(arguments(path, tmp_path / "none", ocr="auto"), unheard)
    files = parts_of(path, tmp_path / "all", cuts, ocr="auto", goes_on=True)
    with pytest.raises(FatalError, match="for the test"):
        joined(files, tmp_path / "none-joined", 4, ocr="auto")


def test_parts_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    path = book(tmp_path, 4)
    one, other = parts_of(path, tmp_path, [0, 2, 4])
    for at, (files, total, ocr, why) in enumerate(
        (
            ([one], 4, "never", "page 3 is missing"),
            ([one, one, other], 4, "never", "page 1 is there twice"),
            ([one, other], 5, "never", "another document"),
            ([one, other], 4, "always", "another document"),
        )
    ):
        with pytest.raises(RetryableError, match=why):
            joined(files, tmp_path / f"joined-{at}", total, ocr=ocr)
    with pytest.raises(FatalError, match="has 4 pages"):
        read_part(arguments(path, tmp_path / "five") | {"first": 0, "count": 2, "total": 5}, unheard)


def odd_page() -> ReadPage:
    """A page with something everywhere, much of it odd."""
    word = Word(
        "\ud800 \x00",
        -0.0,
        1e-300,
        float("inf"),
        0.1 + 0.2,
        Look(bold=True, link="a"),
        "F",
        True,
        True,
        True,
        -2,
    )
    line = Line("other text", 1, 2.5, 3, 4, 5, True, True, True, (word, word._replace(text="")), True, "F",
                "i.png", -1, True)  # fmt: skip
    table = Table(1, 2, 3, 4, "| a |", frozenset({(2.0, 1.0), (1.0, 2.0)}), ((1.0, 2.0),), True, (1.0, 3.0))
    block = Block("quote", "> a", "a", 3, (0.0, 0.1, 0.2, 0.3), "", True)
    read = Recognised((line,), (table, replace(table, lines=None)), 91.5, (1.0, 2.0), (3.0, 4.0), 90.25)
    cell = Cell(frozenset({3, 1, 2}), 2, 1, True, False)
    structure = Structure(
        (TableOf(((cell,), ()), True),), {7: Part(1, 2), 1: Part(2, 0)}, {5: 1}, frozenset({9, 8}), True
    )
    filled = Filled(
        (Field(("a", "b"), (1.0, 2.0, 3.0, 4.0), True, True),), (block, replace(block, box=None)), 2
    )
    return ReadPage(
        4_000,
        PageText(
            (line, Line("", 0, 0, 0, 0, 0)),
            (612.0, 792.0),
            12,
            structure,
            filled,
            "ValueError",
            ("x", ""),
            270,
        ),
        "",
        (((1.0, 2.0, 3.0, 4.0), "https://example.com"),),
        Drawing(0.5, 3, (Rule(1.0, 2.0, 3.0),), (Rule(4.0, 5.0, 6.0),), frozenset({(1.0, 2.0, 3.0, 4.0)})),
        read,
        (InPicture(b"\x00\xff", (1.0, 2.0, 3.0, 4.0), 4.1, (0.0, 1.0), (30, 40), replace(read, size=None)),),
        (Shown(b"", (1.0, 2.0, 3.0, 4.0)), Shown(b"k" * 32, (1.0, 2.0, 3.0, 4.0))),
    )


def test_a_page_is_the_same_after_it_was_packed(tmp_path: Path) -> None:
    page = odd_page()
    assert unpacked(packed(page)) == page
    assert packed(unpacked(packed(page))) == packed(page)
    (file,) = parts_of(book(tmp_path, 2), tmp_path, [0, 2])
    read = PartFile(file).page(1)
    assert unpacked(packed(read)) == read
    assert len(read.text.lines) > 30


def damaged(data: bytes) -> Iterator[bytes]:
    """A file cut off, changed or made longer at many places."""
    for at in range(0, len(data), max(len(data) // 60, 1)):
        yield data[:at]
        yield data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]
    yield data + b"\x00"
    yield b""
    yield b"%PDF-1.7" * 100


def read_all(path: Path) -> None:
    """Read all that is in a file of pages."""
    file = PartFile(path)
    for number in range(file.head.count):
        file.page(number)
    for key in file.pictures():
        file.picture(key)


def test_a_file_that_is_no_part_is_refused(tmp_path: Path) -> None:
    (file,) = parts_of(DOCUMENTS / "docling_duck.pdf", tmp_path, [0, 2])
    data = file.read_bytes()
    for bad in damaged(data):
        file.write_bytes(bad)
        with pytest.raises(PartError):
            read_all(file)
    for version, age in ((VERSION + 1, "newer"), (0, "older")):
        file.write_bytes(data[:8] + version.to_bytes(2, "little") + data[START.size :])
        with pytest.raises(PartError, match=age):
            PartFile(file)
    file.write_bytes(data[: START.size] + FRAME.pack(b"h", 0, 2**32 - 1, 0))
    with pytest.raises(PartError, match="too many"):
        PartFile(file)


def again_and_again(unpacker: Unpacker) -> None:
    """Ask for the same text a hundred times."""
    for _ in range(100):
        unpacker.text()


def test_what_is_no_pack_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "MAX_BYTES", 100_000)
    good = zlib.decompress(packed(odd_page()))
    forms = msgspec.msgpack.decode(good)
    bad = [
        b"", b"\x00", zlib.compress(b""), zlib.compress(b"\xdd\xff\xff\xff\xff"), zlib.compress(good[:-1]),
        zlib.compress(good + b"\x00"), zlib.compress(good) + b"\x00", zlib.compress(b"\x00" * 200_000),
        zlib.compress(msgspec.msgpack.encode([forms[0] + b"\x01\x00\x00\x00", *forms[1:]])),
        zlib.compress(msgspec.msgpack.encode([b"\xff" * len(forms[0]), *forms[1:]])),
        zlib.compress(msgspec.msgpack.encode([b"\x7f" * len(forms[0]), *forms[1:]])),
    ]  # fmt: skip
    for at in range(3):
        short = [form[:-4] if at == number else form for number, form in enumerate(forms)]
        bad.append(zlib.compress(msgspec.msgpack.encode(short)))
    for data in bad:
        with pytest.raises(PackError):
            unpacked(data)
    packer = Packer()
    for _ in range(100):
        packer.text("a text that is asked for again and again" * 50)
    again = Unpacker(packer.packed())
    with pytest.raises(PackError, match="more than may be"):
        again_and_again(again)
    packer.text("".join(map(chr, range(50_000))))
    with pytest.raises(PackError, match="too many"):
        packer.packed()
