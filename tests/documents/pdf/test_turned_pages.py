"""Pages whose text does not run across as they are shown: wide tables laid on their side, pages turned."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from switchyard.services.documents.convert import convert
from tests.documents.corpus import converted, needs_ocr
from tests.documents.pdf_files import HELVETICA, page_of, texts_of

ROWS = [
    ["Harbour", "Ships", "Freight", "Crew"],
    ["Bergen", "412", "91,000", "3,310"],
    ["Turku", "412", "87,500", "3,310"],
    ["Turku", "412", "87,500", "3,310"],
    ["Vigo", "77", "15,200", "640"],
]
MADE = "| Harbour | Ships | Freight | Crew |\n| --- | --- | --- | --- |" + "".join(
    f"\n| {' | '.join(row)} |" for row in ROWS[1:]
)
# What draws a page that is seen after so many degrees clockwise, on paper of letter format.
TURNS = {90: "0 1 -1 0 612 0 cm", 180: "-1 0 0 -1 612 792 cm", 270: "0 -1 1 0 0 792 cm"}


def drawn(*, ruled: bool) -> str:
    texts = texts_of([(72.0, 500.0, "Ships that called at four harbours in the year of the count")])
    for number, row in enumerate(ROWS):
        places = [(72.0 + 110 * column, 460.0 - 18 * number, text) for column, text in enumerate(row)]
        texts += texts_of(places)
    if ruled:
        texts += "".join(f"66 {472 - 18 * number} m 506 {472 - 18 * number} l S\n" for number in range(6))
        texts += "".join(f"{66 + 110 * number} 472 m {66 + 110 * number} 382 l S\n" for number in range(5))
    return texts


@pytest.mark.parametrize("ruled", [True, False])
@pytest.mark.parametrize("turn", [90, 180, 270])
@pytest.mark.parametrize("rotated", [True, False])
def test_a_table_that_lies_on_its_side_is_read_as_it_runs(
    tmp_path: Path, turn: int, *, ruled: bool, rotated: bool
) -> None:
    path = tmp_path / "turned.pdf"
    entries = f"/Rotate {turn}" if rotated else ""
    path.write_bytes(page_of(f"q {TURNS[turn]}\n{drawn(ruled=ruled)}Q\n", entries=entries))
    made = converted(path)
    assert made == f"Ships that called at four harbours in the year of the count\n\n{MADE}\n"


def test_a_line_across_a_turned_page_comes_last_and_parts_no_table(tmp_path: Path) -> None:
    path = tmp_path / "footer.pdf"
    footer = texts_of([(250.0, 300.0, "From the yearbook, page 12")])
    path.write_bytes(page_of(f"q {TURNS[90]}\n{drawn(ruled=False)}Q\n{footer}"))
    made = converted(path)
    assert MADE in made
    assert made.endswith("From the yearbook, page 12\n")


def test_boxes_are_where_a_turned_page_shows_them(tmp_path: Path) -> None:
    path = tmp_path / "turned.pdf"
    path.write_bytes(page_of(f"q {TURNS[90]}\n{drawn(ruled=True)}Q\n"))
    arguments = {
        "source": str(path), "directory": str(tmp_path), "name": path.name, "media_type": "", "ocr": "never",
        "languages": ["eng"], "page_breaks": False, "max_pages": 10, "formats": ["json"],
    }  # fmt: skip
    convert(arguments, lambda _: None)
    blocks = json.loads((tmp_path / "document.json").read_text(encoding="utf-8"))["pages"][0]["blocks"]
    box = next(block["box"] for block in blocks if block["kind"] == "table")
    # The table goes from 66 to 506 up the paper, and from 472 to 382 to the left of its right edge.
    left, top, right, bottom = (612 - 472) / 612, 1 - 506 / 792, (612 - 382) / 612, 1 - 66 / 792
    assert box == pytest.approx([left, top, right, bottom], abs=0.01)


@needs_ocr
def test_letters_that_are_one_shape_are_read_by_ocr(tmp_path: Path) -> None:
    """A page of which a few shapes are words in all their letters."""
    path = tmp_path / "shapes.pdf"
    content = "".join(f"{_word(72 + 60 * word, 600)}" for word in range(5)) + "f\n"
    path.write_bytes(page_of(content, resources=HELVETICA))
    assert "HELL" in converted(path, ocr="auto")


def _word(x: float, y: float) -> str:
    """The word HELL as boxes, each of a stroke."""
    strokes = [(0, 0, 2, 14), (7, 0, 2, 14), (0, 6, 9, 2)]  # H
    strokes += [(13, 0, 2, 14), (13, 0, 8, 2), (13, 6, 7, 2), (13, 12, 8, 2)]  # E
    strokes += [(25, 0, 2, 14), (25, 0, 8, 2), (36, 0, 2, 14), (36, 0, 8, 2)]  # L L
    return "".join(f"{x + left} {y + low} {wide} {high} re\n" for left, low, wide, high in strokes)
