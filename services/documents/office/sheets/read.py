# ruff: noqa: SLF001 - openpyxl has no other way to rows as sparse as they are in the file
"""Workbooks: the tables, charts and images of each sheet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from openpyxl.cell.read_only import ReadOnlyCell
from openpyxl.worksheet._read_only import ReadOnlyWorksheet

from switchyard.services.documents.model import pieces, runs
from switchyard.services.documents.model.pieces import Piece
from switchyard.services.documents.office import activex, charts
from switchyard.services.documents.office.package import RELATIONSHIPS, Element, Package
from switchyard.services.documents.office.sheets.cells import CellParser
from switchyard.services.documents.office.sheets.controls import controls
from switchyard.services.documents.office.sheets.number_format import shown
from switchyard.services.documents.office.sheets.places import place
from switchyard.services.documents.self_check import letters
from switchyard.services.documents.write import markdown

XDR: Final = "{http://schemas.openxmlformats.org/drawingml/2006/spreadsheetDrawing}"
A: Final = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
MAX_ROWS: Final = 1_048_576  # Excel's own limit
MAX_CELLS: Final = 2_000_000
MAX_PLACES: Final = 10_000_000
MAX_LINKS: Final = 100_000
MAX_MERGED: Final = 100_000
MAX_FILLED: Final = 5_000  # places that a merged cell fills with its value; a wider one is ornament
ROWS_A_TABLE: Final = 5_000  # a longer table continues in another, with its header again
MAX_TITLES: Final = 3  # lines above a table


@dataclass(slots=True)
class Area:
    """A block of cells without an empty row or column through it; all counted from 0, ends included."""

    top: int
    bottom: int
    left: int
    right: int

    def cut_from(self, row: dict[int, str]) -> list[str]:
        """This area's cells of a row; without the empty ones where the area is mostly empty and huge."""
        width = self.right - self.left + 1
        if width * (self.bottom - self.top + 1) > MAX_PLACES:
            return [row[column] for column in sorted(row) if self.left <= column <= self.right]
        return [row.get(column, "") for column in range(self.left, self.right + 1)]


@dataclass(slots=True)
class Extras:
    """What a sheet holds beside its cells: merged ranges by their first cell, links, and drawings."""

    merged: dict[tuple[int, int], Area] = field(default_factory=dict)
    links: dict[tuple[int, int], str] = field(default_factory=dict)
    drawn: list[tuple[int, int, list[Piece]]] = field(default_factory=list)
    unread: int = 0  # controls


