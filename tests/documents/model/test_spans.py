"""Cells that span several columns and rows."""

from __future__ import annotations

from switchyard.services.documents.model.spans import MOST_COLUMNS, Spanning, spread


def test_a_few_bytes_do_not_make_millions_of_cells() -> None:
    wide = [Spanning("x", columns=1000, rows=60_000)] * 300
    made = spread([wide, *[[Spanning("y")]] * 100])
    assert max(map(len, made)) < MOST_COLUMNS + 301
    assert sum(cell == "y" for row in made for cell in row) == 100


def test_a_cell_is_in_each_of_its_places() -> None:
    made = spread([[Spanning("a", 2, 2), Spanning("b")], [Spanning("c")]])
    assert made == [["a", "a", "b"], ["a", "a", "c"]]
