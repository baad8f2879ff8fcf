"""The columns of a table that no lines rule: what stands below each other, with white between."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Final

from switchyard.services.documents.page.tables.rows import Row, Word

GUTTER: Final = 0.5  # of the size: the narrowest white between columns
REACHED: Final = 0.5  # of a column's width, or of the words
CROSSED: Final = 0.3  # of the rows that leave white between columns, so many may reach into it
SAMPLED: Final = 24  # rows that decide what spans columns

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
    chunks = [found for row in rows if (found := row.chunks)]
    sampled = [
        [(chunk[0].left, chunk[-1].right, chunk) for chunk in line]
        for line in chunks[:: max(1, len(chunks) // SAMPLED)]
    ]
    size = sorted(row.size for row in rows)[len(rows) // 2]
    covers: Counter[float] = Counter()  # by how many rows more something is covered from a place on
    leaves: Counter[float] = Counter()  # by how many rows more it is left white
    for line in chunks:
        spans: list[Span] = []
        for chunk in line:
            if not _spans(chunk, sampled):
                spans += _joined([(word.left, word.right) for word in chunk], size * GUTTER)
        for start, end in spans:
            covers[start] += 1
            covers[end] -= 1
        for (_, start), (end, _) in pairwise(spans):
            leaves[start] += 1
            leaves[end] -= 1
    return _between_gutters(covers, leaves, size * GUTTER)


def _spans(chunk: Sequence[Word], lines: Sequence[Sequence[tuple[float, float, Sequence[Word]]]]) -> bool:
    """Whether other lines have gaps where it stands, more often than not.

    Args:
        chunk: words of one line.
        lines: from where to where the chunks of each go.
    """
    left, right = chunk[0].left, chunk[-1].right
    with_gap = without = 0
    for line in lines:
        inside: Sequence[Word] | None = None
        for start, end, other in line:
            if start < right and end > left:
                if inside is not None:
                    with_gap += 1
                    break
                inside = other
        else:
            without += inside is not None and inside is not chunk
    return with_gap > without


def _joined(spans: Sequence[Span], gap: float) -> list[Span]:
    joined: list[Span] = []
    for start, end in spans:
        if joined and start - joined[-1][1] < gap:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return joined


def _between_gutters(covers: Counter[float], leaves: Counter[float], gutter: float) -> list[Span]:
    """Stretches between those that most rows leave white; islands in these are columns too."""
    parts: list[tuple[float, float, int, bool]] = []
    covered = white = 0
    for at, after in pairwise(sorted({*covers, *leaves})):
        covered += covers[at]
        white += leaves[at]
        parts.append((at, after, covered, covered > white * CROSSED))
    found: list[Span] = []
    for is_column, group in groupby(parts, key=lambda part: part[3]):
        run = list(group)
        start, end = run[0][0], run[-1][1]
        if not is_column:
            found += [(a, b) for a, b in _islands(run) if a - start >= gutter and end - b >= gutter]
        elif found and start - found[-1][1] < gutter:
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return found


def _islands(run: Sequence[tuple[float, float, int, bool]]) -> list[Span]:
    return [
        (parts[0][0], parts[-1][1])
        for covered, parts in ((covered, list(group)) for covered, group in groupby(run, lambda p: p[2] > 0))
        if covered
    ]


def pieces(row: Row, found: Sequence[Span]) -> list[Piece]:
    """The words of a row by columns; words without white between them stay together."""
    made: list[Piece] = []
    for chunk in row.chunks:
        runs: list[list[Word]] = []
        for word in chunk:
            white = runs and word.left - runs[-1][-1].right >= row.size * GUTTER
            if runs and not (white and _covered(word, found)[0] > _covered(runs[-1][-1], found)[1]):
                runs[-1].append(word)
            else:
                runs.append([word])
        for run in runs:
            whole = Word(" ".join(word.text for word in run), run[0].left, run[-1].right)
            first, last = _covered(whole, found)
            before = made[-1] if made else None
            if before is not None and first <= before.last:
                before.text = f"{before.text} {whole.text}"
                before.right, before.last = max(before.right, whole.right), max(before.last, last)
            else:
                made.append(Piece(whole.text, whole.left, whole.right, first, last))
    return made


def _covered(word: Word, found: Sequence[Span]) -> tuple[int, int]:
    """The columns that words stand in, of which they only begin to reach into none; or the nearest."""
    shares = [
        (min(word.right, right) - max(word.left, left)) / max(min(right - left, word.right - word.left), 1.0)
        for left, right in found
    ]
    inside = [n for n, share in enumerate(shares) if share >= REACHED]
    if inside:
        return inside[0], inside[-1]
    best = max(range(len(found)), key=shares.__getitem__)
    return best, best
