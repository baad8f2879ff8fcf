"""What becomes of a workbook, rule by rule."""

from __future__ import annotations

import datetime as dt
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from openpyxl import Workbook
from openpyxl.chart import BarChart, Reference
from openpyxl.drawing.image import Image as SheetImage
from PIL import Image

from switchyard.services.connectors.convert.connector import ConvertConnector
from switchyard.services.documents.office.sheets import read
from tests.documents.corpus import converted
from tests.documents.hostile import convert


@pytest.fixture
def sheet(tmp_path: Path) -> Callable[[Callable[[Any], None]], str]:
    """The Markdown of a sheet, without its heading, that a function fills."""

    def call(fill: Callable[[Any], None]) -> str:
        book = Workbook()
        fill(book.active)
        book.save(tmp_path / "book.xlsx")
        return converted(tmp_path / "book.xlsx").removeprefix("## Sheet\n").strip()

    return call


def test_values_are_shown_as_in_the_sheet(sheet: Any) -> None:
    def fill(page: Any) -> None:
        page.append(["what", "value"])
        formats = [(0.25, "0%"), (1234.5, "#,##0.00"), (dt.date(2026, 3, 4), "d mmm yyyy"), (True, "General")]
        for value, number_format in formats:
            page.append(["x", value])
            page.cell(page.max_row, 2).number_format = number_format

    assert sheet(fill) == (
        "| what | value |\n| --- | --- |\n| x | 25% |\n| x | 1,234.50 |\n| x | 4 Mar 2026 |\n| x | TRUE |"
    )


def test_tables_are_parted_by_empty_rows_and_columns(sheet: Any) -> None:
    def fill(page: Any) -> None:
        for row, column, text in [(3, 2, "a"), (3, 3, "b"), (4, 2, "1"), (4, 3, "2")]:
            page.cell(row, column, text)
        for row, column, text in [(4, 6, "c"), (4, 7, "d"), (5, 6, "3"), (5, 7, "4")]:
            page.cell(row, column, text)
        for row, column, text in [(9, 1, "e"), (9, 2, "f"), (10, 1, "5"), (10, 2, "6")]:
            page.cell(row, column, text)

    assert sheet(fill) == (
        "| a | b |\n| --- | --- |\n| 1 | 2 |\n\n| c | d |\n| --- | --- |\n| 3 | 4 |\n\n"
        "| e | f |\n| --- | --- |\n| 5 | 6 |"
    )


def test_line_above_a_table_is_a_paragraph_be_it_merged_or_not(sheet: Any) -> None:
    def fill(page: Any) -> None:
        for row in (["Report"], ["of March"], ["a", "b"], [1, 2]):
            page.append(row)
        page.merge_cells("A1:B1")

    assert sheet(fill) == "Report\n\nof March\n\n| a | b |\n| --- | --- |\n| 1 | 2 |"


def test_merged_cells_say_what_they_say_in_every_place(sheet: Any) -> None:
    def fill(page: Any) -> None:
        for row in (["y", "wide", None], ["tall", 1, 2], [None, 3, 4], [None, 5, 6]):
            page.append(row)
        page.merge_cells("B1:C1")
        page.merge_cells("A2:A4")

    assert sheet(fill) == (
        "| y | wide | wide |\n| --- | --- | --- |\n| tall | 1 | 2 |\n| tall | 3 | 4 |\n| tall | 5 | 6 |"
    )