class Sheet:
    """One sheet, read once to see where its tables are and once more to write them."""

    def __init__(self, sheet: ReadOnlyWorksheet, extras: Extras) -> None:
        self.title: str = sheet.title
        self._sheet: Any = sheet  # whose published types leave out what is read here
        self._extras = extras
        self._formats: dict[int, str] = {}  # by style
        self._filled = 0
        self.cut_off = False
        self.letters = 0  # of the cells of numbers, dates, errors and formulas as they are shown
        self.others = 0  # how many cells these are
        self.repeated = 0  # letters of merged cells, for each further place
        self.drawn = 0  # letters of what stands beside the cells
        self.uncalculated = 0  # formulas without a stored value

    def read(self) -> Iterator[Piece]:
        """Tables and drawings from top to bottom, then from left to right."""
        yield from pieces.heading(2, runs.render([runs.Run(self.title)]))
        drawn = sorted(self._extras.drawn, key=lambda one: one[:2])
        for block in pieces.blocks(piece for _, _, found in drawn for piece in found):
            self.drawn += letters(block.text) if block.kind != "image" else 0
        areas = sorted(areas_of(self._masks()), key=lambda area: (area.top, area.left))
        for area, written in self._tables(areas):
            while drawn and drawn[0][:2] < (area.top, area.left):
                yield from drawn.pop(0)[2]
            yield from written
        for _, _, found in drawn:
            yield from found

    def _rows(self, *, formatted: bool = True) -> Iterator[tuple[int, dict[int, str]]]:
        """The filled cells of each row that has any, by column, with merged ones wherever they reach.

        Args:
            formatted: whether as they are shown, or only that they are filled.
        """
        self._filled, last, self.uncalculated = 0, -1, 0
        hanging: dict[int, dict[int, str]] = {}  # rows below, their columns
        for number, cells in self._parsed():
            for between in range(last + 1, number):
                if between in hanging:
                    yield between, hanging.pop(between)
            row, last = hanging.pop(number, {}), number
            for column, value, number_format, is_text in cells:
                bare = str(value)
                if not bare.strip():
                    continue
                place = (number, column)
                if formatted:
                    text = shown(value, number_format)
                    if not is_text:
                        self.letters += letters(text)
                        self.others += 1
                    row[column] = self._linked(text, place)
                else:
                    row[column] = bare
                area = self._extras.merged.get(place)
                if area is not None and len(bare) <= pieces.MAX_REPEATED and self._filled < MAX_CELLS:
                    deep, across = _spread(area, row[column], row, hanging)
                    self._filled += deep * across
                    self.repeated += ((deep + 1) * across - 1) * letters(text) if formatted and across else 0
            self._filled += len(row)
            if self._filled > MAX_CELLS:
                self.cut_off = True
                return
            if row:
                yield number, row
        yield from sorted(hanging.items())

    def _parsed(self) -> Iterator[tuple[int, list[tuple[int, Any, str, bool]]]]:
        """Rows, and columns, values, number formats and whether they are text, as sparse as in the file."""
        book, last = self._sheet.parent, -1
        with self._sheet._get_source() as source:
            parser = CellParser(
                source,
                self._sheet._shared_strings,
                data_only=True,
                epoch=book.epoch,
                date_formats=book._date_formats,
                timedelta_formats=book._timedelta_formats,
            )
            for number, cells in parser.parse():
                if last < number - 1 < MAX_ROWS:
                    last = number - 1
                    self.uncalculated += sum("uncalculated" in cell for cell in cells)
                    yield (
                        last,
                        [
                            (cell["column"] - 1, cell["value"], self._format(cell), _is_text(cell))
                            for cell in cells
                            if cell["value"] is not None
                        ],
                    )

    def _format(self, cell: dict[str, Any]) -> str:
        style = cell["style_id"]
        if "uncalculated" in cell:
            return "General"
        if style not in self._formats:
            try:
                self._formats[style] = ReadOnlyCell(self._sheet, **cell).number_format
            except IndexError:  # a style that the workbook does not have
                self._formats[style] = "General"
        return self._formats[style]

    def _linked(self, text: str, place: tuple[int, int]) -> str:
        link = self._extras.links.get(place, "")
        return runs.render([runs.Run(text, runs.Look(link=link) if link else runs.PLAIN)])

    def _masks(self) -> list[int]:
        """Which columns each row fills, as the bits of a number."""
        masks: list[int] = []
        for number, row in self._rows(formatted=False):
            masks += [0] * (number - len(masks))
            mask = 0
            for column in row:
                mask |= 1 << column
            masks.append(mask)
        return masks

    def _tables(self, areas: list[Area]) -> Iterator[tuple[Area, Iterator[Piece]]]:
        """The areas in their order; those beside each other are gathered in one pass."""
        waiting = list(reversed(areas))
        gathered: list[tuple[Area, list[list[str]]]] = []
        for number, row in self._rows():
            while waiting and waiting[-1].top == number:
                gathered.append((waiting.pop(), []))
            for area, rows in gathered:
                if number <= area.bottom:
                    rows.append(area.cut_from(row))
            while gathered and gathered[0][0].bottom <= number:
                area, rows = gathered.pop(0)
                yield area, self._table(area, rows)

    def _table(self, area: Area, rows: list[list[str]]) -> Iterator[Piece]:
        """An area as a table; a line of its own above it, be it merged across, is a paragraph."""
        titles, above = 0, None
        while titles < min(MAX_TITLES, len(rows) - 1):
            row, merged = rows[titles], self._merged_at(area, area.top + titles)
            if merged is None and not _is_title(row):
                break
            is_new = merged is None or merged is not above
            if is_new:
                yield from pieces.paragraph(row[0])
            self.repeated -= sum(letters(markdown.plain(cell)) for cell in (row[1:] if is_new else row))
            titles, above = titles + 1, merged
        header, rest = rows[titles], rows[titles + 1 :]
        for start in range(0, max(len(rest), 1), ROWS_A_TABLE):
            yield from pieces.table([header, *rest[start : start + ROWS_A_TABLE]])

    def _merged_at(self, area: Area, number: int) -> Area | None:
        """The merged cell that takes all of a row of an area."""
        for top in range(number, max(number - MAX_TITLES, -1), -1):
            merged = self._extras.merged.get((top, area.left))
            if merged is not None and merged.right >= area.right and merged.bottom >= number:
                return merged
        return None


