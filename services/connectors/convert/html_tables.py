"""Tables of HTML, whose cells may span others and may be no table at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from services.connectors.convert import pieces

Element = Any
MAX_SPAN: Final = 100
MAX_ROWSPAN: Final = 1_000
CELLS: Final = {"td", "th"}
GROUPS: Final = {"thead": 0, "tbody": 1, "tfoot": 2}  # a foot is shown last, wherever it is written


def own_rows(table: Element) -> Iterator[Element]:
    """The rows of a table itself, in the order they are shown."""
    groups: list[tuple[int, Element]] = []
    for child in table:
        if child.tag == "tr":
            groups.append((1, child))
        elif child.tag in GROUPS:
            groups += [(GROUPS[child.tag], row) for row in child if row.tag == "tr"]
    yield from (row for _, row in sorted(groups, key=lambda group: group[0]))


def own_cells(table: Element) -> Iterator[Element]:
    """The cells of a table itself."""
    for row in own_rows(table):
        yield from (cell for cell in row if cell.tag in CELLS)


def is_layout(table: Element) -> bool:
    """Whether a table only arranges a page: one cell, said to be so, or other tables and headings within."""
    cells = list(own_cells(table))
    if len(cells) == 1 or table.get("role") in {"presentation", "none"}:
        return True
    if table.find("caption") is not None or any(cell.tag == "th" for cell in cells):
        return False
    headings = ("h1", "h2", "h3", "h4", "h5", "h6")
    return any(next(cell.iter("table", *headings), None) is not None for cell in cells)


def grid(table: Element, flat: Callable[[Element], str]) -> list[list[str]]:
    """The rows with as many cells each as there are columns; what spans several is in each of them."""
    rows: list[list[str]] = []
    hanging: dict[int, tuple[int, str]] = {}  # by column: for how many rows more, and what
    for row in own_rows(table):
        line: list[str] = []
        cells = [cell for cell in row if cell.tag in CELLS]
        for cell in cells:
            _fill(line, hanging)
            text, deep = flat(cell), _span(cell, "rowspan", MAX_ROWSPAN) - 1
            for again in pieces.spread(text, _span(cell, "colspan", MAX_SPAN)):
                if deep > 0:
                    hanging[len(line)] = (deep + 1, pieces.spread(again, 2)[1])
                line.append(again)
        _fill(line, hanging)
        hanging = {at: (deep - 1, text) for at, (deep, text) in hanging.items() if deep > 1}
        # A row of nothing but cells that go on below says nothing that the next does not say again.
        if not cells or any(_span(cell, "rowspan", MAX_ROWSPAN) == 1 for cell in cells):
            rows.append(line)
    return rows


def _fill(line: list[str], hanging: dict[int, tuple[int, str]]) -> None:
    """Put in the cells that reach down from an earlier row."""
    while len(line) in hanging:
        line.append(hanging[len(line)][1])


def _span(cell: Element, name: str, most: int) -> int:
    text = (cell.get(name) or "").strip()
    return min(max(int(text), 1), most) if text.isdecimal() and len(text) < 10 else 1
