"""Lines on a page, from a text layer or from OCR, to Markdown: headings, paragraphs, lists, tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Final, Literal, NamedTuple

from services.connectors.convert import blocks as made_of
from services.connectors.convert import markdown
from services.connectors.convert.blocks import Block
from services.connectors.convert.inline import PLAIN, Look

BULLET: Final = re.compile(
    r"^[\u2022\u25cf\u25aa\u25e6\u2023\u25a0\u25cb\u2043\u25a1\u2610\x80-\x9f\ue000-\uf8ff\u00b7*\u2013-]\s+(?=\S)"
)

NUMBER: Final = re.compile(r"^\(?(\d{1,3})[.)]\s+(?=\S)")
HYPHEN: Final = re.compile(r"(?<=[^\W\d_])[-\u00ad\u2010]$")
SENTENCE_END: Final = (".", "!", "?", ":", ";", '"', "\u201d")
# Heading levels by size relative to the body, as browsers set them: 2, 1.5 and 1.17 em.
LEVELS: Final = ((1.75, 1), (1.33, 2), (1.12, 3))
BOLD_LEVEL: Final = 4
MAX_HEADING_CHARS: Final = 160
MAX_BOLD_HEADING_CHARS: Final = 80
MAX_HEADING_LINES: Final = 3

Kind = Literal["text", "heading", "item"]


class Word(NamedTuple):
    """A word, or a part of one that looks different, and where it stands.

    Args:
        glued: whether no space parts it from the one before.
        raised: whether it is a small mark above the line.
        upended: whether it runs up or down the page.
    """

    text: str
    left: float
    top: float
    right: float
    bottom: float
    look: Look = PLAIN
    glued: bool = False
    raised: bool = False
    upended: bool = False


def spaced(words: Iterable[Word]) -> str:
    """Words as they are read."""
    return "".join(f"{'' if word.glued else ' '}{word.text}" for word in words).lstrip(" ")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of text; coordinates in any one unit, downwards from the top left.

    Args:
        size: the font's size in that unit.
        starts: whether a new paragraph is known to start here.
        words: where they are known.
        upended: whether it runs up or down the page.
    """

    text: str
    left: float
    top: float
    right: float
    bottom: float
    size: float
    bold: bool = False
    starts: bool = False
    italic: bool = False
    words: tuple[Word, ...] = ()
    upended: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table where it stands on the page."""

    left: float
    top: float
    right: float
    bottom: float
    markdown: str

    def holds(self, line: Line) -> bool:
        """Whether a line lies in the table."""
        across, down = (line.left + line.right) / 2, (line.top + line.bottom) / 2
        return self.left <= across <= self.right and self.top <= down <= self.bottom

    def block(self, size: tuple[float, float] | None) -> Block:
        """The table on a page of that width and height."""
        box = (self.left, self.top, self.right, self.bottom)
        return made_of.table(self.markdown, made_of.fractions(box, size))


@dataclass(slots=True)
class _Block:
    kind: Kind
    lines: list[Line] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    marker: str = "-"
    level: int = 0  # of the heading

    @property
    def left(self) -> float:
        return self.lines[0].left

    def box(self) -> made_of.Box:
        """Around all lines."""
        return (
            min(line.left for line in self.lines),
            min(line.top for line in self.lines),
            max(line.right for line in self.lines),
            max(line.bottom for line in self.lines),
        )

    def text(self) -> str:
        text = ""
        for part in self.texts:
            if not text:
                text = part
            elif HYPHEN.search(text) and part[:1].islower():
                text = text[:-1] + part
            else:
                text = f"{text} {part}"
        return text


def body_size(lines: Sequence[Line]) -> float:
    """The size that most of the text has; 0 without text."""
    weights: dict[float, int] = {}
    for line in lines:
        size = round(line.size * 2) / 2
        weights[size] = weights.get(size, 0) + len(line.text)
    return max(weights, key=lambda size: weights[size], default=0.0)


def render(lines: Sequence[Line], *, body: float, tables: Sequence[Table] = (), slack: float = 1.0) -> str:
    """A page as Markdown; see `arrange`."""
    return made_of.join(arrange(lines, body=body, tables=tables, slack=slack))


def arrange(
    lines: Sequence[Line],
    *,
    body: float,
    tables: Sequence[Table] = (),
    slack: float = 1.0,
    size: tuple[float, float] | None = None,
) -> tuple[Block, ...]:
    """A page as blocks.

    Args:
        lines: in reading order.
        body: the size of plain text.
        tables: each takes the place of the lines it holds.
        slack: by how much more than usual a heading must exceed the body; OCR only estimates sizes.
        size: width and height of the page in the unit of the lines; without it, blocks have no boxes.
    """
    pieces: list[Block] = []
    free: list[Line] = []
    waiting = list(tables)

    def flush() -> None:
        pieces.extend(_written(_blocks(free, body=body, slack=slack), size))
        free.clear()

    for line in lines:
        holder = next((table for table in tables if table.holds(line)), None)
        if holder is None:
            free.append(line)
        elif holder in waiting:
            waiting.remove(holder)
            flush()
            pieces.append(holder.block(size))
    flush()
    return (*pieces, *(table.block(size) for table in waiting))


def _blocks(lines: Sequence[Line], *, body: float, slack: float) -> list[_Block]:
    blocks: list[_Block] = []
    gaps = [after.top - before.bottom for before, after in pairwise(lines)]
    usual = median([gap for gap in gaps if 0 <= gap < body] or [0.0])
    mostly_italic = sum(line.italic for line in lines) * 2 > len(lines)
    mostly_bold = sum(line.bold for line in lines) * 2 > len(lines)
    for line, after in zip(lines, [*lines[1:], None], strict=False):
        kind, level, marker, text = _kind(line, body=body, slack=slack, bold_stands_out=not mostly_bold)
        block = blocks[-1] if blocks else None
        if kind == "text" and not mostly_italic and _is_italic_heading(block, line, after, usual=usual):
            kind, level = "heading", BOLD_LEVEL
        if block is not None and level == BOLD_LEVEL and _is_wrapped_bold(block, line, usual=usual):
            kind, level = "text", 0
        if block is None or kind == "item" or not _goes_on(block, line, kind, level, usual=usual):
            block = _Block(kind, level=level, marker=marker)
            blocks.append(block)
        block.lines.append(line)
        block.texts.append(text)
    for block in blocks:
        if block.kind == "heading" and not _is_heading(block):
            block.kind = "text"
    return blocks


def _kind(line: Line, *, body: float, slack: float, bold_stands_out: bool) -> tuple[Kind, int, str, str]:
    """What a line begins or goes on with: kind, heading level, list marker, text without the marker."""
    ratio = line.size / body if body else 1.0
    level = next((level for least, level in LEVELS if ratio >= least * slack), 0)
    if level:
        return "heading", level, "", line.text
    if bullet := BULLET.match(line.text):
        return "item", 0, "-", line.text[bullet.end() :]
    if (number := NUMBER.match(line.text)) and not (line.bold and bold_stands_out):
        return "item", 0, f"{number[1]}.", line.text[number.end() :]
    if line.bold and bold_stands_out and ratio > 0.9 and len(line.text) <= MAX_BOLD_HEADING_CHARS:
        return "heading", BOLD_LEVEL, "", line.text
    return "text", 0, "", line.text


def _is_wrapped_bold(block: _Block, line: Line, *, usual: float) -> bool:
    """Whether a bold line is the rest of a bold item or paragraph, and so no heading."""
    before = block.lines[-1]
    return block.kind != "heading" and before.bold and 0 <= line.top - before.top <= usual + before.size * 1.6


def _is_italic_heading(block: _Block | None, line: Line, after: Line | None, *, usual: float) -> bool:
    """Whether a line in italics stands above plain text, and apart from what comes before it."""
    if not line.italic or after is None or after.italic or len(line.text) > MAX_BOLD_HEADING_CHARS:
        return False
    apart = block is None or not 0 <= line.top - block.lines[-1].bottom <= usual + line.size * 0.4
    below = 0 <= after.top - line.top < line.size * 2.5 and abs(after.left - line.left) < line.size
    return apart and below and line.text[:1].isupper() and line.text[-1:].isalnum()


def _goes_on(block: _Block, line: Line, kind: Kind, level: int, *, usual: float) -> bool:
    """Whether a line belongs to the block before it."""
    before = block.lines[-1]
    if kind == "heading" or block.kind == "heading":
        return (
            kind == block.kind
            and level == block.level
            and not line.starts
            and -before.size < line.top - before.bottom < before.size * 0.8
        )
    if line.starts:
        return False
    if line.top < before.top - before.size:  # the next column
        return not before.text.endswith(SENTENCE_END) and line.text[:1].islower()
    if line.top - before.bottom > usual + before.size * 0.4:
        return False
    if abs(line.size - before.size) > before.size * 0.15:
        return False
    if block.kind == "item":
        return line.left > block.left + line.size * 0.5
    indented = line.left > block.left + line.size * 0.8 and line.left > before.left + line.size * 0.8
    return not (indented and before.text.endswith(SENTENCE_END))


def _is_heading(block: _Block) -> bool:
    text = block.text()
    plain = block.level == BOLD_LEVEL and text.endswith((".", ",", ";"))
    return (
        len(block.lines) <= MAX_HEADING_LINES
        and len(text) <= MAX_HEADING_CHARS
        and any(character.isalnum() for character in text)
        and not plain
    )


def _written(made: Sequence[_Block], size: tuple[float, float] | None) -> list[Block]:
    written: list[Block] = []
    indents: list[float] = []  # the left edges of the lists that are open
    for block in made:
        text, box = block.text(), made_of.fractions(block.box(), size)
        if block.kind == "heading":
            indents.clear()
            written.append(Block("heading", markdown.heading(block.level, text), text, block.level, box))
            continue
        if block.kind == "text":
            indents.clear()
            written.append(Block("paragraph", markdown.escape(text), text, box=box))
            continue
        tolerance = block.lines[0].size * 0.5
        while indents and block.left < indents[-1] - tolerance:
            indents.pop()
        if not indents or block.left > indents[-1] + tolerance:
            indents.append(block.left)
        level = len(indents) - 1
        written.append(Block("item", markdown.item(text, level=level, marker=block.marker), text, level, box))
    return written
