"""Letters that are lost or doubled are reported, by the page, slide or sheet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from openpyxl import Workbook
from pptx import Presentation

from switchyard.services.documents.convert import convert
from switchyard.services.documents.html import reader
from switchyard.services.documents.model.pieces import Piece
from switchyard.services.documents.ocr.recognised import Recognised
from switchyard.services.documents.office.sheets import read as xlsx
from switchyard.services.documents.office.slides.read import SlideReader
from switchyard.services.documents.office.word.read import DocxReader
from switchyard.services.documents.page import assemble
from tests.documents.corpus import CORPUS, DOCUMENTS, needs_ocr, report
from tests.documents.pdf_files import pages_of, texts_of

SENTENCE = "A sentence of this page that says more than twenty letters do."


def halved(monkeypatch: pytest.MonkeyPatch, holder: Any, name: str, times: int = 0) -> None:
    """Let a reader lose every other thing that it finds, or give all so many times."""
    real = getattr(holder, name)

    def some(found: Any) -> Iterator[Any]:
        for number, each in enumerate(found):
            yield from [each] * (times or number % 2)

    def call(*args: Any, **kwargs: Any) -> Any:
        found = real(*args, **kwargs)
        return tuple(some(found)) if isinstance(found, tuple) else some(found)

    monkeypatch.setattr(holder, name, call)


def pdf(tmp_path: Path) -> Path:
    path = tmp_path / "pages.pdf"
    places = [(72, 700, SENTENCE), (72, 500, "2"), (72, 300, SENTENCE), (72, 200, "1")]
    path.write_bytes(pages_of([texts_of(places)] * 2))
    return path


@pytest.mark.parametrize("times", [0, 2], ids=["lost", "doubled"])
def test_a_page_of_a_pdf_whose_letters_are_lost_or_doubled_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    assert report(pdf(tmp_path))["warnings"] == []
    halved(monkeypatch, assemble, "arrange", times)
    warnings = report(pdf(tmp_path))["warnings"]
    assert [warning.partition(":")[0] for warning in warnings] == ["page 1", "page 2"]
    assert all(warning.endswith("letters came out, and its text layer has 102") for warning in warnings)


def test_the_json_has_the_warnings_of_each_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    halved(monkeypatch, assemble, "arrange")
    source = pdf(tmp_path)
    arguments = {
        "source": str(source), "directory": str(tmp_path), "name": "a.pdf", "media_type": "", "ocr": "never",
        "languages": ["eng"], "formats": ["json"], "page_breaks": False, "max_pages": 9,
    }  # fmt: skip
    made = convert(arguments, lambda _: None)
    pages = json.loads((tmp_path / "document.json").read_text())["pages"]
    assert [warning for page in pages for warning in page["warnings"]] == made["warnings"]
    assert len(made["warnings"]) == 2


@needs_ocr
def test_letters_that_ocr_read_and_that_are_lost_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Recognised.blocks
    monkeypatch.setattr(Recognised, "blocks", lambda read: real(replace(read, lines=read.lines[:2])))
    warnings = report(DOCUMENTS / "phototest.tif", ocr="auto")["warnings"]
    assert len(warnings) == 1
    assert "what OCR read has" in warnings[0]


def test_a_slide_a_sheet_and_a_document_whose_letters_are_lost_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deck = Presentation()
    for _ in range(2):
        slide = deck.slides.add_slide(deck.slide_layouts[1])
        slide.shapes.title.text = "Short"
        slide.placeholders[1].text = SENTENCE
        slide.notes_slide.notes_text_frame.text = SENTENCE * 9
    deck.save(str(slides := tmp_path / "deck.pptx"))
    book = Workbook()
    for at in range(1, 9, 3):
        book.worksheets[0].cell(at, 1, SENTENCE)
    book.save(sheets := tmp_path / "book.xlsx")
    text = DOCUMENTS / "docx_lists.docx"
    assert [report(path)["warnings"] for path in (slides, sheets, text)] == [[], [], []]

    def none(*_: Any) -> Iterator[Piece]:
        yield from ()

    monkeypatch.setattr(SlideReader, "_shape", none)
    monkeypatch.setattr(xlsx.Sheet, "_table", none)
    monkeypatch.setattr(DocxReader, "_item", lambda *_: Piece("paragraph"))
    found = [report(path)["warnings"] for path in (slides, sheets, text)]
    assert [warning.partition(":")[0] for warnings in found for warning in warnings] == [
        "slide 1", "slide 2", 'the sheet "Sheet"', "the document",
    ]  # fmt: skip


@pytest.mark.parametrize("value", [SENTENCE, 12345.5])
def test_cells_that_the_parser_does_not_see_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: Any
) -> None:
    book = Workbook()
    for _ in range(20):
        book.worksheets[0].append([value, value])
    book.save(path := tmp_path / "book.xlsx")
    assert report(path)["warnings"] == []
    halved(monkeypatch, xlsx.Sheet, "_parsed")
    (warning,) = report(path)["warnings"]
    assert warning.startswith('the sheet "Sheet": ')
    assert "its XML has" in warning


def test_merged_cells_hide_no_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = Workbook()
    sheet = book.worksheets[0]
    sheet.cell(1, 1, SENTENCE)
    sheet.merge_cells("A1:A40")
    for row in range(1, 41):
        sheet.cell(row, 2, SENTENCE)
    book.save(path := tmp_path / "book.xlsx")
    assert report(path)["warnings"] == []
    halved(monkeypatch, xlsx.Sheet, "_parsed")
    assert len(report(path)["warnings"]) == 1


def test_a_page_whose_letters_are_lost_or_doubled_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path := tmp_path / "a.html").write_text(
        f"<title>T</title><nav>{SENTENCE}</nav><table><tr><td>{SENTENCE}</table><script>{SENTENCE}</script>"
        f"<svg><text>{SENTENCE}</text></svg><ul><li>{SENTENCE}</ul><p>{SENTENCE}<p hidden>{SENTENCE}"
    )
    assert report(path)["warnings"] == []
    with monkeypatch.context() as patch:
        patch.setattr(reader._Reader, "_table", lambda *_: iter(()))
        (warning,) = report(path)["warnings"]
        assert warning.startswith("the page: ")
        assert "its HTML has" in warning
    halved(monkeypatch, reader._Reader, "_flush", 2)
    assert "its HTML has" in report(path)["warnings"][0]


def test_cells_that_span_several_are_no_doubled_letters(tmp_path: Path) -> None:
    book = Workbook()
    sheet = book.worksheets[0]
    sheet.append([SENTENCE])
    sheet.append(["a", "b", "c", "d"])
    sheet.merge_cells("A1:D1")
    book.save(path := tmp_path / "book.xlsx")
    assert report(path)["warnings"] == []


def test_the_documents_of_the_tests_are_not_warned_of() -> None:
    paths = [path for path in CORPUS.iterdir() if path.suffix in {".pdf", ".docx", ".pptx", ".xlsx", ".html"}]
    warned = [warning for path in paths for warning in report(path)["warnings"] if "letters" in warning]
    assert len(paths) > 10
    assert warned == []
