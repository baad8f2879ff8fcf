"""Tables of HTML, whose cells may span others and may be no table at all."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from typing import Any, Final

from switchyard.services.documents.html.hidden import is_hidden
from switchyard.services.documents.model.spans import Spanning, spread

Element = Any
MAX_SPAN: Final = 100
MAX_ROWSPAN: Final = 1_000
CELLS: Final = {"td", "th"}
INSIDE: Final = CELLS | {"caption", "col", "colgroup", "table"}
GROUPS: Final = {"thead": 0, "tbody": 1, "tfoot": 2}  # a foot is shown last, wherever it is written


def own_rows(table: Element) -> Iterator[Element]:
    """The rows of a table itself, in the order they are shown."""
    groups = [(order, row) for order, row in _within(table, {"tr"}) if not is_hidden(row)]
    yield from (row for _, row in sorted(groups, key=lambda group: group[0]))


def cells_of(row: Element) -> Iterator[Element]:
    """The cells of a row."""
    yield from (cell for _, cell in _within(row, CELLS) if not is_hidden(cell))


def own_cells(table: Element) -> Iterator[Element]:
    """The cells of a table itself."""
    for row in own_rows(table):
        yield from cells_of(row)


def strays(table: Element) -> str:
    """What stands in a table but in no cell of it."""
    found = [table.text or ""]
    waiting = list(reversed(table))
    while waiting:
        at = waiting.pop()
        if isinstance(at, str):
            found.append(at)
            continue
        waiting.append(at.tail or "")
        if isinstance(at.tag, str) and at.tag not in INSIDE and not is_hidden(at):
            found.append(at.text or "")
            waiting += reversed(at)
    return " ".join(" ".join(text.split()) for text in found if text.strip())


def _within(holder: Element, wanted: Container[str]) -> Iterator[tuple[int, Element]]:
    """Elements of a table itself, also where a form is wrapped around them, and the place of their group."""
    waiting = [(1, child) for child in reversed(holder)]
    while waiting:
        order, at = waiting.pop()
        if at.tag in wanted:
            yield order, at
        elif isinstance(at.tag, str) and at.tag not in INSIDE:
            order = GROUPS.get(at.tag, order)
            waiting += [(order, child) for child in reversed(at)]


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
            for cell in cells_of(row)
        ]
        for row in own_rows(table)
    )


def _span(cell: Element, name: str, most: int) -> int:
    text = (cell.get(name) or "").strip()
    return min(max(int(text), 1), most) if text.isdecimal() and len(text) < 10 else 1
