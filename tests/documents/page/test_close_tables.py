"""Tables whose rows and columns little parts: labels of several, cells drawn one by one, narrow white."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.documents.corpus import converted
from tests.documents.pdf_files import page_of, texts_of

Placed = tuple[float, float, str]
LABELLED = (
    ("Port", "7", "00:45", "27"),
    ("", "5", "00:55", "41"),
    ("", "3", "01:00", "50"),
    ("", "1", "01:10", "12"),
    ("Starboard", "6", "00:55", "28"),
    ("", "8", "01:10", "39"),
    ("", "10", "01:20", "55"),
    ("", "12", "01:25", "42"),
)
NAMES = ("Side", "Boat", "Launch", "Souls")


def markdown_of(tmp_path: Path, texts: list[Placed], rules: str = "") -> str:
    """The Markdown of a page with texts at these places, points from the lower left, and lines."""
    path = tmp_path / "page.pdf"
    path.write_bytes(page_of(texts_of(texts) + rules))
    return converted(path)


def table(*rows: tuple[str, ...]) -> str:
    """Rows as Markdown, of which the first is the header."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])


def placed(rows: tuple[tuple[str, ...], ...], lefts: tuple[float, ...], pitch: float) -> list[Placed]:
    """The filled cells of rows from 700 down."""
    return [
        (x, 700 - pitch * number, cell)
        for number, row in enumerate(rows)
        for x, cell in zip(lefts, row, strict=True)
        if cell
    ]


@pytest.mark.parametrize("label", ["left", "right"])
def test_lines_beside_a_label_for_several_rows_part_them(tmp_path: Path, label: str) -> None:
    lefts, start, end = (76.0, 200.0, 290.0, 390.0), 190, 480
    if label == "right":
        lefts, start, end = (400.0, 80.0, 170.0, 270.0), 72, 390
    rules = "".join(f"72 {y} m 480 {y} l S\n" for y in (695, 615, 535))
    rules += "".join(f"{start} {695 - 20 * n} m {end} {695 - 20 * n} l S\n" for n in (1, 2, 3, 5, 6, 7))
    made = markdown_of(tmp_path, placed((NAMES, *LABELLED), lefts, 20), rules)
    rows = (NAMES, *LABELLED)
    assert made.strip() == table(*(rows if label == "left" else [(*row[1:], row[0]) for row in rows]))


def test_a_label_for_several_rows_of_numbers_makes_them_no_single_one(tmp_path: Path) -> None:
    rules = "".join(f"72 {y} m 480 {y} l S\n" for y in (712, 696))
    made = markdown_of(tmp_path, placed((NAMES, *LABELLED), (76, 200, 290, 390), 13), rules)
    assert made.strip() == table(NAMES, *LABELLED)


WRAPPED = (
    (
        "1",
        ("Battery with rails and", "cables for use beside", "others of its kind,", "also older"),
        "4",
        "249.00",
    ),
    ("2", ("Inverter",), "1", "890.50"),
    ("3", ("Solar module, black", "frame"), "22", "89.90"),
    ("4", ("Hooks for tiles, of", "steel that lasts"), "66", "6.15"),
)


@pytest.mark.parametrize("after", [False, True])
def test_cells_that_are_drawn_one_after_the_other_are_rows(tmp_path: Path, *, after: bool) -> None:
    texts: list[Placed] = [(72, 700, "No."), (110, 700, "Article"), (330, 700, "Number"), (420, 700, "Price")]
    y = 684.0
    for number, lines, count, price in WRAPPED:
        cells: list[Placed] = [(330, y, count), (420, y, price)]
        wrapped: list[Placed] = [(110, y - 11.5 * n, line) for n, line in enumerate(lines)]
        texts += [(72, y, number), *(wrapped + cells if after else wrapped[:1] + cells + wrapped[1:])]
        y -= 11.5 * len(lines) + 5
    made = markdown_of(tmp_path, [(72, 740, "What was ordered in spring."), *texts])
    rows = [(number, " ".join(lines), count, price) for number, lines, count, price in WRAPPED]
    assert table(("No.", "Article", "Number", "Price"), *rows) in made


