"""The measured runs as a table."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from benchmarks.score.converters import Run
from benchmarks.score.corpus import CATEGORIES
from switchyard.services.documents.write import markdown

PAGE: Final = Path(__file__).parents[2] / "docs" / "documents.md"
BEGIN: Final = "<!-- written by make score ARGS=--write -->"
END: Final = "<!-- end of what make score writes -->"
HEADER: Final = (
    "documents", "converter", "text", "character errors", "headings F1", "cells F1", "items F1", "pages/s", "memory",
)  # fmt: skip


def table(runs: dict[str, list[Run]]) -> str:
    """A row a category and converter; the runs of a category begin with ours, which counts its pages."""
    rows = [list(HEADER)]
    for category, of_category in runs.items():
        pages = sum(result.pages or 1 for result in of_category[0].results)
        for number, run in enumerate(of_category):
            described = f"{len(run.results)} {CATEGORIES[category]}, {pages} pages" if number == 0 else ""
            rows.append([described, run.converter, *_measured(run, pages)])
    return markdown.table(rows)


def _measured(run: Run, pages: int) -> list[str]:
    scores = [result.scores for result in run.results]
    seconds = sum(result.seconds for result in run.results)
    return [
        f"{statistics.mean(score.text for score in scores):.3f}",
        f"{statistics.median(score.character_errors for score in scores):.2%}",
        _mean(score.heading_f1 for score in scores),
        _mean(score.cell_f1 for score in scores),
        _mean(score.item_f1 for score in scores),
        f"{pages / seconds:.1f}",
        f"{run.peak_bytes / 1e6:.0f} MB",
    ]


def _mean(values: Iterable[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{statistics.mean(known):.3f}" if known else "-"


def versions(runs: dict[str, list[Run]]) -> str:
    """What was compared, in words."""
    return "; ".join(dict.fromkeys(run.version for of_category in runs.values() for run in of_category))


def warned(runs: dict[str, list[Run]]) -> str:
    """The documents that a converter itself says to have lost or doubled letters of."""
    results = [result for of_category in runs.values() for run in of_category for result in run.results]
    found = [
        f"  {result.document.name}: {warning}"
        for result in results
        for warning in result.warnings
        if "letters came out" in warning
    ]
    return "\n".join([f"Warnings of lost or doubled letters: {len(found)}", *found])


def each(run: Run) -> str:
    """A line a document."""
    lines = []
    for result in run.results:
        scores = result.scores
        found = (scores.heading_f1, scores.cell_f1, scores.item_f1)
        parts = "".join("      -" if f1 is None else f" {f1:6.3f}" for f1 in found)
        lines.append(
            f"  {result.document.name:42} {scores.text:6.3f} {scores.character_errors:8.2%}{parts}"
            f" {result.seconds:7.3f} s  {result.error or ''}"
        )
    return "\n".join(lines)


def write(runs: dict[str, list[Run]]) -> None:
    """Put the table into its place in docs/documents.md."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    text = f"{BEGIN}\n{table(runs)}\n\nMeasured with {versions(runs)}.\n{END}"
    PAGE.write_text(before + text + after, encoding="utf-8")
