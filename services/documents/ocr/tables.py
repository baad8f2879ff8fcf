"""Tables on a scan, by the lines that are drawn on it and by how its words stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import Final

from PIL import Image

from switchyard.services.documents.ocr import rules
from switchyard.services.documents.page.lines import Line, Table, Word
from switchyard.services.documents.page.tables import open_grid
from switchyard.services.documents.page.tables.grid import Rule
from switchyard.services.documents.page.tables.rows import RULES
from switchyard.services.documents.pdf.drawn.rules import Ruling

SIZE: Final = 10.0  # points, of the text on the page by which tables are detected
MIN_ROWS: Final = 2
BESIDE: Final = 0.3  # of the size
TOUCHING: Final = 0.15


def tables_of(lines: Sequence[Line], image: Image.Image | None) -> tuple[list[Table], list[Line]]:
    """The tables among recognised lines, and these, parted where they lead out of one.

    Args:
        lines: with their words, in pixels.
        image: which they were read from, if its text is upright.
    """
    if not lines:
        return [], []
    unit = median(line.size for line in lines) / SIZE or 1.0
    across, down = rules.of(image) if image is not None else ([], [])
    ruling = Ruling(rules.scaled(across, 1 / unit), rules.scaled(down, 1 / unit))
    written = [kept for line in lines if (kept := _without(line, down)) is not None]
    ruled, parted = ruling.tables([_scaled(line, 1 / unit) for line in written], ())
    free = [line for line in parted if not any(table.holds(line) for table in ruled)]
    found = [*ruled, *open_grid.tables(free, ruling.across(), min_rows=MIN_ROWS)]
    return [_in_pixels(table, unit) for table in found], [_scaled(line, unit) for line in parted]


def _without(line: Line, down: Sequence[Rule]) -> Line | None:
    """A line without the words that are lines of a table; None where nothing is left."""

    def is_rule(word: Word) -> bool:
        if any(map(str.isalnum, word.text)):
            return False
        reach = line.size * (BESIDE if word.text in RULES else TOUCHING)
        return any(
            rule.start < word.bottom
            and rule.end > word.top
            and word.left - reach < rule.at < word.right + reach
            for rule in down
        )

    kept = [word for word in line.words if not is_rule(word)] if down else line.words
    if len(kept) == len(line.words):
        return line
    return line.part(kept) if kept else None


def _scaled(line: Line, by: float) -> Line:
    words = tuple(
        word._replace(left=word.left * by, top=word.top * by, right=word.right * by, bottom=word.bottom * by)
        for word in line.words
    )
    return replace(
        line, left=line.left * by, top=line.top * by, right=line.right * by, bottom=line.bottom * by,
        size=line.size * by, words=words,
    )  # fmt: skip


def _in_pixels(table: Table, unit: float) -> Table:
    starts = (
        frozenset((left * unit, top * unit) for left, top in table.lines) if table.lines is not None else None
    )
    return replace(
        table, left=table.left * unit, top=table.top * unit, right=table.right * unit,
        bottom=table.bottom * unit, lines=starts,
    )  # fmt: skip
