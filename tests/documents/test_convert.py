from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import openpyxl
import psutil
import pypdfium2 as pdfium
import pytest
from PIL import Image, ImageDraw
from pptx import Presentation
from pypdfium2 import raw

from switchyard.events.requirements.matching import matches
from switchyard.services.connectors.convert.connector import INLINE_BYTES, ConvertConnector
from switchyard.services.connectors.protocol import FatalError, Outcome, RetryableError
from switchyard.services.documents.ocr.machine import tesseract
from tests.connectors.attempts import LocalAttempt, workers
from tests.documents.corpus import DOCUMENTS, cells, expected, headings, likeness, needs_german, needs_ocr

Convert = Callable[..., Coroutine[Any, Any, Outcome]]


@pytest.fixture
async def connector() -> AsyncIterator[ConvertConnector]:
    connector = ConvertConnector(slots=1)
    yield connector
    await connector.close()


@pytest.fixture
def no_programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A search path with nothing on it; asked for before the connector, which keeps it."""
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.fixture
def attempt(tmp_path: Path) -> LocalAttempt:
    return LocalAttempt(tmp_path)


@pytest.fixture
def convert(connector: ConvertConnector, attempt: LocalAttempt) -> Convert:
    def call(document: Path | str, **payload: Any) -> Coroutine[Any, Any, Outcome]:
        attempt.payload = {"file": attempt.offer(DOCUMENTS / document), **payload}
        return connector.run(attempt)

    return call


@pytest.mark.parametrize(
    ("name", "floor"),
    [
        ("invoice.pdf", 0.98),
        ("docx_lists.docx", 0.95),
        ("tablecell.docx", 0.95),
        ("pptx_chart.pptx", 0.85),
        ("xlsx_09_section_label_header.xlsx", 0.95),
        ("example_03.html", 0.95),
    ],
)
async def test_text_of_a_document_comes_out(convert: Convert, name: str, floor: float) -> None:
    result = (await convert(name)).result
    assert likeness(result["markdown"], expected(name)) >= floor
    assert result["format"] == name.rpartition(".")[2]
    assert result["ocr_pages"] == 0
    assert result["warnings"] == []


@needs_ocr
@pytest.mark.parametrize(
    ("name", "floor"),
    [
        ("fieldreport_scan.pdf", 0.9),
        ("ocr_test.pdf", 0.9),
        ("phototest.tif", 0.95),
        ("phototest-rotated-180.png", 0.95),
    ],
)
async def test_text_of_a_picture_comes_out(convert: Convert, name: str, floor: float) -> None:
    result = (await convert(name)).result
    assert likeness(result["markdown"], expected(name)) >= floor
    assert result["ocr_pages"] == result["pages"] == 1


async def test_headings_lists_and_tables_of_a_pdf_are_markdown(convert: Convert) -> None:
    markdown = (await convert("invoice.pdf")).result["markdown"]
    assert headings(markdown) == headings(expected("invoice.pdf"))
    assert cells(markdown) == cells(expected("invoice.pdf"))
    assert "\n1. Transfer within 14 days.\n2. Quote" in markdown


@needs_ocr
async def test_headings_lists_and_tables_of_a_scan_are_markdown(convert: Convert) -> None:
    markdown = (await convert("fieldreport_scan.pdf")).result["markdown"]
    assert {"Summary", "Findings", "Next steps"} <= set(headings(markdown))
    assert "- The filter had not been changed since October." in markdown
    assert ["Oil temperature", "82.4 °C", "61.0 °C", "80 °C"] in cells(markdown)


async def test_lists_and_headings_of_a_word_document_are_markdown(convert: Convert) -> None:
    markdown = (await convert("docx_lists.docx")).result["markdown"]
    assert headings(markdown) == headings(expected("docx_lists.docx"))
    assert "- List item 1\n- List item 2" in markdown
    assert "1. List item a\n2. List item b" in markdown


async def test_table_of_a_word_document_is_markdown(convert: Convert) -> None:
    markdown = (await convert("tablecell.docx")).result["markdown"]
    assert cells(markdown) == [["Tab1", "Tab2", "Tab3"], ["A", "B", "C"], ["D", "E", "F"]]


async def test_slides_have_titles_bullets_and_tables(convert: Convert, tmp_path: Path) -> None:
    deck = Presentation()
    slide = deck.slides.add_slide(deck.slide_layouts[1])
    slide.shapes.title.text = "Plan"
    frame = slide.placeholders[1].text_frame
    frame.text = "first"
    inner = frame.add_paragraph()
    inner.text, inner.level = "below", 1
    table = slide.shapes.add_table(2, 2, 500_000, 6_300_000, 3_000_000, 500_000).table
    for number, text in enumerate(("a", "b|c", "d", "")):
        table.cell(number // 2, number % 2).text = text
    deck.slides.add_slide(deck.slide_layouts[5]).shapes.title.text = "End"
    deck.save(str(tmp_path / "deck.pptx"))
    result = (await convert(tmp_path / "deck.pptx", page_breaks=True)).result
    assert result["markdown"] == (
        "# Plan\n\n- first\n    - below\n\n| a | b\\|c |\n| --- | --- |\n| d |  |\n"
        "\n<!-- page 2 -->\n\n# End\n"
    )
    assert result["pages"] == 2


async def test_each_sheet_has_its_tables(convert: Convert, tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.title = "Numbers"
    for row in (["name", "value"], ["a", 1.5], [], ["x", "y", "z"], ["é|", True, None]):
        sheet.append(row)
    book.create_sheet("Empty")
    book.save(tmp_path / "book.xlsx")
    result = (await convert(tmp_path / "book.xlsx")).result
    assert result["markdown"] == (
        "## Numbers\n\n| name | value |\n| --- | --- |\n| a | 1.5 |\n\n"
        "| x | y | z |\n| --- | --- | --- |\n| é\\| | TRUE |  |\n\n## Empty\n"
    )


async def test_html_loses_its_scripts_and_keeps_its_structure(convert: Convert, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(
        "<html><head><title>T</title><style>p {}</style></head><body><script>alert(1)</script><h2>Sub</h2>"
        "<p>Some <b>bold</b> &lt;script&gt; <a href='javascript:x()'>link</a> <a href='http://a/'>b</a></p>"
        "<ul><li>one<ul><li>two</li></ul></li></ul>"
        "<table><tr><th colspan=2>wide</th></tr><tr><td rowspan=2>a</td><td>b</td></tr><tr><td>c</td></tr>"
        "</table></body></html>",
        encoding="utf-8",
    )
    markdown = (await convert(page)).result["markdown"]
    assert headings(markdown) == ["T", "Sub"]
    assert "alert" not in markdown
    assert "javascript" not in markdown
    assert "Some **bold** \\<script> link [b](http://a/)" in markdown
    assert "- one\n    - two" in markdown
    assert cells(markdown) == [["wide", "wide"], ["a", "b"], ["a", "c"]]


@needs_ocr
async def test_each_page_of_a_pdf_is_read_by_what_it_needs(convert: Convert, tmp_path: Path) -> None:
    with pdfium.PdfDocument.new() as mixed:
        for name in ("invoice.pdf", "ocr_test.pdf", "invoice.pdf"):
            with pdfium.PdfDocument(DOCUMENTS / name) as source:
                mixed.import_pages(source)
        mixed.save(tmp_path / "mixed.pdf")
    result = (await convert(tmp_path / "mixed.pdf")).result
    assert (result["pages"], result["ocr_pages"]) == (3, 1)
    assert result["markdown"].count("Invoice 2026-0412") == 2
    assert "Docling bundles PDF document conversion" in result["markdown"]


@pytest.mark.parametrize(
    ("rotation", "matrix"),
    [
        (90, (0, 1, -1, 0, 842, 0)),
        (180, (-1, 0, 0, -1, 595, 842)),
        (270, (0, -1, 1, 0, 0, 595)),
    ],
)
async def test_page_drawn_turned_and_shown_upright_reads_as_it_is_shown(
    convert: Convert, tmp_path: Path, rotation: int, matrix: tuple[float, ...]
) -> None:
    box = (0, 0, 842, 595) if rotation != 180 else (0, 0, 595, 842)
    with pdfium.PdfDocument(DOCUMENTS / "invoice.pdf") as pdf:
        page = pdf[0]
        raw.FPDFPage_TransFormWithClip(page.raw, raw.FS_MATRIX(*matrix), raw.FS_RECTF(0, 900, 900, 0))
        page.set_mediabox(*box)
        page.set_cropbox(*box)
        page.set_rotation(rotation)
        pdf.save(tmp_path / "turned.pdf")
    upright = (await convert("invoice.pdf")).result["markdown"]
    assert (await convert(tmp_path / "turned.pdf")).result["markdown"] == upright


@needs_ocr
async def test_ocr_of_every_page_can_be_asked_for(convert: Convert) -> None:
    result = (await convert("invoice.pdf", ocr="always")).result
    assert result["ocr_pages"] == 1
    assert likeness(result["markdown"], expected("invoice.pdf")) >= 0.9


@pytest.mark.parametrize("name", ["fieldreport_scan.pdf", "phototest.tif"])
async def test_picture_without_ocr_is_empty_and_says_why(convert: Convert, name: str) -> None:
    result = (await convert(name, ocr="never")).result
    assert result["markdown"] == ""
    assert "OCR was switched off" in result["warnings"][0]


@needs_ocr
async def test_tiff_of_several_pages_is_read_page_by_page(
    convert: Convert, attempt: LocalAttempt, tmp_path: Path
) -> None:
    with Image.open(DOCUMENTS / "phototest.tif") as page:
        page.save(tmp_path / "pages.tiff", save_all=True, append_images=[page.copy(), page.copy()])
    result = (await convert(tmp_path / "pages.tiff", page_breaks=True)).result
    assert (result["pages"], result["ocr_pages"]) == (3, 3)
    assert result["markdown"].count("lot of 12 point text") == 3
    assert result["markdown"].count("<!-- page ") == 2
    messages = [report["message"] for report in attempt.reports if report["stage"] == "pages"]
    assert messages == ["page 1 of 3", "page 2 of 3", "page 3 of 3"]


@needs_ocr
async def test_photo_is_turned_as_its_camera_says(convert: Convert, tmp_path: Path) -> None:
    with Image.open(DOCUMENTS / "phototest.tif") as page:
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned by 90 degrees clockwise
        page.convert("RGB").rotate(90, expand=True).save(tmp_path / "photo.jpg", exif=exif, quality=95)
    result = (await convert(tmp_path / "photo.jpg")).result
    assert likeness(result["markdown"], expected("phototest.tif")) >= 0.95


@needs_ocr
async def test_language_without_data_is_named(convert: Convert) -> None:
    with pytest.raises(FatalError, match="kli") as raised:
        await convert("phototest.tif", languages=["eng", "kli"])
    assert raised.value.code == "ocr_language_missing"


@pytest.mark.parametrize("name", ["phototest.tif", "fieldreport_scan.pdf"])
async def test_picture_without_an_ocr_program_fails_at_once(
    no_programs: None, convert: Convert, name: str
) -> None:
    with pytest.raises(FatalError) as raised:
        await convert(name)
    assert raised.value.code == "ocr_unavailable"


async def test_pdf_with_text_needs_no_ocr_program(no_programs: None, convert: Convert) -> None:
    assert "Invoice" in (await convert("invoice.pdf")).result["markdown"]


def test_capabilities_describe_the_ocr_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = tesseract.installed()
    stated = ConvertConnector(slots=1).capabilities()["convert"]
    assert stated["formats"] == ["pdf", "png", "jpeg", "tiff", "docx", "pptx", "xlsx", "html", "rtf"]
    assert stated["ocr"] is (found is not None)
    monkeypatch.setenv("PATH", str(tmp_path))
    tesseract.installed.cache_clear()
    stated = ConvertConnector(slots=1).capabilities()["convert"]
    tesseract.installed.cache_clear()
    assert (stated["ocr"], stated["ocr_version"], stated["ocr_languages"]) == (False, None, [])


@needs_ocr
def test_capabilities_name_version_and_languages() -> None:
    declared = ConvertConnector(slots=1).capabilities()
    stated = declared["convert"]
    assert stated["ocr_version"][0].isdigit()
    assert matches({"convert.ocr_languages": {"$all": ["eng"]}}, declared)
    assert not matches({"convert.ocr_languages": {"$all": ["xyz", "eng"]}}, declared)
    assert "osd" not in stated["ocr_languages"]


@needs_german
def test_a_job_may_ask_for_several_languages() -> None:
    declared = ConvertConnector(slots=1).capabilities()
    assert matches({"convert.ocr_languages": {"$all": ["deu", "eng"]}}, declared)


async def test_large_markdown_becomes_an_artifact(
    convert: Convert, attempt: LocalAttempt, tmp_path: Path
) -> None:
    page = tmp_path / "large.html"
    page.write_text("<html><body>" + "<p>word</p>" * INLINE_BYTES, encoding="utf-8")
    outcome = await convert(page)
    assert outcome.result["markdown"] is None
    assert outcome.result["artifact"]["name"] == "document.md"
    assert outcome.result["artifact"]["type"] == "text/markdown"
    assert outcome.artifacts == (outcome.result["artifact"],)
    assert attempt.saved["document.md"].count(b"word") == INLINE_BYTES


async def test_long_pdf_is_read_in_flat_memory(
    convert: Convert, attempt: LocalAttempt, tmp_path: Path
) -> None:
    with pdfium.PdfDocument(DOCUMENTS / "invoice.pdf") as page, pdfium.PdfDocument.new() as book:
        for _ in range(200):
            book.import_pages(page)
        book.save(tmp_path / "book.pdf")
    resident: list[int] = []
    reported = attempt.progress

    def measure(fraction: float, **report: Any) -> None:
        reported(fraction, **report)
        resident.extend(child.memory_info().rss for child in workers())

    attempt.progress = measure  # type: ignore[method-assign]  # a spy that passes everything on
    outcome = await convert(tmp_path / "book.pdf", parts=False)
    assert outcome.usage == {"pages": 200}
    grown = resident[-1] - resident[len(resident) // 3]
    assert grown < 10_000_000


async def test_conversion_that_takes_too_long_is_stopped_and_may_be_retried(tmp_path: Path) -> None:
    connector = ConvertConnector(slots=1, timeout_s=0.05)
    attempt = LocalAttempt(tmp_path)
    attempt.payload = {"file": attempt.offer(DOCUMENTS / "invoice.pdf")}
    with pytest.raises(RetryableError) as raised:
        await connector.run(attempt)
    assert raised.value.code == "timeout"
    await connector.close()


async def test_conversion_that_needs_too_much_memory_fails_for_good(tmp_path: Path) -> None:
    connector = ConvertConnector(slots=1, memory_bytes=200_000_000)
    attempt = LocalAttempt(tmp_path)
    page = tmp_path / "page.html"
    page.write_text("<html><body>" + "<p>word" * 1_000_000, encoding="utf-8")
    attempt.payload = {"file": attempt.offer(page)}
    with pytest.raises(FatalError) as raised:
        await connector.run(attempt)
    assert raised.value.code == "memory_exceeded"
    await connector.close()


async def test_missing_file_fails_at_once(connector: ConvertConnector, attempt: LocalAttempt) -> None:
    attempt.payload = {"file": "none"}
    with pytest.raises(FatalError) as raised:
        await connector.run(attempt)
    assert raised.value.code == "file_not_found"


@needs_ocr
async def test_cancellation_ends_the_ocr_program_too(connector: ConvertConnector, tmp_path: Path) -> None:
    picture = Image.new("L", (6000, 8000), "white")
    pen = ImageDraw.Draw(picture)
    for line in range(260):
        pen.text((50, 30 * line), "The quick brown dog jumped over the lazy fox. " * 20, fill="black")
    picture.save(tmp_path / "dense.png")
    attempt = LocalAttempt(tmp_path)
    attempt.payload = {"file": attempt.offer(tmp_path / "dense.png")}
    run = asyncio.create_task(connector.run(attempt))
    async with asyncio.timeout(60):
        while not (programs := _running("tesseract")):
            await asyncio.sleep(0.01)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        while any(program.is_running() for program in programs):
            await asyncio.sleep(0.01)


def _running(name: str) -> list[psutil.Process]:
    return [child for child in psutil.Process().children(recursive=True) if child.name() == name]
