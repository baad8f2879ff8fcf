"""Rows of tables in Rich Text: where their cells end, and which of them are one."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from switchyard.services.documents.model.pieces import spread

NEAR: Final = 30  # twentieths of a point within which cells end at the same place
MAX_CELLS: Final = 500  # of a row, by which places are looked at
BESIDE, BELOW = "clmrg", "clvmrg"  # a cell that continues the one before, or the one above


@dataclass(frozen=True, slots=True)
class _Cell:
    """Where a cell ends, and what it continues."""

    end: int
    continues: frozenset[str]


@dataclass(slots=True)
class Rows:
    """The rows of a table, as they are read."""

    _rows: list[tuple[list[str], tuple[_Cell, ...]]] = field(default_factory=list)
    _cells: list[_Cell] = field(default_factory=list)
    _continues: set[str] = field(default_factory=set)

    def says(self, word: str, number: int) -> None:
        """Take in a word that says how the next rows are made."""
        if word == "trowd":
            self._cells, self._continues = [], set()
        elif word in {BESIDE, BELOW}:
            self._continues.add(word)
        elif word == "cellx" and len(self._cells) <= MAX_CELLS:
            self._cells.append(_Cell(number, frozenset(self._continues)))
            self._continues = set()

    def add(self, texts: list[str]) -> None:
        """Take in a row."""
        self._rows.append((texts, tuple(self._cells)))

    def taken(self) -> list[list[str]]:
        """The rows, which are given up; a cell that spans several places is in each of them."""
        rows, self._rows = self._rows, []
        ends = _ends(cells for _, cells in rows) if all(map(_is_known, rows)) else None
        if ends is None:
            return [texts for texts, _ in rows]
        made: list[list[str]] = []
        for texts, cells in rows:
            line: list[str] = []
            before = made[-1] if made else []
            for at, cell in enumerate(cells):
                places = _place(ends, cell.end) + 1 - len(line)
                text = texts[at] if at < len(texts) else ""
                if not text and BELOW in cell.continues and before:
                    line += (spread(above, 2)[1] for above in before[len(line) : len(line) + places])
                elif not text and BESIDE in cell.continues and line:
                    line += [spread(line[-1], 2)[1]] * places
                else:
                    line += spread(text, places)
            made.append(line + [""] * (len(ends) - len(line)))
        return made


def _is_known(row: tuple[list[str], tuple[_Cell, ...]]) -> bool:
    texts, cells = row
    ends = [cell.end for cell in cells]
    rising = all(after - before > NEAR for before, after in pairwise(ends))
    return len(texts) <= len(cells) <= MAX_CELLS and rising


def _ends(found: Iterable[tuple[_Cell, ...]]) -> list[int] | None:
    """Where the columns end: as the cells of one row do, at whose ends those of all others end."""
    rows = list(found)
    most = max(rows, key=len, default=())
    ends = [cell.end for cell in most]
    fits = all(abs(ends[_place(ends, cell.end)] - cell.end) <= NEAR for row in rows for cell in row)
    return ends if ends and fits else None


def _place(ends: Sequence[int], end: int) -> int:
    """The number of the column that ends nearest."""
    at = bisect_left(ends, end)
    return min((n for n in (at - 1, at) if 0 <= n < len(ends)), key=lambda n: abs(ends[n] - end))
