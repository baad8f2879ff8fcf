"""Tables of a text layer that no lines rule: cells that stand below each other, row by row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from services.connectors.convert.lines import Line, Table
from services.connectors.convert.paragraphs import BULLET, NUMBER
from services.connectors.convert.scanned import Row, Word, find_tables

MIN_ROWS: Final = 3
ITEM_CELLS: Final = 2  # its mark and its text
SAME_LINE: Final = 0.5  # of the lower line's height


def tables(lines: Sequence[Line]) -> list[Table]:
    """The tables among lines in the order of the page's content, of three rows or more."""
    rows = [row for row in _rows(lines) if not _is_item(row)]
    return [table for table in find_tables(rows) if table.markdown.count("\n") > MIN_ROWS - 1]


def _rows(lines: Sequence[Line]) -> Iterator[Row]:
    """Lines that are next to each other as one row."""
    row: list[Line] = []
    for line in lines:
        if row and not _beside(row[-1], line):
            yield _row(row)
            row = []
        row.append(line)
    if row:
        yield _row(row)


def _beside(before: Line, after: Line) -> bool:
    overlap = min(before.bottom, after.bottom) - max(before.top, after.top)
    height = min(before.bottom - before.top, after.bottom - after.top)
    return overlap > height * SAME_LINE and after.left > before.right


def _row(lines: Sequence[Line]) -> Row:
    words: list[Word] = []
    for word in (word for line in lines for word in line.words):
        if word.glued and words:
            words[-1] = Word(f"{words[-1].text}{word.text}", words[-1].left, word.right)
        else:
            words.append(Word(word.text, word.left, word.right))
    return Row(
        tuple(words) or tuple(Word(line.text, line.left, line.right) for line in lines),
        min(line.top for line in lines), max(line.bottom for line in lines), lines[0].size, starts=False,
    )  # fmt: skip


def _is_item(row: Row) -> bool:
    """Whether it is a list's item, whose mark stands apart from its text."""
    text = f"{row.words[0].text} x"
    marked = BULLET.match(text) is not None or NUMBER.match(text) is not None
    return marked and len(row.cells()) <= ITEM_CELLS
