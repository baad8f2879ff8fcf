"""Presentations, slide by slide (ECMA-376 part 1, 19)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from switchyard.services.documents.model import pieces, runs
from switchyard.services.documents.model.pieces import Piece
from switchyard.services.documents.office import activex, charts
from switchyard.services.documents.office.package import RELATIONSHIPS, Element, Package, Relation, chosen
from switchyard.services.documents.office.slides.layout import (
    A,
    P,
    Shape,
    Templates,
    in_reading_order,
    shapes_of,
)
from switchyard.services.documents.office.slides.text import TextReader

Relations = dict[str, Relation]
TITLES: Final = {"title", "ctrTitle"}
FURNITURE: Final = {"dt", "ftr", "hdr", "sldNum", "sldImg"}
DIAGRAM: Final = "{http://schemas.openxmlformats.org/drawingml/2006/diagram}relIds"
TABLE: Final = f"{A}tbl"


def slide_parts(package: Package) -> Iterator[tuple[str, bool]]:
    """The slides in the order they are shown, and whether each is hidden."""
    main = package.main_part()
    root, relations = package.parse(main), package.relations(main)
    for entry in root.iter(f"{P}sldId") if root is not None else ():
        relation = relations.get(entry.get(f"{RELATIONSHIPS}id", ""))
        slide = package.parse(relation.target) if relation is not None else None
        if relation is not None and slide is not None:
            yield relation.target, slide.get("show") in {"0", "false"}


class SlideReader:
    """Reads the slides of one presentation."""

    def __init__(self, package: Package) -> None:
        self._package = package
        self._templates = Templates(package)
        self.unread = 0  # controls of the slide that was read last
        self.root: Element | None = None  # of the slide that was read last

    def read(self, part: str) -> Iterator[Piece]:
        """The title, everything else in the order it is read, and the notes as a quote."""
        root = self.root = self._package.parse(part)
        if root is None:
            return
        relations = self._package.relations(part)
        text = TextReader(relations, self._templates.of(part))
        shapes = list(shapes_of(root, self._templates.of(part)))
        titles = [shape for shape in shapes if shape.placeholder in TITLES]
        for shape in titles[:1]:
            yield from pieces.heading(1, text.line(shape.element))
        rest = [shape for shape in shapes if shape not in titles[:1] and shape.placeholder not in FURNITURE]
        for shape in in_reading_order(rest):
            yield from self._shape(shape, relations, text)
        yield from self._controls(root, relations)
        for notes in self._package.related(part, "notesSlide"):
            yield from self._notes(notes)

    def _shape(self, shape: Shape, relations: Relations, text: TextReader) -> Iterator[Piece]:
        if shape.element.tag == f"{P}pic":
            yield from self._picture(shape.element, relations)
        elif shape.element.tag == f"{P}graphicFrame":
            yield from self._graphic(shape.element, relations, text)
        else:
            yield from text.paragraphs(shape)

    def _picture(self, element: Element, relations: Relations) -> Iterator[Piece]:
        named = next(element.iter(f"{P}cNvPr"), None)
        description = "" if named is None else named.get("descr") or ""
        for blip in element.iter(f"{A}blip"):
            relation = relations.get(blip.get(f"{RELATIONSHIPS}embed", ""))
            if relation is not None and not relation.external:
                yield Piece("image", description, source=self._package.picture(relation.target))

    def _graphic(self, element: Element, relations: Relations, text: TextReader) -> Iterator[Piece]:
        for found in _graphics(element):
            if found.tag == TABLE:
                yield from pieces.table(_rows(found, text))
            elif found.tag == f"{charts.CHART}chart":
                relation = relations.get(found.get(f"{RELATIONSHIPS}id", ""))
                space = self._package.parse(relation.target) if relation is not None else None
                yield from charts.pieces_of(space) if space is not None else ()
            elif found.tag == DIAGRAM:
                relation = relations.get(found.get(f"{RELATIONSHIPS}dm", ""))
                root = self._package.parse(relation.target) if relation is not None else None
                for paragraph in root.iter(f"{A}p") if root is not None else ():
                    words = text.runs(paragraph)
                    if words:
                        yield Piece("item", words, mark="-")
            else:
                yield from self._picture(found, relations)

    def _controls(self, root: Element, relations: Relations) -> Iterator[Piece]:
        """What controls show; a slide may name each for newer and for older programs."""
        self.unread = 0
        for name in dict.fromkeys(each.get(f"{RELATIONSHIPS}id", "") for each in root.iter(f"{P}control")):
            relation = relations.get(name)
            text = activex.text_of(self._package, relation.target) if relation is not None else None
            self.unread += text is None
            yield from pieces.paragraph(runs.render([runs.Run(text or "")]))

    def _notes(self, part: str) -> Iterator[Piece]:
        root = self._package.parse(part)
        text = TextReader(self._package.relations(part), self._templates.none())
        for shape in shapes_of(root, self._templates.none()) if root is not None else ():
            if shape.placeholder == "body":
                for paragraph in shape.element.iter(f"{A}p"):
                    words = text.runs(paragraph)
                    if words:
                        yield Piece("quote", words)


def _graphics(holder: Element) -> Iterator[Element]:
    """The tables, charts, diagrams and pictures within a frame."""
    for child in chosen(holder):
        if child.tag in {TABLE, f"{charts.CHART}chart", DIAGRAM, f"{P}pic"}:
            yield child
        else:
            yield from _graphics(child)


def _rows(table: Element, text: TextReader) -> Iterable[list[str]]:
    """A table's rows; a merged cell's text is in each place that it covers."""
    above: list[str] = []
    for row in table.findall(f"{A}tr"):
        line: list[str] = []
        for cell in row.findall(f"{A}tc"):
            if cell.get("hMerge") in {"1", "true"} and line:
                line.append(pieces.spread(line[-1], 2)[1])
            elif cell.get("vMerge") in {"1", "true"} and len(line) < len(above):
                line.append(pieces.spread(above[len(line)], 2)[1])
            else:
                line.append(text.line(cell))
        yield line
        above = line
