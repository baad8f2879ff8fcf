"""Running headers and footers are left out but for once, and nothing else is."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.documents.corpus import converted, report
from tests.documents.pdf_files import Element, Text, pages_of, tagged_of, texts_of

Placed = tuple[float, float, str]


def markdown_of(tmp_path: Path, pages: list[list[Placed]]) -> str:
    """The Markdown of pages with texts at these places, points from the lower left."""
    path = tmp_path / "pages.pdf"
    path.write_bytes(pages_of([texts_of(texts) for texts in pages]))
    return converted(path)


def body(number: int) -> list[Placed]:
    words = ("first", "second", "third", "fourth", "fifth", "sixth")
    return [(72, 600, f"The {words[number]} page has a text of its own."), (72, 400, "See page 12.")]


def test_headers_and_page_numbers_of_many_pages_are_left_out(tmp_path: Path) -> None:
    pages = [
        [(72, 760, "Annual report"), *body(number), (290, 30, f"Page {number + 1} of 6")]
        for number in range(6)
    ]
    made = markdown_of(tmp_path, pages)
    assert made.count("Annual report") == 1
    assert "of 6" not in made
    assert made.count("See page 12.") == 6
    assert "The sixth page has a text of its own." in made


def test_headers_that_differ_on_left_and_right_pages_are_left_out(tmp_path: Path) -> None:
    pages = [
        [(72 if number % 2 else 400, 760, "Chapter One" if number % 2 else "The Book"), *body(number)]
        for number in range(6)
    ]
    made = markdown_of(tmp_path, pages)
    assert made.count("Chapter One") == 1
    assert made.count("The Book") == 1


def test_what_stands_at_the_edge_of_two_pages_alone_is_kept(tmp_path: Path) -> None:
    pages = [[(72, 760, "To whom it may concern"), *body(number)] for number in range(2)]
    assert markdown_of(tmp_path, pages).count("To whom it may concern") == 2


def test_what_is_at_the_edge_and_differs_from_page_to_page_is_kept(tmp_path: Path) -> None:
    names = ("Ada", "Grace", "Edsger", "Barbara", "Donald", "Alan")
    pages = [[(72, 760, f"Chapter about {names[number]}"), *body(number)] for number in range(6)]
    made = markdown_of(tmp_path, pages)
    assert all(f"Chapter about {name}" in made for name in names)


def test_the_header_of_a_chapter_in_a_long_document_is_left_out(tmp_path: Path) -> None:
    def header(number: int) -> list[Placed]:
        return [(72, 760, "On bridges")] if 41 <= number <= 49 and number % 2 else []

    pages = [
        [*header(number), (72, 600, f"Text of its own, {chr(97 + number % 26)}.")] for number in range(120)
    ]
    made = markdown_of(tmp_path, pages)
    assert made.count("On bridges") == 1
    assert made.count("Text of its own") == 120


@pytest.mark.parametrize("said", ["{}", "- {} -", "Page {}", "{} / 2", "Seite {} von 2"])
def test_the_number_of_a_page_is_left_out_however_few_there_are(tmp_path: Path, said: str) -> None:
    pages = [[*body(number), (300, 90, said.format(number + 1))] for number in range(2)]
    assert markdown_of(tmp_path, pages) == markdown_of(tmp_path, [body(0), body(1)])


@pytest.mark.parametrize(
    "kept",
    [
        pytest.param((300, 90, "7"), id="not its number"),
        pytest.param((300, 300, "1"), id="not at the edge"),
        pytest.param((72, 388, "1"), id="directly below text"),
        pytest.param((300, 90, "1 apple"), id="more than a number"),
    ],
)
def test_other_numbers_are_kept(tmp_path: Path, kept: Placed) -> None:
    made = markdown_of(tmp_path, [[*body(0), kept]])
    assert kept[2] in made.removeprefix("The first page has a text of its own.").replace("12.", "")


WORDS = ("ash", "birch", "cedar", "elm", "fir", "hazel", "larch", "maple", "oak", "pine", "rowan", "yew")


def filled(rows: list[list[str]], xs: tuple[float, ...], *, step: float = 14, top: float = 770) -> list[str]:
    """Pages that are full of rows from edge to edge."""
    per_page = int((top - 20) // step)
    pages = [rows[at : at + per_page] for at in range(0, len(rows), per_page)]
    return [
        texts_of(
            [
                (x, top - step * number, text)
                for number, row in enumerate(page)
                for x, text in zip(xs, row, strict=True)
            ]
        )
        for page in pages
    ]


@pytest.mark.parametrize("step", [12, 14, 24, 40])
@pytest.mark.parametrize(
    ("row", "xs"),
    [
        pytest.param(lambda n: [f"Item {n}", f"{n % 7}", f"{n}.00"], (72, 250, 400), id="table"),
        pytest.param(lambda n: [f"2024-01-01 10:00:{n % 60:02} INFO ok"], (72,), id="log"),
        pytest.param(lambda n: [f"{n}. The tenant pays on the {n % 28 + 1}th."], (72,), id="paragraphs"),
        pytest.param(lambda n: [f"{n % 28 + 1}.03.", "Transfer", "-12.00"], (72, 200, 450), id="ledger"),
        pytest.param(lambda _: ["INFO ok"], (72,), id="the same log line"),
    ],
)
def test_rows_at_the_edges_of_pages_that_are_full_of_them_are_kept(
    tmp_path: Path, row: Callable[[int], list[str]], xs: tuple[float, ...], step: float
) -> None:
    rows = [row(number) for number in range(1, 301)]
    path = tmp_path / "pages.pdf"
    path.write_bytes(pages_of(filled(rows, xs, step=step)))
    said = re.sub(r"[^\w.:-]+", " ", converted(path))
    for one in {tuple(one) for one in rows}:
        text = re.sub(r"[^\w.:-]+", " ", " ".join(one)).strip()
        assert said.count(text) >= rows.count(list(one)), text


def test_the_header_of_a_table_that_fills_each_page_is_no_running_line(tmp_path: Path) -> None:
    def row(y: float, *texts: str) -> list[Placed]:
        return [(x, y, text) for x, text in zip((72.0, 250.0, 400.0), texts, strict=True)]

    pages = [
        [
            *row(770, "Date", "Text", "Amount"),
            *(
                text
                for line in range(45)
                for text in row(740 - 14 * line, f"{line}.{number}.", f"paid {line}", f"{number}.50")
            ),
        ]
        for number in range(4)
    ]
    made = markdown_of(tmp_path, pages)
    assert "| Date | Text | Amount |" in made
    assert made.count("paid 44") == 4


@pytest.mark.parametrize("first", [1, 1001])
@pytest.mark.parametrize(
    ("label", "x"),
    [("Chapter", 130), *((label, x) for label in ("Invoice no:", "Case No.") for x in (140, 200, 480))],
)
def test_a_number_that_counts_something_else_is_kept(
    tmp_path: Path, label: str, x: float, first: int
) -> None:
    pages = [[(72, 760, label), (x, 760, str(first + number)), *body(number)] for number in range(6)]
    made = markdown_of(tmp_path, pages)
    assert made.count(label) == 6
    if first > 1:
        assert all(str(first + number) in made for number in range(6))


@pytest.mark.parametrize("word", ["Chapter {}", "Invoice no: {}", "Room {} of the house"])
def test_headings_that_differ_in_a_number_are_kept(tmp_path: Path, word: str) -> None:
    pages = [[(72, 760, word.format(number + 1)), *body(number)] for number in range(6)]
    made = markdown_of(tmp_path, pages)
    assert all(word.format(number + 1) in made for number in range(6))


def test_pages_that_are_all_alike_come_out_whole(tmp_path: Path) -> None:
    receipt: Placed = (72, 760, "Receipt")
    for other in ((72, 40, "Thank you"), (72, 400, "Paid.")):
        page: list[Placed] = [receipt, other]
        assert markdown_of(tmp_path, [page] * 3).count("Receipt") == 3
    roots = [Element("P", [Text(72, 760, "Receipt", page=number)]) for number in range(3)]
    path = tmp_path / "tagged.pdf"
    path.write_bytes(tagged_of(roots))
    assert converted(path).count("Receipt") == 3


@pytest.mark.parametrize("kind", ["H1", "LI", "TD"])
def test_what_the_document_calls_a_heading_an_item_or_a_cell_is_kept(tmp_path: Path, kind: str) -> None:
    def tagged(number: int) -> list[Element | Text]:
        top = Element(kind, [Text(72, 760, "What to do", page=number)])
        wrapped = {"H1": top, "LI": Element("L", [top]), "TD": Element("Table", [Element("TR", [top])])}[kind]
        return [wrapped, *(Element("P", [Text(x, y, text, page=number)]) for x, y, text in body(number))]

    path = tmp_path / "tagged.pdf"
    path.write_bytes(tagged_of([each for number in range(4) for each in tagged(number)]))
    assert converted(path).count("What to do") == 4


def test_a_letterhead_is_kept_once_and_what_is_left_out_is_counted(tmp_path: Path) -> None:
    foot = "Account DE89 3704 0044 0532 0130 00"
    pages = [[(72, 760, "Fine Nuts Ltd"), *body(number), (72, 30, foot)] for number in range(5)]
    path = tmp_path / "pages.pdf"
    path.write_bytes(pages_of([texts_of(texts) for texts in pages]))
    made = report(path)
    assert made["running_lines"] == 10
    assert made["markdown"].count(foot) == made["markdown"].count("Fine Nuts Ltd") == 1


def test_a_footer_that_the_document_marks_as_such_is_kept_once_also_of_a_single_page(tmp_path: Path) -> None:
    foot = Text(72, 30, "Account DE89 3704 0044", artifact="/Type /Pagination /Subtype /Footer")
    path = tmp_path / "letter.pdf"
    path.write_bytes(tagged_of([Element("P", [Text(72, 600, "Dear Ada, all is well.")]), foot]))
    assert converted(path) == "Dear Ada, all is well.\n\nAccount DE89 3704 0044\n"


@pytest.mark.parametrize(
    "said",
    [
        *("{}", "Page {}", "{} / 6", "Annual report | {}", "xi+{}", "The Nut Society, p. {}"),
        *("-{}- Notes on nuts", "All about nuts and bolts to 2021 {}", "nuts.indb {} 14/09/2018 10:37"),
    ],
)
def test_numbers_that_count_with_the_pages_are_left_out_whatever_they_begin_with(
    tmp_path: Path, said: str
) -> None:
    roman = ("xi", "xii", "xiii", "xiv", "xv", "xvi")
    pages = [
        [*body(number), (300, 30, roman[number] if said == "xi+{}" else said.format(number + 7))]
        for number in range(6)
    ]
    made = markdown_of(tmp_path, pages)
    assert not any(made.count(f"\n{roman[number]}\n") for number in range(6))
    assert sum(said.format(number + 7) in made.splitlines() for number in range(6)) <= 1


def test_a_header_close_to_plain_text_is_left_out(tmp_path: Path) -> None:
    pages: list[list[Placed]] = [
        [(72.0, 750.0, "On nuts"), (520.0, 750.0, str(number + 3))]
        + [(72.0, 728.0 - 12 * line, f"Line {line} {WORDS[number]} of plain text.") for line in range(55)]
        for number in range(8)
    ]
    made = markdown_of(tmp_path, pages)
    assert made.count("On nuts") == 1
    assert all(
        f"Line {line} {WORDS[number]} of" in made.replace("\n", " ")
        for line in (0, 54)
        for number in range(8)
    )


def test_a_title_above_the_header_of_a_table_is_left_out_and_the_header_kept(tmp_path: Path) -> None:
    pages: list[list[Placed]] = [
        [(72.0, 770.0, "Vote for nuts"), (72.0, 748.0, "Name and address of the giver and the amount given")]
        + [(72.0, 735.0 - 12 * line, f"{WORDS[number]} giver {line}") for line in range(50)]
        for number in range(5)
    ]
    made = markdown_of(tmp_path, pages)
    assert made.count("Vote for nuts") == 1
    assert made.count("Name and address of the giver") == 5


def test_a_header_that_a_line_of_signs_parts_from_the_text_is_left_out(tmp_path: Path) -> None:
    pages: list[list[Placed]] = [
        [(72.0, 770.0, "On nuts"), (72.0, 758.0, "_" * 60)]
        + [(72.0, 746.0 - 12 * line, f"Line {line} {WORDS[number]} of text.") for line in range(50)]
        for number in range(5)
    ]
    assert markdown_of(tmp_path, pages).count("On nuts") == 1


def test_a_document_of_page_numbers_alone_says_them(tmp_path: Path) -> None:
    (path := tmp_path / "a.pdf").write_bytes(pages_of([texts_of([(300, 20, f"Page {n}")]) for n in (1, 2)]))
    made = report(path)
    assert made["markdown"].strip().split("\n\n") == ["Page 1", "Page 2"]
    assert made["warnings"] == []


def test_lines_of_cells_that_begin_several_pages_alike_are_kept(tmp_path: Path) -> None:
    pages: list[list[Placed]] = []
    for page in range(4):
        texts: list[Placed] = []
        for row in range(9):
            y = 766.0 - 60 * row
            if row in (0, 3):  # three lines, others two
                texts += [(300, y, "lobster, market"), (72, y - 18, "oil"), (180, y - 18, f"{page}.{row}")]
                texts += [(300, y - 18, "and belt"), (300, y - 36, "and sail")]
            else:
                texts += [(300, y, f"for row {row}"), (72, y - 9, "tin"), (180, y - 9, f"{page}.{row}")]
                texts.append((300, y - 18, f"of page {page}"))
        pages.append(texts)
    assert markdown_of(tmp_path, pages).count("lobster, market") == 4 * 2
