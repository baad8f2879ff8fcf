"""Tables of HTML, whose cells may span others and may be no table at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from services.connectors.convert.spans import Spanning, spread

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
    return spread(
        [
            Spanning(flat(cell), _span(cell, "colspan", MAX_SPAN), _span(cell, "rowspan", MAX_ROWSPAN))
            for cell in row
            if cell.tag in CELLS
        ]
        for row in own_rows(table)
    )


def _span(cell: Element, name: str, most: int) -> int:
    text = (cell.get(name) or "").strip()
    return min(max(int(text), 1), most) if text.isdecimal() and len(text) < 10 else 1
