"""Parts of one line of a PDF page that its content draws apart."""

from __future__ import annotations

import re
from typing import Final

from switchyard.services.documents.page.lines import Line, spaced

MARKER: Final = re.compile("[\u2022\u25cf\u25aa\u25e6\u2023\u25a0\u25cb\u2043\u25a1\uf0b7]|\\d{1,3}[.)]")
MAX_PAIRS: Final = 200_000  # of markers and lines: a page with more is no text with lists
MARKER_GAP: Final = 2.5  # em
MAX_JOIN: Final = 12  # em: parts of one line that lie farther apart are different columns


def same_line(before: Line, after: Line) -> bool:
    """Whether what follows in the content continues the same line."""
    overlap = min(before.bottom, after.bottom) - max(before.top, after.top)
    height = min(before.bottom - before.top, after.bottom - after.top)
    gap = after.left - before.right
    return (
        overlap > height * 0.5
        and -before.size * 0.5 < gap < before.size * MAX_JOIN
        and before.upended == after.upended
    )


def with_markers(lines: list[Line]) -> list[Line]:
    """The lines, with bullets and numbers that the content draws apart from them put before them."""
    markers = [line for line in lines if MARKER.fullmatch(line.text)]
    if not markers or len(markers) * len(lines) > MAX_PAIRS:
        return lines
    apart = {id(marker) for marker in markers}
    texts = [line for line in lines if id(line) not in apart]
    alone: set[int] = set()
    for marker in markers:
        right = [at for at, line in enumerate(texts) if _is_marked(marker, line)]
        if right:
            at = min(right, key=lambda at: texts[at].left)
            texts[at] = merged(marker, texts[at])
        else:
            alone.add(id(marker))
    if not alone:
        return texts
    marked, gone = iter(texts), apart - alone
    return [line if id(line) in apart else next(marked) for line in lines if id(line) not in gone]


def _is_marked(marker: Line, line: Line) -> bool:
    """Whether a marker stands directly left of a line."""
    middle = (marker.top + marker.bottom) / 2
    return (
        line.top < middle < line.bottom
        and 0 <= line.left - marker.right < line.size * MARKER_GAP
        and marker.upended == line.upended
        and MARKER.fullmatch(line.text) is None
    )


def merged(before: Line, after: Line) -> Line:
    """Two parts of a line as one."""
    glued = bool(before.words and after.words) and after.words[0].glued
    return Line(
        spaced((*before.words, *after.words)) if glued else f"{before.text} {after.text}",
        before.left,
        min(before.top, after.top),
        max(before.right, after.right),
        max(before.bottom, after.bottom),
        before.size if len(before.text) > len(after.text) else after.size,
        bold=before.bold and after.bold,
        italic=before.italic and after.italic,
        words=before.words + after.words,
        upended=before.upended,
        font=before.font if len(before.text) > len(after.text) else after.font,
    )
