"""Pages of a PDF that have a text layer and need OCR nevertheless."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pypdfium2 as pdfium
import pytest
from PIL import Image, ImageDraw, ImageFont

from switchyard.services.documents.model.document import Ocr, Options, Page
from switchyard.services.documents.pdf import read
from switchyard.services.documents.pdf.text.garbled import is_odd
from tests.documents.corpus import DOCUMENTS, needs_ocr
from tests.documents.pdf_files import page_of, stream_of

PROSE = (
    "The bridge was built of steel in the year of the great flood,",
    "and it carries the road and the railway over the river to this day.",
    "Every spring the engineers look at the bolts and at the paint of it.",
)


def pages_of(path: Path, *, mode: Ocr = "auto") -> list[Page]:
    return list(read.read(path, Options(mode, ("eng",), 10)).pages)


def written(lines: Sequence[str], *, size: tuple[int, int], points: float = 40) -> Image.Image:
    """Black text on white."""
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        draw.text((30, 30 + number * points * 1.5), line, fill="black", font=ImageFont.load_default(points))
    return image


def photo(size: tuple[int, int]) -> Image.Image:
    """Colours that run into each other, with no paper between them."""
    return Image.linear_gradient("L").resize(size).convert("RGB")


def page_with(
    path: Path, picture: Image.Image, at: tuple[float, float, float, float], text: Sequence[str] = PROSE
) -> Path:
    """A PDF of one page with text at its top and a picture at left, bottom, width and height in points."""
    content = "".join(f"BT /H 11 Tf 72 {730 - 16 * n} Td ({line}) Tj ET\n" for n, line in enumerate(text))
    source = path.with_suffix(".source.pdf")
    source.write_bytes(page_of(content))
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=95)
    left, bottom, width, height = at
    with pdfium.PdfDocument(source) as document:
        page = document[0]
        image = pdfium.PdfImage.new(document)
        image.load_jpeg(data, inline=True)
        image.set_matrix(pdfium.PdfMatrix(width, 0, 0, height, left, bottom))
        page.insert_obj(image)
        page.gen_content()
        document.save(path)
    return path


@needs_ocr
def test_a_stamp_is_read_where_it_stands(tmp_path: Path) -> None:
    stamp = written(["RECEIVED AND APPROVED", "by the harbour office"], size=(640, 180))
    (page,) = pages_of(page_with(tmp_path / "stamped.pdf", stamp, (300, 560, 220, 62)))
    assert page.markdown.startswith("The bridge was built of steel")
    assert page.markdown.split("\n\n")[1:] == ["RECEIVED AND APPROVED", "by the harbour office"]
    assert "#" not in page.markdown
    assert page.by_ocr
    assert page.confidence is not None
    assert page.confidence > 80


@needs_ocr
@pytest.mark.parametrize(
    ("bottom", "expected"), [(560, [True, True, True]), (745, [True, False, False])], ids=["stamp", "logo"]
)
def test_what_is_on_every_page_is_written_on_each_and_a_logo_on_the_first(
    tmp_path: Path, bottom: float, expected: list[bool]
) -> None:
    picture = written(["RECEIVED AND APPROVED"], size=(640, 120))
    one = page_with(tmp_path / "one.pdf", picture, (300, bottom, 220, 42))
    with pdfium.PdfDocument.new() as made, pdfium.PdfDocument(one) as source:
        for _ in range(3):
            made.import_pages(source)
        made.save(tmp_path / "three.pdf")
    pages = pages_of(tmp_path / "three.pdf")
    assert ["RECEIVED" in page.markdown for page in pages] == expected


@needs_ocr
def test_a_scan_under_a_few_lines_of_text_is_read_and_the_text_not_doubled(tmp_path: Path) -> None:
    lines = [
        "Minutes of the meeting in May",
        "The paint of the bridge is grey.",
        "It shall be green from June on.",
    ]
    scan = written(["", "", "", "", *lines], size=(1275, 1650), points=44)
    (page,) = pages_of(page_with(tmp_path / "scan.pdf", scan, (0, 0, 612, 792)))
    for line in (PROSE[0], *lines):
        assert page.markdown.count(line.split(",")[0]) == 1, line


@needs_ocr
@pytest.mark.parametrize(
    "picture",
    [
        pytest.param(photo((600, 400)), id="photo"),
        pytest.param(Image.new("RGB", (600, 400), "white"), id="blank"),
        pytest.param(written(["North"], size=(1600, 1200), points=30), id="diagram with a label"),
    ],
)
def test_pictures_that_are_no_text_are_left_alone(tmp_path: Path, picture: Image.Image) -> None:
    (page,) = pages_of(page_with(tmp_path / "picture.pdf", picture, (72, 200, 400, 280)))
    assert page.markdown == " ".join(PROSE)
    assert not page.by_ocr


@needs_ocr
def test_the_text_behind_a_scan_is_taken_as_it_is(tmp_path: Path) -> None:
    scan = written(
        ["A page that a scanner has read itself,", "whose text lies behind it, unseen."], size=(1275, 400)
    )
    lines = (
        "A page that a scanner has read itsef,",
        "whose text lies behind it, unseen.",
    )  # with its mistake
    path = page_with(tmp_path / "read.pdf", scan, (60, 690, 550, 60), text=lines)
    (page,) = pages_of(path)
    assert "read itsef" in page.markdown
    assert not page.by_ocr


def test_no_picture_is_read_where_ocr_is_switched_off(tmp_path: Path) -> None:
    stamp = written(["RECEIVED AND APPROVED"], size=(640, 120))
    (page,) = pages_of(page_with(tmp_path / "stamped.pdf", stamp, (300, 560, 220, 40)), mode="never")
    assert page.markdown == " ".join(PROSE)


def garbled_pdf(path: Path, shift: int) -> Path:
    """A PDF that shows its text, and names other letters: each so many further in the alphabet."""
    pairs = "".join(
        f"<{ord(letter):02x}> <{ord(letter) + shift:04x}>\n" for letter in map(chr, range(0x21, 0x7B))
    )
    cmap = (
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap\n"
        "/CMapName /Shifted def /CMapType 2 def\n1 begincodespacerange <00> <ff> endcodespacerange\n"
        f"{0x7B - 0x21} beginbfchar\n{pairs}endbfchar\nendcmap end end\n"
    )
    content = "".join(f"BT /H 12 Tf 72 {700 - 16 * n} Td ({line}) Tj ET\n" for n, line in enumerate(PROSE))
    path.write_bytes(
        page_of(
            content,
            resources="/Font << /H 5 0 R >>",
            objects=[
                "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /ToUnicode 6 0 R >>",
                stream_of(cmap),
            ],
        )
    )
    return path


@needs_ocr
@pytest.mark.parametrize("shift", [-29, 3, 160])
def test_a_text_layer_of_wrong_letters_is_replaced_by_what_the_page_shows(tmp_path: Path, shift: int) -> None:
    path = garbled_pdf(tmp_path / "garbled.pdf", shift)
    (expected,) = pages_of(path, mode="never")
    assert "bridge" not in expected.markdown
    (page,) = pages_of(path)
    assert page.by_ocr
    assert " ".join(page.markdown.split()) == " ".join(PROSE)


@needs_ocr
def test_odd_text_that_the_page_shows_is_kept(tmp_path: Path) -> None:
    parts = [f"XK-{number:04}/QTR BRNZ 7{number} PLT {{{number}}}" for number in range(8)]
    blank = Image.new("RGB", (20, 20), "white")
    (page,) = pages_of(page_with(tmp_path / "parts.pdf", blank, (0, 0, 5, 5), text=parts))
    assert is_odd(page.markdown)
    assert not page.by_ocr
    assert all(part in page.markdown for part in parts)


@pytest.mark.parametrize(
    "text",
    [
        "Zażółć gęślą jaźń i wstrząśnij źdźbłem trawy, bo chrząszcz brzmi w trzcinie w Szczebrzeszynie.",
        "Všichni lidé rodí se svobodní a sobě rovní co do důstojnosti a práv, jsou nadáni rozumem.",
        "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền lợi.",
        "Vogelfluglinie, Schifffahrt, Angstschweiss: Rechtsschutzversicherungsgesellschaften zahlen.",
        "Все люди рождаются свободными и равными в своём достоинстве и правах. They are free.",  # noqa: RUF001 - Cyrillic
        "すべての人間は、生れながらにして自由であり、かつ、尊厳と権利とについて平等である。人間は理性と良心とを授けられている。",
        "يولد جميع الناس أحراراً متساوين في الكرامة والحقوق. وقد وهبوا عقلاً وضميراً وعليهم أن يعامل",
        "def area(side: float) -> float:\n    return side ** 2\n\nprint(area(side=2.0), end='')  # four",
        "2024 1,024.00 17.5 % 3,400.25 -12.00 2025 9,999.99 18.1 % 2,100.75 +4.50 Total 16,524.99",
    ],
)
def test_languages_sums_and_code_are_not_odd(text: str) -> None:
    assert not is_odd(text)


def test_documents_with_a_good_text_layer_are_not_read_by_ocr() -> None:
    sure: dict[str, Any] = {}
    for name in ("invoice.pdf", "fieldreport.pdf", "docling_wiki.pdf", "docling_duck.pdf"):
        sure[name] = [page.by_ocr for page in pages_of(DOCUMENTS / name)]
    assert not any(any(pages) for pages in sure.values()), sure
