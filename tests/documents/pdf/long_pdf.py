"""A long PDF: chapters, running headers, tables that go on over pages, and some pages that are scans.

What it says is drawn by chance from a list of words, and no layout of the other tests is taken over. Each
page has a mark of its own in its text, by which it is found in what was made of it.
"""

from __future__ import annotations

import io
import random
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pypdfium2 as pdfium

WORDS: Final = (
    "harbour", "ledger", "copper", "signal", "orchard", "granite", "measure", "northern", "tariff", "voyage",
    "quarry", "timber", "estimate", "survey", "canal", "freight", "winter", "parish", "engine", "contour",
    "margin", "railway", "council", "barley", "ferry", "lantern", "district", "mineral",
)  # fmt: skip
MARK: Final = re.compile(r"Folio (\d{4}) of this survey")
LETTER: Final = (612, 792)
FONTS: Final = (
    b"<< /T << /Type /Font /Subtype /Type1 /BaseFont /Times-Roman >> "
    b"/B << /Type /Font /Subtype /Type1 /BaseFont /Helvetica-Bold >> >>"
)
DPI: Final = 150
COLUMNS: Final = (90, 240, 340, 440, 530)
PAGES_OF_CHAPTER: Final = 11
TABLE_FROM: Final = 4
HEADED: Final = 8


def mark(number: int) -> str:
    """The words by which a page, from 0, is found."""
    return f"Folio {number + 1:04} of this survey"


def write(path: Path, pages: int, scans: frozenset[int] = frozenset()) -> Path:
    """Write the document; the same for the same arguments.

    Args:
        path: where.
        pages: how many it has.
        scans: which of them, from 0, are pictures.
    """
    chance = random.Random(pages)
    contents = [_page(number, chance, is_short=number in scans) for number in range(pages)]
    pictures = _scanned(_pdf(contents), scans)
    path.write_bytes(_pdf(contents, pictures))
    return path


def _text(font: str, size: float, x: float, y: float, text: str) -> str:
    return f"BT /{font} {size} Tf 1 0 0 1 {x} {y} Tm ({text}) Tj ET\n"


def _sentence(chance: random.Random, words: int) -> str:
    said = " ".join(chance.choice(WORDS) for _ in range(words))
    return f"{said.capitalize()}."


def _page(number: int, chance: random.Random, *, is_short: bool) -> str:
    chapter, within = divmod(number, PAGES_OF_CHAPTER)
    title = f"Chapter {chapter + 1}: {WORDS[chapter % len(WORDS)].capitalize()} and its accounts"
    left = title if number % 2 else "A Survey of the Northern Parishes"
    made = [_text("T", 9, 90, 752, left), _text("T", 9, 500, 752, f"{number + 1}")]
    made.append("90 746 m 540 746 l 0.5 w S\n")
    y = 715.0
    if is_short:  # OCR takes its time
        return "".join(
            [*made, *_paragraphs(y, [[f"{mark(number)}. {_sentence(chance, 9)}", *_lines(chance, 20)]])]
        )
    if not within:
        made.append(_text("B", 17, 90, y, title))
        y -= 34
    elif within == HEADED:
        made.append(_text("B", 12, 90, y, f"{chapter + 1}.{within} Findings of the year"))
        y -= 24
    paragraphs = [_lines(chance, words) for words in (40, 70, 70)]
    paragraphs[0][0] = f"{mark(number)}. {paragraphs[0][0]}"
    match within - TABLE_FROM:
        case 0:  # one table over three pages
            made += _paragraphs(y, paragraphs[:1])
            made.append(_table(number, 600.0, 29, chance, is_first=True))
        case 1:
            made.append(_table(number, y, 35, chance))
        case 2:
            made.append(_table(number, y, 12, chance))
            made += _paragraphs(y - 19 * 13, [[paragraphs[0][0].partition(". ")[2], *paragraphs[0][1:]]])
        case _:
            made += _paragraphs(y, paragraphs)
    return "".join(made)


def _paragraphs(y: float, paragraphs: list[list[str]]) -> Iterator[str]:
    for lines in paragraphs:
        for line in lines:
            yield _text("T", 11, 90, y, line)
            y -= 13.5
        y -= 9


