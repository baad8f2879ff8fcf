"""Pages as blocks: kinds, levels, places and plain text."""

from __future__ import annotations

import pytest

from switchyard.services.documents.model import blocks
from switchyard.services.documents.model.document import Page
from switchyard.services.documents.ocr import hocr
from switchyard.services.documents.page import assemble
from switchyard.services.documents.page.lines import Body, Line, Table

BODY = Body(10.0)
PAGE = (600.0, 800.0)


def line(text: str, top: float, *, left: float = 60, size: float = BODY.size) -> Line:
    return Line(text, left, top, 300, top + size, size)


def test_lines_become_blocks_with_kind_level_and_place_on_the_page() -> None:
    heading, paragraph, outer, inner = assemble.arrange(
        [
            line("Bridges", 80, size=20),
            line("They carry < loads.", 120),
            line("- Steel", 160),
            line("- Wire", 172, left=90),
        ],
        body=BODY,
        size=PAGE,
    )
    assert (heading.kind, heading.level, heading.text) == ("heading", 1, "Bridges")
    assert heading.markdown == "# Bridges"
    assert heading.box == pytest.approx((0.1, 0.1, 0.5, 0.125))
    assert (paragraph.kind, paragraph.text) == ("paragraph", "They carry < loads.")
    assert (outer.kind, outer.level, outer.text) == ("item", 0, "Steel")
    assert (inner.kind, inner.level, inner.text) == ("item", 1, "Wire")


def test_a_page_gives_the_markdown_of_its_blocks() -> None:
    made = assemble.arrange([line("Bridges", 80, size=20), line("They carry loads.", 120)], body=BODY)
    assert Page.of(made).markdown == "# Bridges\n\nThey carry loads."
    assert not Page.of(made).by_ocr
    assert Page.of(made, confidence=0.0).by_ocr


def test_a_table_is_a_block_where_its_lines_stood() -> None:
    table = Table(60, 100, 300, 140, "| a | b \\| c |\n| --- | --- |\n| 1 |  |")
    before, found = assemble.arrange(
        [line("Before it.", 20), line("a b | c", 104)], body=BODY, tables=[table], size=PAGE
    )
    assert before.kind == "paragraph"
    assert (found.kind, found.text) == ("table", "a\tb | c\n1\t")
    assert found.box == pytest.approx((0.1, 0.125, 0.5, 0.175))


def test_what_reaches_beyond_the_page_ends_at_its_edge() -> None:
    assert blocks.fractions((-5, 10, 700, 900), PAGE) == pytest.approx((0, 0.0125, 1, 1))


def test_recognised_text_has_its_place_and_confidence() -> None:
    read = hocr.parse(
        b"""<html><body><div class="ocr_page" title="image x; bbox 0 0 1000 500; ppageno 0">
        <p class="ocr_par"><span class="ocr_line" title="bbox 100 50 400 100; x_size 40">
        <span class="ocrx_word" title="bbox 100 50 400 100; x_wconf 91">Bridges</span>
        </span></p></div></body></html>"""
    )
    (found,) = read.blocks()
    assert found.text == "Bridges"
    assert found.box == pytest.approx((0.1, 0.1, 0.4, 0.2))
    assert read.confidence == 91
