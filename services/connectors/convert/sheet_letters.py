"""The letters of a sheet's XML, counted by no part of what reads the sheet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from lxml import etree

from services.connectors.convert.ooxml import Element, Package
from services.connectors.convert.self_check import letters
from services.connectors.convert.xlsx_cells import unescaped

MAIN: Final = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
VALUE, FORMULA, INLINE = f"{MAIN}v", f"{MAIN}f", f"{MAIN}is"
TEXTS: Final = {f"{MAIN}t", f"{MAIN}r"}


@dataclass(slots=True)
class SheetLetters:
    """What a sheet has.

    Args:
        texts: letters of the cells that hold text.
        others: cells of a number, a date, an error, or a formula without a value, of which more or fewer
            letters are shown than are stored.
    """

    texts: int = 0
    others: int = 0


def shared(package: Package) -> list[int]:
    """The letters of each text that cells share, in the order of their part."""
    return [
        _of(item)
        for part in package.related(package.main_part(), "sharedStrings")
        for item in package.children(part, f"{MAIN}sst")
    ]


def of(package: Package, part: str, strings: list[int]) -> SheetLetters:
    """Count a sheet.

    Args:
        package: in the usual namespaces.
        part: the sheet's.
        strings: what `shared` found.
    """
    found = SheetLetters()
    for cell in _cells(package, part):
        kind, value, formula = cell.get("t", "n"), "", False
        for child in cell:
            if child.tag == VALUE:
                value = child.text or ""
            elif child.tag == FORMULA:
                formula = True
            elif child.tag == INLINE and kind == "inlineStr":
                found.texts += _of(child)
        if kind == "str" and value:
            found.texts += letters(unescaped(value))
        elif kind == "s" and value.strip().isdecimal():
            at = int(value) if len(value) < 10 else len(strings)
            found.texts += strings[at] if at < len(strings) else 0
        elif (value.strip() or formula) and kind != "inlineStr":
            found.others += 1
    return found


def _cells(package: Package, part: str) -> Iterator[Element]:
    """The cells, of which nothing is kept that has been passed."""
    with package.opened(part) as file:
        for _, element in etree.iterparse(
            file, tag=(f"{MAIN}c", f"{MAIN}row"), resolve_entities=False, no_network=True
        ):
            if element.tag != f"{MAIN}row":
                yield element
                continue
            element.clear()
            while element.getprevious() is not None:
                del element.getparent()[0]


def _of(item: Element) -> int:
    """The letters of a text or its runs, without how they are pronounced."""
    return sum(
        letters(unescaped(text.text or ""))
        for child in item
        if child.tag in TEXTS
        for text in ((child,) if child.tag == f"{MAIN}t" else child.iterchildren(f"{MAIN}t"))
    )
