"""What becomes of a presentation, rule by rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lxml import etree
from PIL import Image
from pptx import Presentation
from pptx.chart.data import CategoryChartData
from pptx.enum.chart import XL_CHART_TYPE
from pptx.util import Inches

from tests.documents.corpus import converted

TITLE_ONLY, COMPARISON, CONTENT, BLANK = 5, 4, 1, 6
DRAWING = "http://schemas.openxmlformats.org/drawingml/2006/main"


@pytest.fixture
def deck() -> Any:
    return Presentation()


@pytest.fixture
def made(deck: Any, tmp_path: Path) -> Any:
    def call() -> str:
        deck.save(str(tmp_path / "deck.pptx"))
        return converted(tmp_path / "deck.pptx").strip()

    return call


def box(slide: Any, text: str, left: float, top: float, width: float = 2, height: float = 1) -> Any:
    shape = slide.shapes.add_textbox(Inches(left), Inches(top), Inches(width), Inches(height))
    shape.text_frame.text = text
    return shape


def bullet(paragraph: Any, xml: str) -> None:
    paragraph._p.get_or_add_pPr().append(etree.fromstring(f'<a:{xml} xmlns:a="{DRAWING}"/>'))


def test_bullets_come_from_the_master_unless_a_paragraph_has_none(deck: Any, made: Any) -> None:
    slide = deck.slides.add_slide(deck.slide_layouts[CONTENT])
    slide.shapes.title.text = "Plan"
    frame = slide.placeholders[1].text_frame
    frame.text = "one"
    for text, level in (("deep", 2), ("two", 0), ("plain", 0)):
        paragraph = frame.add_paragraph()
        paragraph.text, paragraph.level = text, level
    bullet(paragraph, "buNone")
    box(slide, "no bullet", 1, 6.5)
    assert made() == "# Plan\n\n- one\n    - deep\n- two\n\nplain\n\nno bullet"


def test_numbers_count_level_by_level(deck: Any, made: Any) -> None:
    slide = deck.slides.add_slide(deck.slide_layouts[BLANK])
    frame = box(slide, "", 1, 1).text_frame
    kinds = {0: 'buAutoNum type="arabicPeriod" startAt="3"', 1: 'buAutoNum type="alphaLcParenBoth"'}
    for number, (text, level) in enumerate([("a", 0), ("x", 1), ("y", 1), ("b", 0), ("z", 1)]):
        paragraph = frame.paragraphs[0] if number == 0 else frame.add_paragraph()
        paragraph.text, paragraph.level = text, level
        bullet(paragraph, kinds[level])
    assert made() == "3. a\n    - (a) x\n    - (b) y\n4. b\n    - (a) z"


def test_columns_are_read_one_after_the_other(deck: Any, made: Any) -> None:
    slide = deck.slides.add_slide(deck.slide_layouts[COMPARISON])
    for place, text in zip(slide.placeholders, ["T", "left", "l", "right", "r"], strict=True):
        place.text_frame.text = text
    assert made() == "# T\n\nleft\n\n- l\n\nright\n\n- r"


def test_shapes_are_read_from_top_to_bottom_whatever_their_order(deck: Any, made: Any) -> None:
    slide = deck.slides.add_slide(deck.slide_layouts[BLANK])
    box(slide, "foot", 0.5, 6, width=9)
    box(slide, "right", 6, 2)
    box(slide, "left", 0.5, 2.1)
    box(slide, "head", 0.5, 0.5, width=9)
    assert made() == "head\n\nleft\n\nright\n\nfoot"


def test_group_is_read_where_it_lies(deck: Any, made: Any) -> None:
    slide = deck.slides.add_slide(deck.slide_layouts[BLANK])
    group = slide.shapes.add_group_shape()
    inner = group.shapes.add_textbox(Inches(1), Inches(5), Inches(2), Inches(1))
    inner.text_frame.text = "grouped"
    box(slide, "above", 1, 1)
    nested = group.shapes.add_group_shape().shapes
    nested.add_textbox(Inches(1), Inches(6.5), Inches(2), Inches(0.5)).text_frame.text = "nested"
    assert made() == "above\n\ngrouped\n\nnested"


def test_merged_cells_say_what_they_say_in_every_place(deck: Any, made: Any) -> None:
    slide = deck.slides.add_slide(deck.slide_layouts[BLANK])
    table = slide.shapes.add_table(3, 3, 0, 0, Inches(4), Inches(2)).table
    for number in range(9):
        table.cell(number // 3, number % 3).text = "abcdefghi"[number]
    table.cell(0, 1).text = table.cell(0, 2).text = table.cell(2, 0).text = ""
    table.cell(0, 0).merge(table.cell(0, 2))
    table.cell(1, 0).merge(table.cell(2, 0))
    assert made() == "| a | a | a |\n| --- | --- | --- |\n| d | e | f |\n| d | h | i |"


def test_chart_is_its_title_its_kind_and_its_numbers(deck: Any, made: Any) -> None:
    slide = deck.slides.add_slide(deck.slide_layouts[BLANK])
    data: Any = CategoryChartData()  # type: ignore[no-untyped-call]  # it has no types
    data.categories = ["Q1", "Q2"]
    data.add_series("sold", (0.1, 2))
    frame = slide.shapes.add_chart(XL_CHART_TYPE.LINE, 0, 0, Inches(4), Inches(3), data)
    frame.chart.has_title = True
    frame.chart.chart_title.text_frame.text = "Sales"
    assert made() == "Sales\n\nLine chart\n\n|  | sold |\n| --- | --- |\n| Q1 | 0.1 |\n| Q2 | 2 |"


def test_notes_are_a_quote_and_pictures_are_referred_to(deck: Any, made: Any, tmp_path: Path) -> None:
    slide = deck.slides.add_slide(deck.slide_layouts[TITLE_ONLY])
    slide.shapes.title.text = "T"
    Image.new("RGB", (4, 4)).save(tmp_path / "duck.png")
    picture = slide.shapes.add_picture(str(tmp_path / "duck.png"), 0, Inches(3))
    picture._element.nvPicPr.cNvPr.set("descr", "A duck")
    slide.notes_slide.notes_text_frame.text = "Say hello."
    assert made() == "# T\n\n![A duck](image1.png)\n\n> Say hello."


def test_looks_links_breaks_and_code(deck: Any, made: Any) -> None:
    slide = deck.slides.add_slide(deck.slide_layouts[BLANK])
    frame = box(slide, "", 1, 1).text_frame
    run = frame.paragraphs[0].add_run()
    run.text, run.font.bold = "bold", True
    link = frame.paragraphs[0].add_run()
    link.text, link.hyperlink.address = " there", "https://a.example/"
    frame.paragraphs[0].add_line_break()
    frame.paragraphs[0].add_run().text = "next"
    code = frame.add_paragraph().add_run()
    code.text, code.font.name = "x = 1", "Consolas"
    assert made() == "**bold** [there](https://a.example/)  \nnext\n\n```\nx = 1\n```"


def test_hidden_slides_and_footers_are_left_out(deck: Any, made: Any) -> None:
    for text in ("shown", "hidden"):
        box(deck.slides.add_slide(deck.slide_layouts[BLANK]), text, 1, 1)
    deck.slides[1]._element.set("show", "0")
    slide = deck.slides.add_slide(deck.slide_layouts[TITLE_ONLY])
    slide.shapes.title.text = "T"
    footer = box(slide, "footer", 1, 7)
    nv = footer._element.nvSpPr.nvPr
    nv.append(
        etree.fromstring(
            '<p:ph xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main" type="ftr" idx="11"/>'
        )
    )
    assert made() == "shown\n\n# T"
