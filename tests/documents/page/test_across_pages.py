"""What continues from one page of a PDF to the next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from switchyard.services.documents.convert import convert
from tests.documents.corpus import converted
from tests.documents.pdf_files import pages_of, texts_of

Placed = tuple[float, float, str]


def prose(top: float, *texts: str, left: float = 72) -> list[Placed]:
    return [(left, top - 12 * number, text) for number, text in enumerate(texts)]


def path_of(tmp_path: Path, *pages: list[Placed]) -> Path:
    path = tmp_path / "pages.pdf"
    path.write_bytes(pages_of([texts_of(texts) for texts in pages]))
    return path


FIRST = prose(
    130, "The first page ends in the middle of a sentence, which the", "reader finds continued where the"
)
SECOND = prose(700, "next one begins, and the paragraph is", "complete only there.")


def test_a_sentence_that_a_page_parts_is_one_paragraph(tmp_path: Path) -> None:
    made = converted(path_of(tmp_path, FIRST, [*SECOND, *prose(600, "Another paragraph.")]))
    assert "reader finds continued where the next one begins, and" in made
    assert made.endswith("complete only there.\n\nAnother paragraph.\n")


def test_a_word_that_a_page_parts_is_one_word(tmp_path: Path) -> None:
    first = prose(130, "The first page ends in the middle of a word that is rather excep-")
    assert "rather exceptional in the end" in converted(
        path_of(tmp_path, first, prose(700, "tional in the end, as the reader sees."))
    )


def test_a_sentence_goes_on_over_three_pages(tmp_path: Path) -> None:
    middle = prose(740, *["page in between is full of the same sentence, of which the"] * 55)
    made = converted(path_of(tmp_path, FIRST, middle, prose(700, "last page has the end.")))
    assert made.count("\n") == 1
    assert made.endswith("of which the last page has the end.\n")


@pytest.mark.parametrize(
    ("last", "first"),
    [
        pytest.param("and here the sentence comes to its end.", "and this begins a small one.", id="end"),
        pytest.param("a paragraph that has no stop at its end", "This is another one.", id="capital"),
        pytest.param("Printed on the first of the month, page 12", "printed later, page 13", id="number"),
        pytest.param("a label", "and a sentence that does not belong to it.", id="short"),
    ],
)
def test_what_does_not_go_on_stays_apart(tmp_path: Path, last: str, first: str) -> None:
    assert f"{last}\n\n{first}" in converted(path_of(tmp_path, prose(80, last), prose(700, first)))


def test_items_of_one_list_stay_together(tmp_path: Path) -> None:
    first = prose(130, "\\225 apples", "\\225 pears")
    made = converted(path_of(tmp_path, first, prose(720, "\\225 plums", "\\225 cherries")))
    assert made == "- apples\n- pears\n- plums\n- cherries\n"


def test_an_item_that_a_page_parts_is_one_and_the_next_one_follows(tmp_path: Path) -> None:
    first = prose(100, "\\225 this item is so long that it goes on over the end")
    second = [*prose(720, "of the page.", left=82), *prose(708, "\\225 pears")]
    made = converted(path_of(tmp_path, first, second))
    assert made == "- this item is so long that it goes on over the end of the page.\n- pears\n"


XS, TOPS = (100, 200, 300, 400), {0: 160, 1: 720}


def ruled(page: int, rows: list[list[str]], *, xs: tuple[int, ...] = XS) -> str:
    """A table between lines, at the foot of the first page or the head of the second."""
    top = TOPS[page]
    ys = [top - 30 * row for row in range(len(rows) + 1)]
    across = "".join(f"{xs[0]} {y} m {xs[-1]} {y} l S\n" for y in ys)
    down = "".join(f"{x} {ys[0]} m {x} {ys[-1]} l S\n" for x in xs)
    return (
        across
        + down
        + texts_of(
            [
                (xs[column] + 5, top - 30 * row - 20, text)
                for row, cells in enumerate(rows)
                for column, text in enumerate(cells)
            ]
        )
    )


HEADER = ["Name", "Size", "Price"]
BOLT, NUT, PIN = ["bolt", "M4", "0.10"], ["nut", "M5", "0.20"], ["pin", "2 mm", "0.05"]
RULE = "| --- | --- | --- |\n"
ONE = f"| Name | Size | Price |\n{RULE}| bolt | M4 | 0.10 |\n| nut | M5 | 0.20 |\n| pin | 2 mm | 0.05 |\n"


@pytest.mark.parametrize("second", [[HEADER, NUT, PIN], [NUT, PIN]], ids=["header again", "rows alone"])
def test_a_table_that_goes_on_is_one_table(tmp_path: Path, second: list[list[str]]) -> None:
    path = tmp_path / "table.pdf"
    path.write_bytes(pages_of([ruled(0, [HEADER, BOLT]), ruled(1, second)]))
    assert converted(path) == ONE


LIKE = ["belt", "red", "to do"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param([BOLT, NUT], [BOLT, PIN], id="with an amount"),
        pytest.param([LIKE, NUT, LIKE], [LIKE, PIN], id="again on the first page"),
        pytest.param([LIKE, NUT], [LIKE, PIN, LIKE], id="again on the second page"),
    ],
)
def test_a_row_that_is_like_the_first_one_is_no_header_that_is_repeated(
    tmp_path: Path, first: list[list[str]], second: list[list[str]]
) -> None:
    path = tmp_path / "table.pdf"
    path.write_bytes(pages_of([ruled(0, first), ruled(1, second)]))
    lines = [f"| {' | '.join(row)} |\n" for row in (*first, *second)]
    assert converted(path) == "".join([lines[0], RULE, *lines[1:]])


def test_the_last_row_of_a_table_is_one_where_it_stands_alone_on_the_next_page(tmp_path: Path) -> None:
    path = tmp_path / "table.pdf"
    below = texts_of(prose(640, "What stands below the table is none of its rows."))
    path.write_bytes(pages_of([ruled(0, [HEADER, BOLT, NUT]), ruled(1, [PIN]) + below]))
    assert converted(path) == f"{ONE}\nWhat stands below the table is none of its rows.\n"


def test_a_row_between_other_lines_on_the_next_page_is_text(tmp_path: Path) -> None:
    path = tmp_path / "table.pdf"
    path.write_bytes(pages_of([ruled(0, [HEADER, BOLT, NUT]), ruled(1, [PIN], xs=(100, 240, 380, 520))]))
    assert converted(path).endswith("\n\npin 2 mm 0.05\n")


def test_tables_of_other_widths_are_others(tmp_path: Path) -> None:
    path = tmp_path / "table.pdf"
    other = [["Town", "Inhabitants", "Area"], ["Ulm", "126 000", "118"]]
    path.write_bytes(pages_of([ruled(0, [HEADER, BOLT]), ruled(1, other, xs=(100, 240, 380, 520))]))
    assert converted(path).count(RULE) == 2


def test_a_heading_parts_two_tables(tmp_path: Path) -> None:
    path = tmp_path / "table.pdf"
    title = "BT /H 20 Tf 72 750 Td (More of them) Tj ET\n"
    plain = texts_of(prose(600, "Plain text stands here, so that the heading is larger than it."))
    second = title + ruled(1, [HEADER, NUT]) + plain
    path.write_bytes(pages_of([ruled(0, [HEADER, BOLT]), second]))
    assert converted(path).count(RULE) == 2


def forms(tmp_path: Path, path: Path, *, page_breaks: bool) -> tuple[str, dict[str, Any]]:
    """The Markdown and the JSON of a PDF."""
    arguments = {"source": path, "directory": tmp_path, "name": path.name, "media_type": "", "ocr": "never"}
    asked = {
        "languages": ["eng"],
        "formats": ["markdown", "json"],
        "page_breaks": page_breaks,
        "max_pages": 9,
    }
    convert(arguments | asked, lambda _: None)
    return (tmp_path / "document.md").read_text(), orjson.loads((tmp_path / "document.json").read_bytes())


@pytest.mark.parametrize("page_breaks", [False, True])
def test_the_blocks_of_a_page_say_what_continues(tmp_path: Path, *, page_breaks: bool) -> None:
    written, described = forms(tmp_path, path_of(tmp_path, FIRST, SECOND), page_breaks=page_breaks)
    assert [block["continues"] for page in described["pages"] for block in page["blocks"]] == [False, True]
    assert described["pages"][1]["blocks"][0]["text"].startswith("next one begins")
    assert ("where the\n\n<!-- page 2 -->\n\nnext one" in written) == page_breaks
    assert ("where the next one" in written) != page_breaks
