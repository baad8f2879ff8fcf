"""Tables without rules, and what only looks like them."""

from __future__ import annotations

from pathlib import Path

from tests.connectors.documents import converted
from tests.connectors.pdf_files import page_of

Placed = tuple[float, float, str]


def markdown_of(tmp_path: Path, texts: list[Placed]) -> str:
    """The Markdown of a page with texts at these places, points from the lower left."""
    content = "".join(f"BT /H 10 Tf {x} {y} Td ({text}) Tj ET\n" for x, y, text in texts)
    path = tmp_path / "page.pdf"
    path.write_bytes(page_of(content))
    return converted(path)


def test_cells_below_each_other_are_a_table_however_far_apart_they_stand(tmp_path: Path) -> None:
    rows = [("Part", "Size", "Price"), ("bolt", "M4", "0.10"), ("locking nut", "M5", "0.20")]
    texts = [
        (x, 700.0 - 16 * number, cell)
        for number, row in enumerate(rows)
        for x, cell in zip((72.0, 180.0, 420.0), row, strict=True)
    ]
    made = markdown_of(tmp_path, [(72, 740, "Prices of this year, as agreed."), *texts])
    assert (
        "| Part | Size | Price |\n| --- | --- | --- |\n| bolt | M4 | 0.10 |\n| locking nut | M5 | 0.20 |"
        in made
    )
    assert made.startswith("Prices of this year, as agreed.\n")


def test_columns_of_prose_are_read_one_after_the_other(tmp_path: Path) -> None:
    left = [(72.0, 700.0 - 13 * line, f"left column line {line} goes on with words") for line in range(6)]
    right = [(330.0, 700.0 - 13 * line, f"right column line {line} goes on as well") for line in range(6)]
    made = markdown_of(tmp_path, left + right)
    assert "|" not in made
    assert made.index("left column line 5") < made.index("right column line 0")


def test_items_whose_marks_stand_apart_are_a_list(tmp_path: Path) -> None:
    texts: list[Placed] = []
    for number in range(4):
        texts += [
            (72, 700 - 14 * number, f"{number + 1}."),
            (110, 700 - 14 * number, f"item of a list {number}"),
        ]
    made = markdown_of(tmp_path, texts)
    assert "|" not in made
    assert "1. item of a list 0\n2. item of a list 1" in made
