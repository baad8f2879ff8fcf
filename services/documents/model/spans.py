"""Tables whose cells may span several columns and rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from switchyard.services.documents.model import pieces

MOST_COLUMNS: Final = 1000
"""That a row gets by cells that span several: a few bytes could say millions."""


class Spanning(NamedTuple):
    """The text of a cell, and how many columns and rows it spans."""

    text: str
    columns: int = 1
    rows: int = 1


def spread(rows: Iterable[Sequence[Spanning]]) -> list[list[str]]:
    """The rows with as many cells each as there are columns; what spans several is in each of them."""
    made: list[list[str]] = []
    hanging: dict[int, tuple[int, str]] = {}  # by column: for how many rows more, and what
    for row in rows:
        line: list[str] = []
        for cell in row:
            _fill(line, hanging)
            deep = cell.rows - 1
            for again in pieces.spread(cell.text, max(1, min(cell.columns, MOST_COLUMNS - len(line)))):
                if deep > 0:
                    hanging[len(line)] = (deep + 1, pieces.spread(again, 2)[1])
                line.append(again)
        _fill(line, hanging)
        hanging = {at: (deep - 1, text) for at, (deep, text) in hanging.items() if deep > 1}
        # A row of nothing but cells that continue below says nothing that the next does not repeat.
        if not row or any(cell.rows == 1 for cell in row):
            made.append(line)
    return made


def _fill(line: list[str], hanging: dict[int, tuple[int, str]]) -> None:
    """Put in the cells that reach down from an earlier row."""
    while len(line) in hanging:
        line.append(hanging[len(line)][1])
