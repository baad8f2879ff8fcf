"""The letters of a sheet's XML, counted by no part of what reads the sheet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO, Final
from xml.parsers import expat

from switchyard.services.documents.office.package import Package
from switchyard.services.documents.office.sheets.cells import unescaped
from switchyard.services.documents.self_check import letters

# As expat names them.
MAIN: Final = "http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
CELL, VALUE, FORMULA, ITEM = f"{MAIN}c", f"{MAIN}v", f"{MAIN}f", f"{MAIN}si"
TEXT, RUN, PHONETIC = f"{MAIN}t", f"{MAIN}r", f"{MAIN}rPh"
PARTS: Final = frozenset({RUN, PHONETIC})  # of a text


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
    """Hears where elements begin; between their ends and the next ones is only white."""

    def __init__(self) -> None:
        self._said = ""
        self._listens = self._aside = False  # aside is how a text is pronounced

    def read(self, file: IO[bytes]) -> None:
        """Go through a part."""
        parser = expat.ParserCreate(namespace_separator="}")
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.CharacterDataHandler = self._hear
        parser.ParseFile(file)
        self._end()

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        raise NotImplementedError

    def _end(self) -> None:
        raise NotImplementedError

    def _hear(self, text: str) -> None:
        if self._listens:
            self._said += text


class _Items(_Reader):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[int] = []

    def _start(self, name: str, _: dict[str, str]) -> None:
        if name == TEXT:
            self._listens = not self._aside
            return
        self._listens = False
        if name == ITEM:
            self._end()
            self.found.append(0)
            self._aside = False
        elif name in PARTS:
            self._aside = name == PHONETIC

    def _end(self) -> None:
        if self._said and self.found:
            self.found[-1] += letters(unescaped(self._said))
        self._said = ""


class _Cells(_Reader):
    def __init__(self, strings: list[int]) -> None:
        super().__init__()
        self.found = SheetLetters()
        self._strings = strings
        self._kind = ""
        self._formula = False

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if name == CELL:
            self._end()
            self._kind = attributes.get("t", "n")
        elif name == VALUE:
            self._listens = self._kind != "inlineStr"
        elif name == TEXT:
            self._listens = self._kind == "inlineStr" and not self._aside
        else:
            self._listens = False
            if name == FORMULA:
                self._formula = True
            elif name in PARTS:
                self._aside = name == PHONETIC

    def _end(self) -> None:
        said, kind = self._said, self._kind
        if kind == "inlineStr" or (kind == "str" and said):
            self.found.texts += letters(unescaped(said))
        elif kind == "s" and (number := said.strip()).isdecimal():
            at = int(number) if len(number) < 10 else len(self._strings)
            self.found.texts += self._strings[at] if at < len(self._strings) else 0
        elif self._formula or (said and not said.isspace()):
            self.found.others += 1
        self._said = self._kind = ""
        self._listens = self._formula = self._aside = False
