"""A table in the columns of a terminal: a row is a line, and an id is never cut or broken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from switchyard.services.cli.shown.cells import UUID
from switchyard.services.cli.shown.text import BOLD, STATES, coloured, columns_of, cut

GAP: Final = 2
NARROW: Final = 6
"""Columns that a cell keeps where it can be cut."""
PADDED: Final = 60
"""Most columns that a cell is padded to where nothing is cut."""
IDS: Final = frozenset({"id", "job", "job_id"})
"""Columns by which a person names a thing: they are cut last."""
ID_COLUMNS: Final = 64
"""Most columns that the id of anything takes."""
LAST: Final = "value"
"""The column whose cells are whole, over as many lines as they have."""


def lines(
    columns: Sequence[str], rows: Sequence[Mapping[str, str]], *, width: int | None, colours: bool = False
) -> list[str]:
    """The lines of a table.

    Args:
        columns: their names, in order.
        rows: cells by name, each one line; those of `value` may have several.
        width: columns of the terminal; None where nothing is to be cut.
        colours: whether heads are bold and states have a colour.
    """
    shown = list(columns)
    natural = {
        name: max([columns_of(_head(name)), *(columns_of(row[name]) for row in rows)]) for name in shown
    }
    uuids = {name for name in shown if _has_ids(name, rows)}
    widths = {name: min(size, PADDED) for name, size in natural.items()} if width is None else natural
    if width is not None:
        natural |= {name: min(natural[name], ID_COLUMNS) for name in uuids | (IDS & natural.keys())}
        widths, shown = _fitted(shown, natural, uuids, width)
    right = {name for name in shown if rows and all(_is_number(row[name]) for row in rows)}
    heads = {name: _head(name) for name in shown}
    if width is not None:
        heads = {name: cut(text, widths[name]) for name, text in heads.items()}
    found = [_line(shown, heads, widths, right, head=colours)]
    for row in rows:
        cells = {
            name: row[name] if width is None or name == LAST else cut(row[name], widths[name])
            for name in shown
        }
        found.append(_line(shown, cells, widths, right, states=colours))
    return found


def _fitted(
    columns: list[str], natural: Mapping[str, int], uuids: set[str], width: int
) -> tuple[dict[str, int], list[str]]:
    """How wide each column is, and which are shown at all."""
    shown = list(columns)
    if LAST in shown:
        return dict(natural), shown
    most = max(width, NARROW, *(columns_of(_head(name)) for name in shown))  # more is cut in any case
    natural = {name: size if name in uuids else min(size, most) for name, size in natural.items()}
    widths = dict(natural)
    while len(shown) > 1:
        over = sum(widths[name] for name in shown) + GAP * (len(shown) - 1) - width
        if over <= 0:
            return widths, shown
        widest = max(
            (name for name in shown if name not in uuids | IDS), key=lambda name: widths[name], default=""
        )
        if widest and widths[widest] > max(NARROW, min(natural[widest], columns_of(_head(widest)))):
            widths[widest] -= 1
            continue
        shown.remove(next((name for name in reversed(shown[1:]) if name != "state"), shown[-1]))
        widths = dict(natural)
    if shown[0] not in uuids:
        widths[shown[0]] = min(widths[shown[0]], width)
    return widths, shown


def _line(
    shown: Sequence[str],
    cells: Mapping[str, str],
    widths: Mapping[str, int],
    right: set[str],
    *,
    head: bool = False,
    states: bool = False,
) -> str:
    parts = []
    for name in shown:
        text = cells[name]
        if name == LAST:
            first = sum(widths[one] + GAP for one in shown[:-1])
            text = text.replace("\n", "\n" + " " * first)
        space = " " * (widths[name] - columns_of(text))
        if name == shown[-1] and name not in right:
            space = ""
        code = BOLD if head else STATES.get(text) if states and name == "state" else None
        text = coloured(text, code)
        parts.append(space + text if name in right else text + space)
    return (" " * GAP).join(parts).rstrip()


def _head(name: str) -> str:
    return name.replace("_", " ")


def _has_ids(name: str, rows: Sequence[Mapping[str, str]]) -> bool:
    return any(UUID.fullmatch(row[name]) for row in rows)


def _is_number(text: str) -> bool:
    return text.removeprefix("-").replace(".", "", 1).isdecimal() or text == ""
