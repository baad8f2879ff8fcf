"""The letters of a sheet's XML, counted by no part of what reads the sheet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO, Final
from xml.parsers import expat

from services.connectors.convert.ooxml import Package
from services.connectors.convert.self_check import letters
from services.connectors.convert.xlsx_cells import unescaped

# As expat names them.
MAIN: Final = "http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
CELL, VALUE, FORMULA, ITEM, RUN = f"{MAIN}c", f"{MAIN}v", f"{MAIN}f", f"{MAIN}si", f"{MAIN}r"
TEXT, PHONETIC = f"{MAIN}t", f"{MAIN}rPh"


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
    items = _Items()
    for part in package.related(package.main_part(), "sharedStrings"):
        with package.opened(part) as file:
            items.read(file)
    return items.found


def of(package: Package, part: str, strings: list[int]) -> SheetLetters:
    """Count a sheet.

    Args:
        package: in the usual namespaces, without a document type.
        part: the sheet's.
        strings: what `shared` found.
    """
    cells = _Cells(strings)
    with package.opened(part) as file:
        cells.read(file)
    return cells.found


class _Reader:
    """Hears where elements begin and end."""

    def __init__(self) -> None:
        self._said: list[str] = []
        self._listens = False

    def read(self, file: IO[bytes]) -> None:
        """Go through a part."""
        parser = expat.ParserCreate(namespace_separator="}")
        parser.buffer_text = True
        parser.StartElementHandler = self.start
        parser.EndElementHandler = self._close
        parser.CharacterDataHandler = self._hear
        parser.ParseFile(file)
        self.end()

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """An element begins."""
        raise NotImplementedError

    def end(self) -> None:
        """What was begun is over."""
        raise NotImplementedError

    def _hear(self, text: str) -> None:
        if self._listens:
            self._said.append(text)

    def _close(self, _: str) -> None:
        self._listens = False

    def _heard(self) -> str:
        said = "".join(self._said)
        self._said.clear()
        self._listens = False
        return said


class _Items(_Reader):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[int] = []
        self._aside = False  # how a text is pronounced

    def start(self, name: str, _: dict[str, str]) -> None:
        if name == ITEM:
            self.end()
            self.found.append(0)
            self._aside = False
        elif name in {RUN, PHONETIC}:
            self._aside = name == PHONETIC
            self._listens = False
        else:
            self._listens = name == TEXT and not self._aside

    def end(self) -> None:
        if (said := self._heard()) and self.found:
            self.found[-1] += letters(unescaped(said))


class _Cells(_Reader):
    def __init__(self, strings: list[int]) -> None:
        super().__init__()
        self.found = SheetLetters()
        self._strings = strings
        self._kind = ""
        self._formula = self._aside = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == VALUE:
            self._listens = self._kind != "inlineStr"
        elif name == CELL:
            self.end()
            self._kind = attributes.get("t", "n")
            self._formula = self._aside = False
        elif name == FORMULA:
            self._formula = True
            self._listens = False
        elif name in {RUN, PHONETIC}:
            self._aside = name == PHONETIC
            self._listens = False
        else:
            self._listens = name == TEXT and self._kind == "inlineStr" and not self._aside

    def end(self) -> None:
        said, kind = self._heard(), self._kind
        if kind == "inlineStr" or (kind == "str" and said):
            self.found.texts += letters(unescaped(said))
        elif kind == "s" and (number := said.strip()).isdecimal():
            at = int(number) if len(number) < 10 else len(self._strings)
            self.found.texts += self._strings[at] if at < len(self._strings) else 0
        elif said.strip() or self._formula:
            self.found.others += 1
        self._kind = ""