def test_blocks_of_lines_beside_each_other_are_read_one_after_the_other(tmp_path: Path) -> None:
    sender = [
        (72.0, 700 - 12.0 * n, line) for n, line in enumerate(("Ada Byron", "Nut Street 4", "Bolton", "GB"))
    ]
    reader = [
        (330.0, 700 - 12.0 * n, line) for n, line in enumerate(("Bob Cray", "Main Road 1", "Derby", "GB"))
    ]
    made = markdown_of(tmp_path, sender + reader)
    assert "|" not in made
    assert made.index("Bolton") < made.index("Bob Cray")


STOPS = ("Harbour", "Market", "Castle", "Station", "Clinic", "Stadium", "Airport")
TIMES = tuple(
    (stop, *(f"{5 + n // 2:02}:{n % 2 * 30 + k:02}" for n in range(6))) for k, stop in enumerate(STOPS)
)


def test_columns_with_white_hardly_wider_than_between_words_are_found_by_all_rows(tmp_path: Path) -> None:
    lefts = (72.0, *(116.0 + 30 * n for n in range(6)))  # a time is 25 points wide, a space 2.8
    above: list[Placed] = [
        (72, 728, "All buses run on weekdays, and on other days in the way the sign says.")
    ]
    below: list[Placed] = [
        (72, 596, "On the days before feasts they run as they do on the day before Sunday.")
    ]
    made = markdown_of(tmp_path, above + placed(TIMES, lefts, 13) + below)
    assert table(*TIMES) in made
    assert made.startswith("All buses run")
    assert made.endswith("before Sunday.\n")


def test_an_empty_cell_among_narrow_columns_stays_empty(tmp_path: Path) -> None:
    rows = tuple((*row[:3], "" if number in {2, 4} else row[3], *row[4:]) for number, row in enumerate(TIMES))
    made = markdown_of(tmp_path, placed(rows, (72.0, *(116.0 + 30 * n for n in range(6))), 13))
    assert made.strip() == table(*rows)


@pytest.mark.parametrize("cell", ["{} 284 550", "{}8 (46.2)", "{}1.4 + 9.8"])
def test_spaces_within_numbers_part_no_columns(tmp_path: Path, cell: str) -> None:
    rows = tuple(
        (stop, cell.format(number + 1), cell.format(number + 2)) for number, stop in enumerate(STOPS)
    )
    made = markdown_of(tmp_path, placed(rows, (72, 220, 380), 13))
    assert made.strip() == table(*rows)


def test_a_line_of_text_at_the_end_of_narrow_columns_is_none_of_their_rows(tmp_path: Path) -> None:
    lefts = (72.0, *(216.0 + 30 * n for n in range(6)))
    made = markdown_of(tmp_path, [*placed(TIMES, lefts, 13), (72, 700 - 13 * 7, "All in local time.")])
    assert table(*TIMES) in made
    assert made.endswith("\n\nAll in local time.\n")


def test_white_down_through_lines_of_text_makes_no_table(tmp_path: Path) -> None:
    lines = [f"Line {n} of 40 words of text, of which 12 are in one place as 34 are above" for n in range(9)]
    made = markdown_of(tmp_path, [(72, 700 - 12.0 * n, line) for n, line in enumerate(lines)])
    assert "|" not in made


MATRIX = (("a i1", ". . .", "a in"), (". . .", ". . .", ". . ."), ("a n1", "cos u", "a nn"))


def rows_of(lefts: tuple[float, ...], rows: tuple[tuple[str, ...], ...]) -> list[Placed]:
    """A page with a line of text above rows."""
    return [(72, 730, "It is known by all that it is as it is."), *placed(rows, lefts, 14)]


def test_a_matrix_in_a_formula_is_no_table(tmp_path: Path) -> None:
    assert "|" not in markdown_of(tmp_path, rows_of((200, 260, 320), MATRIX))


@pytest.mark.parametrize("cell", ["17", "-2.50", "Oak", "cosy"])
def test_as_few_rows_with_a_number_or_a_word_are_a_table(tmp_path: Path, cell: str) -> None:
    rows = (*MATRIX[:2], ("a n1", cell, "a nn"))
    assert table(*rows) in markdown_of(tmp_path, rows_of((200, 260, 320), rows))
