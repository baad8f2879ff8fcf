"""What the converter fails on comes out as its bare text, with a warning, and all else stands."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest
from openpyxl import Workbook
from openpyxl.formatting.rule import CellIsRule
from pptx import Presentation

from switchyard.services.documents.errors import FatalError
from switchyard.services.documents.ocr.recognised import Recognised
from switchyard.services.documents.office.sheets.read import Sheet
from switchyard.services.documents.office.slides.read import SlideReader
from switchyard.services.documents.office.word.read import DocxReader
from switchyard.services.documents.page import reading_order
from switchyard.services.documents.pdf.text.layer import _Reader
from tests.documents.corpus import DOCUMENTS, needs_ocr, report
from tests.documents.pdf_files import pages_of, texts_of

FAULT = "max() arg is an empty sequence"


def failing_at(monkeypatch: pytest.MonkeyPatch, holder: Any, name: str, calls: set[int]) -> None:
    """Let a function of ours fail, as a fault of its own makes it, at some of its calls from 1."""
    real, count = getattr(holder, name), iter(range(1, 1_000_000))

    def call(*args: Any, **kwargs: Any) -> Any:
        if next(count) in calls:
            raise ValueError(FAULT)
        return real(*args, **kwargs)

    monkeypatch.setattr(holder, name, call)


@pytest.mark.parametrize("holder", [reading_order, _Reader], ids=["order", "text layer"])
def test_a_page_that_defeats_the_layout_comes_out_bare_and_the_others_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, holder: Any
) -> None:
    path = tmp_path / "form.pdf"
    path.write_bytes(pages_of([texts_of([(72, 700, f"Text of <b>page {n}")]) for n in range(1, 6)]))
    failing_at(monkeypatch, holder, "in_order" if holder is reading_order else "lines", {2})
    made = report(path)
    assert [f"Text of \\<b>page {n}" in made["markdown"] for n in range(1, 6)] == [True] * 5
    assert made["warnings"] == [
        "the converter failed on page 2, and its bare text stands in its place (ValueError)"
    ]


@needs_ocr
def test_a_scan_that_defeats_the_layout_comes_out_bare(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_at(monkeypatch, Recognised, "blocks", {1})
    made = report(DOCUMENTS / "phototest.tif", ocr="auto")
    assert "quick brown dog" in made["markdown"]
    assert made["ocr_pages"] == 1
    assert "bare text" in made["warnings"][0]


def test_a_slide_that_defeats_its_reader_comes_out_bare_and_the_others_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deck = Presentation()
    for n in range(1, 4):
        deck.slides.add_slide(deck.slide_layouts[5]).shapes.title.text = f"Slide {n}"
    deck.save(str(path := tmp_path / "deck.pptx"))
    failing_at(monkeypatch, SlideReader, "read", {2})
    made = report(path)
    assert made["markdown"] == "# Slide 1\n\nSlide 2\n\n# Slide 3\n"
    assert [warning.partition(",")[0] for warning in made["warnings"]] == ["the converter failed on slide 2"]


def test_a_sheet_that_defeats_its_reader_comes_out_bare_and_the_others_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = Workbook()
    book.remove(book.worksheets[0])
    for name in ("One", "Two"):
        sheet = book.create_sheet(name)
        sheet.append(["Nut", f"of {name}"])
        sheet.append(["Bolt", 17])
    book.save(path := tmp_path / "book.xlsx")
    failing_at(monkeypatch, Sheet, "read", {1})
    made = report(path)
    assert "One\n\nNut of One\n\nBolt 17\n" in made["markdown"]
    assert "| Bolt | 17 |" in made["markdown"]
    assert [warning.partition(",")[0] for warning in made["warnings"]] == [
        'the converter failed on the sheet "One"'
    ]


def test_a_table_that_defeats_its_reader_comes_out_bare_and_all_else_stands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = report(DOCUMENTS / "tablecell.docx")
    failing_at(monkeypatch, DocxReader, "_table", {1})
    made = report(DOCUMENTS / "tablecell.docx")
    words = {word for word in whole["markdown"].split() if word.isalpha()}
    assert words <= set(made["markdown"].split())
    assert [warning.partition(",")[0] for warning in made["warnings"]] == ["the converter failed on a table"]


def test_a_fault_of_ours_never_says_that_the_file_is_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    failing_at(monkeypatch, DocxReader, "read", {1})
    with pytest.raises(FatalError) as caught:
        report(DOCUMENTS / "tablecell.docx")
    assert caught.value.code == "reader_failed"
    assert "damaged" not in str(caught.value)


def test_a_sheet_with_a_rule_or_style_that_excel_does_not_know_is_read(tmp_path: Path) -> None:
    book = Workbook()
    sheet = book.worksheets[0]
    sheet.append(["Nut", "Size"])
    sheet.append(["Bolt", 17])
    sheet["A1"].number_format = "0.0"
    sheet.conditional_formatting.add("A1:B2", CellIsRule(operator="greaterThan", formula=["3"]))  # type: ignore[no-untyped-call]
    book.save(path := tmp_path / "book.xlsx")
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    part = "xl/worksheets/sheet1.xml"
    for known, odd in ((b'operator="greaterThan"', b'operator="odd"'), (b's="1"', b's="99"')):
        assert known in parts[part]
        parts[part] = parts[part].replace(known, odd)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    made = report(path)
    assert "| Bolt | 17 |" in made["markdown"]
    assert made["warnings"] == []
