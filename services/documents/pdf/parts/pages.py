"""A page of a PDF that was read, as bytes and back, exactly as it is."""

from __future__ import annotations

from typing import Final, get_args

from switchyard.services.documents.model.blocks import Block, Box, Kind
from switchyard.services.documents.model.runs import PLAIN, Look
from switchyard.services.documents.ocr.recognised import Recognised
from switchyard.services.documents.page.lines import Line, Table, Word, spaced
from switchyard.services.documents.page.tables.grid import Rule
from switchyard.services.documents.pdf.drawn.objects import Drawing
from switchyard.services.documents.pdf.forms import Field, Filled
from switchyard.services.documents.pdf.links import Link
from switchyard.services.documents.pdf.page_model import InPicture, PageText, ReadPage, Shown
from switchyard.services.documents.pdf.parts.packing import Packer, PackError, Unpacker
from switchyard.services.documents.pdf.tags.structure import Cell, Part, Structure, TableOf

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)


def packed(page: ReadPage) -> bytes:
    """A page as bytes; the same for the same page."""
    return _Writer().page(page)


def unpacked(data: bytes) -> ReadPage:
    """The page that was packed.

    Raises:
        PackError: the bytes are no such page.
    """
    return _Reader(data).page()


class _Writer:
    def __init__(self) -> None:
        self._to = Packer()
        self._looks: dict[Look, int] = {PLAIN: 0}

    def page(self, page: ReadPage) -> bytes:
        to = self._to
        to.integer(page.number)
        to.text(page.left_out)
        to.flags(page.scan is not None)
        self._text(page.text)
        to.many(page.links, self._link)
        drawing = page.drawing
        to.floats(drawing.covered)
        to.integer(drawing.paths)
        to.many(drawing.across, self._rule)
        to.many(drawing.down, self._rule)
        to.many(sorted(drawing.shapes), lambda box: to.floats(*box))
        if page.scan is not None:
            self._recognised(page.scan)
        to.many(page.in_pictures, self._in_picture)
        to.many(page.shown, self._shown)
        to.integer(page.blank)
        return to.packed()

    def _text(self, text: PageText) -> None:
        to = self._to
        to.many(text.lines, self._line)
        to.floats(*text.size)
        to.integer(text.letters)
        to.text(text.failed)
        to.many(text.bare, to.text)
        self._structure(text.structure)
        to.many(text.filled.fields, self._field)
        to.many(text.filled.remarks, self._block)
        to.integer(text.filled.drawn)
        to.integer(text.turned)

    def _line(self, line: Line) -> None:
        to = self._to
        said = spaced(line.words) == line.text
        to.flags(line.bold, line.starts, line.italic, line.upended, line.item, said)
        if not said:
            to.text(line.text)
        to.floats(line.left, line.top, line.right, line.bottom, line.size)
        to.text(line.font)
        to.text(line.image)
        to.integer(line.level)
        to.many(line.words, self._word)

    def _word(self, word: Word) -> None:
        to, looks = self._to, self._looks
        number = looks.get(word.look)
        to.integer(len(looks) if number is None else number)
        if number is None:
            looks[word.look] = len(looks)
            self._look(word.look)
        to.text(word.text)
        to.text(word.font)
        to.integer(word.glued | word.raised << 1 | word.upended << 2)
        to.integer(word.mark)
        to.floats(word.left, word.top, word.right, word.bottom)

    def _look(self, look: Look) -> None:
        self._to.flags(look.bold, look.italic, look.struck, look.code)
        self._to.text(look.link)
        self._to.text(look.script)

    def _structure(self, tree: Structure) -> None:
        to = self._to
        to.flags(tree.too_large)
        to.many(tree.tables, self._table_of)
        to.integer(len(tree.parts))
        for mark, part in tree.parts.items():
            for number in (mark, part.number, part.level):
                to.integer(number)
        to.integer(len(tree.items))
        for mark, item in tree.items.items():
            to.integer(mark)
            to.integer(item)
        to.many(sorted(tree.plain), to.integer)

    def _table_of(self, table: TableOf) -> None:
        self._to.flags(table.continues)
        self._to.many(table.rows, lambda row: self._to.many(row, self._cell))

    def _cell(self, cell: Cell) -> None:
        to = self._to
        to.many(sorted(cell.marks), to.integer)
        to.integer(cell.columns)
        to.integer(cell.rows)
        to.flags(cell.heads, cell.has_heading)

    def _field(self, field: Field) -> None:
        self._to.many(field.lines, self._to.text)
        self._to.floats(*field.box)
        self._to.flags(field.sign, field.typed)

    def _block(self, block: Block) -> None:
        to = self._to
        to.integer(KINDS.index(block.kind))
        for text in (block.markdown, block.text, block.image):
            to.text(text)
        to.integer(block.level)
        to.flags(block.continues, block.box is not None)
        to.floats(*(block.box or ()))

    def _link(self, link: Link) -> None:
        self._to.floats(*link[0])
        self._to.text(link[1])

    def _rule(self, rule: Rule) -> None:
        self._to.floats(rule.at, rule.start, rule.end)

    def _recognised(self, read: Recognised) -> None:
        to = self._to
        to.many(read.lines, self._line)
        to.many(read.tables, self._table)
        to.flags(read.size is not None, read.given is not None)
        to.floats(read.confidence, *(read.size or ()), *(read.given or ()), read.turned)

    def _table(self, table: Table) -> None:
        to = self._to
        to.floats(table.left, table.top, table.right, table.bottom)
        to.text(table.markdown)
        to.flags(table.continues, table.lines is not None)
        to.many(sorted(table.lines or ()), lambda start: to.floats(*start))
        to.many(table.columns, lambda span: to.floats(*span))
        to.many(table.edges, to.floats)

    def _in_picture(self, picture: InPicture) -> None:
        to = self._to
        to.data(picture.digest)
        to.floats(*picture.box, picture.scale, *picture.origin)
        for side in picture.size:
            to.integer(side)
        self._recognised(picture.said)

    def _shown(self, picture: Shown) -> None:
        self._to.data(picture.key)
        self._to.floats(*picture.box)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._of = Unpacker(data)
        self._looks: list[Look] = [PLAIN]

    def page(self) -> ReadPage:
        of = self._of
        number, left_out = of.integer(), of.text()
        (is_scan,) = of.flags(1)
        text = self._text()
        links = of.many(self._link)
        drawing = Drawing(
            of.float(), of.integer(), of.many(self._rule), of.many(self._rule), frozenset(of.many(self._box))
        )
        scan = self._recognised() if is_scan else None
        page = ReadPage(
            number, text, left_out, links, drawing, scan, of.many(self._in_picture), of.many(self._shown),
            of.integer(),
        )  # fmt: skip
        of.end()
        return page

    def _box(self) -> Box:
        take = self._of.float
        return take(), take(), take(), take()

    def _pair(self) -> tuple[float, float]:
        return self._of.float(), self._of.float()

    def _text(self) -> PageText:
        of = self._of
        lines, size, letters, failed = of.many(self._line), self._pair(), of.integer(), of.text()
        bare, structure = of.many(of.text), self._structure()
        filled = Filled(of.many(self._field), of.many(self._block), of.integer())
        return PageText(lines, size, letters, structure, filled, failed, bare, of.integer())

    def _line(self) -> Line:
        of = self._of
        bold, starts, italic, upended, item, said = of.flags(6)
        text = "" if said else of.text()
        left, top, right, bottom = self._box()
        size, font, image, level = of.float(), of.text(), of.text(), of.integer()
        words = of.many(self._word)
        return Line(
            spaced(words) if said else text, left, top, right, bottom, size,
            bold, starts, italic, words, upended, font, image, level, item,
        )  # fmt: skip

    def _word(self) -> Word:
        of, looks = self._of, self._looks
        number = of.integer()
        if number == len(looks):
            looks.append(self._look())
        if not 0 <= number < len(looks):
            raise PackError(f"there is no look {number}")
        text, font, flags, mark = of.text(), of.text(), of.integer(), of.integer()
        glued, raised, upended = bool(flags & 1), bool(flags & 2), bool(flags & 4)
        return Word(text, *self._box(), looks[number], font, glued, raised, upended, mark)

    def _look(self) -> Look:
        bold, italic, struck, code = self._of.flags(4)
        return Look(bold, italic, struck, code, self._of.text(), self._of.text())

    def _structure(self) -> Structure:
        of = self._of
        (too_large,) = of.flags(1)
        tables = of.many(self._table_of)
        parts = {of.integer(): Part(of.integer(), of.integer()) for _ in range(of.integer())}
        items = {of.integer(): of.integer() for _ in range(of.integer())}
        return Structure(tables, parts, items, frozenset(of.many(of.integer)), too_large)

    def _table_of(self) -> TableOf:
        (continues,) = self._of.flags(1)
        return TableOf(self._of.many(lambda: self._of.many(self._cell)), continues)

    def _cell(self) -> Cell:
        of = self._of
        marks, columns, rows = frozenset(of.many(of.integer)), of.integer(), of.integer()
        heads, has_heading = of.flags(2)
        return Cell(marks, columns, rows, heads, has_heading)

    def _field(self) -> Field:
        lines, box = self._of.many(self._of.text), self._box()
        return Field(lines, box, *self._of.flags(2))

    def _block(self) -> Block:
        of = self._of
        kind, markdown, text, image = of.integer(), of.text(), of.text(), of.text()
        level = of.integer()
        continues, has_box = of.flags(2)
        if not 0 <= kind < len(KINDS):
            raise PackError(f"there is no kind {kind} of blocks")
        return Block(KINDS[kind], markdown, text, level, self._box() if has_box else None, image, continues)

    def _link(self) -> Link:
        return self._box(), self._of.text()

    def _rule(self) -> Rule:
        return Rule(self._of.float(), self._of.float(), self._of.float())

    def _recognised(self) -> Recognised:
        of = self._of
        lines, tables = of.many(self._line), of.many(self._table)
        has_size, has_given = of.flags(2)
        confidence = of.float()
        size = self._pair() if has_size else None
        given = self._pair() if has_given else None
        return Recognised(lines, tables, confidence, size, given, of.float())

    def _table(self) -> Table:
        of = self._of
        box, markdown = self._box(), of.text()
        continues, has_lines = of.flags(2)
        starts, columns, edges = of.many(self._pair), of.many(self._pair), of.many(of.float)
        return Table(*box, markdown, frozenset(starts) if has_lines else None, columns, continues, edges)

    def _in_picture(self) -> InPicture:
        of = self._of
        digest, box, scale, origin = of.data(), self._box(), of.float(), self._pair()
        return InPicture(digest, box, scale, origin, (of.integer(), of.integer()), self._recognised())

    def _shown(self) -> Shown:
        return Shown(self._of.data(), self._box())
