"""The text of a paragraph of a Word document, and what is anchored in it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from switchyard.services.documents.model.runs import PLAIN, Look, Run
from switchyard.services.documents.office import activex
from switchyard.services.documents.office.formulas import M, latex
from switchyard.services.documents.office.package import RELATIONSHIPS, Element, Package, chosen
from switchyard.services.documents.office.word.styles import OFF, RunLook, Styles, W, integer, run_look, value

A: Final = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
VML: Final = "{urn:schemas-microsoft-com:vml}"
CHART: Final = "{http://schemas.openxmlformats.org/drawingml/2006/chart}chart"
DIAGRAM: Final = "{http://schemas.openxmlformats.org/drawingml/2006/diagram}relIds"
DESCRIBED: Final = "{http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing}docPr"
# What was deleted or moved away, and what is no text.
DROPPED: Final = {
    f"{W}{name}" for name in ("del", "moveFrom", "pPr", "rPr", "sdtPr", "sdtEndPr", "rt", "delText")
}
HYPERLINK: Final = re.compile(r'\s*HYPERLINK\s+(?!\\)"?([^"\s]+)"?', re.IGNORECASE)
MAX_FIELDS: Final = 100
MAX_DRAWN: Final = 1_000  # charts and diagrams of a document
# The signs of symbol fonts that are more than ornaments.
SYMBOLS: Final = {
    "wingdings": {0xFC: "✓", 0xFB: "✗", 0xFE: "☑", 0xFD: "☒", 0xA8: "☐", 0x6F: "☐", 0xE0: "→", 0xDF: "←"},
    "symbol": {0xAE: "→", 0xAC: "←", 0xB7: "•", 0xB0: "°", 0xB1: "±", 0xB4: "\u00d7", 0xB3: "≥", 0xA3: "≤",
               0xB9: "≠", 0xBB: "≈", 0xA5: "∞", 0x61: "\u03b1", 0x62: "β", 0x67: "\u03b3", 0x64: "δ",
               0x6C: "λ", 0x6D: "μ", 0x70: "π", 0x73: "\u03c3", 0x77: "ω", 0x57: "Ω", 0x44: "Δ", 0x53: "Σ"},
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Image:
    """A picture by its part's name, or its address."""

    description: str
    source: str


@dataclass(slots=True)
class Found:
    """What one paragraph holds.

    Args:
        boxes: text boxes, each as its blocks.
    """

    runs: list[Run] = field(default_factory=list)
    images: list[Image] = field(default_factory=list)
    charts: list[Element] = field(default_factory=list)
    boxes: list[Iterable[Element]] = field(default_factory=list)

    @property
    def all_code(self) -> bool:
        """Whether all words are set in a font for code."""
        worded = [run for run in self.runs if run.text.strip()]
        return bool(worded) and all(run.look.code for run in worded)


class Notes:
    """The footnotes, endnotes and comments in the order they are referred to, each once."""

    def __init__(self) -> None:
        self._marks: dict[tuple[str, str], str] = {}
        self._order: list[tuple[str, str]] = []

    def mark(self, kind: str, note: str) -> str:
        """The mark of a note, in one sequence for all kinds."""
        key = (kind, note)
        if key not in self._marks:
            self._order.append(key)
            self._marks[key] = str(len(self._order))
        return self._marks[key]

    def __iter__(self) -> Iterator[tuple[str, tuple[str, str]]]:
        """Marks and notes, also those that are added on the way."""
        for key in self._order:
            yield self._marks[key], key


@dataclass(slots=True)
class _Field:
    """A field under way: its code goes before its result, which alone is read."""

    code: str = ""
    in_result: bool = False
    link: str = ""
    state: str = ""  # of a check box or a choice, which has no result of its own


