"""Lines to blocks, and characters to lines, without a file around them."""

from __future__ import annotations

from switchyard.services.documents.page import assemble
from switchyard.services.documents.page.lines import Body, Line
from switchyard.services.documents.pdf.frame import Frame
from switchyard.services.documents.pdf.text.faces import UNKNOWN
from switchyard.services.documents.pdf.text.letters import Letters

Box = tuple[float, float, float, float]


def line(text: str, top: float, *, italic: bool = False) -> Line:
    return Line(text, 72, top, 300, top + 10, 10, italic=italic)


def rendered(*lines: Line) -> str:
    return assemble.render(lines, body=Body(10))


def test_a_line_in_italics_apart_from_what_is_before_heads_the_plain_text_below() -> None:
    made = rendered(
        line("plain text that ends.", 0), line("Stop Nuts", 30, italic=True), line("They stop.", 42)
    )
    assert made == "plain text that ends.\n\n#### Stop Nuts\n\nThey stop."


def test_italics_that_end_a_sentence_or_go_on_are_text() -> None:
    caption = rendered(line("Figure 7. Nuts.", 0, italic=True), line("They stop.", 12))
    assert "#" not in caption
    quotation = rendered(line("To be or", 0, italic=True), line("not to be", 12, italic=True))
    assert "#" not in quotation
    emphasis = rendered(line("a word, and then", 0), line("More so", 12, italic=True), line("it ends.", 24))
    assert "#" not in emphasis


def built(characters: list[tuple[str, Box]]) -> str:
    builder = Letters(Frame(0, 0, 600, 800, 0))
    for character, box in characters:
        builder.add(character, box, UNKNOWN)
    made = builder.line()
    assert made is not None
    return made.text


def test_the_letters_of_an_arabic_ligature_come_in_the_order_of_the_word() -> None:
    # pdfium returns the two letters of one glyph, alef and lam, in the order in which they would be drawn.
    ligature = (20.0, 0.0, 26.0, 10.0)
    found = built(
        [("\u0627", (26.0, 0.0, 29.0, 10.0)), ("\u0625", ligature), ("\u0644", ligature),
         ("\u0646", (16.0, 0.0, 20.0, 10.0))]
    )  # fmt: skip
    assert found == "\u0627\u0644\u0625\u0646"


def test_latin_words_stand_apart_from_arabic_ones() -> None:
    found = built(
        [("R", (40.0, 0.0, 48.0, 10.0)), ("\u0648", (30.0, 0.0, 38.0, 10.0)), ("C", (20.0, 0.0, 28.0, 10.0))]
    )
    assert found == "R \u0648 C"
