"""What the places of recognised words show: rows of cells, and bullets that were misread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

from switchyard.services.documents.page.lines import Line, Start

# A bullet has no letter of its own in the OCR data and comes out as one of these.
BULLET_SIGNS: Final = frozenset("\u2022\u00b7\u00a2\u00a9\u00ae\u00bb\u00b0*+")
BULLET_LETTERS: Final = frozenset("eoO")
BULLET: Final = "\u2022"
# How ruled lines come out.
RULES: Final = frozenset({"|", "||", "[", "]", "!", "_", "\u2014", "|}", "{|", "|]", "[|"})
CELL_GAP: Final = 1.0  # of the size; between words it is about 0.3


class Word(NamedTuple):
    """One recognised word."""

    text: str
    left: float
    right: float


@dataclass(frozen=True)
class Row:
    """The words of one line, or of several beside each other.

    Args:
        lines: where those begin that are one row (left, top); without it, where this does.
    """

    words: tuple[Word, ...]
    top: float
    bottom: float
    size: float
    starts: bool
    lines: frozenset[Start] | None = None

    @cached_property
    def left(self) -> float:
        """Where the line begins."""
        return self.words[0].left

    def line_starts(self) -> frozenset[Start]:
        """Where its lines begin."""
        return frozenset({(self.left, self.top)}) if self.lines is None else self.lines

    @property
    def middle(self) -> float:
        """Where it stands on the page."""
        return (self.top + self.bottom) / 2

    @cached_property
    def right(self) -> float:
        """Where the line ends."""
        return self.words[-1].right

    @cached_property
    def chunks(self) -> Sequence[Sequence[Word]]:
        """The words, parted where the gap is too wide for one between words."""
        chunks: list[list[Word]] = []
        apart = True
        for word in self.words:
            if word.text in RULES:
                apart = True
            elif chunks and not apart and word.left - chunks[-1][-1].right < self.size * CELL_GAP:
                chunks[-1].append(word)
            else:
                chunks.append([word])
                apart = False
        return chunks


def with_bullets(lines: Sequence[Line]) -> list[Line]:
    """The lines with a bullet for what stands in its place at the start of two lines or more."""
    marked = [line for line in lines if _may_have_bullet(line)]

    def has_bullet(line: Line) -> bool:
        return any(line is one for one in marked) and any(
            other is not line and abs(other.left - line.left) < line.size * 0.5 for other in marked
        )

    return [
        line.part((line.words[0]._replace(text=BULLET), *line.words[1:])) if has_bullet(line) else line
        for line in lines
    ]


def _may_have_bullet(line: Line) -> bool:
    if len(line.words) < 2:
        return False
    first, second = line.words[:2]
    signs = set(first.text)
    if len(first.text) > 2 or not signs <= BULLET_SIGNS | BULLET_LETTERS:
        return False
    return bool(signs & BULLET_SIGNS) or (len(first.text) == 1 and second.text[:1].isupper())
