"""What the structure tree of a tagged PDF says about a page: its tables, headings and paragraphs.

Source: ISO 32000-1, 14.7 and 14.8. Word processors and browsers write it; many other programs do not.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Final, NamedTuple

import pypdfium2 as pdfium
from pypdfium2 import raw

from switchyard.services.documents.page.lines import SENTENCE_END, Line

MAX_DEPTH: Final = 100
MAX_PLACES: Final = 20_000  # in the tree of a page: to look at them takes as long as to read the page
MAX_TOO_LARGE: Final = 3  # pages, after which no more are tried
MAX_ATTRIBUTES: Final = 10  # of an element
MAX_SPAN: Final = 100
NAME_BYTES: Final = 64
LEVELS: Final = {"Title": 1, **{f"H{level}": level for level in range(1, 7)}}
PARTS: Final = frozenset({"P", "LI", "TOCI", "Caption", "Note", "BlockQuote", "Formula", "Figure"})
PLAIN: Final = frozenset({"TH", "Strong"})
BROKEN: Final = 0.2  # of the starts of parts: with more, some program has taken lines for paragraphs
ROW_GROUPS: Final = frozenset({"THead", "TBody", "TFoot"})

Element = Any


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table.

    Args:
        marks: the ids of the marked content in it.
        columns: how many it spans, and so for rows.
        heads: whether it is declared the header of others.
        has_heading: whether a heading of the document is in it.
    """

    marks: frozenset[int]
    columns: int
    rows: int
    heads: bool
    has_heading: bool


EMPTY: Final = Cell(frozenset(), 1, 1, heads=False, has_heading=False)


class Part(NamedTuple):
    """A paragraph, item, heading or the like.

    Args:
        number: on the page, which distinguishes it from others.
        level: that of a heading; 0 of all else.
    """

    number: int
    level: int


class TableOf(NamedTuple):
    """A table, as far as it is on the page.

    Args:
        continues: whether a row before one of these is not on the page.
    """

    rows: Sequence[Sequence[Cell]]
    continues: bool


@dataclass(frozen=True, slots=True)
class Structure:
    """What a page has in it.

    Args:
        tables: those that hold no other table.
        parts: by the ids of the marked content that they are made of.
        items: the numbers of the items of lists, by the ids of the marked content in them.
        plain: the ids of marked content that is no heading, however it looks.
        too_large: whether it has too many places to be read.
    """

    tables: Sequence[TableOf] = ()
    parts: Mapping[int, Part] = field(default_factory=dict)
    items: Mapping[int, int] = field(default_factory=dict)
    plain: frozenset[int] = frozenset()
    too_large: bool = False

    @property
    def headings(self) -> int:
        """How many parts are headings."""
        return len({part for part in self.parts.values() if part.level})

    def own(self, lines: Sequence[Line]) -> list[Line]:
        """The lines of headings, items of lists and tables."""
        if not self.parts and not self.tables:
            return []
        marks = {mark for table in self.tables for row in table.rows for cell in row for mark in cell.marks}
        marks |= self.items.keys() | {mark for mark, part in self.parts.items() if part.level}
        return [line for line in lines if any(word.mark in marks for word in line.words)]

    def tagged(self, lines: Sequence[Line]) -> list[Line]:
        """The lines of a page, with the levels of headings, and where paragraphs and items start."""
        if not self.parts:
            return list(lines)
        lasts = [line.words[-1].mark if line.words else -1 for line in lines]
        starts = _starts(lines, [self.parts.get(last) for last in lasts])
        tagged: list[Line] = []
        seen: set[int | None] = {None}
        for line, last, start in zip(lines, lasts, starts, strict=True):
            item = self.items.get(last)
            tagged.append(
                replace(line, level=self._level(line), starts=line.starts or start, item=item not in seen)
            )
            seen.add(item)
        return tagged

    def _level(self, line: Line) -> int:
        marks = {word.mark for word in line.words}
        of = {self.parts.get(mark) for mark in marks}
        part = of.pop() if len(of) == 1 else None
        if part is not None and part.level:
            return part.level
        return -1 if marks and all(mark in self.plain for mark in marks) else 0


def _starts(lines: Sequence[Line], parts: Sequence[Part | None]) -> list[bool]:
    """Whether a part starts with each line; only those of headings where others break sentences."""
    starts = [False, *(one != other and None not in (one, other) for one, other in pairwise(parts))]
    texts = [
        (before.text, after.text)
        for (before, after), start in zip(pairwise(lines), starts[1:], strict=True)
        if start
    ]
    broken = sum(not one.endswith(SENTENCE_END) and other[:1].islower() for one, other in texts)
    if broken <= len(texts) * BROKEN:
        return starts[: len(lines)]
    headings = [part is not None and part.level > 0 for part in parts]
    beside = zip([False, *headings], headings, strict=False)
    return [start and any(either) for start, either in zip(starts, beside, strict=False)]


def is_tagged(page: pdfium.PdfPage) -> bool:
    """Whether the document of a page has a structure tree."""
    return bool(raw.FPDFCatalog_IsTagged(page.pdf.raw))


