"""Tables of PDFs by kind, ruled in part or not at all, and what is none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.documents.corpus import converted
from tests.documents.pdf_files import page_of

Placed = tuple[float, float, str]
NUMBERS = [
    ("Base 128", "64,058", "800.73"),
    ("Base 256", "32,051", "400.64"),
    ("Base 512", "16,046", "200.58"),
]
AS_ROWS = "| Base 128 | 64,058 | 800.73 |\n| Base 256 | 32,051 | 400.64 |\n| Base 512 | 16,046 | 200.58 |"


def markdown_of(tmp_path: Path, texts: Sequence[Placed], drawn: str = "") -> str:
    """The Markdown of a page with texts at these places, points from the lower left."""
    content = drawn + "".join(f"BT /H 10 Tf {x} {y} Td ({text}) Tj ET\n" for x, y, text in texts)
    path = tmp_path / "page.pdf"
    path.write_bytes(page_of(content))
    return converted(path)


def grid(
    rows: Sequence[tuple[str, ...]], xs: tuple[float, ...], *, top: float = 700, pitch: float = 14
) -> list[Placed]:
    """Rows of texts, each at its column's place."""
    return [
        (x, top - pitch * number, text)
        for number, row in enumerate(rows)
        for x, text in zip(xs, row, strict=True)
        if text
    ]


def across(*ys: float, start: float = 90, end: float = 400) -> str:
    return "".join(f"{start} {y} m {end} {y} l S\n" for y in ys)


def down(*xs: float, top: float, bottom: float) -> str:
    return "".join(f"{x} {top} m {x} {bottom} l S\n" for x in xs)


XS = (100.0, 220.0, 320.0)
HEADER = ("Model", "Chunks", "Mean")


def test_rows_between_two_rules_are_found_by_their_lines(tmp_path: Path) -> None:
    drawn = across(712, 696, 652) + down(90, 200, 300, 400, top=712, bottom=652)
    made = markdown_of(tmp_path, grid([HEADER, *NUMBERS], XS), drawn)
    assert made.strip() == f"| Model | Chunks | Mean |\n| --- | --- | --- |\n{AS_ROWS}"


def test_a_cell_beside_several_rows_is_in_each_of_them(tmp_path: Path) -> None:
    drawn = across(712, 696, 666) + down(90, 150, 200, 300, 400, top=712, bottom=666)
    body = grid([("OTSL", "0.965", "0.88"), ("HTML", "0.969", "0.85")], (155, 220, 320), top=686)
    made = markdown_of(
        tmp_path, [*grid([("Size", "Kind", "a", "b")], (100, 155, 220, 320)), (100, 679, "6"), *body], drawn
    )
    assert made.strip().endswith("| 6 | OTSL | 0.965 | 0.88 |\n| 6 | HTML | 0.969 | 0.85 |")


def test_cells_with_as_many_lines_each_are_rows(tmp_path: Path) -> None:
    rows = [
        ("PubLayNet", "F / M", "documents"),
        ("PRImA", "M", "magazines"),
        ("TableBank", "F", "of business"),
    ]
    drawn = across(712, 696, 650, end=372) + down(98, 152, 320, 372, top=712, bottom=650)
    made = markdown_of(tmp_path, grid([HEADER, *rows], (100, 160, 322)), drawn)
    assert made.strip().endswith(
        "| PubLayNet | F / M | documents |\n| PRImA | M | magazines |\n| TableBank | F | of business |"
    )


def test_text_that_goes_on_where_its_cells_end_stays_one_row(tmp_path: Path) -> None:
    rows = [
        ("a longer text that fills", "another text that fills"),
        ("all of its cell here", "all of the second cell"),
    ]
    drawn = across(712, 696, 664) + down(90, 203, 310, top=712, bottom=664)
    made = markdown_of(tmp_path, [*grid([("One", "Two")], (95, 220)), *grid(rows, (95, 206), top=686)], drawn)
    assert (
        "| a longer text that fills all of its cell here | another text that fills all of the second cell |"
        in made
    )


def test_a_cell_over_two_rows_is_in_both(tmp_path: Path) -> None:
    drawn = across(712, 696, 664) + across(680, start=200) + down(90, 200, 300, 400, top=712, bottom=664)
    texts = [
        *grid([HEADER], XS),
        (100, 677, "both"),
        *grid([("x", "y"), ("z", "w")], XS[1:], top=685, pitch=16),
    ]
    made = markdown_of(tmp_path, texts, drawn)
    assert made.strip().endswith("| both | x | y |\n| both | z | w |")


def test_a_table_open_at_its_sides_has_its_outer_columns(tmp_path: Path) -> None:
    drawn = across(712, 696, 682, 668, 654) + down(200, 300, top=712, bottom=654)
    made = markdown_of(tmp_path, grid([HEADER, *NUMBERS], XS), drawn)
    assert made.strip() == f"| Model | Chunks | Mean |\n| --- | --- | --- |\n{AS_ROWS}"


