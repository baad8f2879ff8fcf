"""What becomes of a Word document, rule by rule."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.documents.corpus import converted
from tests.documents.office_files import item, level, numbering, p, r, style, table, tc, write_docx

STRICT = {
    b"http://schemas.openxmlformats.org/wordprocessingml/2006/main": (
        b"http://purl.oclc.org/ooxml/wordprocessingml/main"
    ),
    b"http://schemas.openxmlformats.org/officeDocument/2006/relationships": (
        b"http://purl.oclc.org/ooxml/officeDocument/relationships"
    ),
}


@pytest.fixture
def word(tmp_path: Path) -> Any:
    return lambda body, **parts: converted(write_docx(tmp_path / "made.docx", body, **parts)).strip()


def test_headings_are_known_by_style_outline_level_and_what_a_style_is_based_on(word: Any) -> None:
    styles = (
        style("heading 2", style_id="berschrift2")
        + style("Chapter", '<w:pPr><w:outlineLvl w:val="0"/></w:pPr>')
        + style("Mine", '<w:basedOn w:val="berschrift2"/>')
        + style("Plain", '<w:basedOn w:val="berschrift2"/><w:pPr><w:outlineLvl w:val="9"/></w:pPr>')
    )
    made = word(
        p("One", style="Chapter")
        + p("Two", style="berschrift2")
        + p("Three", style="Mine")
        + p("No heading", style="Plain")
        + p("Four", properties='<w:outlineLvl w:val="3"/>'),
        styles=styles,
    )
    assert made == "# One\n\n## Two\n\n## Three\n\nNo heading\n\n#### Four"


def test_headings_are_below_the_title(word: Any) -> None:
    styles = style("Title") + style("heading 1")
    made = word(p("Report", style="Title") + p(r("Part", "<w:b/>"), style="heading1"), styles=styles)
    assert made == "# Report\n\n## Part"


def test_numbered_headings_show_their_numbers(word: Any) -> None:
    levels = level(0, "decimal", "%1.", '<w:pStyle w:val="heading1"/>') + level(
        1, "decimal", "%1.%2", '<w:pStyle w:val="heading2"/>'
    )
    styles = "".join(
        style(f"heading {at}", '<w:pPr><w:numPr><w:numId w:val="1"/></w:numPr></w:pPr>') for at in (1, 2)
    )
    made = word(
        p("A", style="heading1")
        + p("B", style="heading2")
        + p("C", style="heading2")
        + p("D", style="heading1"),
        styles=styles,
        numbering=numbering(levels),
    )
    assert made == "# 1 A\n\n## 1.1 B\n\n## 1.2 C\n\n# 2 D"


def test_lists_nest_and_count_as_the_document_says(word: Any) -> None:
    lists = numbering(
        level(0, "decimal", "%1.") + level(1, "lowerLetter", "(%2)") + level(2, "bullet", "-"),
        level(0, "bullet", "-"),
    )
    body = item("a") + item("x", 1) + item("y", 1) + item("deep", 2) + item("b") + item("z", 1)
    made = word(body + p("Between.") + item("c") + item("dot", number=2), numbering=lists)
    assert made == (
        "1. a\n    - (a) x\n    - (b) y\n        - deep\n2. b\n    - (a) z\n\nBetween.\n\n3. c\n- dot"
    )


def test_list_may_start_again_and_at_another_number(word: Any) -> None:
    again = (
        '<w:num w:numId="2"><w:abstractNumId w:val="1"/>'
        '<w:lvlOverride w:ilvl="0"><w:startOverride w:val="7"/></w:lvlOverride></w:num>'
    )
    lists = numbering(level(0, "decimal", "%1)")) + again
    made = word(item("a") + item("b") + item("c", number=2) + item("d", number=2), numbering=lists)
    assert made == "1. a\n2. b\n7. c\n8. d"


def test_label_that_markdown_has_not_is_kept_as_text(word: Any) -> None:
    lists = numbering(level(0, "upperRoman", "Article %1") + level(1, "decimal", "%1.%2", "<w:isLgl/>"))
    assert word(item("x") + item("y", 1), numbering=lists) == "- Article I x\n    - 1.1 y"


def test_list_that_begins_deep_is_no_code(word: Any) -> None:
    lists = numbering(level(3, "bullet", "-"))
    assert word(p("Before") + item("deep", 3), numbering=lists) == "Before\n\n- deep"


def test_loops_of_styles_and_lists_end(word: Any) -> None:
    styles = style("A", '<w:basedOn w:val="B"/>') + style("B", '<w:basedOn w:val="A"/>')
    lists = (
        '<w:abstractNum w:abstractNumId="1"><w:numStyleLink w:val="L"/></w:abstractNum>'
        '<w:num w:numId="1"><w:abstractNumId w:val="1"/></w:num>'
    )
    styles += style("L", '<w:pPr><w:numPr><w:numId w:val="1"/></w:numPr></w:pPr>')
    assert word(p("x", style="A") + item("y"), styles=styles, numbering=lists) == "x\n\n1. y"


def test_merged_cells_say_what_they_say_in_every_place(word: Any) -> None:
    body = table(
        tc("wide", '<w:gridSpan w:val="2"/>') + tc("c"),
        tc("tall", '<w:vMerge w:val="restart"/>') + tc("1|2") + tc("3"),
        tc("", "<w:vMerge/>") + tc("4") + tc(p("5") + p("6")),
    )
    assert word(body) == (
        "| wide | wide | c |\n| --- | --- | --- |\n| tall | 1\\|2 | 3 |\n| tall | 4 | 5 6 |"
    )


def test_table_in_a_table_is_its_text_and_a_frame_is_none(word: Any) -> None:
    inner = table(tc("x") + tc("y"))
    assert word(table(tc("a") + tc(inner + p("after")))) == "| a | x y after |\n| --- | --- |"
    assert word(table(tc(p("framed") + inner))) == "framed\n\n| x | y |\n| --- | --- |"


def test_notes_are_marked_and_stand_at_the_end(word: Any) -> None:
    body = p(
        "Text",
        '<w:r><w:footnoteReference w:id="2"/></w:r>',
        " on",
        '<w:r><w:endnoteReference w:id="2"/></w:r>',
    )
    made = word(
        body,
        footnotes=f'<w:footnote w:id="2">{p("First note.")}</w:footnote>',
        endnotes=f'<w:endnote w:id="2">{p("Second", " note.")}</w:endnote>',
    )
    assert made == "Text[^1] on[^2]\n\n[^1]: First note.\n\n[^2]: Second note."


def test_note_that_refers_to_itself_is_written_once(word: Any) -> None:
    mark = '<w:r><w:footnoteReference w:id="2"/></w:r>'
    made = word(p("Text", mark), footnotes=f'<w:footnote w:id="2">{p("Again", mark)}</w:footnote>')
    assert made == "Text[^1]\n\n[^1]: Again[^1]"


def test_links_come_from_relationships_and_from_fields(word: Any) -> None:
    def field(kind: str) -> str:
        return f'<w:r><w:fldChar w:fldCharType="{kind}"/></w:r>'

    body = p(
        f'<w:hyperlink r:id="r9">{r("there")}</w:hyperlink>',
        " and ",
        field("begin"),
        '<w:r><w:instrText> HYPERLINK "https://a.example/(x)" </w:instrText></w:r>',
        field("separate"),
        r("here"),
        field("end"),
        f'<w:hyperlink w:anchor="top">{r(" up")}</w:hyperlink>',
    )
    made = word(body, links={"r9": ("hyperlink", "https://b.example/")})
    assert made == "[there](https://b.example/) and [here](https://a.example/%28x%29) up"


def test_what_was_deleted_or_hidden_is_gone_and_what_was_inserted_is_there(word: Any) -> None:
    body = p(
        "Kept",
        "<w:del><w:r><w:delText> deleted</w:delText></w:r></w:del>",
        f"<w:ins>{r(' inserted')}</w:ins>",
        f"<w:moveFrom>{r(' moved away')}</w:moveFrom>",
        r(" hidden", "<w:vanish/>"),
        '<w:commentRangeStart w:id="0"/>',
        '<w:r><w:commentReference w:id="0"/></w:r>',
    )
    gone = "<w:tr><w:trPr><w:del/></w:trPr><w:tc><w:p><w:r><w:t>row</w:t></w:r></w:p></w:tc></w:tr>"
    made = word(body + f"<w:tbl>{gone}<w:tr>{tc('a')}{tc('b')}</w:tr></w:tbl>")
    assert made == "Kept inserted\n\n| a | b |\n| --- | --- |"


def test_text_box_is_read_once_and_after_its_paragraph(word: Any) -> None:
    box = f"<w:txbxContent>{p('Boxed')}</w:txbxContent>"
    drawn = (
        f'<w:r><mc:AlternateContent><mc:Choice Requires="wps"><w:drawing><wps:txbx>{box}</wps:txbx>'
        f"</w:drawing></mc:Choice><mc:Fallback><w:pict><v:textbox>{box}</v:textbox></w:pict></mc:Fallback>"
        "</mc:AlternateContent></w:r>"
    )
    assert word(p("Before", drawn)) == "Before\n\nBoxed"


def test_code_is_known_by_style_and_by_font(word: Any) -> None:
    mono = '<w:rFonts w:ascii="Courier New"/>'
    styles = style("Source Code")
    body = (
        p("def f():", style="SourceCode")
        + p("    return 1", style="SourceCode")
        + p("Call ", r("f()", mono), " twice.")
        + p(r("whole line", mono))
    )
    assert word(body, styles=styles) == (
        "```\ndef f():\n    return 1\n```\n\nCall `f()` twice.\n\n```\nwhole line\n```"
    )


def test_looks_are_marked_around_words_and_not_spaces(word: Any) -> None:
    body = p(r("bold ", "<w:b/>"), r("and ", "<w:b/>"), r("italic", "<w:i/>"), r(" gone", "<w:strike/>"), "!")
    assert word(body) == "**bold and** *italic* ~~gone~~!"


def test_quotes_line_breaks_and_what_looks_like_markdown(word: Any) -> None:
    body = p("Said.", style="Quote") + p("one", "<w:r><w:br/></w:r>", "# two")
    assert word(body + p("<w:r><w:t>&lt;script&gt;</w:t></w:r>"), styles=style("Quote")) == (
        "> Said.\n\none  \n\\# two\n\n\\<script>"
    )


def test_image_is_referred_to_with_its_description(word: Any) -> None:
    drawn = (
        '<w:r><w:drawing><wp:inline><wp:docPr id="1" name="x" descr="A duck"/><a:graphic><a:graphicData>'
        '<a:blip r:embed="r7"/></a:graphicData></a:graphic></wp:inline></w:drawing></w:r>'
    )
    made = word(p("See", drawn), links={"r7": ("image", "media/image1.png")})
    assert made == "See\n\n![A duck](image1.png)"


def test_right_to_left_text_keeps_its_order(word: Any) -> None:
    body = p(r("مرحبا ", "<w:rtl/>"), r("بالعالم", "<w:rtl/><w:b/>"), properties="<w:bidi/>")
    assert word(body) == "مرحبا **بالعالم**"


def test_main_part_may_have_another_name(word: Any) -> None:
    assert word(p("Renamed"), main="document2.xml") == "Renamed"


def test_strict_documents_are_read_too(tmp_path: Path) -> None:
    made = write_docx(tmp_path / "made.docx", p("A", "B"))
    strict = tmp_path / "strict.docx"
    with zipfile.ZipFile(made) as old, zipfile.ZipFile(strict, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            for ours, theirs in STRICT.items():
                data = data.replace(ours, theirs)
            new.writestr(name, data)
    assert converted(strict).strip() == "AB"