class RunReader:
    """Reads paragraphs one after the other; a field may begin in one and end in another."""

    def __init__(
        self, package: Package, part: str, styles: Styles, notes: Notes, *, comments: bool = False
    ) -> None:
        self._comments = comments
        self._package = package
        self._styles = styles
        self._notes = notes
        self.relations = package.relations(part)
        self._fields: list[_Field] = []
        self._found = Found()
        self._base = RunLook()
        self._drawn = 0
        self.unread_controls = 0

    def read(self, paragraph: Iterable[Element], style: str) -> Found:
        """What the paragraph holds."""
        if any(not field_.in_result for field_ in self._fields) and not _has_fields(paragraph):
            # A field whose end is missing would swallow the rest of the document.
            self._fields = [field_ for field_ in self._fields if field_.in_result]
        self._found = found = Found()
        # Bold and italic of a whole style are its design; hidden and monospaced are not.
        of_style = self._styles.run(style)
        self._base = RunLook(hidden=of_style.hidden, monospaced=of_style.monospaced)
        self._walk(paragraph, "")
        return found

    def _walk(self, holder: Iterable[Element], link: str) -> None:
        for child in chosen(holder):
            tag = child.tag
            if tag in DROPPED:
                continue
            if tag == f"{W}r":
                self._run(child, link)
            elif tag == f"{W}hyperlink":
                self._walk(child, self._address(child) or link)
            elif tag in {f"{M}oMath", f"{M}oMathPara"}:
                last = self._found.runs[-1] if self._found.runs else None
                if last is not None and last.raw and last.text.endswith("$"):
                    self._add(" ", Look())  # two dollar signs would begin a block
                self._add("\n".join(latex(child)), Look(link=link), raw=True)
            elif tag in {f"{W}p", f"{W}tbl"}:  # which no paragraph may hold
                self._found.boxes.append([child])
            else:
                self._walk(child, link)

    def _address(self, element: Element) -> str:
        relation = self.relations.get(element.get(f"{RELATIONSHIPS}id", ""))
        return relation.target if relation is not None and relation.external else ""

    def _run(self, run: Element, link: str) -> None:
        properties = run.find(f"{W}rPr")
        look = run_look(properties)
        style = value(properties, "rStyle") if properties is not None else None
        if style:
            look = look.over(self._styles.run(style))
        look = look.over(self._base)
        if look.hidden:
            return
        made = Look(
            bool(look.bold),
            bool(look.italic),
            bool(look.struck),
            bool(look.monospaced),
            link,
            look.script or "",
        )
        self._content(run, PLAIN if made == PLAIN else made)

    def _content(self, run: Element, look: Look) -> None:
        for child in chosen(run):
            match str(child.tag).removeprefix(W):
                case "t":
                    self._add((child.text or "").replace("\n", " "), look)
                case "tab" | "ptab":
                    self._add("\t", look)
                case "br" | "cr" if child.get(f"{W}type") in {None, "textWrapping"}:
                    self._add("\n", look)
                case "noBreakHyphen":
                    self._add("-", look)
                case "sym":
                    self._add(_symbol(child), look)
                case "fldChar":
                    self._field(child, look)
                case "instrText" if self._fields:
                    self._fields[-1].code += child.text or ""
                case "footnoteReference" | "endnoteReference" as name:
                    mark = self._notes.mark(name.removesuffix("Reference"), child.get(f"{W}id", ""))
                    self._add(f"[^{mark}]", look, raw=True)
                case "commentReference" if self._comments:
                    self._add(f"[^{self._notes.mark('comment', child.get(f'{W}id', ''))}]", look, raw=True)
                case "ruby":
                    for base in child.iter(f"{W}rubyBase"):
                        self._walk(base, look.link)
                case "drawing" | "pict" | "object":
                    self._drawing(child, Image("", ""))

    def _add(self, text: str, look: Look, *, raw: bool = False) -> None:
        if not text or any(not field_.in_result for field_ in self._fields):
            return
        link = next((field_.link for field_ in reversed(self._fields) if field_.link), look.link)
        if link != look.link:
            look = replace(look, link=link)
        for field_ in self._fields if text.strip() else ():
            field_.state = ""
        self._found.runs.append(Run(text, look, raw=raw))

    def _field(self, sign: Element, look: Look) -> None:
        match sign.get(f"{W}fldCharType", ""):
            case "begin" if len(self._fields) < MAX_FIELDS:
                self._fields.append(_Field(state=_state(sign)))
            case "separate" if self._fields:
                linked = HYPERLINK.match(self._fields[-1].code)
                self._fields[-1].in_result = True
                self._fields[-1].link = linked[1] if linked else ""
            case "end" if self._fields:
                self._add(self._fields.pop().state, look)

    def _drawing(self, holder: Element, image: Image) -> None:
        for child in chosen(holder):
            tag = str(child.tag)
            if tag == f"{W}txbxContent":
                self._found.boxes.append(list(chosen(child)))
                continue
            if tag == DESCRIBED:
                image = Image(child.get("descr") or child.get("title") or "", "")
            elif tag == f"{A}blip":
                of_image = child.get(f"{RELATIONSHIPS}embed") or child.get(f"{RELATIONSHIPS}link") or ""
                self._image(image.description, of_image)
            elif tag == f"{VML}imagedata":
                self._image(child.getparent().get("alt", ""), child.get(f"{RELATIONSHIPS}id", ""))
            elif tag == CHART:
                self._chart(child)
            elif tag == DIAGRAM:
                self._diagram(child)
            elif tag == f"{W}control":
                self._control(child)
            elif tag == f"{VML}textpath" and (text := child.get("string")):
                self._found.boxes.append([_paragraph(child, text)])
            self._drawing(child, image)

    def _image(self, description: str, relation_id: str) -> None:
        relation = self.relations.get(relation_id)
        if relation is not None:
            source = relation.target if relation.external else self._package.picture(relation.target)
            self._found.images.append(Image(description, source))

    def _control(self, element: Element) -> None:
        relation = self.relations.get(element.get(f"{RELATIONSHIPS}id", ""))
        text = None
        if relation is not None and not relation.external:
            text = activex.text_of(self._package, relation.target)
        if text is None:
            self.unread_controls += 1
        self._add(f" {text} " if text else "", PLAIN)

    def _chart(self, element: Element) -> None:
        space = self._part(element.get(f"{RELATIONSHIPS}id", ""))
        if space is not None:
            self._found.charts.append(space)

    def _part(self, relation_id: str) -> Element | None:
        """The part that a drawing shows; a document may refer to one again and again, but not without end."""
        relation = self.relations.get(relation_id)
        self._drawn += 1
        if relation is None or relation.external or self._drawn > MAX_DRAWN:
            return None
        return self._package.parse(relation.target)

    def _diagram(self, element: Element) -> None:
        """The texts of a diagram, each in a paragraph as text boxes have them."""
        root = self._part(element.get(f"{RELATIONSHIPS}dm", ""))
        for paragraph in root.iter(f"{A}p") if root is not None else ():
            self._found.boxes.append([_as_word(paragraph)])