def test_a_table_with_rules_across_only_is_read_with_its_header(tmp_path: Path) -> None:
    above = [(240.0, 714.0, "Results of the runs")]
    drawn = across(726, 694, 652) + across(710, start=215, end=400)
    made = markdown_of(tmp_path, [*above, *grid([HEADER, *NUMBERS], XS)], drawn)
    assert made.strip() == (
        "|  | Results of the runs | Results of the runs |\n| --- | --- | --- |\n"
        f"| Model | Chunks | Mean |\n{AS_ROWS}"
    )


def test_a_header_over_several_lines_is_one_row(tmp_path: Path) -> None:
    header = [("Kind of", "Number", ""), ("model", "of chunks", "Mean")]
    drawn = across(726, 694, 652)
    made = markdown_of(tmp_path, [*grid(header, XS, top=714), *grid(NUMBERS, XS, top=686)], drawn)
    assert made.strip() == f"| Kind of model | Number of chunks | Mean |\n| --- | --- | --- |\n{AS_ROWS}"


def test_rows_that_are_shaded_boxes_have_all_their_cells(tmp_path: Path) -> None:
    drawn = "".join(f"0.9 g 90 {y} 310 14 re f 0 g\n" for y in (696, 668))
    made = markdown_of(tmp_path, grid([HEADER, *NUMBERS], XS), drawn)
    assert AS_ROWS in made


def test_numbers_that_end_at_the_same_place_are_one_column(tmp_path: Path) -> None:
    texts: list[Placed] = []
    for number, (name, value) in enumerate(
        [("Alpha", "1"), ("Beta", "22,000"), ("Gamma", "333"), ("Delta", "4,444,000")]
    ):
        width = sum(2.78 if sign == "," else 5.56 for sign in value)
        texts += [(100, 700 - 14 * number, name), (300 - width, 700 - 14 * number, value)]
    made = markdown_of(tmp_path, [(100, 714, "Name"), (270, 714, "Value"), *texts])
    assert "| Alpha | 1 |\n| Beta | 22,000 |\n| Gamma | 333 |\n| Delta | 4,444,000 |" in made


def test_empty_cells_stay_empty(tmp_path: Path) -> None:
    rows = [
        ("Code", "Place", "Count"),
        ("A-1", "", "10"),
        ("A-2", "north", ""),
        ("A-3", "", "12"),
        ("A-4", "south", "13"),
    ]
    made = markdown_of(tmp_path, grid(rows, XS, pitch=20))
    assert "| A-1 |  | 10 |\n| A-2 | north |  |\n| A-3 |  | 12 |\n| A-4 | south | 13 |" in made


def test_columns_a_narrow_gap_apart_are_parted(tmp_path: Path) -> None:
    rows = [("Product Code", "Location"), ("SKU-8847", "A-12"), ("SKU-9201", "B-07"), ("SKU-4563", "C-15")]
    made = markdown_of(
        tmp_path, grid([(*row, str(n)) for n, row in enumerate(rows, 5)], (100, 168, 260), pitch=22)
    )
    assert "| Product Code | Location | 5 |" in made
    assert "| SKU-8847 | A-12 | 6 |" in made


def test_cells_over_several_lines_are_put_together_by_the_gaps_between_rows(tmp_path: Path) -> None:
    texts: list[Placed] = []
    for number, name in enumerate(("first", "second", "third")):
        top = 700 - 40 * number
        texts += [(100, top, name), (220, top, f"what the {name} one"), (400, top, f"{number}.5")]
        texts += [(220, top - 12, "means to say")]
    made = markdown_of(tmp_path, texts)
    assert "| second | what the second one means to say | 1.5 |" in made


def test_two_rows_of_names_and_values_are_a_table(tmp_path: Path) -> None:
    rows = [("Start", "Shows", "Gross", "Net"), ("12/20/24", "48", "$12,500.00", "$11,250.00")]
    made = markdown_of(tmp_path, grid(rows, (100, 200, 300, 420)))
    assert "| Start | Shows | Gross | Net |\n| --- | --- | --- | --- |\n| 12/20/24 | 48 |" in made


def test_dots_that_lead_to_the_next_cell_are_left_out(tmp_path: Path) -> None:
    rows = [("Action", "Cost"), ("Wiring ..........", "$3,790"), ("Removal ........", "$85")]
    drawn = across(712, 698, 684, 670) + down(90, 200, 400, top=712, bottom=670)
    made = markdown_of(tmp_path, grid(rows, XS[:2]), drawn)
    assert "| Wiring | $3,790 |\n| Removal | $85 |" in made


def test_a_table_of_contents_is_no_table(tmp_path: Path) -> None:
    plain = [(f"Chapter about the matter {n}", str(n * 12)) for n in range(1, 6)]
    assert "|" not in markdown_of(tmp_path, grid(plain, (100, 400)))
    dotted = [(f"Chapter about the matter {n}", "." * 40, str(n * 12)) for n in range(1, 6)]
    assert "|" not in markdown_of(tmp_path, grid(dotted, (100, 240, 400)))


def test_an_address_beside_a_date_is_no_table(tmp_path: Path) -> None:
    rows = [("Union School District", "April"), ("Some Avenue", "morning"), ("Sunnyvale", "noon")]
    assert "|" not in markdown_of(tmp_path, grid(rows, (72, 420)))


