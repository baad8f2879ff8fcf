"""Rows of a table whose cells were written one after the other, each with all of its lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from switchyard.services.documents.page.tables.rows import Row

MOST_LINES: Final = 8  # of a cell: longer ones are columns of text
SAME_LINE: Final = 0.5  # of the lower one's height


def joined(rows: Sequence[Row]) -> list[Row]:
    """Rows in their order; those of which one continues beside another are joined.

    Between the two stand only further lines of the same cell, below the one and left of the other.
    """
    found: list[Row] = []
    for row in rows:
        for number in range(len(found) - 1, max(-1, len(found) - 1 - MOST_LINES), -1):
            before = found[number]
            if _are_level(before, row):
                if before.right < row.left and _are_below(found[number + 1 :], before, row):
                    found[number] = _one(before, row)
                else:
                    found.append(row)
                break
        else:
            found.append(row)
    return found


def _are_level(one: Row, other: Row) -> bool:
    height = min(one.bottom - one.top, other.bottom - other.top)
    return min(one.bottom, other.bottom) - max(one.top, other.top) > height * SAME_LINE


def _are_below(between: Sequence[Row], upper: Row, beside: Row) -> bool:
    return all(row.middle > upper.middle and row.right < beside.left for row in between)


def _one(row: Row, beside: Row) -> Row:
    return replace(
        row,
        words=(*row.words, *beside.words),
        top=min(row.top, beside.top),
        bottom=max(row.bottom, beside.bottom),
        lines=row.line_starts() | beside.line_starts(),
    )
