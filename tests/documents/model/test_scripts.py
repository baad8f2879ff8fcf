"""What stands above or below the line is distinguished from what stands on it, in every format."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from openpyxl.cell.rich_text import CellRichText, TextBlock
from openpyxl.cell.text import InlineFont
from pptx import Presentation

from switchyard.services.connectors.convert.connector import ConvertConnector
from switchyard.services.documents.model import scripts
from tests.documents.corpus import converted
from tests.documents.hostile import convert
from tests.documents.office_files import p, r, style, write_docx
from tests.documents.pdf_files import page_of, stream_of

PLAIN = "".join(
    f"BT /H 11 Tf 72 {600 - 16 * number} Td (These words stand on the line and show how large it is.) Tj ET\n"
    for number in range(5)
)
UP, DOWN = '<w:vertAlign w:val="superscript"/>', '<w:vertAlign w:val="subscript"/>'


def pdf(path: Path, *runs: tuple[str, float, float], entries: str = "", **arguments: Any) -> str:
    """The first paragraph of a page with runs, each with its size and how far it is raised."""
    line = "".join(f"/H {size} Tf {rise} Ts ({text}) Tj " for text, size, rise in runs)
    source = path / "page.pdf"
    turn = "-1 0 0 -1 612 792 cm\n" if entries else ""
    source.write_bytes(page_of(f"{turn}BT 72 700 Td {line} ET\n{PLAIN}", entries=entries))
    return converted(source, **arguments).partition("\n")[0]


@pytest.mark.parametrize("entries", ["", "/Rotate 180"])
def test_powers_and_indices_of_a_pdf_are_no_digits_of_the_number_before(tmp_path: Path, entries: str) -> None:
    runs = (("There are 10", 11, 0), ("5", 7, 4), (", and H", 11, 0), ("2", 7, -2), ("O on m", 11, 0))
    line = pdf(tmp_path, *runs, ("2", 9, 4), entries=entries)
    assert "There are 10⁵" in line
    assert "H₂O on m²" in line


def test_letters_above_and_below_the_line_of_a_pdf_are_marked(tmp_path: Path) -> None:
    runs = (("as 2", 11, 0), ("n", 7, 4), (" or e", 11, 0), ("x", 7, 4), (" and k", 11, 0), ("max", 7, -2))
    assert pdf(tmp_path, *runs, (".", 11, 0)) == "as 2ⁿ or e^x and k_{max}."


@pytest.mark.parametrize(
    ("runs", "text"),
    [
        ([("the 1", 11, 0), ("st", 7, 4), (" of May", 11, 0)], "the 1st of May"),
        ([("L", 11, 0), ("A", 8, 3), ("TEX is a program", 11, 0)], "LATEX is a program"),
        ([("S", 11, 0), ("MALL", 8, 0), (" capitals", 11, 0)], "SMALL capitals"),
        ([("as others say ", 11, 0), ("[9]", 7, 4), (" too", 11, 0)], "as others say [9] too"),
    ],
)
def test_what_is_smaller_in_a_pdf_but_falsifies_nothing_stays_as_it_is(
    tmp_path: Path, runs: list[tuple[str, float, float]], text: str
) -> None:
    assert pdf(tmp_path, *runs) == text


def test_power_in_a_cell_of_a_pdf_table_is_marked(tmp_path: Path) -> None:
    def cell(x: float, y: float, text: str, power: str = "") -> str:
        raised = f"/H 7 Tf 4 Ts ({power}) Tj" if power else ""
        return f"BT {x} {y} Td 0 Ts /H 11 Tf ({text}) Tj {raised} ET\n"

    rules = "".join(f"72 {y} m 372 {y} l S\n" for y in (650, 670, 690, 710))
    rules += "".join(f"{x} 650 m {x} 710 l S\n" for x in (72, 222, 372))
    names = (("Area", 695), ("Field", 675), ("House", 655))
    content = rules + "".join(cell(80, y, name) for name, y in names)
    content += cell(230, 695, "km", "2") + cell(230, 675, "10", "5") + cell(230, 655, "10", "-3")
    source = tmp_path / "table.pdf"
    source.write_bytes(page_of(content))
    assert "| Area | km² |\n| --- | --- |\n| Field | 10⁵ |\n| House | 10⁻³ |" in converted(source)


def test_scripts_of_word_are_recognised_by_runs_styles_and_places(tmp_path: Path) -> None:
    raised = '<w:position w:val="8"/><w:sz w:val="14"/>'
    styled = style("Power", f"<w:rPr>{UP}</w:rPr>", kind="character")
    source = write_docx(
        tmp_path / "a.docx",
        p(
            "10",
            r("5 ", UP),
            "of H",
            r("2", DOWN),
            "O, x",
            r("3", '<w:rStyle w:val="Power"/>'),
            ", y",
            r("4", raised),
        ),
        styles=styled,
    )
    assert converted(source) == "10⁵ of H₂O, x³, y⁴\n"


def test_mark_of_a_note_stays_the_mark_of_a_note(tmp_path: Path) -> None:
    reference = f'<w:r><w:rPr>{UP}</w:rPr><w:footnoteReference w:id="2"/></w:r>'
    notes = f'<w:footnote w:id="2">{p("below")}</w:footnote>'
    source = write_docx(tmp_path / "a.docx", p("Text", reference, "."), footnotes=notes)
    assert converted(source, scripts="html") == "Text[^1].\n\n[^1]: below\n"


def test_scripts_of_slides_and_workbooks_are_marked(tmp_path: Path) -> None:
    deck = Presentation()
    slide = deck.slides.add_slide(deck.slide_layouts[5])
    slide.shapes.title.text = "Area"
    paragraph = slide.shapes.add_textbox(0, 2_000_000, 3_000_000, 500_000).text_frame.paragraphs[0]
    for text, baseline in (("3 km", ""), ("2", "30000"), (" of CO", ""), ("2", "-25000")):
        run = paragraph.add_run()
        run.text = text
        run.font._element.set("baseline", baseline or "0")
    deck.save(str(tmp_path / "a.pptx"))
    assert converted(tmp_path / "a.pptx") == "# Area\n\n3 km² of CO₂\n"
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    raised = InlineFont(vertAlign="superscript")
    sheet.append(["name", "size", CellRichText("10", TextBlock(raised, "5"), " m", TextBlock(raised, "2"))])
    sheet.append(["a", 1, 2])
    book.save(tmp_path / "a.xlsx")
    assert "| name | size | 10⁵ m² |" in converted(tmp_path / "a.xlsx")


HTML = (
    "<p>10<sup>5</sup> m<sup>2</sup>, H<sub>2</sub>O, e<sup>x</sup>, 1<sup>st</sup>, "
    "2<sup>2<sup>3</sup></sup>, <b>a<sub>max</sub></b>, <code>2<sup>8</sup></code> and "
    "5<span style='vertical-align: super'>7</span></p>"
)


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("unicode", "10⁵ m², H₂O, e^x, 1st, 2^{2³}, **a_{max}**, `2⁸` and 5⁷"),
        ("caret", "10^5 m^2, H_2O, e^x, 1st, 2^{2^3}, **a_{max}**, `2⁸` and 5^7"),
        (
            "html",
            HTML[3:-4]
            .replace("<b>", "**")
            .replace("</b>", "**")
            .replace("<code>2<sup>8</sup></code>", "`2⁸`")
            .replace("<span style='vertical-align: super'>7</span>", "<sup>7</sup>"),
        ),
    ],
)
def test_form_of_scripts_is_the_one_that_was_asked_for(tmp_path: Path, form: str, text: str) -> None:
    (tmp_path / "a.html").write_text(HTML, encoding="utf-8")
    assert converted(tmp_path / "a.html", scripts=form) == f"{text}\n"


def test_listings_captions_and_formulas_of_html_keep_their_powers(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        "<pre>x = 2<sup>10</sup></pre><table><caption>in m<sup>3</sup></caption><tr><th>a<th>b"
        "<tr><td>1<td>2</table><p><math><msup><mn>10</mn><mn>5</mn></msup><mo>=</mo><mfrac><mn>1</mn><mi>x</mi></mfrac></math></p>",
        encoding="utf-8",
    )
    text = converted(tmp_path / "a.html", scripts="html")
    assert "x = 2¹⁰" in text
    assert "in m<sup>3</sup>" in text
    assert "10<sup>5</sup>=(1)/(x)" in text


async def test_plain_text_and_json_have_powers_without_html(tmp_path: Path) -> None:
    connector = ConvertConnector(slots=1)
    page = b"<html><p>10<sup>5</sup> m</p></html>"
    formats = ["markdown", "text", "json"]
    try:
        made = await convert(connector, tmp_path, page, "a.html", formats=formats, scripts="html")
    finally:
        await connector.close()
    assert made.result["markdown"] == "10<sup>5</sup> m\n"
    assert (tmp_path / "scratch-1" / "document.txt").read_text(encoding="utf-8") == "10⁵ m\n"
    block = json.loads((tmp_path / "scratch-1" / "document.json").read_text(encoding="utf-8"))["pages"][0][
        "blocks"
    ][0]
    assert (block["text"], block["markdown"]) == ("10⁵ m", "10<sup>5</sup> m")


def test_marks_that_a_document_has_itself_do_no_harm(tmp_path: Path) -> None:
    source = io.StringIO()
    source.write(f"<p>a{scripts.RAISED * 50_000}b{scripts.END * 50_000}c{scripts.LOWERED}</p>")
    (tmp_path / "a.html").write_text(source.getvalue(), encoding="utf-8")
    text = converted(tmp_path / "a.html", scripts="html")
    assert scripts.bare(text) == text
    assert text.startswith("a")


def test_text_that_runs_askew_or_up_the_page_is_not_taken_apart(tmp_path: Path) -> None:
    turned = "BT /H 14 Tf 0.94 0.34 -0.34 0.94 100 200 Tm (Perfectly ordinary) Tj ET\n"
    upright = "BT /H 9 Tf 0 1 -1 0 40 200 Tm (DSKJLSW7X2PROD with FRONT11) Tj ET\n"
    source = tmp_path / "a.pdf"
    source.write_bytes(page_of(PLAIN + turned + upright))
    text = converted(source)
    assert scripts.bare(text) == text
    assert "DSKJLSW7X2PROD with FRONT11" in text
    assert not set("⁰¹²³⁴⁵⁶⁷⁸⁹₀₁₂₃₄₅₆₇₈₉^") & set(text)


@pytest.mark.parametrize(
    ("entries", "turn"), [("/Rotate 90", "0 1 -1 0 612 0"), ("/Rotate 270", "0 -1 1 0 0 792")]
)
def test_powers_of_a_page_that_lies_on_its_side_are_marked(tmp_path: Path, entries: str, turn: str) -> None:
    line = "/H 11 Tf (There are 10) Tj /H 7 Tf 4 Ts (5) Tj /H 11 Tf 0 Ts (, and H) Tj /H 7 Tf -2 Ts (2) Tj"
    more = "/H 11 Tf 0 Ts (O on m) Tj /H 8 Tf 3 Ts (2) Tj /H 7 Tf 0 Ts ( and small words) Tj"
    source = tmp_path / "a.pdf"
    source.write_bytes(page_of(f"{turn} cm\nBT 72 500 Td {line} {more} ET\n", entries=entries))
    assert converted(source) == "There are 10⁵, and H₂O on m² and small words\n"


HEBREW = (
    "/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapType 2 def "
    "1 begincodespacerange <00> <FF> endcodespacerange 2 beginbfrange <41> <5A> <05D0> <30> <39> <0030> "
    "endbfrange 1 beginbfchar <20> <0020> endbfchar endcmap end end"
)


def test_powers_between_words_that_run_from_right_to_left_are_marked(tmp_path: Path) -> None:
    widths = "/FirstChar 0 /LastChar 255 /Widths [" + "600 " * 256 + "]"
    font = f"/Font << /H << /Type /Font /Subtype /Type1 /BaseFont /Helvetica {widths} /ToUnicode 5 0 R >> >>"
    shown = "(CBA ) Tj (10) Tj /H 7 Tf 4 Ts (5) Tj /H 11 Tf 0 Ts ( FED) Tj"
    source = tmp_path / "a.pdf"
    page = page_of(f"BT /H 11 Tf 100 700 Td {shown} ET\n", resources=font, objects=[stream_of(HEBREW)])
    source.write_bytes(page)
    assert converted(source) == "\u05d3\u05d4\u05d5 10⁵ \u05d0\u05d1\u05d2\n"


def test_small_line_beside_a_large_one_is_no_power_of_it(tmp_path: Path) -> None:
    beside = "BT /H 20 Tf 72 500 Td (News) Tj ET BT /H 9 Tf 119 508 Td (March) Tj ET\n"
    source = tmp_path / "a.pdf"
    source.write_bytes(page_of(PLAIN + beside))
    assert "^" not in converted(source)