def _is_text(cell: dict[str, Any]) -> bool:
    return cell["data_type"] in {"s", "inlineStr", "str"} and "uncalculated" not in cell


def _spread(
    area: Area, text: str, row: dict[int, str], hanging: dict[int, dict[int, str]]
) -> tuple[int, int]:
    """Put a merged cell's text wherever it reaches; how many rows below and columns these are."""
    deep, across = area.bottom - area.top, range(area.left, area.right + 1)
    if (deep + 1) * len(across) > MAX_FILLED:
        return 0, 0
    row.update(dict.fromkeys(across, text))
    for below in range(area.top + 1, area.bottom + 1):
        hanging.setdefault(below, {}).update(dict.fromkeys(across, text))
    return deep, len(across)


def _is_title(row: list[str]) -> bool:
    return len(row) > 1 and bool(row[0]) and not any(row[1:])


def areas_of(masks: list[int]) -> Iterator[Area]:
    """Cut a sheet along its empty rows and columns until nothing is left to cut.

    Args:
        masks: the filled columns of each row, as bits.
    """
    pending = [(0, len(masks) - 1, -1)]  # rows, and the columns looked at as bits
    while pending:
        top, bottom, within = pending.pop()
        for first, last in _bands(masks, top, bottom, within):
            columns = 0
            for mask in masks[first : last + 1]:
                columns |= mask & within
            spans = list(_runs_of_bits(columns))
            if len(spans) == 1:
                left, right = spans[0]
                yield Area(first, last, left, right)
            else:
                pending += [
                    (first, last, ((1 << (right + 1)) - 1) & ~((1 << left) - 1)) for left, right in spans
                ]


def _bands(masks: list[int], top: int, bottom: int, within: int) -> Iterator[tuple[int, int]]:
    first = None
    for number in range(top, bottom + 1):
        if masks[number] & within:
            first = number if first is None else first
        elif first is not None:
            yield first, number - 1
            first = None
    if first is not None:
        yield first, bottom


def _runs_of_bits(bits: int) -> Iterator[tuple[int, int]]:
    at = 0
    while bits:
        gap = (bits & -bits).bit_length() - 1
        bits >>= gap
        length = (~bits & (bits + 1)).bit_length() - 1
        yield at + gap, at + gap + length - 1
        bits >>= length
        at += gap + length


def bare(sheet: Any, package: Package, part: str) -> Iterator[str]:
    """The cells of each row as the file has them, for a sheet that cannot be read otherwise."""
    yield sheet.title
    strings = sheet._shared_strings
    at: Element = None
    texts: list[str] = []
    for element in package.named(part, {"v", "t"}, without="extLst"):
        cell = element.getparent()
        text = element.text or ""
        if cell.get("t") == "s" and text.isdecimal() and int(text) < len(strings):
            text = str(strings[int(text)])
        row = next((up for up in element.iterancestors() if up.tag.endswith("}row")), None)
        if row is not at and texts:
            yield " ".join(texts)
            texts = []
        at = row
        texts.append(text)
    yield " ".join(texts)


