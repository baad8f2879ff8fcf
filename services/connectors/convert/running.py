"""Running headers, footers and page numbers: what stands at the edge of many pages at the same place."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from services.connectors.convert.lines import Line

EDGE: Final = 0.12  # of the page's height
MIN_PAGES: Final = 3
SHARE: Final = 0.4  # left and right pages may differ
STEP: Final = 6.0  # points within which a place is the same
NUMBERS: Final = re.compile(r"\d+|\b[ivxlc]+\b", re.IGNORECASE)

Key = tuple[str, int]


class Running:
    """Knows a document's running lines from some of its pages.

    Args:
        pages: the lines of each, and its height.
    """

    def __init__(self, pages: Sequence[tuple[Sequence[Line], float]]) -> None:
        seen = Counter(key for lines, height in pages for key in _keys(_at_edge(lines, height), height))
        enough = max(MIN_PAGES, len(pages) * SHARE)
        self._keys = {key for key, times in seen.items() if times >= enough}

    def without(self, lines: Sequence[Line], height: float) -> list[Line]:
        """The lines that are the page's own."""
        if not self._keys:
            return list(lines)
        return [
            line
            for line in lines
            if not (_is_at_edge(line, height) and any(key in self._keys for key in _places(line, height)))
        ]


def _at_edge(lines: Iterable[Line], height: float) -> list[Line]:
    return [line for line in lines if _is_at_edge(line, height)]


def _is_at_edge(line: Line, height: float) -> bool:
    return line.bottom < height * EDGE or line.top > height * (1 - EDGE)


def _keys(lines: Iterable[Line], height: float) -> set[Key]:
    """Each line once a page."""
    return {_places(line, height)[0] for line in lines}


def _places(line: Line, height: float) -> tuple[Key, Key, Key]:
    """What a line is told by: its text, any number as good as another, and its place or one beside it."""
    text = NUMBERS.sub("#", line.text).casefold()
    at = line.top if line.top < height / 2 else line.top - height  # pages may differ in height
    place = round(at / STEP)
    return (text, place), (text, place - 1), (text, place + 1)
