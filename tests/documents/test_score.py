"""The conversion stays as good as it was, category by category."""

from __future__ import annotations

import statistics

import pytest

from benchmarks.score import converters, corpus, report
from benchmarks.score.measures import score
from tests.documents.corpus import needs_ocr


@pytest.mark.parametrize(
    ("category", "text", "heading_f1", "cell_f1", "item_f1"),
    [
        ("pdf", 0.99, 0.95, 0.95, 0.99),
        pytest.param("ocr", 0.98, 0.85, 0.95, 0.99, marks=[needs_ocr, pytest.mark.drill]),
        ("docx", 0.99, 0.99, 0.99, 0.99),
        ("xlsx", 0.99, 0.99, 0.99, None),
        ("html", 0.99, 0.99, 0.99, 0.80),
        ("pptx", 0.92, 0.99, 0.80, None),
    ],
)
def test_every_category_comes_out_as_well_as_before(
    category: str, text: float, heading_f1: float, cell_f1: float, item_f1: float | None
) -> None:
    documents = [document for document in corpus.read() if document.category == category]
    run = converters.run("ours", documents)
    scores = [result.scores for result in run.results]
    assert [result.error for result in run.results] == [None] * len(documents)
    assert statistics.mean(one.text for one in scores) >= text
    for least, each in (
        (heading_f1, [one.heading_f1 for one in scores]),
        (cell_f1, [one.cell_f1 for one in scores]),
        (item_f1, [one.item_f1 for one in scores]),
    ):
        found = [f1 for f1 in each if f1 is not None]
        assert bool(found) == (least is not None)
        assert least is None or statistics.mean(found) >= least
    assert report.warned({category: [run]}) == "Warnings of lost or doubled letters: 0"
    assert 10_000_000 < run.peak_bytes < 1_000_000_000
    assert f"| {len(documents)} {corpus.CATEGORIES[category]}," in report.table({category: [run]})


def test_converter_that_fails_scores_nothing_and_says_why() -> None:
    documents = [document for document in corpus.read() if document.category == "html"]
    run = converters.run("pypdfium2", documents[:1])
    assert run.results[0].scores.text == 0
    assert "PdfiumError" in (run.results[0].error or "")


def test_marks_and_kinds_of_quotes_do_not_count_as_text() -> None:
    one = "# A **bold** claim\n\n- “x” — [y](http://z)\n\n| a | b |\n| --- | --- |\n| c | |\n"
    assert score(one, 'A bold claim "x" - y a b c').text == 1.0


def test_headings_cells_and_items_are_compared_as_bags() -> None:
    expected = "# A\n\n## B\n\n| a | b |\n|---|---|\n| c | c |\n\n- x\n    1. y\n"
    scores = score(expected, "### b\n\n| a | c |\n\ny x\n\n- X\n")
    assert scores.heading_f1 == 0.667
    assert scores.cell_f1 == 0.667
    assert scores.item_f1 == 0.667
    nothing = score("text", "# text")
    assert (nothing.heading_f1, nothing.cell_f1, nothing.item_f1) == (None, None, None)
