"""Running headers, footers and page numbers: what stands at the edge of many pages at the same place."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from services.connectors.convert.lines import PAGINATION, Line

EDGE: Final = 0.12  # of the page's height
MIN_PAGES: Final = 3
SHARE: Final = 0.3  # left and right pages may differ
STEP: Final = 6.0  # points within which a place is the same
NUMBERS: Final = re.compile(r"\d+|\b[ivxlc]+\b", re.IGNORECASE)
PAGE_NUMBER: Final = re.compile(
    r"\W*(?:page|seite|p\.)?\s*(\d{1,5})(?:\s*(?:of|von|/)\s*\d{1,5})?\W*", re.IGNORECASE
)
NUMBER_EDGE: Final = 0.18  # of the page's height: a page's own number may stand higher than other lines
APART: Final = 1.0  # of the size

NEAR_PAGES: Final = 4  # on each side: a chapter's header is on left or right pages alone

Key = tuple[str, int]
Keys = frozenset[Key]


class Running:
    """Knows a document's running lines from some of its pages.

    Args:
        pages: the lines of each, and its height.
    """

    def __init__(self, pages: Sequence[tuple[Sequence[Line], float]]) -> None:
        seen = Counter(key for lines, height in pages for key in keys_of(lines, height))
        enough = max(MIN_PAGES, len(pages) * SHARE)
        self._keys = {key for key, times in seen.items() if times >= enough}

    def without(
        self, lines: Sequence[Line], height: float, near: Sequence[Keys], *, number: int
    ) -> list[Line]:
        """The lines that are the page's own.

        Args:
            lines: of the page.
            height: of the page.
            near: what may be running of the pages before and after it.
            number: of the page, from 1.
        """

        def runs(line: Line) -> bool:
            if _is_at_edge(line, height, NUMBER_EDGE) and (
                _is_marked(line) or (_is_number(line, number) and _is_alone(line, lines))
            ):
                return True
            if not _is_at_edge(line, height):
                return False
            places = _places(line, height)
            return any(key in self._keys for key in places) or (
                sum(any(key in keys for key in places) for keys in near) >= MIN_PAGES - 1
            )

        return [line for line in lines if not runs(line)]


def keys_of(lines: Iterable[Line], height: float) -> Keys:
    """What the lines at the edges of a page are told by."""
    return frozenset(_places(line, height)[0] for line in lines if _is_at_edge(line, height))


def _is_marked(line: Line) -> bool:
    """Whether the document itself says that a line is a header, a footer or a page number."""
    return bool(line.words) and all(word.mark == PAGINATION for word in line.words)


def _is_number(line: Line, number: int) -> bool:
    """Whether a line says which page it is on, and nothing else."""
    found = PAGE_NUMBER.fullmatch(line.text)
    return found is not None and int(found[1]) == number


def _is_alone(line: Line, lines: Iterable[Line]) -> bool:
    """Whether nothing stands beside a line, or directly above and below it."""
    above, below = line.top - line.size * APART, line.bottom + line.size * APART
    return not any(other is not line and other.bottom > above and other.top < below for other in lines)


def _is_at_edge(line: Line, height: float, edge: float = EDGE) -> bool:
    return line.bottom < height * edge or line.top > height * (1 - edge)


def _places(line: Line, height: float) -> tuple[Key, Key, Key]:
    """What a line is told by: its text, any number as good as another, and its place or one beside it."""
    text = NUMBERS.sub("#", line.text).casefold()
    at = line.top if line.top < height / 2 else line.top - height  # pages may differ in height
    place = round(at / STEP)
    return (text, place), (text, place - 1), (text, place + 1)
