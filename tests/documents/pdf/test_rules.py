"""Ruled tables of PDF pages, drawn in the ways in which programs draw them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.documents.corpus import converted
from tests.documents.pdf_files import pdf_of, stream_of

FONT = "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"
RESOURCES = "/Resources << /Font << /H 5 0 R >> /XObject << /F 6 0 R >> >>"
XS, YS = (100, 200, 300, 400), (700, 670, 640, 610)
TEXTS = [["Name", "Size", "Price"], ["bolt", "M4", "0.10"], ["nut", "M5", "0.20"]]
TABLE = "| Name | Size | Price |\n| --- | --- | --- |\n| bolt | M4 | 0.10 |\n| nut | M5 | 0.20 |"


def pdf(content: str, *, form: str = "") -> bytes:
    """A page with this content, and a form /F that it may draw."""
    return pdf_of(
        [
            "<< /Type /Catalog /Pages 2 0 R >>",
            "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R {RESOURCES} >>",
            stream_of(content),
            FONT,
            stream_of(form, "/Type /XObject /Subtype /Form /BBox [0 0 612 792] /Matrix [1 0 0 1 100 -50]"),
        ]
    )


def words(texts: list[list[str]] = TEXTS, *, dx: int = 0, dy: int = 0) -> str:
    return "".join(
        f"BT /H 10 Tf {XS[column] + 5 + dx} {YS[row] - 20 + dy} Td ({text}) Tj ET\n"
        for row, cells in enumerate(texts)
        for column, text in enumerate(cells)
        if text
    )


def lines() -> str:
    """Each rule a line of its own."""
    across = "".join(f"{XS[0]} {y} m {XS[-1]} {y} l S\n" for y in YS)
    return across + "".join(f"{x} {YS[0]} m {x} {YS[-1]} l S\n" for x in XS)


def grid() -> str:
    """All rules in one path."""
    return lines().replace(" S\n", "\n") + "S\n"


def thin_boxes() -> str:
    """Each rule a filled box, as word processors draw them."""
    across = "".join(f"{XS[0]} {y} {XS[-1] - XS[0]} 0.5 re f\n" for y in YS)
    return across + "".join(f"{x} {YS[-1]} 0.5 {YS[0] - YS[-1]} re f\n" for x in XS)


def boxes() -> str:
    """Each cell a box."""
    return "".join(f"{x} {y} 100 30 re S\n" for x in XS[:-1] for y in YS[1:])


@pytest.mark.parametrize("drawn", [lines, grid, thin_boxes, boxes])
def test_a_table_comes_out_however_its_rules_are_drawn(tmp_path: Path, drawn: Callable[[], str]) -> None:
    path = tmp_path / "table.pdf"
    path.write_bytes(pdf(drawn() + words()))
    assert converted(path).strip() == TABLE


def test_a_table_in_a_form_stands_where_the_form_is_drawn(tmp_path: Path) -> None:
    path = tmp_path / "table.pdf"
    path.write_bytes(pdf("/F Do\n" + words(dx=100, dy=-50), form=lines()))
    assert converted(path).strip() == TABLE


TURNED = {90: "0 1 -1 0 792 0", 180: "-1 0 0 -1 792 792", 270: "0 -1 1 0 0 792"}


@pytest.mark.parametrize("rotation", TURNED)
def test_a_table_on_a_turned_page_comes_out(tmp_path: Path, rotation: int) -> None:
    path = tmp_path / "table.pdf"
    turned = pdf(f"{TURNED[rotation]} cm\n{lines()}{words()}")
    # As it is shown, the page stands upright.
    box = b"/MediaBox [0 0 612 792]"
    path.write_bytes(turned.replace(box, b"/Rotate %d /MediaBox [0 0 792 792]" % rotation, 1))
    assert converted(path).strip() == TABLE


def test_a_cell_over_two_columns_is_in_both(tmp_path: Path) -> None:
    path = tmp_path / "table.pdf"
    drawn = lines().replace(f"{XS[1]} {YS[0]} m", f"{XS[1]} {YS[1]} m")
    path.write_bytes(pdf(drawn + words([["Part", "", "Price"], *TEXTS[1:]])))
    assert converted(path).startswith("| Part | Part | Price |")


def test_a_frame_around_text_is_no_table(tmp_path: Path) -> None:
    path = tmp_path / "frame.pdf"
    path.write_bytes(pdf("90 600 400 120 re S\n90 680 m 490 680 l S\n" + words([["alone"], ["below"]])))
    assert "|" not in converted(path)


def test_text_that_leads_into_a_table_or_out_of_it_is_kept_once(tmp_path: Path) -> None:
    beside = "BT /H 10 Tf 40 650 Td (see) Tj ET\nBT /H 10 Tf 405 650 Td (each) Tj ET\n"
    path = tmp_path / "table.pdf"
    path.write_bytes(pdf(lines() + words() + beside))
    made = converted(path)
    assert TABLE in made
    rest = made.replace(TABLE, "")
    assert sorted(rest.split()) == ["each", "see"]


def test_words_broken_at_the_end_of_a_line_in_a_cell_are_put_together(tmp_path: Path) -> None:
    texts = [["Name", "Size", "Price"], ["a lock-", "M4", "0.10"], ["nut", "M5", "0.20"]]
    below = "BT /H 10 Tf 105 642 Td (ing nut) Tj ET\n"
    path = tmp_path / "table.pdf"
    path.write_bytes(pdf(lines() + words(texts) + below))
    made = converted(path)
    assert "| a locking nut | M4 | 0.10 |" in made