def extras_of(package: Package, part: str) -> Extras:
    """Read what a sheet's XML says beside its cells."""
    extras = Extras()
    relations = package.relations(part)
    at, controlled = {"row": 0, "col": 0}, set[str]()
    for element in package.named(
        part, {"mergeCell", "hyperlink", "row", "col", "control"}, without="sheetData"
    ):
        if element.tag.startswith(XDR):
            if str(element.getparent().tag).endswith("}from"):
                at[element.tag.removeprefix(XDR)] = _number(element.text or "")
            continue
        if element.tag.endswith("}control"):
            relation = relations.get(element.get(f"{RELATIONSHIPS}id", ""))
            if relation is not None and relation.kind == "control" and relation.target not in controlled:
                controlled.add(
                    relation.target
                )  # the sheet names it once for newer and once for older programs
                text = activex.text_of(package, relation.target)
                extras.unread += text is None
                found = list(pieces.paragraph(runs.render([runs.Run(text or "")])))
                extras.drawn.append((at["row"], at["col"], found))
            continue
        area = _range(element.get("ref", ""))
        relation = relations.get(element.get(f"{RELATIONSHIPS}id", ""))
        if area is None:
            continue
        if relation is None and len(extras.merged) < MAX_MERGED:
            extras.merged[area.top, area.left] = area
        elif relation is not None and relation.external and len(extras.links) < MAX_LINKS:
            extras.links[area.top, area.left] = relation.target
    for drawing in package.related(part, "drawing"):
        extras.drawn += _drawn(package, drawing)
    for drawing in package.related(part, "vmlDrawing"):
        extras.drawn += controls(package.content(drawing))
    return extras


def _range(reference: str) -> Area | None:
    first, _, last = reference.replace("$", "").partition(":")
    start, end = place(first), place(last or first)
    if start is None or end is None or start[0] > end[0] or start[1] > end[1]:
        return None
    return Area(start[0], end[0], start[1], end[1])


def _drawn(package: Package, part: str) -> Iterator[tuple[int, int, list[Piece]]]:
    """Charts, images and text boxes with the row and column where each begins."""
    root = package.parse(part)
    relations = package.relations(part)
    for anchor in root if root is not None else ():
        start = anchor.find(f"{XDR}from")
        row, column = (_cell_at(start, "row"), _cell_at(start, "col")) if start is not None else (0, 0)
        found: list[Piece] = []
        for element in anchor.iter(f"{charts.CHART}chart", f"{A}blip", f"{XDR}txBody"):
            if element.tag == f"{XDR}txBody":
                for paragraph in element.iter(f"{A}p"):
                    text = "".join(run.text or "" for run in paragraph.iter(f"{A}t"))
                    found += pieces.paragraph(runs.render([runs.Run(text)]))
                continue
            relation_id = element.get(f"{RELATIONSHIPS}id") or element.get(f"{RELATIONSHIPS}embed") or ""
            relation = relations.get(relation_id)
            if relation is None or relation.external:
                continue
            if element.tag == f"{A}blip":
                found.append(Piece("image", _described(anchor), source=package.picture(relation.target)))
            elif (space := package.parse(relation.target)) is not None:
                found += charts.pieces_of(space)
        yield row, column, found


def _cell_at(start: Element, name: str) -> int:
    return _number(start.findtext(f"{XDR}{name}") or "")


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 8 else 0


def _described(anchor: Element) -> str:
    named: Any = next(anchor.iter(f"{XDR}cNvPr"), None)
    return "" if named is None else named.get("descr") or ""
