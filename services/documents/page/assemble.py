"""Lines on a page, from a text layer or from OCR, as blocks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from switchyard.services.documents.model import blocks as made_of
from switchyard.services.documents.model import runs as inline
from switchyard.services.documents.model.blocks import Block
from switchyard.services.documents.model.runs import PLAIN, Run
from switchyard.services.documents.page.footnotes import Note, label
from switchyard.services.documents.page.lines import Body, Line, Table, around
from switchyard.services.documents.page.paragraphs import Paragraph, joined, paragraphs, text_of
from switchyard.services.documents.write import markdown

MUCH: Final = 0.5  # of a page's letters: what so many are does not stand out

Size = tuple[float, float]


def render(lines: Sequence[Line], *, body: Body, tables: Sequence[Table] = (), slack: float = 1.0) -> str:
    """A page as Markdown; see `arrange`."""
    return made_of.join(arrange(lines, body=body, tables=tables, slack=slack))


def arrange(
    lines: Sequence[Line],
    *,
    body: Body,
    tables: Sequence[Table] = (),
    notes: Sequence[Note] = (),
    slack: float = 1.0,
    size: Size | None = None,
) -> tuple[Block, ...]:
    """A page as blocks.

    Args:
        lines: in reading order.
        body: how plain text looks.
        tables: each takes the place of the lines it holds.
        notes: the footnotes, each put below the paragraph or table that it stands below.
        slack: by how much more than usual a heading must exceed the body; OCR only estimates sizes.
        size: width and height of the page in the unit of the lines; without it, blocks have no boxes.
    """
    parts: list[Paragraph | Table] = []
    free: list[Line] = []
    waiting = list(tables)
    for line in lines:
        holder = next((table for table in tables if table.holds(line)), None)
        if holder is None or line.image:  # one in a cell follows the table
            free.append(line)
        elif holder in waiting:
            waiting.remove(holder)
            parts += (*paragraphs(free, body=body, slack=slack, page=lines), holder)
            free.clear()
    parts += (*paragraphs(free, body=body, slack=slack, page=lines), *waiting)
    writer = _Writer(lines, body, notes, size)
    return writer.written(joined(parts, body=body) if body.font else parts)


class _Writer:
    """Writes what is on one page."""

    def __init__(self, lines: Sequence[Line], body: Body, notes: Sequence[Note], size: Size | None) -> None:
        letters = sum(len(line.text) for line in lines) or 1
        self._bold = sum(len(line.text) for line in lines if line.bold) <= letters * MUCH
        self._italic = sum(len(line.text) for line in lines if line.italic) <= letters * MUCH
        self._code = not body.mono
        self._marks = {note.mark: note.name for note in notes}
        self._size = size
        self._waiting = list(notes)
        self._indents: list[float] = []  # the left edges of the lists that are open
        self._above: Line | None = None  # the last of the item before

    def written(self, parts: Iterable[Paragraph | Table]) -> tuple[Block, ...]:
        """The parts of the page as blocks."""
        written: list[Block] = []
        for part in parts:
            if isinstance(part, Table):
                self._indents.clear()
                written.append(part.block(self._size))
                continue
            written.append(self._block(part))
            while self._waiting and any(line is self._waiting[0].after for line in part.lines):
                written.append(self._note(self._waiting.pop(0)))
                self._indents.clear()
        return (*written, *(self._note(note) for note in self._waiting))

    def _block(self, paragraph: Paragraph) -> Block:
        runs, box = paragraph.runs(), made_of.fractions(around(paragraph.lines), self._size)
        text = text_of(runs)
        if paragraph.kind != "item":
            self._indents.clear()
        match paragraph.kind:
            case "heading":
                level = paragraph.level
                inner = self._inline(runs, emphasis=False)
                return Block("heading", f"{'#' * level} {inner}", text, level, box)
            case "text":
                inner = markdown.unlike_blocks(self._inline(runs))
                return Block("paragraph", inner, text, box=box)
            case "code":
                code = paragraph.code()
                return Block("code", markdown.fenced(code), code, box=box)
            case "image":
                name = paragraph.lines[0].image
                return Block("image", inline.image("", name), "", box=box, image=name)
            case "item":
                first = paragraph.lines[0]
                if self._above is not None and first.top < self._above.top and first.left > self._above.right:
                    self._indents.clear()  # the list is in the next column
                self._above = paragraph.lines[-1]
                level = _level(paragraph, self._indents)
                inner = markdown.unlike_blocks(self._inline(runs))
                item = f"{markdown.INDENT * level}{paragraph.marker} {inner}"
                return Block("item", item, text, level, box)

    def _note(self, note: Note) -> Block:
        """A footnote as a block."""
        paragraph = Paragraph("text", lines=list(note.lines), dropped=[0] * len(note.lines))
        box = made_of.fractions(around(note.lines), self._size)
        runs = paragraph.runs()
        written = f"[^{note.name}]: {self._inline(runs)}"
        return Block("footnote", written, text_of(runs), box=box)

    def _inline(self, runs: Iterable[Run], *, emphasis: bool = True) -> str:
        shown = [run if run.look is PLAIN and not run.raw else self._run(run) for run in runs]
        return inline.render(shown, emphasis=emphasis)

    def _run(self, run: Run) -> Run:
        """A run without the looks that stand out nowhere on this page."""
        if run.raw:  # a raised mark
            name = self._marks.get(label(run.text))
            return Run(f"[^{name}]", raw=True) if name else Run(run.text)
        if run.look is PLAIN:
            return run
        look = run.look
        words = run.text.isalnum() or run.text.isspace() or any(map(str.isalnum, run.text))
        bold, italic = look.bold and self._bold and words, look.italic and self._italic and words
        code = look.code and self._code
        if (bold, italic, code) != (look.bold, look.italic, look.code):
            look = replace(look, bold=bold, italic=italic, code=code)
        return Run(run.text, PLAIN if look == PLAIN else look)


def _level(item: Paragraph, indents: list[float]) -> int:
    """How deep an item is, by the left edges of the items before it."""
    tolerance = item.lines[0].size * 0.5
    while indents and item.left < indents[-1] - tolerance:
        indents.pop()
    if not indents or item.left > indents[-1] + tolerance:
        indents.append(item.left)
    return len(indents) - 1