def _as_word(paragraph: Element) -> Element:
    """A paragraph of a drawing as Word writes its own."""
    return _paragraph(paragraph, "".join(part.text or "" for part in paragraph.iter(f"{A}t")))


def _paragraph(drawn: Element, words: str) -> Element:
    made = drawn.makeelement(f"{W}p")
    run = made.makeelement(f"{W}r")
    text = made.makeelement(f"{W}t")
    text.text = words
    run.append(text)
    made.append(run)
    return made


def _has_fields(paragraph: Iterable[Element]) -> bool:
    """Whether something of a field is in a paragraph."""
    names = (f"{W}fldChar", f"{W}instrText")
    return any(next(child.iter(*names), None) is not None for child in paragraph)


def _state(sign: Element) -> str:
    """What a field of a form shows: whether a box is checked, or which entry of a list is chosen."""
    box, choice = sign.find(f"{W}ffData/{W}checkBox"), sign.find(f"{W}ffData/{W}ddList")
    if box is not None:
        state = box.find(f"{W}checked")
        state = box.find(f"{W}default") if state is None else state
        return "☑" if state is not None and state.get(f"{W}val", "1") not in OFF else "☐"
    if choice is not None:
        entries = [entry.get(f"{W}val", "") for entry in choice.findall(f"{W}listEntry")]
        at = integer(value(choice, "result") or value(choice, "default"), 0)
        return entries[at] if 0 <= at < len(entries) else ""
    return ""


def _symbol(element: Element) -> str:
    try:
        code = int(element.get(f"{W}char", ""), 16)
    except ValueError:
        return ""
    font = (element.get(f"{W}font") or "").lower()
    if 0xF000 <= code <= 0xF0FF:
        code -= 0xF000
    known = next((signs for name, signs in SYMBOLS.items() if font.startswith(name)), {})
    return known.get(code) or (chr(code) if not known and code >= 0x20 and chr(code).isprintable() else "")