def test_cell_that_is_merged_over_everything_fills_nothing(tmp_path: Path) -> None:
    book = Workbook()
    assert book.active is not None
    book.active.append(["a", "b", "c"])
    book.active.append(["d", "e", "f"])
    book.active.merge_cells("A2:B2")
    book.save(tmp_path / "book.xlsx")
    with zipfile.ZipFile(tmp_path / "book.xlsx") as old, zipfile.ZipFile(tmp_path / "wide.xlsx", "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(b"A2:B2", b"A2:XFD1048576"))
    made = converted(tmp_path / "wide.xlsx")
    assert made == "## Sheet\n\n| a | b | c |\n| --- | --- | --- |\n| d |  | f |\n"


def test_links_keep_their_addresses(sheet: Any) -> None:
    def fill(page: Any) -> None:
        page.append(["name", "page"])
        page.append(["x", "there"])
        page["B2"].hyperlink = "https://a.example/"

    assert sheet(fill).endswith("| x | [there](https://a.example/) |")


def test_charts_and_images_stand_where_they_are_drawn(sheet: Any, tmp_path: Path) -> None:
    def fill(page: Any) -> None:
        for row in (["q", "sold"], ["Q1", 3], ["Q2", 4]):
            page.append(row)
        chart = BarChart()
        chart.title = "Sales"
        chart.add_data(Reference(page, min_col=2, min_row=1, max_row=3), titles_from_data=True)
        chart.set_categories(Reference(page, min_col=1, min_row=2, max_row=3))
        page.add_chart(chart, "E6")
        Image.new("RGB", (4, 4)).save(tmp_path / "dot.png")
        page.add_image(SheetImage(str(tmp_path / "dot.png")), "A20")
        page["A30"] = "end"

    made = sheet(fill)
    assert "Sales\n\nBar chart" in made
    assert (
        made.index("| Q2 | 4 |")
        < made.index("Sales")
        < made.index("![Picture](image1.png)")
        < made.index("end")
    )


def test_hidden_sheets_are_left_out(tmp_path: Path) -> None:
    book = Workbook()
    book.create_sheet("Secret").sheet_state = "hidden"
    book.create_sheet("Shown")["A1"] = "x"
    book.save(tmp_path / "book.xlsx")
    assert converted(tmp_path / "book.xlsx") == "## Sheet\n\n## Shown\n\nx\n"


def test_long_table_goes_on_below_its_header_and_ends_at_the_limit(
    sheet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "ROWS_A_TABLE", 3)
    monkeypatch.setattr(read, "MAX_CELLS", 16)

    def fill(page: Any) -> None:
        page.append(["h", "i"])
        for number in range(20):
            page.append([number, "x"])

    made = sheet(fill)
    assert made.count("| h | i |") == 3
    assert "| 6 | x |" in made
    assert "| 7 | x |" not in made


def test_cells_scattered_over_a_sheet_stay_small(sheet: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "MAX_PLACES", 1_000)

    def fill(page: Any) -> None:
        for at in range(1, 200):
            page.cell(at, at, "x")

    assert len(sheet(fill)) < 5_000


def test_rich_text_pipes_and_html_are_harmless(sheet: Any) -> None:
    def fill(page: Any) -> None:
        page.append(["a|b", "<b>x</b>"])
        page.append(["line\nbreak", "=1+1"])

    assert sheet(fill) == "| a\\|b | \\<b>x\\</b> |\n| --- | --- |\n| line break | =1+1 |"


async def test_formula_without_a_stored_value_stands_in_its_place_and_is_warned_of(tmp_path: Path) -> None:
    book = Workbook()
    page = book.active
    assert page is not None
    for row in (["name", "net", "gross"], ["a", 100, "=B2*1.19"], ["sum", "=SUM(B2:B2)", "=B3*1.19"]):
        page.append(row)
    book.save(tmp_path / "a.xlsx")
    connector = ConvertConnector(slots=1)
    try:
        made = await convert(connector, tmp_path, (tmp_path / "a.xlsx").read_bytes(), "a.xlsx")
    finally:
        await connector.close()
    assert "| a | 100 | =B2*1.19 |\n| sum | =SUM(B2:B2) | =B3*1.19 |" in made.result["markdown"]
    (warning,) = made.result["warnings"]
    assert warning.startswith('3 formulas of the sheet "Sheet" have no stored value')


def test_first_row_of_equal_cells_is_a_row_unless_it_is_merged(sheet: Any) -> None:
    def fill(sheet: Any) -> None:
        sheet.append(["n/a", "n/a"])
        sheet.append(["a", "b"])
        sheet["D1"] = "Title"
        sheet.merge_cells("D1:E2")
        for cell in ("D3", "E3", "D4", "E4"):
            sheet[cell] = 5

    assert sheet(fill) == (
        "| n/a | n/a |\n| --- | --- |\n| a | b |\n\nTitle\n\n| 5 | 5 |\n| --- | --- |\n| 5 | 5 |"
    )


def test_escaped_characters_of_a_text_are_read(tmp_path: Path) -> None:
    book = Workbook()
    written = ["line_x000D_", "_x005F_x000D_", "a_x0041_b_x0001_", "_xD83D__xDE00_", "_x00zz_"]
    for number, text in enumerate(written, start=1):
        book.worksheets[0].cell(number, 1, text)
    book.save(path := tmp_path / "book.xlsx")
    assert converted(path) == ("## Sheet\n\n| line |\n| --- |\n| _x000D_ |\n| aAb |\n| 😀 |\n| _x00zz_ |\n")
