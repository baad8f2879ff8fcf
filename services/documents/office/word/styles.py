"""What the styles of a Word document make of a paragraph or a run (ECMA-376 part 1, 17.7)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from switchyard.services.documents.model.scripts import DOWN, UP
from switchyard.services.documents.office.package import Element

W: Final = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
MAX_CHAIN: Final = 16  # styles based on styles, more than Word allows; a longer chain is a loop
BODY_LEVEL: Final = 9  # outline levels 0 to 8 are headings
# Built-in styles keep their English names in documents of every language.
HEADING: Final = re.compile(r"heading ([1-9])", re.IGNORECASE)
LIST: Final = re.compile(r"list (?:bullet|number) ([2-5])")
CODE: Final = re.compile(
    r"\b(code|source|preformatted|verbatim|listing|macro|plain ?text|console|terminal)", re.IGNORECASE
)
QUOTE: Final = re.compile(r"\b(quote|quotations?|block ?text|zitat)\b", re.IGNORECASE)
MONOSPACED: Final = re.compile(
    r"courier|consol|mono|menlo|fixed|typewriter|lucida console|andale|fira code|source code|inconsolata",
    re.IGNORECASE,
)
MOVED, SMALL = 4, 16  # half-points
OFF: Final = {"0", "false", "off", "none"}


@dataclass(frozen=True, slots=True)
class ParagraphLook:
    """What a paragraph is.

    Args:
        level: that of a heading, from 1, or 0 where it is none.
        numbering: the id of its list and its level in it, or None.
        list_level: from 0, as the name of a built-in style ("List Bullet 2") has it.
    """

    level: int = 0
    title: bool = False
    subtitle: bool = False
    code: bool = False
    quote: bool = False
    numbering: tuple[str, int] | None = None
    list_level: int = 0


@dataclass(frozen=True, slots=True)
class RunLook:
    """How a run is set; None where its style leaves that to others."""

    bold: bool | None = None
    italic: bool | None = None
    struck: bool | None = None
    hidden: bool | None = None
    monospaced: bool | None = None
    script: str | None = None

    def over(self, below: RunLook) -> RunLook:
        """This look, and what it leaves open from another."""
        return RunLook(
            below.bold if self.bold is None else self.bold,
            below.italic if self.italic is None else self.italic,
            below.struck if self.struck is None else self.struck,
            below.hidden if self.hidden is None else self.hidden,
            below.monospaced if self.monospaced is None else self.monospaced,
            below.script if self.script is None else self.script,
        )


class Styles:
    """The styles of one document."""

    def __init__(self, root: Element | None) -> None:
        self._styles: dict[str, Element] = {}
        self._default = ""
        self._paragraphs: dict[str, ParagraphLook] = {}
        self._runs: dict[str, RunLook] = {}
        for style in root.iter(f"{W}style") if root is not None else ():
            self._styles[style.get(f"{W}styleId", "")] = style
            if style.get(f"{W}type") == "paragraph" and style.get(f"{W}default") in {"1", "true", "on"}:
                self._default = style.get(f"{W}styleId", "")

    def element(self, style: str) -> Element | None:
        """A style's definition."""
        return self._styles.get(style)

    def _chain(self, style: str) -> Iterator[Element]:
        """A style and those it is based on, nearest first."""
        for _ in range(MAX_CHAIN):
            element = self._styles.get(style)
            if element is None:
                return
            yield element
            style = value(element, "basedOn") or ""

    def paragraph(self, style: str) -> ParagraphLook:
        """What a paragraph of this style is."""
        if style not in self._paragraphs:
            self._paragraphs[style] = self._paragraph(style or self._default)
        return self._paragraphs[style]

    def _paragraph(self, style: str) -> ParagraphLook:
        chain = list(self._chain(style))
        names = [value(element, "name") or "" for element in chain]
        outline = next((number for element in chain if (number := outline_level(element)) is not None), None)
        named = next((int(found[1]) for name in names if (found := HEADING.fullmatch(name))), 0)
        level = named if outline is None else outline + 1 if outline < BODY_LEVEL else 0
        own = names[0].lower() if names else ""
        monospaced = self.run(style).monospaced is True
        return ParagraphLook(
            level=level,
            title="title" in (name.lower() for name in names),
            subtitle=own == "subtitle",
            code=not level and (monospaced or bool(CODE.search(own))),
            quote=not level and bool(QUOTE.search(own)),
            numbering=self._numbering(chain),
            list_level=int(listed[1]) - 1 if (listed := LIST.fullmatch(own)) else 0,
        )

    def _numbering(self, chain: list[Element]) -> tuple[str, int] | None:
        for element in chain:
            properties = element.find(f"{W}pPr/{W}numPr")
            if properties is not None and value(properties, "numId") is not None:
                return value(properties, "numId") or "0", integer(value(properties, "ilvl"), 0)
        return None

    def run(self, style: str) -> RunLook:
        """How a run, or the runs of a paragraph, of this style are set."""
        if style not in self._runs:
            look = RunLook()
            for element in self._chain(style):
                look = look.over(run_look(element.find(f"{W}rPr"), name=value(element, "name") or ""))
            self._runs[style] = look
        return self._runs[style]


def run_look(properties: Element | None, *, name: str = "") -> RunLook:
    """How run properties set a run; the name of a character style may say that it is code."""
    monospaced = True if CODE.search(name) else None
    if properties is None:
        return RunLook(monospaced=monospaced)
    fonts = properties.find(f"{W}rFonts")
    font = fonts.get(f"{W}ascii") or fonts.get(f"{W}hAnsi") if fonts is not None else None
    if font and monospaced is None:
        monospaced = bool(MONOSPACED.search(font))
    bold, italic = _switch(properties, "b", "bCs"), _switch(properties, "i", "iCs")
    struck, hidden = _switch(properties, "strike", "dstrike"), _switch(properties, "vanish", "webHidden")
    return RunLook(bold, italic, struck, hidden, monospaced, _script(properties))


def _script(properties: Element) -> str | None:
    """What stands above or below the line: by its own name, or moved there and set smaller by hand."""
    align = value(properties, "vertAlign")
    if align is not None:
        return {"superscript": UP, "subscript": DOWN}.get(align, "")
    moved = integer(value(properties, "position"), 0)
    if abs(moved) < MOVED or value(properties, "sz") is None:
        return None
    return (UP if moved > 0 else DOWN) if integer(value(properties, "sz"), 0) <= SMALL else None


def _switch(properties: Element, *names: str) -> bool | None:
    for name in names:
        found = properties.find(f"{W}{name}")
        if found is not None:
            return found.get(f"{W}val", "1") not in OFF
    return None


def outline_level(holder: Element) -> int | None:
    """The outline level that a style or paragraph sets itself, 0 to 9."""
    properties = holder.find(f"{W}pPr")
    text = value(properties, "outlineLvl") if properties is not None else None
    return None if text is None else min(max(integer(text, BODY_LEVEL), 0), BODY_LEVEL)


def value(holder: Element, name: str) -> str | None:
    """The `w:val` of a child element."""
    found = holder.find(f"{W}{name}")
    return None if found is None else found.get(f"{W}val")


def integer(text: str | None, default: int) -> int:
    """A number that may be missing or nonsense."""
    try:
        return int(text or default)
    except ValueError:
        return default
