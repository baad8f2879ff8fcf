"""Rich Text: tables whose cells span others, and files that are cut off."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.documents.corpus import report


def made_of(tmp_path: Path, body: str) -> tuple[str, list[str]]:
    """The Markdown of Rich Text, and its warnings."""
    path = tmp_path / "a.rtf"
    path.write_bytes(b"{\\rtf1\\ansi " + body.encode("ascii"))
    made = report(path)
    return made["markdown"], made["warnings"]


def row(ends: str, *cells: str) -> str:
    """A row whose cells end as the words say."""
    return rf"\trowd {ends}\pard\intbl " + "".join(rf"{cell}\cell " for cell in cells) + r"\row "


def table(*rows: list[str]) -> str:
    lines = [f"| {' | '.join(cells)} |" for cells in rows]
    return "\n".join([lines[0], f"| {' | '.join(['---'] * len(rows[0]))} |", *lines[1:]]) + "\n"


WIDE = [
    ["Item", "Half", "Half", "All"],
    ["Item", "Plan", "Real", "All"],
    ["Oil", "10", "10", "20"],
    ["Oil", "10", "10", "20"],
]
FOUR = r"\cellx1000\cellx2000\cellx3000\cellx4000"


@pytest.mark.parametrize(
    "first",
    [
        row(r"\clvmgf\cellx1000\cellx3010\clvmgf\cellx4000", "Item", "Half", "All"),
        row(r"\clvmgf\cellx1000\clmgf\cellx2000\clmrg\cellx3000\cellx4000", "Item", "Half", "", "All"),
    ],
)
def test_cells_of_rich_text_that_span_others_are_in_each_of_their_places(tmp_path: Path, first: str) -> None:
    second = row(r"\clvmrg\cellx1000\cellx2000\cellx3000\clvmrg\cellx4000", "", "Plan", "Real", "")
    oil = row(FOUR, "Oil", "10", "10", "20")
    made, warnings = made_of(tmp_path, first + second + oil + oil + "}")
    assert made == table(*WIDE)
    assert not warnings


def test_rows_of_rich_text_whose_cells_end_elsewhere_repeat_none(tmp_path: Path) -> None:
    rows = row(r"\cellx1000\cellx2500", "a", "b") + row(r"\cellx1700\cellx2500", "c", "d")
    made, _ = made_of(tmp_path, rows + "}")
    assert made == table(["a", "b"], ["c", "d"])


def test_long_cells_of_rich_text_are_in_their_first_place_alone(tmp_path: Path) -> None:
    long = "word " * 60
    rows = row(r"\cellx2000", long) + row(r"\cellx1000\cellx2000", "a", "b")
    made, _ = made_of(tmp_path, rows + "}")
    assert made == table([long.strip(), ""], ["a", "b"])


def test_rich_text_that_is_cut_off_says_so(tmp_path: Path) -> None:
    made, warnings = made_of(tmp_path, r"The first of two paragraphs.\par {\b The second")
    assert made.startswith("The first of two paragraphs.\n")
    assert warnings == [
        "the Rich Text has no end: it may have been cut off, and what stood there is missing then"
    ]


def test_properties_of_shapes_in_rich_text_are_no_text(tmp_path: Path) -> None:
    shape = r"{\shp{\*\shpinst\shpleft1{\sp{\sn shapeType}{\sv 202}}{\sp{\sn pib}{\sv {\pict\pngblip 00}}}"
    made, warnings = made_of(tmp_path, shape + r"{\shptxt\pard In the box\par}}}\pard Beside it\par}")
    assert made == "In the box\n\nBeside it\n"
    assert warnings == ["1 images of Rich Text are left out"]
