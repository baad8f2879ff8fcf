"""Word documents, read piece by piece from their XML."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Final

from switchyard.services.documents import defeated
from switchyard.services.documents.model import pieces, runs
from switchyard.services.documents.model.pieces import Depths, Piece
from switchyard.services.documents.office import charts
from switchyard.services.documents.office.formulas import M
from switchyard.services.documents.office.package import RELATIONSHIPS, Element, Package, chosen
from switchyard.services.documents.office.word.chunks import Chunks
from switchyard.services.documents.office.word.numbering import Label, Numbering
from switchyard.services.documents.office.word.runs import Found, Notes, RunReader
from switchyard.services.documents.office.word.styles import (
    BODY_LEVEL,
    ParagraphLook,
    Styles,
    W,
    integer,
    outline_level,
    value,
)
from switchyard.services.documents.self_check import XmlLetters
from switchyard.services.documents.write import markdown

WRAPPERS: Final = {f"{W}{name}" for name in ("ins", "moveTo", "customXml", "smartTag", "sdt", "sdtContent")}
LOOSE: Final = {
    *(f"{W}{name}" for name in ("r", "hyperlink", "fldSimple", "dir", "bdo")), f"{M}oMath", f"{M}oMathPara",
}  # fmt: skip
MAX_SPAN: Final = 100


class DocxReader:
    """Reads one document.

    Args:
        depth: how many others it is put into.
        comments: whether to read those too, as notes.
    """

    def __init__(self, package: Package, depth: int = 0, *, comments: bool = False) -> None:
        self.warnings: list[str] = []
        self._chunks = Chunks(package, depth)
        self._package = package
        self._main = package.main_part()
        self._styles = Styles(self._only("styles"))
        self._numbering = Numbering(self._only("numbering"), self._styles)
        self._notes = Notes()
        self._runs = RunReader(package, self._main, self._styles, self._notes, comments=comments)
        self._depths = Depths()
        self.has_chunks = False
        self.letters = XmlLetters()  # of what was read of the body
        self._below_title = 0  # headings go one deeper below a title

    def _only(self, kind: str) -> Element | None:
        part = next(self._package.related(self._main, kind), None)
        return None if part is None else self._package.parse(part)

    def read(self) -> Iterator[Piece]:
        """The body, then the notes that it refers to."""
        yield from _joined(self._blocks(self._counted(self._package.children(self._main, f"{W}body"))))
        yield from self._footnotes()
        if self._runs.unread_controls:
            self.warnings.append(
                f"{self._runs.unread_controls} controls (ActiveX) cannot be read and were left out"
            )

    def _counted(self, elements: Iterable[Element]) -> Iterator[Element]:
        for element in elements:
            self.letters.add(element)
            yield element

    def _blocks(self, elements: Iterable[Element]) -> Iterator[Piece]:
        loose: list[Element] = []  # runs and formulas that stand in no paragraph
        for element in elements:
            if element.tag in LOOSE:
                loose.append(element)
                continue
            if loose:
                yield from self._found(self._runs.read(loose, ""), ParagraphLook(), None)
                loose = []
            if element.tag == f"{W}p":
                yield from self._guarded(self._paragraph, element, "a paragraph")
            elif element.tag == f"{W}tbl":
                self._depths.end()
                yield from self._guarded(self._table, element, "a table")
            elif element.tag == f"{W}altChunk":
                self._depths.end()
                yield from self._guarded(self._chunk, element, "a document that is put in")
            elif element.tag in WRAPPERS or element.tag.endswith("}AlternateContent"):
                yield from self._blocks(chosen([element] if _alternates(element) else element))
        if loose:
            yield from self._found(self._runs.read(loose, ""), ParagraphLook(), None)

    def _guarded(
        self, read: Callable[[Element], Iterator[Piece]], element: Element, what: str
    ) -> Iterator[Piece]:
        """What is read of an element; its bare text, and a warning, where that fails."""
        try:
            yield from list(read(element))
        except Exception as error:
            if defeated.passed_on(error):
                raise
            texts = defeated.bare(defeated.texts_of(element))
            self.warnings.append(defeated.warning(what, error, has_text=bool(texts)))
            for text in texts:
                yield from pieces.paragraph(markdown.inline(text))

    def _chunk(self, element: Element) -> Iterator[Piece]:
        """Another document that is put in here."""
        self.has_chunks = True
        relation = self._runs.relations.get(element.get(f"{RELATIONSHIPS}id", ""))
        if relation is None or relation.external:
            self.warnings.append("another document that is put into this one is missing")
            return
        found, warnings = self._chunks.read(relation.target)
        self.warnings += warnings
        yield from found

    def _paragraph(self, element: Element) -> Iterator[Piece]:
        style, look = self._look(element)
        found = self._runs.read(element, style)
        yield from self._found(found, look, self._label(element, style, look))

    def _found(self, found: Found, look: ParagraphLook, label: Label | None) -> Iterator[Piece]:
        yield from self._text(found, look, label)
        for image in found.images:
            yield Piece("image", image.description, source=image.source)
        for chart in found.charts:
            yield from charts.pieces_of(chart)
        for box in found.boxes:
            yield from self._blocks(box)

    def _look(self, element: Element) -> tuple[str, ParagraphLook]:
        properties = element.find(f"{W}pPr")
        style = (value(properties, "pStyle") if properties is not None else None) or ""
        look = self._styles.paragraph(style)
        level = outline_level(element)
        if level is not None:
            look = replace(look, level=level + 1 if level < BODY_LEVEL else 0)
        return style, look

    def _label(self, element: Element, style: str, look: ParagraphLook) -> Label | None:
        number, level = look.numbering or ("0", 0)
        own = element.find(f"{W}pPr/{W}numPr")
        said = value(own, "ilvl") if own is not None else None
        if own is not None:
            number = value(own, "numId") or number
        return self._numbering.label(number, integer(said, level), style="" if said else style)

    def _text(self, found: Found, look: ParagraphLook, label: Label | None) -> Iterator[Piece]:
        words = runs.plain(found.runs)
        if not words:
            return
        level = 1 if look.title else look.level + self._below_title if look.level else 2 * look.subtitle
        if not (label and not level):
            self._depths.end()
        if level:
            self._below_title |= look.title
            written = runs.render(found.runs, emphasis=False)
            number = label.text.rstrip(".:)") if label else ""
            yield from pieces.heading(level, f"{number} {written}".strip())
        elif label:
            yield self._item(runs.render(found.runs), label, look)
        elif look.code or found.all_code:
            yield Piece("code", runs.verbatim(found.runs))
        else:
            kind: pieces.Kind = "quote" if look.quote else "paragraph"
            yield Piece(kind, runs.render(found.runs))

    def _item(self, text: str, label: Label, look: ParagraphLook) -> Piece:
        depth = self._depths.of(max(label.level, look.list_level))
        if label.number is not None:
            return Piece("item", text, level=depth, mark=f"{label.number}.")
        return Piece("item", f"{label.text} {text}" if label.text else text, level=depth, mark="-")

    def _table(self, table: Element) -> Iterator[Piece]:
        cells = [cell for row in _parts(table, "tr") for cell in _parts(row, "tc")]
        if len(cells) == 1:  # a frame around something rather than a table
            yield from self._blocks(cells[0])
            return
        rows: list[list[str]] = []
        for row in _parts(table, "tr"):
            properties = row.find(f"{W}trPr")
            if properties is not None and properties.find(f"{W}del") is not None:
                continue
            above = rows[-1] if rows else []
            skipped = integer(value(properties, "gridBefore"), 0) if properties is not None else 0
            line = [""] * min(max(skipped, 0), MAX_SPAN)
            for cell in _parts(row, "tc"):
                self._cell(cell, line, above)
            rows.append(line)
        yield from pieces.table(rows)

    def _cell(self, cell: Element, line: list[str], above: list[str]) -> None:
        """Put a cell's text into the line, and again into the places that it spans."""
        properties = cell.find(f"{W}tcPr")
        span, text = 1, None
        if properties is not None:
            span = min(max(integer(value(properties, "gridSpan"), 1), 1), MAX_SPAN)
            merged = properties.find(f"{W}vMerge")
            if merged is not None and merged.get(f"{W}val", "continue") == "continue":
                text = pieces.spread(above[len(line)], 2)[1] if len(line) < len(above) else ""
            across = properties.find(f"{W}hMerge")
            if across is not None and across.get(f"{W}val", "continue") == "continue" and line:
                text = pieces.spread(line[-1], 2)[1]
        line += pieces.spread(self.flat(cell) if text is None else text, span)

    def flat(self, holder: Iterable[Element]) -> str:
        """All text within, in one line."""
        written = []
        for piece in self._blocks(holder):
            if piece.kind == "item" and piece.mark != "-":
                written.append(f"{piece.mark} {piece.text}")
            elif piece.kind == "table":
                written += [" ".join(cell for cell in row if cell) for row in piece.rows]
            elif piece.kind == "image":
                written.append(runs.image(piece.text, piece.source))
            else:
                written.append(runs.code(piece.text) if piece.kind == "code" else piece.text)
        self._depths.end()
        return " ".join(pieces.flat(text) for text in written if text)

    def _footnotes(self) -> Iterator[Piece]:
        """The notes in the order of their marks; a note may refer to further ones."""
        texts: dict[tuple[str, str], Element] = {}
        for kind in ("footnote", "endnote", "comment"):
            root = self._only(f"{kind}s")
            for note in root if root is not None else ():
                texts[kind, note.get(f"{W}id", "")] = note
        for mark, key in self._notes:
            if key in texts:
                note = texts[key]
                author = runs.render([runs.Run(note.get(f"{W}author") or "")])
                said = f"Comment by {author}: " if author else "Comment: " if key[0] == "comment" else ""
                yield Piece("footnote", f"{said}{self.flat(note)}", mark=mark)


def _alternates(element: Element) -> bool:
    return str(element.tag).endswith("}AlternateContent")


def _parts(holder: Element, name: str) -> Iterator[Element]:
    """Rows of a table or cells of a row, also where something is wrapped around them."""
    for child in chosen(holder):
        if child.tag == f"{W}{name}":
            yield child
        elif child.tag in WRAPPERS:
            yield from _parts(child, name)


def _joined(found: Iterable[Piece]) -> Iterator[Piece]:
    """The lines of code, each a paragraph of its own, as one piece."""
    lines: list[str] = []
    for piece in found:
        if piece.kind == "code":
            lines.append(piece.text)
            continue
        yield from _listing(lines)
        lines = []
        yield piece
    yield from _listing(lines)


def _listing(lines: list[str]) -> Iterator[Piece]:
    text = "\n".join(lines).strip("\n")
    if text.strip():
        yield Piece("code", text)
