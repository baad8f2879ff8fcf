"""Lines and words on a page, and tables in their place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final, NamedTuple

from switchyard.services.documents.model import blocks as made_of
from switchyard.services.documents.model.blocks import Block
from switchyard.services.documents.model.runs import PLAIN, Look

Start = tuple[float, float]
SENTENCE_END: Final = (".", "!", "?", ":", ";", '"', "\u201d", "\u3002")

PAGINATION: Final = -2  # the mark of headers, footers, page numbers and watermarks
TEXT_SHARE: Final = 0.2  # of the letters; with less that is no code, the document is in a font of one width


class Word(NamedTuple):
    """A word, or a part of one that looks different, and where it stands.

    Args:
        font: its name in the document; empty where unknown.
        glued: whether no space parts it from the one before.
        raised: whether it is a small mark above the line.
        upended: whether it runs up or down the page.
        mark: the id of the marked content that it is in; -1 for none, or `PAGINATION`.
    """

    text: str
    left: float
    top: float
    right: float
    bottom: float
    look: Look = PLAIN
    font: str = ""
    glued: bool = False
    raised: bool = False
    upended: bool = False
    mark: int = -1


def spaced(words: Iterable[Word]) -> str:
    """Words as they are read."""
    return "".join([word.text if word.glued else f" {word.text}" for word in words]).lstrip(" ")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of text; coordinates in any one unit, downwards from the top left.

    Args:
        size: the font's size in that unit.
        starts: whether a new paragraph is known to start here.
        words: where they are known.
        upended: whether it runs up or down the page.
        font: which most of it is in; empty where unknown.
        image: the name of the picture that stands here instead of text.
        level: that of the heading that the document says it is; 0 where it says nothing, -1 for no heading.
        item: whether the document says that an item of a list begins here.
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
    font: str = ""
    image: str = ""
    level: int = 0
    item: bool = False

    def part(self, words: Sequence[Word]) -> Line:
        """The line with only some of its words."""
        return replace(
            self, text=spaced(words), words=tuple(words),
            left=min(word.left for word in words), right=max(word.right for word in words),
        )  # fmt: skip

    @property
    def is_code(self) -> bool:
        """Whether all of it is in a font of one width."""
        return bool(self.words) and all(word.look.code for word in self.words)


@dataclass(frozen=True, slots=True)
class Table:
    """A table where it stands on the page.

    Args:
        lines: where those begin that it holds (left, top); without it, all within its bounds.
        columns: from where to where each goes across the page; none where lines rule them.
        continues: whether rows of it are on a page before.
        edges: where lines part its columns, and where it begins and ends; none where they do not rule it.
    """

    left: float
    top: float
    right: float
    bottom: float
    markdown: str
    lines: frozenset[Start] | None = None
    columns: tuple[tuple[float, float], ...] = ()
    continues: bool = False
    edges: tuple[float, ...] = ()

    def holds(self, line: Line) -> bool:
        """Whether the table holds a line."""
        return self.covers(line) and (self.lines is None or (line.left, line.top) in self.lines)

    def covers(self, line: Line) -> bool:
        """Whether a line lies within its bounds."""
        across, down = (line.left + line.right) / 2, (line.top + line.bottom) / 2
        return self.left <= across <= self.right and self.top <= down <= self.bottom

    def block(self, size: tuple[float, float] | None) -> Block:
        """The table on a page of that width and height."""
        box = (self.left, self.top, self.right, self.bottom)
        return made_of.table(self.markdown, made_of.fractions(box, size), continues=self.continues)


@dataclass(frozen=True, slots=True)
class Body:
    """How plain text looks: what most of the text is like.

    Args:
        size: 0 without text.
        font: empty where unknown.
        mono: whether it is in a font of one width, by which code is not recognised then.
        headed: whether the document says what its headings are; bold lines are none then.
    """

    size: float
    font: str = ""
    mono: bool = False
    headed: bool = False

    @classmethod
    def of(cls, lines: Iterable[Line]) -> Body:
        """How most of the text in some lines looks, be there more code than text."""
        lines = list(lines)
        letters = sum(len(line.text) for line in lines)
        prose = [line for line in lines if not line.is_code]
        mono = sum(len(line.text) for line in prose) < letters * TEXT_SHARE
        sizes: Counter[float] = Counter()
        fonts: Counter[str] = Counter()
        for line in lines if mono else prose:
            sizes[round(line.size * 2) / 2] += len(line.text)
            fonts[line.font] += len(line.text)
        if not sizes:
            return cls(0.0)
        return cls(sizes.most_common(1)[0][0], fonts.most_common(1)[0][0], mono)


def parted(lines: Iterable[Line], taken: Container[int]) -> tuple[list[Line], frozenset[Start]]:
    """Lines that have all or none of their words in a table, and where those in it begin.

    Args:
        lines: those of the page.
        taken: what `id` says of the words in the table.
    """
    found: list[Line] = []
    starts: set[Start] = set()
    for line in lines:
        runs = [(inside, list(run)) for inside, run in groupby(line.words, lambda word: id(word) in taken)]
        parts = [(inside, line if len(runs) == 1 else line.part(run)) for inside, run in runs]
        found += (part for _, part in parts) if parts else (line,)
        starts |= {(part.left, part.top) for inside, part in parts if inside}
    return found, frozenset(starts)


def most_of(words: Sequence[Word]) -> str:
    """The font of most letters; empty for no words."""
    if len({word.font for word in words}) < 2:
        return words[0].font if words else ""
    fonts: Counter[str] = Counter()
    for word in words:
        fonts[word.font] += len(word.text)
    return fonts.most_common(1)[0][0]


def around(lines: Sequence[Line]) -> made_of.Box:
    """The box around lines."""
    return (
        min(line.left for line in lines),
        min(line.top for line in lines),
        max(line.right for line in lines),
        max(line.bottom for line in lines),
    )
