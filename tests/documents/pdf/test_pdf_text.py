"""Columns, footnotes, links, code and emphasis of PDFs with a text layer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.documents.corpus import converted
from tests.documents.pdf_files import page_of, stream_of

FONTS = {
    "R": "Times-Roman", "B": "Times-Bold", "I": "Times-Italic", "S": "Helvetica", "C": "Courier",
    "Z": "ZapfDingbats",
}  # fmt: skip

# Font, size, from the left, from the bottom, text.
Placed = tuple[str, float, float, float, str]


def markdown_of(tmp_path: Path, texts: list[Placed], *, annotations: str = "") -> str:
    """The Markdown of one page with texts at these places, in points."""
    fonts = " ".join(f"/{key} << /Type /Font /Subtype /Type1 /BaseFont /{FONTS[key]} >>" for key in FONTS)
    content = "".join(f"BT /{font} {size} Tf {x} {y} Td ({text}) Tj ET\n" for font, size, x, y, text in texts)
    path = tmp_path / "page.pdf"
    path.write_bytes(page_of(content, resources=f"/Font << {fonts} >>", entries=f"/Annots [{annotations}]"))
    return converted(path)


def prose(x: float, top: float, *lines: str) -> list[Placed]:
    return [("R", 10, x, top - 12 * number, line) for number, line in enumerate(lines)]


LEFT = prose(
    72, 650, "The left column begins with a sentence that", "goes on over several lines of the page and",
    "is followed by another one, which in turn ends", "where the next column takes it up in the mid-",
)  # fmt: skip
RIGHT = prose(
    320, 650, "dle of a word. The right column has as many", "lines as the left one has, and says less than",
    "it could, as columns of tests do. Then it ends", "with a full stop and nothing after it at all.",
)  # fmt: skip
READ = "in the middle of a word. The right column has"


def rows(left: list[Placed], right: list[Placed]) -> list[Placed]:
    """Two columns as a program writes them that goes down the page once."""
    return [text for pair in zip(left, right, strict=True) for text in pair]


def test_columns_are_read_one_after_the_other_whatever_the_order_of_the_content(tmp_path: Path) -> None:
    for texts in (LEFT + RIGHT, RIGHT + LEFT, rows(LEFT, RIGHT)):
        made = markdown_of(tmp_path, texts)
        assert READ in made
        assert made.index("The left column") < made.index("The right column")


def test_a_title_across_columns_comes_first_and_a_line_below_them_last(tmp_path: Path) -> None:
    title: Placed = ("B", 18, 140, 700, "A title that stands across both columns")
    below = prose(
        72, 560, "Below both columns a line runs over the whole width of the page, from left to right."
    )
    made = markdown_of(tmp_path, [*below, *rows(LEFT, RIGHT), title])
    assert made.startswith("# A title that stands across both columns\n")
    assert READ in made
    assert made.strip().endswith("from left to right.")


def test_labels_and_their_values_stay_together(tmp_path: Path) -> None:
    labels = prose(72, 650, "Name", "Place", "Number")
    values = prose(320, 650, "Ada", "London", "1815")
    made = markdown_of(tmp_path, rows(labels, values))
    assert made.index("Name") < made.index("Ada") < made.index("Place") < made.index("London")


def test_what_is_drawn_last_at_the_top_is_read_first(tmp_path: Path) -> None:
    made = markdown_of(tmp_path, [*prose(72, 600, "The text of the letter."), *prose(72, 700, "Dear Ada,")])
    assert made == "Dear Ada,\n\nThe text of the letter.\n"


def test_footnotes_are_recognised_by_their_marks(tmp_path: Path) -> None:
    made = markdown_of(
        tmp_path,
        [
            *prose(72, 700, "A claim that needs a source"), ("R", 6, 182, 704, "1"),
            *prose(200, 700, "and goes on after it."),
            *prose(72, 680, "More of the text, at the usual size."),
            ("R", 5, 72, 103, "1"), ("R", 8, 76, 100, "The source of it, in small"),
            ("R", 8, 76, 91, "print over two lines."),
        ],
    )  # fmt: skip
    assert "needs a source[^1] and goes on" in made
    assert made.strip().endswith("[^1]: The source of it, in small print over two lines.")


def test_a_raised_number_without_a_note_is_text(tmp_path: Path) -> None:
    made = markdown_of(tmp_path, [*prose(72, 700, "An area of 20 m"), ("R", 6, 138, 704, "2")])
    assert made == "An area of 20 m²\n"


def test_links_are_put_on_their_words(tmp_path: Path) -> None:
    def link(left: float, right: float, address: str) -> str:
        action = f"/A << /S /URI /URI ({address}) >>"
        return f"<< /Type /Annot /Subtype /Link /Rect [{left} 696 {right} 710] {action} >>"

    made = markdown_of(
        tmp_path,
        [*prose(72, 700, "Read"), *prose(100, 700, "the manual"), *prose(150, 700, "first")],
        annotations=link(98, 146, "https://example.org/manual") + link(148, 180, "javascript:alert"),
    )
    assert made == "Read [the manual](https://example.org/manual) first\n"


def test_lines_of_code_keep_their_indents(tmp_path: Path) -> None:
    code = [("C", 9, 72, 660, "def area\\(side\\):"), ("C", 9, 93.6, 649, "return side * side")]
    made = markdown_of(
        tmp_path,
        [*prose(72, 700, "A function, in a language of its own:"), *code, *prose(72, 620, "It is pure.")],
    )
    assert "```\ndef area(side):\n    return side * side\n```" in made


def test_code_within_a_line_is_marked(tmp_path: Path) -> None:
    made = markdown_of(
        tmp_path, [*prose(72, 700, "Call it with"), ("C", 10, 125, 700, "side=2"), *prose(165, 700, "alone.")]
    )
    assert made == "Call it with `side=2` alone.\n"


def test_a_page_all_of_one_width_is_no_code(tmp_path: Path) -> None:
    made = markdown_of(
        tmp_path, [("C", 10, 72, 700, "Typed on a machine."), ("C", 10, 72, 688, "With a bell.")]
    )
    assert "`" not in made


def test_emphasis_is_marked_where_it_stands_out(tmp_path: Path) -> None:
    made = markdown_of(
        tmp_path,
        [
            *prose(72, 700, "Plain words and"), ("B", 10, 142, 700, "bold ones"),
            ("I", 10, 190, 700, "or slanted"),
            *prose(240, 700, "stand in one line."),
        ],
    )  # fmt: skip
    assert made == "Plain words and **bold ones** *or slanted* stand in one line.\n"


def test_a_line_that_begins_in_bold_is_no_heading(tmp_path: Path) -> None:
    made = markdown_of(
        tmp_path,
        [
            ("B", 10, 72, 700, "Figure 1. A bridge of steel"),
            *prose(196, 700, "over a river."),
            *prose(72, 670, "It is long."),
        ],
    )
    assert "#" not in made


def test_a_heading_in_another_typeface_is_recognised_by_it(tmp_path: Path) -> None:
    made = markdown_of(
        tmp_path,
        [
            *prose(72, 700, "The first part of the text ends here, with a full stop."),
            ("S", 10, 72, 672, "Of bridges"),
            *prose(72, 658, "They carry loads over rivers, and are made of steel, of stone", "or of wood."),
        ],
    )
    assert "#### Of bridges\n" in made


def test_a_sign_of_a_font_of_signs_is_a_bullet(tmp_path: Path) -> None:
    made = markdown_of(
        tmp_path,
        [("Z", 10, 72, 700, "n"), *prose(90, 700, "Steel"), ("Z", 10, 72, 685, "n"), *prose(90, 685, "Wood")],
    )
    assert made == "- Steel\n- Wood\n"


def test_an_o_of_a_typewriter_is_a_bullet_of_a_list_within(tmp_path: Path) -> None:
    made = markdown_of(
        tmp_path,
        [
            *prose(72, 700, "\\267 Steel"), ("C", 10, 90, 685, "o"), *prose(105, 685, "of bridges"),
            ("C", 10, 90, 670, "o"), *prose(105, 670, "of ships"),
        ],
    )  # fmt: skip
    assert made == "- Steel\n    - of bridges\n    - of ships\n"


def test_lines_of_a_table_of_contents_stay_apart(tmp_path: Path) -> None:
    made = markdown_of(
        tmp_path,
        prose(
            72,
            700,
            "Bridges . . . . . . . . . . . . 7",
            "Tunnels . . . . . . . . . . . . 19",
            "Ferries.......... xii",
        ),
    )
    assert [line[:9] for line in made.splitlines()] == ["- Bridges", "- Tunnels", "- Ferries"]


def test_a_paragraph_that_a_figure_parts_is_put_together_before_it(tmp_path: Path) -> None:
    made = markdown_of(
        tmp_path,
        [
            *prose(72, 700, "A sentence that begins above a figure and is not at its end where"),
            ("S", 8, 100, 650, "A label"), ("I", 9, 72, 630, "Figure 1. A bridge."),
            *prose(72, 600, "the figure stands, but goes on below it.", "Then it ends, and so does this."),
        ],
    )  # fmt: skip
    paragraphs = made.strip().split("\n\n")
    assert paragraphs[0].startswith("A sentence that begins")
    assert "at its end where the figure stands, but goes on" in paragraphs[0]
    assert "A label" in paragraphs[1]


def test_a_large_line_that_only_introduces_a_list_heads_nothing(tmp_path: Path) -> None:
    large = [
        ("R", 20, 72, 700, "What it takes:"), ("R", 20, 72, 670, "\\267 steel"),
        ("R", 20, 72, 640, "\\267 paint"),
    ]  # fmt: skip
    small = prose(
        72, 560, "The usual text of this page is in a smaller size, and there is more of it", "as well."
    )
    made = markdown_of(tmp_path, [*large, *small, *prose(72, 500, *(["More of the usual text."] * 3))])
    assert made.startswith("What it takes:\n\n- steel\n- paint\n")


def test_large_numbered_lines_are_a_list_and_a_numbered_line_alone_a_heading(tmp_path: Path) -> None:
    usual = prose(
        72, 560, "The usual text of this page is in a smaller size, and there is more of it", "as well."
    )
    listed = [("R", 14, 72, 700, "1. Steel"), ("R", 14, 72, 682, "2. Paint")]
    assert markdown_of(tmp_path, [*listed, *usual]).startswith("1. Steel\n2. Paint\n")
    alone = [("R", 14, 72, 700, "1. Steel")]
    assert markdown_of(tmp_path, [*alone, *usual]).startswith("## 1. Steel\n")


def test_text_that_runs_up_the_page_comes_last(tmp_path: Path) -> None:
    content = (
        "BT /H 10 Tf 0 1 -1 0 30 300 Tm (Stamped at the side) Tj ET\n"
        "BT /H 10 Tf 72 700 Td (The text of the page.) Tj ET\n"
    )
    path = tmp_path / "page.pdf"
    path.write_bytes(page_of(content))
    assert converted(path) == "The text of the page.\n\nStamped at the side\n"


@pytest.mark.parametrize("text", ["1.1", "(a)", "2.3.4"])
def test_a_label_that_markdown_has_not_begins_a_paragraph(tmp_path: Path, text: str) -> None:
    shown = text.replace("(", "\\(").replace(")", "\\)")
    made = markdown_of(
        tmp_path, prose(72, 700, "What comes before it runs on and", f"{shown} The part of its own.")
    )
    assert f"\n\n{text} The part" in made


def test_a_line_that_is_too_long_for_its_column_does_not_part_it(tmp_path: Path) -> None:
    longer = [
        *LEFT[:2],
        ("R", 10, 72.0, 626.0, "is followed by another one that reaches far into the gutt"),
        LEFT[3],
    ]
    made = markdown_of(tmp_path, rows(longer, RIGHT))
    assert READ in made
    assert made.index("far into the gutt") < made.index("The right column")


def test_a_line_that_begins_with_words_and_is_mostly_code_heads_nothing(tmp_path: Path) -> None:
    texts: list[Placed] = [
        *prose(72, 700, "The gateway is a single program and needs nothing else to run on a machine."),
        ("R", 10, 72, 670, "Start it with"),
        ("C", 10, 132, 670, "./gateway --port 8080 --workers 4 --verbose"),
        ("R", 10, 394, 670, "and"),
        *prose(72, 658, "look at what it says of itself in the log, which is short."),
    ]
    made = markdown_of(tmp_path, texts)
    assert "Start it with `./gateway --port 8080 --workers 4 --verbose` and look at" in made


def test_a_bold_line_of_several_things_is_no_heading(tmp_path: Path) -> None:
    texts: list[Placed] = [
        ("B", 10, 72, 700, "Name"), ("B", 10, 140, 700, "Price"),
        *prose(72, 680, "The price of all that we sell is asked for at the counter and nowhere else."),
        ("B", 10, 72, 640, "1"), ("B", 10, 92, 640, "What is sold"),
        *prose(72, 620, "Bolts, nuts and all that goes with them is what we sell at our counter."),
    ]  # fmt: skip
    made = markdown_of(tmp_path, texts)
    assert "# Name" not in made
    assert "#### 1 What is sold" in made


def test_size_is_known_of_letters_whose_font_claims_not_to_reach_below_the_line(tmp_path: Path) -> None:
    lines = ("sea air was as near as ever", "pygmy jumpy gypsy, boggy quay", "as near as a man can see")
    font = (
        "/H << /Type /Font /Subtype /TrueType /BaseFont /Helvetica /Encoding /WinAnsiEncoding "
        "/FontDescriptor << /Type /FontDescriptor /FontName /Helvetica /Flags 32 /Ascent 660 /Descent 0 "
        "/CapHeight 660 /ItalicAngle 0 /StemV 80 /FontBBox [0 0 1000 660] >> >>"
    )
    content = "".join(f"BT /H 12 Tf 72 {700 - 40 * n} Td ({line}) Tj ET\n" for n, line in enumerate(lines))
    path = tmp_path / "page.pdf"
    path.write_bytes(page_of(content, resources=f"/Font << {font} >>"))
    assert converted(path) == "".join(f"{line}\n\n" for line in lines).rstrip("\n") + "\n"


def test_headings_of_different_sizes_are_two(tmp_path: Path) -> None:
    texts: list[Placed] = [
        ("S", 26, 72, 700, "The Harbour"), ("S", 20, 72, 676, "Summary of the year"),
        *prose(72, 650, "The harbour handled more than in the year before, most of it in boxes."),
    ]  # fmt: skip
    made = markdown_of(tmp_path, texts)
    assert made.startswith("# The Harbour\n\n# Summary of the year\n\nThe harbour")


TABS = (
    "/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapType 2 def "
    "1 begincodespacerange <00> <FF> endcodespacerange 1 beginbfrange <21> <7E> <0021> endbfrange "
    "1 beginbfchar <20> <0009> endbfchar endcmap end end"
)


@pytest.mark.parametrize(("entries", "turn"), [("", "1 0 0 1 0 0"), ("/Rotate 90", "0 1 -1 0 612 0")])
def test_words_that_a_font_parts_by_tabs_are_parted(tmp_path: Path, entries: str, turn: str) -> None:
    font = "/Font << /H << /Type /Font /Subtype /Type1 /BaseFont /Helvetica /ToUnicode 5 0 R >> >>"
    content = f"{turn} cm BT /H 10 Tf 72 500 Td (Procurement of 33 cars) Tj ET"
    path = tmp_path / "page.pdf"
    path.write_bytes(page_of(content, resources=font, entries=entries, objects=[stream_of(TABS)]))
    assert converted(path) == "Procurement of 33 cars\n"