def _lines(chance: random.Random, words: int) -> list[str]:
    text = " ".join(_sentence(chance, chance.randint(7, 13)) for _ in range(words // 10)).split()
    lines, line = list[str](), ""
    for word in text:
        if len(line) + len(word) > 84:
            lines.append(line)
            line = ""
        line = f"{line} {word}".strip()
    return [*lines, line]


def _table(number: int, top: float, rows: int, chance: random.Random, *, is_first: bool = False) -> str:
    made = []
    for row in range(rows + 1):
        y = top + 12 - 19 * row
        made.append(f"{COLUMNS[0] - 4} {y} m {COLUMNS[-1]} {y} l 0.7 w S\n")
    ends = (*COLUMNS[:-1], COLUMNS[-1] + 4)
    made += [f"{x - 4} {top + 12} m {x - 4} {top + 12 - 19 * rows} l 0.7 w S\n" for x in ends]
    for row in range(rows):
        head = row == 0 and is_first
        cells = ("Parish and remark", "Yield", "Tariff", "Entry") if head else (
            chance.choice(WORDS).capitalize(), str(chance.randint(10, 9999)),
            f"{chance.randint(1, 99)}.{chance.randint(10, 99)}", f"{number + 1}/{row + 1}",
        )  # fmt: skip
        if row == 0 and not is_first:
            cells = (mark(number), *cells[1:])
        for x, cell in zip(COLUMNS, cells, strict=False):
            made.append(_text("B" if head else "T", 10, x, top - 2 - 19 * row, cell))
    return "".join(made)


def _scanned(pdf: bytes, scans: frozenset[int]) -> dict[int, bytes]:
    """Pages as pictures, by their numbers."""
    made = {}
    with pdfium.PdfDocument(pdf) as document:
        for number in sorted(scans):
            page = document[number]
            data = io.BytesIO()
            page.render(scale=DPI / 72, grayscale=True).to_pil().save(data, "JPEG", quality=85)
            page.close()
            made[number] = data.getvalue()
    return made


def _objects(contents: list[str], pictures: dict[int, bytes]) -> Iterator[bytes]:
    kids = b" ".join(b"%d 0 R" % (4 + 3 * number) for number in range(len(contents)))
    yield b"<< /Type /Catalog /Pages 2 0 R >>"
    yield b"<< /Type /Pages /Kids [%b] /Count %d /MediaBox [0 0 612 792] >>" % (kids, len(contents))
    yield FONTS
    for number, content in enumerate(contents):
        body, picture = content.encode(), b"null"
        if (data := pictures.get(number)) is not None:
            body = b"q 612 0 0 792 0 0 cm /I Do Q"
            size = b"/Width %d /Height %d" % (LETTER[0] * DPI // 72, LETTER[1] * DPI // 72)
            look = b"/Subtype /Image /ColorSpace /DeviceGray /BitsPerComponent 8 /Filter /DCTDecode"
            picture = b"<< %b %b /Length %d >>\nstream\n%b\nendstream" % (look, size, len(data), data)
        packed = zlib.compress(body)
        named = b"/Font 3 0 R /XObject << /I %d 0 R >>" % (6 + 3 * number)
        resources = named if number in pictures else b"/Font 3 0 R"
        yield b"<< /Type /Page /Parent 2 0 R /Contents %d 0 R /Resources << %b >> >>" % (
            5 + 3 * number,
            resources,
        )
        yield b"<< /Length %d /Filter /FlateDecode >>\nstream\n%b\nendstream" % (len(packed), packed)
        yield picture


def _pdf(contents: list[str], pictures: dict[int, bytes] | None = None) -> bytes:
    body, offsets = bytearray(b"%PDF-1.5\n"), list[int]()
    for number, each in enumerate(_objects(contents, pictures or {}), start=1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%b\nendobj\n" % (number, each)
    start = len(body)
    body += b"xref\n0 %d\n0000000000 65535 f \n" % (len(offsets) + 1)
    body += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    body += b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(offsets) + 1, start)
    return bytes(body)
