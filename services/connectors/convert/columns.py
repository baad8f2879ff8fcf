"""The columns of a table that no lines rule: what stands below each other, with white between."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Final

from services.connectors.convert.scanned import Row, Word

GUTTER: Final = 0.5  # of the size: the narrowest white between columns
FEW: Final = 12  # one row of so many may reach into the white between columns
SAMPLED: Final = 60  # rows by which is told what spans columns

Span = tuple[float, float]


@dataclass(slots=True)
class Piece:
    """Words in one column, or in all from a first to a last."""

    text: str
    left: float
    right: float
    first: int
    last: int

    @property
    def middle(self) -> float:
        """Where it stands across the page."""
        return (self.left + self.right) / 2


def columns(rows: Sequence[Row]) -> list[Span]:
    """The stretches across the page that cells cover, but for those that span several."""
    chunks = [found for row in rows if (found := row.chunks())]
    sampled = chunks[:: max(1, len(chunks) // SAMPLED)]
    size = sorted(row.size for row in rows)[len(rows) // 2]
    edges: Counter[float] = Counter()
    for line in chunks:
        for chunk in line:
            if not _spans(chunk, sampled):
                for start, end in _joined([(word.left, word.right) for word in chunk], size * GUTTER):
                    edges[start] += 1
                    edges[end] -= 1
    return _between_gutters(edges, len(rows) // FEW, size * GUTTER)


def _spans(chunk: Sequence[Word], lines: Sequence[Sequence[Sequence[Word]]]) -> bool:
    """Whether other lines have gaps where it stands, more often than not."""
    left, right = chunk[0].left, chunk[-1].right
    with_gap = without = 0
    for line in lines:
        if line[-1][-1].right <= left or line[0][0].left >= right:
            continue
        if any(left < before[-1].right and after[0].left < right for before, after in pairwise(line)):
            with_gap += 1
        elif not any(other is chunk for other in line):
            without += any(other[0].left < right and other[-1].right > left for other in line)
    return with_gap > without


def _joined(spans: Sequence[Span], gap: float) -> list[Span]:
    joined: list[Span] = []
    for start, end in spans:
        if joined and start - joined[-1][1] < gap:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return joined


def _between_gutters(edges: Counter[float], few: int, gutter: float) -> list[Span]:
    """Stretches that more than a few rows cover; one of few, with white on both sides, is a column too."""
    parts: list[tuple[float, float, int]] = []
    depth = 0
    for at, after in pairwise([*sorted(edges), None]):
        depth += edges[at]  # type: ignore[index]
        if after is not None:
            parts.append((at, after, depth))  # type: ignore[arg-type]
    found: list[Span] = []
    for is_column, group in groupby(parts, key=lambda part: part[2] > few):
        run = list(group)
        start, end = run[0][0], run[-1][1]
        if not is_column:
            found += [(a, b) for a, b in _islands(run) if a - start >= gutter and end - b >= gutter]
        elif found and start - found[-1][1] < gutter:
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return found


def _islands(run: Sequence[tuple[float, float, int]]) -> list[Span]:
    return [
        (parts[0][0], parts[-1][1])
        for covered, parts in ((covered, list(group)) for covered, group in groupby(run, lambda p: p[2] > 0))
        if covered
    ]


def pieces(row: Row, found: Sequence[Span]) -> list[Piece]:
    """The words of a row by columns; words without white between them stay together."""
    made: list[Piece] = []
    for chunk in row.chunks():
        begins = True
        for word in chunk:
            first, last = _covered(word, found)
            before = made[-1] if made else None
            apart = begins or before is None or word.left - before.right >= row.size * GUTTER
            if before is not None and (first <= before.last if apart else True) and not begins:
                before.text = f"{before.text} {word.text}"
                before.right = max(before.right, word.right)
                before.last = max(before.last, last)
            elif before is not None and begins and before.last >= first:
                before.text, before.right = f"{before.text} {word.text}", max(before.right, word.right)
                before.last = max(before.last, last)
            else:
                made.append(Piece(word.text, word.left, word.right, first, last))
            begins = False
    return made


def _covered(word: Word, found: Sequence[Span]) -> tuple[int, int]:
    """The columns that a word stands in, or the one nearest to it."""
    inside = [n for n, (left, right) in enumerate(found) if word.left < right and word.right > left]
    if inside:
        return inside[0], inside[-1]
    nearest = min(range(len(found)), key=lambda n: max(found[n][0] - word.right, word.left - found[n][1]))
    return nearest, nearest
