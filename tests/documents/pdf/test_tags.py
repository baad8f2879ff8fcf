"""PDFs whose structure tree declares what their pages are made of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.documents.corpus import converted
from tests.documents.pdf_files import Element, Text, tagged_of

XS = (72, 110, 170)  # the words of neighbouring cells are as near as those of a line


def markdown_of(tmp_path: Path, roots: Sequence[Element | Text], *, drawn: str = "") -> str:
    path = tmp_path / "tagged.pdf"
    path.write_bytes(tagged_of(roots, drawn=drawn))
    return converted(path)


def cell(text: Text | None, *, kind: str = "TD", attributes: str = "") -> Element:
    return Element(kind, [text] if text else [], f"/O /Table {attributes}" if attributes else "")


def row(y: float, *texts: str, kind: str = "TD", page: int = 0, xs: Sequence[float] = XS) -> Element:
    """A row whose empty texts are cells without content."""
    placed = zip(xs, texts, strict=False)
    return Element("TR", [cell(Text(x, y, text, page) if text else None, kind=kind) for x, text in placed])


HEADER = row(700, "Name", "Price", "Stock", kind="TH")


def prose(y: float) -> Element:
    """A paragraph, by which a page has a usual size."""
    texts = ("This paragraph only says how plain text", "looks on the page, in its size and its font.")
    return Element("P", [Text(72, y - 12 * number, text) for number, text in enumerate(texts)])


def test_a_table_is_found_by_its_tags_where_nothing_on_the_page_shows_it(tmp_path: Path) -> None:
    rows = [HEADER, row(688, "blue bolt", "0.10 EUR", "1 200"), row(676, "nut", "0.20 EUR", "none left")]
    assert markdown_of(tmp_path, [prose(750), Element("Table", rows), prose(600)]).split("\n\n")[1] == (
        "| Name | Price | Stock |\n| --- | --- | --- |\n"
        "| blue bolt | 0.10 EUR | 1 200 |\n| nut | 0.20 EUR | none left |"
    )


def test_a_cell_that_spans_others_is_written_in_each_of_their_places(tmp_path: Path) -> None:
    wide = cell(Text(72, 700, "Parts"), kind="TH", attributes="/ColSpan 2")
    high = cell(Text(72, 682, "bolts"), attributes="/RowSpan 2")
    rows = [
        Element("TR", [wide, cell(Text(170, 700, "Stock"), kind="TH")]),
        Element("TR", [high, cell(Text(110, 688, "M4")), cell(Text(170, 688, "12"))]),
        Element("TR", [cell(Text(110, 676, "M5")), cell(Text(170, 676, "7"))]),
    ]
    assert markdown_of(tmp_path, [Element("Table", [Element("TBody", rows)])]) == (
        "| Parts | Parts | Stock |\n| --- | --- | --- |\n| bolts | M4 | 12 |\n| bolts | M5 | 7 |\n"
    )


def test_empty_cells_keep_their_places_whether_they_are_written_or_not(tmp_path: Path) -> None:
    filled = row(688, "bolt", "", "12")
    short = Element("TR", [cell(Text(110, 676, "0.20")), cell(Text(170, 676, "7"))])
    whole = row(664, "washer", "0.30", "5")
    assert markdown_of(tmp_path, [Element("Table", [HEADER, filled, short, whole])]) == (
        "| Name | Price | Stock |\n| --- | --- | --- |\n"
        "| bolt |  | 12 |\n|  | 0.20 | 7 |\n| washer | 0.30 | 5 |\n"
    )


def test_each_page_has_the_rows_of_a_table_that_are_on_it(tmp_path: Path) -> None:
    rows = [HEADER, row(688, "bolt", "0.10", "12"), row(700, "nut", "0.20", "7", page=1)]
    rows.append(row(688, "washer", "0.30", "5", page=1))
    made = markdown_of(tmp_path, [Element("Table", rows)])
    assert "| bolt | 0.10 | 12 |" in made
    assert "| washer | 0.30 | 5 |" in made
    assert made.count("washer") == made.count("bolt") == 1


def test_drawn_lines_say_more_than_tags_that_do_not_say_what_a_cell_spans(tmp_path: Path) -> None:
    xs, ys = (70, 108, 168, 220), (712, 698, 684, 670)
    across = "".join(f"{xs[0]} {y} m {xs[-1]} {y} l S\n" for y in ys)
    down = "".join(f"{x} {ys[1 if x == 108 else 0]} m {x} {ys[-1]} l S\n" for x in xs)
    wide = Element("TR", [cell(Text(72, 701, "Name and price")), cell(Text(170, 701, "Stock"))])
    table = Element("Table", [wide, row(687, "bolt", "0.10", "12"), row(673, "nut", "0.20", "7")])
    assert markdown_of(tmp_path, [table], drawn=across + down) == (
        "| Name and price | Name and price | Stock |\n| --- | --- | --- |\n"
        "| bolt | 0.10 | 12 |\n| nut | 0.20 | 7 |\n"
    )


@pytest.mark.parametrize("heads", ["TD", "TH"])
def test_a_table_with_one_column_is_one_only_with_a_header(tmp_path: Path, heads: str) -> None:
    rows = [row(700, "Name", kind=heads), row(688, "bolt"), row(676, "nut")]
    assert ("| bolt |" in markdown_of(tmp_path, [Element("Table", rows)])) == (heads == "TH")


def test_a_table_that_arranges_the_page_is_none(tmp_path: Path) -> None:
    heading, text = Element("H1", [Text(72, 700, "News")]), Element("P", [Text(72, 680, "It rains.")])
    left = Element("TD", [heading, text])
    right = Element("TD", [Element("P", [Text(300, 700, "Contact us by mail.")])])
    below = Element("TR", [cell(Text(72, 640, "Imprint")), cell(Text(300, 640, "Privacy"))])
    made = markdown_of(tmp_path, [Element("Table", [Element("TR", [left, right]), below])])
    assert "|" not in made
    assert made.startswith("# News\n")


def test_tags_that_contradict_the_page_are_not_believed(tmp_path: Path) -> None:
    texts = [
        [Text(72, 700, "alpha"), Text(400, 300, "beta")],
        [Text(300, 650, "gamma"), Text(80, 720, "delta")],
    ]
    texts.append([Text(90, 500, "epsilon"), Text(200, 740, "zeta")])
    table = Element("Table", [Element("TR", [cell(text) for text in each]) for each in texts])
    assert "|" not in markdown_of(tmp_path, [table])


def test_words_between_cells_that_belong_to_none_are_not_lost(tmp_path: Path) -> None:
    table = Element("Table", [HEADER, row(676, "bolt", "0.10", "12")])
    made = markdown_of(tmp_path, [table, Text(72, 688, "see below")])
    assert sorted(made.replace("|", " ").replace("---", " ").split()) == sorted(
        ["Name", "Price", "Stock", "bolt", "0.10", "12", "see", "below"]
    )


def test_headings_have_the_levels_that_the_document_says(tmp_path: Path) -> None:
    made = markdown_of(
        tmp_path,
        [
            Element("H1", [Text(72, 760, "The report")]),
            Element("H2", [Text(72, 745, "What it is about")]),
            prose(730),
            Element("H3", [Text(72, 700, "Details")]),
            prose(685),
        ],
    )
    headings = [line for line in made.splitlines() if line.startswith("#")]
    assert headings == ["# The report", "## What it is about", "### Details"]


def test_bold_lines_are_no_headings_where_the_document_says_what_its_headings_are(tmp_path: Path) -> None:
    bold = Element("P", [Text(72, 700, "By hand", font="B")])
    headings = [Element("H1", [Text(72, 760, "Install")]), Element("H2", [Text(72, 745, "Ways")])]
    assert "**By hand**" in markdown_of(tmp_path, [*headings, prose(730), bold, prose(685)])
    assert "#### By hand" in markdown_of(tmp_path, [prose(730), bold, prose(685)])


def test_strong_text_is_no_heading(tmp_path: Path) -> None:
    strong = Element("P", [Element("Strong", [Text(72, 700, "By hand", font="B")])])
    assert "**By hand**" in markdown_of(tmp_path, [prose(730), strong, prose(685)])


def test_paragraphs_are_parted_where_nothing_but_their_tags_does_it(tmp_path: Path) -> None:
    first = Element("P", [Text(72, 700, "One sentence stands here."), Text(72, 688, "Another follows it.")])
    second = Element("P", [Text(72, 676, "This begins a paragraph of its own.")])
    assert markdown_of(tmp_path, [first, second]) == (
        "One sentence stands here. Another follows it.\n\nThis begins a paragraph of its own.\n"
    )


def test_lines_that_a_program_took_for_paragraphs_are_put_together(tmp_path: Path) -> None:
    texts = (
        "This is one sentence that goes on over",
        "several lines, each of which some program",
        "has tagged as",
    )
    lines = [Element("P", [Text(72, 700 - 12 * at, text)]) for at, text in enumerate((*texts, "its own."))]
    assert markdown_of(tmp_path, lines) == f"{' '.join(texts)} its own.\n"


@pytest.mark.parametrize(
    "artifact", ["/Type /Pagination /Attached [/Top]", "/Type /Pagination /Subtype /Header"]
)
def test_a_header_that_is_marked_as_one_stands_below_all_else(tmp_path: Path, artifact: str) -> None:
    header = Text(72, 770, "Confidential", artifact=artifact)
    without = markdown_of(tmp_path, [prose(700)])
    assert markdown_of(tmp_path, [header, prose(700)]) == f"{without}\nConfidential\n"


def test_other_text_that_is_no_content_stays_where_it_may_be_read(tmp_path: Path) -> None:
    at_top = Text(72, 770, "Version 4", artifact="/Type /Layout")
    in_text = Text(72, 500, "Name of the field", artifact="/Type /Pagination /Subtype /Watermark")
    made = markdown_of(tmp_path, [at_top, prose(700), in_text])
    assert "Version 4" in made
    assert "Name of the field" in made


def test_items_of_lists_are_found_by_their_tags_where_nothing_marks_them(tmp_path: Path) -> None:
    def item(y: float, text: str, *within: Element) -> Element:
        body = Element("LBody", [Element("P", [Text(90, y, text), Text(90, y - 12, "goes on")]), *within])
        return Element("LI", [body])

    nested = Element("L", [Element("LI", [Element("LBody", [Text(110, 676, "nested")])])])
    items = Element("L", [item(700, "first", nested), item(664, "second")])
    made = markdown_of(tmp_path, [prose(740), items])
    assert made.split("\n\n")[1] == "- first goes on\n    - nested\n- second goes on\n"
