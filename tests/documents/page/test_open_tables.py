"""Tables without rules, and what only looks like them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.documents.corpus import converted
from tests.documents.pdf_files import page_of, pages_of, texts_of

Placed = tuple[float, float, str]


def markdown_of(tmp_path: Path, texts: list[Placed]) -> str:
    """The Markdown of a page with texts at these places, points from the lower left."""
    path = tmp_path / "page.pdf"
    path.write_bytes(page_of(texts_of(texts)))
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


def ruled(tmp_path: Path, pages: list[tuple[list[Placed], list[float]]]) -> str:
    """The Markdown of pages with texts at these places and lines across at these heights."""
    path = tmp_path / "pages.pdf"
    path.write_bytes(
        pages_of(
            [texts_of(texts) + "".join(f"72 {y} m 480 {y} l S\n" for y in rules) for texts, rules in pages]
        )
    )
    return converted(path)


NAMES: list[Placed] = [(72, 700, "Setting"), (180, 700, "Default"), (280, 700, "Meaning")]
MEANINGS = (
    ("workers", "4", ("how many requests are served", "at once")),
    ("timeout", "30", ("seconds after which a request", "is given up, also while it is", "being sent")),
    ("log", "info", ("what is logged",)),
)
WRAPPED = "| Setting | Default | Meaning |\n| --- | --- | --- |\n" + "".join(
    f"| {name} | {default} | {' '.join(meaning)} |\n" for name, default, meaning in MEANINGS
)


def wrapped(apart: float, *, middle: bool) -> tuple[list[Placed], float]:
    """Rows of wrapped cells, and where they end."""
    texts: list[Placed] = []
    y = 680.0
    for name, default, meaning in MEANINGS:
        at = y - 12.0 * (len(meaning) - 1) / 2 if middle else y
        texts += [(72, at, name), (180, at, default)]
        texts += [(280, y - 12.0 * number, line) for number, line in enumerate(meaning)]
        y -= 12.0 * len(meaning) + apart
    return texts, y


@pytest.mark.parametrize(("apart", "middle"), [(0, False), (6, False), (6, True)])
@pytest.mark.parametrize("above", [True, False])
def test_wrapped_cells_between_the_lines_of_a_table_are_its_rows(
    tmp_path: Path, apart: float, *, middle: bool, above: bool
) -> None:
    texts, end = wrapped(apart, middle=middle)
    made = ruled(tmp_path, [([*NAMES, *texts], [714] * above + [694, end])])
    assert made == WRAPPED


def test_names_of_columns_may_stand_in_the_middle_of_them(tmp_path: Path) -> None:
    texts, end = wrapped(6, middle=True)
    names: list[Placed] = [(90, 700, "Setting"), (205, 700, "Default"), (340, 700, "Meaning")]
    assert ruled(tmp_path, [([*names, *texts], [714, 694, end])]) == WRAPPED


def test_columns_of_prose_between_lines_are_no_table(tmp_path: Path) -> None:
    left = [(72.0, 680 - 12.0 * line, f"left column line {line} goes on with words") for line in range(9)]
    right = [(290.0, 680 - 12.0 * line, f"right column line {line} goes on as well") for line in range(9)]
    head: list[Placed] = [(72, 700, "To the left"), (290, 700, "To the right")]
    made = ruled(tmp_path, [([*head, *left, *right], [714, 694, 560])])
    assert "|" not in made
    assert made.index("left column line 8") < made.index("right column line 0")


def test_a_table_goes_on_on_the_next_page(tmp_path: Path) -> None:
    before: list[Placed] = [(72, 740, "All that can be set is named by the table that follows here below.")]
    first: list[Placed] = [(72, 680, "workers"), (180, 680, "4"), (280, 680, "how many requests are served")]
    rest: list[Placed] = [
        (280, 740, "at once, whatever"), (72, 724, "log"), (180, 724, "info"), (280, 724, "what is logged"),
        (72, 690, "The text goes on below the table, and fills the width of the page as before."),
    ]  # fmt: skip
    made = ruled(tmp_path, [([*before, *NAMES, *first], [714, 694]), (rest, [])])
    assert "| workers | 4 | how many requests are served |" in made
    assert "|  |  | at once, whatever |\n| --- | --- | --- |\n| log | info | what is logged |" in made
    assert "The text goes on below the table, and fills the width" in made


def test_text_at_the_top_of_a_page_after_a_table_is_text(tmp_path: Path) -> None:
    first: list[Placed] = [(72, 680, "workers"), (180, 680, "4"), (280, 680, "how many requests are served")]
    rest: list[Placed] = [(72, 740, "This page has a text of its own, which fills its width as text does.")]
    made = ruled(tmp_path, [([*NAMES, *first], [714, 694]), (rest, [])])
    assert made.rstrip().endswith("This page has a text of its own, which fills its width as text does.")
    assert made.count("\n| --- |") == 1


def test_no_word_within_the_bounds_of_a_table_is_lost(tmp_path: Path) -> None:
    texts: list[Placed] = [(72, 680, "port"), (180, 680, "8080"), (280, 680, "where it listens")]
    texts += [(72, 655, "workers"), (180, 655, "4"), (280, 661, "how many are served"), (280, 649, "at once")]
    made = markdown_of(tmp_path, [*NAMES, *texts])
    for _, _, text in texts:
        assert made.count(text) == 1


def test_a_line_below_each_row_parts_wrapped_cells_and_tables_below_each_other(tmp_path: Path) -> None:
    texts: list[Placed] = [
        *NAMES,
        (72, 674, "workers"), (180, 674, "4"),
        (280, 680, "how many requests are served"), (280, 668, "at once"),
        (72, 646, "log"), (180, 646, "info"), (280, 646, "what is logged"),
        (72, 610, "Other settings"),
        (72, 580, "Setting"), (180, 580, "Default"), (280, 580, "Meaning"),
        (72, 560, "port"), (180, 560, "8080"), (280, 560, "where it listens"),
    ]  # fmt: skip
    made = ruled(tmp_path, [(texts, [694, 660, 638, 574, 552])])
    head = "| Setting | Default | Meaning |\n| --- | --- | --- |\n"
    assert made == (
        f"{head}| workers | 4 | how many requests are served at once |\n| log | info | what is logged |\n\n"
        f"Other settings\n\n{head}| port | 8080 | where it listens |\n"
    )


SHIPS = [
    ("Ship", "Flag", "Tons", "Berth"), ("Aurora", "NO", "12,400", "4"), ("Bonito", "ES", "8,150", "11"),
    ("Aurora", "NO", "12,400", "4"), ("Cormorant", "UK", "31,000", "2"), ("Delfin", "PT", "950", "11"),
]  # fmt: skip


@pytest.mark.parametrize("order", ["by row", "by column", "from the end"])
@pytest.mark.parametrize(
    "rows", [SHIPS, [tuple(f"{17 * n * m % 89}" for m in range(2, 9)) for n in range(1, 9)]]
)
def test_a_table_without_lines_is_one_in_whatever_order_its_cells_were_written(
    tmp_path: Path, order: str, rows: list[tuple[str, ...]]
) -> None:
    cells = [
        (60.0 + 70 * column, 700.0 - 16 * number, text)
        for number, row in enumerate(rows)
        for column, text in enumerate(row)
    ]
    if order == "by column":
        cells.sort(key=lambda cell: cell[0])
    elif order == "from the end":
        cells.sort(key=lambda cell: cell[1])
    made = markdown_of(tmp_path, [(60.0, 740.0, "What was counted."), *cells])
    lines = [f"| {' | '.join(row)} |" for row in rows]
    border = f"| {' | '.join(['---'] * len(rows[0]))} |"
    assert made == "\n".join(["What was counted.\n", lines[0], border, *lines[1:]]) + "\n"


def test_columns_of_short_lines_that_end_in_numbers_are_no_table(tmp_path: Path) -> None:
    names = ("adder", "beam", "cable", "drum", "engine", "frame", "gear", "hook", "inlet")
    texts: list[Placed] = []
    for column in range(3):
        for line, name in enumerate(names):
            texts.append((60 + 170 * column, 700 - 13 * line, f"{name} {'abc'[column]}, {7 * line + column}"))
    made = markdown_of(tmp_path, texts)
    assert "|" not in made
    assert made.index("inlet a") < made.index("adder b") < made.index("inlet b") < made.index("adder c")