class Structures:
    """Reads the structure of a document page by page.

    A page's tree has places for all that is below its elements on other pages, too: where a document has
    too many, the tree is left alone.
    """

    def __init__(self) -> None:
        self._too_large = 0

    def counted(self, structure: Structure) -> Structure:
        """A structure that was read elsewhere, as if it had been read here: nothing after too many."""
        if self._too_large == MAX_TOO_LARGE:
            return Structure()
        self._too_large += structure.too_large
        return structure

    def of(self, page: pdfium.PdfPage) -> Structure:
        """The structure of a page; empty where there is none."""
        if self._too_large == MAX_TOO_LARGE or not is_tagged(page):
            return Structure()
        tree = raw.FPDF_StructTree_GetForPage(page.raw)
        if not tree:
            return Structure()
        try:
            reader = _Reader()
            for number in range(raw.FPDF_StructTree_CountChildren(tree)):
                if element := raw.FPDF_StructTree_GetChildAtIndex(tree, number):
                    reader.read(element, 0)
        except _TooLargeError:
            self._too_large += 1
            return Structure(too_large=True)
        else:
            return Structure(tuple(reader.tables), reader.parts, reader.items, frozenset(reader.plain))
        finally:
            raw.FPDF_StructTree_Close(tree)


class _TooLargeError(Exception):
    """A tree has too many places."""


class _Reader:
    """Goes through the elements of one page."""

    def __init__(self) -> None:
        self.tables: list[TableOf] = []
        self.parts: dict[int, Part] = {}
        self.items: dict[int, int] = {}
        self.plain: set[int] = set()
        self._headings = self._numbers = 0
        self._left = MAX_PLACES
        self._name = ctypes.create_string_buffer(NAME_BYTES)

    def read(self, element: Element, depth: int) -> list[int]:
        """Take in an element and all below it; the ids of the marked content there."""
        kind = self._kind(element)
        if kind == "Table":
            return self._table(element, depth)
        marks: list[int] = []
        for number, child in enumerate(self._below(element, depth)):
            if child:
                marks += self.read(child, depth + 1)
            elif (mark := raw.FPDF_StructElement_GetChildMarkedContentID(element, number)) >= 0:
                marks.append(mark)
        if kind in PLAIN:
            self.plain.update(marks)
        level = LEVELS.get(kind, 0)
        if level or kind in PARTS:
            self._numbers += 1
            self._headings += level > 0
            part = Part(self._numbers, level)
            self.parts |= {mark: part for mark in marks if level or mark not in self.parts}
            if kind == "LI":
                self.items |= {mark: self._numbers for mark in marks if mark not in self.items}
        return marks

    def _table(self, element: Element, depth: int) -> list[int]:
        known = len(self.tables)
        places = list(self._rows(element, depth))
        rows = tuple(tuple(self._cells(row, depth)) for row in places if row)
        if len(self.tables) == known:
            on_page = [row is not None for row in places]
            self.tables.append(
                TableOf(rows, any(after and not before for before, after in pairwise(on_page)))
            )
        return [mark for row in rows for cell in row for mark in cell.marks]

    def _rows(self, element: Element, depth: int) -> Iterator[Element | None]:
        """The rows of a table; None for one that is not on the page."""
        for child in self._below(element, depth):
            kind = self._kind(child) if child else ""
            if not child:
                yield None
            elif kind == "TR":
                yield child
            elif kind in ROW_GROUPS:
                yield from self._rows(child, depth + 1)
            else:  # such as a caption
                self.read(child, depth + 1)

    def _cells(self, row: Element, depth: int) -> Iterator[Cell]:
        for number, child in enumerate(self._below(row, depth)):
            if not child:
                if raw.FPDF_StructElement_GetChildMarkedContentID(row, number) < 0:
                    yield EMPTY  # nothing of it is on the page
                continue
            known = self._headings
            marks = frozenset(self.read(child, depth + 2))
            yield Cell(
                marks,
                self._number(child, "ColSpan"),
                self._number(child, "RowSpan"),
                heads=self._kind(child) == "TH",
                has_heading=self._headings > known,
            )

    def _below(self, element: Element, depth: int) -> Iterator[Element | None]:
        """What is below an element; None for marked content, and for an element of other pages."""
        if depth > MAX_DEPTH:
            return
        for number in range(raw.FPDF_StructElement_CountChildren(element)):
            self._left -= 1
            if self._left < 0:
                raise _TooLargeError
            yield raw.FPDF_StructElement_GetChildAtIndex(element, number)

    def _kind(self, element: Element) -> str:
        length = raw.FPDF_StructElement_GetType(element, self._name, NAME_BYTES)
        return (
            self._name.raw[: length - 2].decode("utf-16-le", "replace") if 2 <= length <= NAME_BYTES else ""
        )

    def _number(self, element: Element, name: str) -> int:
        """An attribute that counts something, from 1."""
        found = ctypes.c_float()
        for number in range(min(raw.FPDF_StructElement_GetAttributeCount(element), MAX_ATTRIBUTES)):
            attribute = raw.FPDF_StructElement_GetAttributeAtIndex(element, number)
            value = raw.FPDF_StructElement_Attr_GetValue(attribute, name.encode()) if attribute else None
            if value and raw.FPDF_StructElement_Attr_GetNumberValue(value, found):
                return int(min(max(found.value, 1.0), MAX_SPAN)) if found.value == found.value else 1
        return 1
