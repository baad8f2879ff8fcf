"""The labels of numbered paragraphs in a Word document (ECMA-376 part 1, 17.9)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from switchyard.services.documents.office.package import Element
from switchyard.services.documents.office.word.styles import Styles, W, integer, value

LEVELS: Final = 9
PLACE: Final = re.compile(r"%([1-9])")
PLAIN_NUMBER: Final = re.compile(r"\(?%[1-9][.):]?\s*")
MAX_NUMBER: Final = 100_000
ROMAN: Final = (
    (1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l"), (40, "xl"),
    (10, "x"), (9, "ix"), (5, "v"), (4, "iv"), (1, "i"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Label:
    """What stands before a paragraph.

    Args:
        level: from 0.
        number: that of an item that Markdown can number itself, else None.
        text: as the document shows it; empty for a bullet.
    """

    level: int
    number: int | None
    text: str


@dataclass(slots=True)
class _Level:
    format: str = "decimal"
    text: str = ""
    start: int = 1
    restart: int | None = None  # the level, from 1, whose step restarts this one; 0 for none
    legal: bool = False
    style: str = ""


@dataclass(slots=True)
class _List:
    levels: dict[int, _Level]
    counts: list[int | None] = field(default_factory=lambda: [None] * LEVELS)


class Numbering:
    """The lists of one document, which count while it is read."""

    def __init__(self, root: Element | None, styles: Styles) -> None:
        self._styles = styles
        self._lists: dict[str, _List] = {}
        self._abstracts: dict[str, Element] = {}
        self._numbers: dict[str, Element] = {}
        self._begun: set[str] = set()
        for element in root if root is not None else ():
            if element.tag == f"{W}abstractNum":
                self._abstracts[element.get(f"{W}abstractNumId", "")] = element
            elif element.tag == f"{W}num":
                self._numbers[element.get(f"{W}numId", "")] = element

    def label(self, number_id: str, level: int, style: str) -> Label | None:
        """Count a paragraph and give its label; None for one that is in no list.

        Args:
            number_id: the list, as the paragraph or its style names it.
            level: from 0, as named there.
            style: the paragraph's where it names no level itself, for a level may be tied to a style.
        """
        number = self._numbers.get(number_id)
        if number is None:
            return None
        of_list = self._list(number)
        tied = next((at for at, one in of_list.levels.items() if one.style and one.style == style), level)
        level = min(max(tied, 0), LEVELS - 1)
        own = self._overridden(number, of_list, level)
        if own.format == "none" and not own.text.strip():
            return None
        if own.format == "bullet":
            return Label(level, None, "")
        self._count(of_list, level, own)
        count = of_list.counts[level] or 0
        text = self._text(of_list, own, level)
        plain = own.format == "decimal" and PLAIN_NUMBER.fullmatch(own.text)
        return Label(level, count if plain else None, text)

    def _list(self, number: Element) -> _List:
        abstract = value(number, "abstractNumId") or ""
        for _ in range(LEVELS):  # a list may take its levels from a style, which names another list
            element = self._abstracts.get(abstract)
            linked = value(element, "numStyleLink") if element is not None else None
            style = self._styles.element(linked) if linked else None
            found = style.find(f"{W}pPr/{W}numPr/{W}numId") if style is not None else None
            other = self._numbers.get(found.get(f"{W}val", "")) if found is not None else None
            if other is None:
                break
            abstract = value(other, "abstractNumId") or ""
        if abstract not in self._lists:
            element = self._abstracts.get(abstract)
            levels = element.findall(f"{W}lvl") if element is not None else []
            self._lists[abstract] = _List({integer(one.get(f"{W}ilvl"), 0): _level(one) for one in levels})
        return self._lists[abstract]

    def _overridden(self, number: Element, of_list: _List, level: int) -> _Level:
        """The level as this use of the list has it; its first use may restart the count."""
        own = of_list.levels.get(level) or _Level(text=f"%{level + 1}.")
        for override in number.findall(f"{W}lvlOverride"):
            at = integer(override.get(f"{W}ilvl"), 0)
            replaced = override.find(f"{W}lvl")
            if at == level and replaced is not None:
                own = _level(replaced)
            start = value(override, "startOverride")
            key = f"{number.get(f'{W}numId')}/{at}"
            if at == level and start is not None and key not in self._begun:
                self._begun.add(key)
                of_list.counts[level] = integer(start, 1) - 1
        return own

    @staticmethod
    def _count(of_list: _List, level: int, own: _Level) -> None:
        counts = of_list.counts
        count = counts[level]
        counts[level] = own.start if count is None else count + 1
        for above in range(level):
            if counts[above] is None:
                counts[above] = of_list.levels.get(above, _Level()).start
        for below in range(level + 1, LEVELS):
            restart = of_list.levels.get(below, _Level()).restart
            if restart is None or level < restart:
                counts[below] = None

    @staticmethod
    def _text(of_list: _List, own: _Level, level: int) -> str:
        def count(match: re.Match[str]) -> str:
            at = int(match[1]) - 1
            of_level = own if at == level else of_list.levels.get(at, _Level())
            return written(of_list.counts[at] or 0, "decimal" if own.legal else of_level.format)

        return PLACE.sub(count, own.text).strip()


def _level(element: Element) -> _Level:
    restart = value(element, "lvlRestart")
    return _Level(
        format=value(element, "numFmt") or "decimal",
        text=value(element, "lvlText") or "",
        start=integer(value(element, "start"), 0),
        restart=None if restart is None else integer(restart, 0),
        legal=element.find(f"{W}isLgl") is not None,
        style=value(element, "pStyle") or "",
    )


def written(number: int, how: str) -> str:
    """A number in a format of ECMA-376 part 1, 17.18.59; in digits where that is another than these."""
    if not 0 < number < MAX_NUMBER:
        return str(number)
    match how:
        case "lowerLetter" | "upperLetter":  # a to z, then aa, bb
            letter = chr(ord("a") + (number - 1) % 26) * min((number - 1) // 26 + 1, 10)
            return letter.upper() if how == "upperLetter" else letter
        case "lowerRoman" | "upperRoman":
            text = ""
            for size, numeral in ROMAN:
                text += numeral * (number // size)
                number %= size
            return text.upper() if how == "upperRoman" else text
        case "decimalZero":
            return f"{number:02}"
        case "none" | "bullet":
            return ""
        case _:
            return str(number)