def test_numbered_lines_of_a_program_are_no_table(tmp_path: Path) -> None:
    rows = [(f"{n}:", text) for n, text in enumerate(("let a", "let b", "call it", "return", "end"), 1)]
    assert "|" not in markdown_of(tmp_path, grid(rows, (100, 125)), across(712, 640))


def test_a_box_around_paragraphs_is_no_table(tmp_path: Path) -> None:
    prose = [
        (110.0, 690.0 - 13 * n, f"line {n} of a paragraph that goes on over all of the box") for n in range(5)
    ]
    drawn = "90 620 400 90 re S\n" + across(655, start=90, end=490)
    assert "|" not in markdown_of(tmp_path, prose, drawn)


def test_prose_that_rules_cross_is_no_table(tmp_path: Path) -> None:
    prose = [
        (95.0, 700.0 - 14 * n, f"words of line {n} that go on and on over the drawn lines") for n in range(4)
    ]
    drawn = across(712, 696, 682, 668, 654) + down(90, 180, 260, 400, top=712, bottom=654)
    assert "|" not in markdown_of(tmp_path, prose, drawn)


def test_a_scale_beside_a_chart_is_no_table(tmp_path: Path) -> None:
    rows = [(str(80 - 20 * n), f"{'ab'[n % 2]} bar", str(8 - 2 * n)) for n in range(5)]
    assert "|" not in markdown_of(tmp_path, grid(rows, XS, pitch=24))


@pytest.mark.parametrize("count", [70, 700])
def test_many_lines_and_words_are_read_in_bounded_steps(tmp_path: Path, count: int) -> None:
    texts = grid(
        [tuple(f"w{n}" for n in range(12))] * min(count, 100),
        tuple(40.0 + 45 * n for n in range(12)),
        top=780,
        pitch=7.5,
    )
    drawn = "".join(across(780 - n, start=30 + n % 3 * 9, end=590) for n in range(count))
    assert "w0" in markdown_of(tmp_path, texts, drawn)


@pytest.mark.parametrize("repeated", [True, False])
def test_lines_between_rows_alone_leave_out_neither_the_first_nor_the_last(
    tmp_path: Path, *, repeated: bool
) -> None:
    last = NUMBERS[-1] if repeated else ("Base 1024", "8,011", "100.14")
    rows = [HEADER, *NUMBERS, last]
    drawn = across(*(694 - 20 * number for number in range(len(rows) - 1)))
    above = (100.0, 740.0, "Chunks of each model, as they were counted")
    below = (100.0, 580.0, "Larger ones were not looked at, and none of them will be.")
    made = markdown_of(tmp_path, [above, *grid(rows, XS, pitch=20), below], drawn)
    table = f"| Model | Chunks | Mean |\n| --- | --- | --- |\n{AS_ROWS}\n| {' | '.join(last)} |"
    assert made == f"{above[2]}\n\n{table}\n\n{below[2]}\n"


def test_a_line_of_text_below_the_last_line_between_rows_is_no_row(tmp_path: Path) -> None:
    rows = [HEADER, *NUMBERS]
    drawn = across(*(694 - 20 * number for number in range(len(rows))))
    note = (100.0, 606.0, "Counted twice, by two people who did not know of each other")
    made = markdown_of(tmp_path, [*grid(rows, XS, pitch=20), note], drawn)
    assert made == f"| Model | Chunks | Mean |\n| --- | --- | --- |\n{AS_ROWS}\n\n{note[2]}\n"


def test_cells_as_close_as_words_are_a_table_where_all_lines_are_drawn(tmp_path: Path) -> None:
    rows = [("Swift", "1911", "4"), ("Petrel", "1923", "6"), ("Plover", "1923", "6"), ("Plover", "1923", "6")]
    xs = (101.0, 132.0, 156.9)  # each a point to the right of a line, and the words reach up to the next
    drawn = across(710, 696, 682, 668, 654, start=100, end=170) + down(
        100, 131, 155.5, 170, top=710, bottom=654
    )
    made = markdown_of(tmp_path, grid(rows, xs), drawn)
    lines = [f"| {' | '.join(row)} |" for row in rows]
    assert made == "\n".join([lines[0], "| --- | --- | --- |", *lines[1:]]) + "\n"


def test_lines_of_text_between_two_tables_are_in_no_cell_of_them(tmp_path: Path) -> None:
    rows = [HEADER, *NUMBERS]
    first = "Words between two tables, which are about as wide as these tables are and a little"
    text = [(90.0, 636.0, first), (90.0, 622.0, "wider, and no rows.")]
    texts = [*grid(rows, XS), *text, *grid(rows, XS, top=596), *grid(rows, XS, top=520, pitch=20)]
    made = markdown_of(tmp_path, texts, across(646, 514, end=480))
    table = f"| Model | Chunks | Mean |\n| --- | --- | --- |\n{AS_ROWS}\n"
    assert made.startswith(f"{table}\n{first} wider, and no rows.\n\n{table.splitlines()[0]}\n")
