"""The lines of tables on a scan, across and down."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from PIL import Image, ImageChops

from switchyard.services.documents.ocr.ink import INK, LEVELS, between
from switchyard.services.documents.page.tables.grid import Rule, root, unite

BESIDE: Final = 6  # pixels from a fine line, where there is paper
FAINT: Final = 9  # of 255, by which a fine line is darker than that, on average over a block
STAINED: Final = 24  # of 255, by which paper may be darker than most of it
BLOCK: Final = 12  # pixels looked at as one
DARK: Final = 230  # of 255, of a block that a line goes through
RUN: Final = re.compile(rb"\xff{8,}")  # blocks, about 8 mm at 300 dpi: no letter of plain text is as long
LONG_RUN: Final = re.compile(rb"\xff{18,}")  # letters below each other leave fine white between them
STEEP: Final = 2  # rows of pixels by which a line that is a little askew continues
MAX_THICK: Final = 14  # pixels; what is thicker is an area
MAX_RUNS: Final = 20_000  # a page with more is a picture


@dataclass(slots=True)
class _Run:
    """Dark pixels in one row."""

    at: int
    start: float
    end: float


def of(image: Image.Image) -> tuple[list[Rule], list[Rule]]:
    """The lines across and down, in pixels from the top left, of a grey image whose text is upright."""
    counts = image.histogram()
    limit, paper = between(counts), counts.index(max(counts))
    turned = image.transpose(Image.Transpose.TRANSPOSE)
    return list(_lines(image, limit, paper, RUN)), list(_lines(turned, limit, paper, LONG_RUN))


def _lines(image: Image.Image, limit: int, paper: int, faint_run: re.Pattern[bytes]) -> Iterator[Rule]:
    dark = image.point([INK if value <= limit else 0 for value in range(LEVELS)]).reduce((BLOCK, 1))
    strong = dark.point([INK if value >= DARK else 0 for value in range(LEVELS)])
    # Runs of grey blocks between paper: its neighbours distinguish what is faint from noise.
    grey = image.reduce((BLOCK, 1))
    beside = ImageChops.darker(ImageChops.offset(grey, 0, BESIDE), ImageChops.offset(grey, 0, -BESIDE))
    faint = ImageChops.subtract(beside, grey).point([INK if value >= FAINT else 0 for value in range(LEVELS)])
    clean = beside.point([INK if value >= paper - STAINED else 0 for value in range(LEVELS)])
    found = [*_runs(strong, RUN), *_runs(ImageChops.darker(faint, clean), faint_run)]
    runs = sorted(found, key=lambda run: run.at)
    if len(runs) > MAX_RUNS:
        return
    parents = list(range(len(runs)))
    first = 0
    for number, run in enumerate(runs):
        while runs[first].at < run.at - STEEP:
            first += 1
        for other in range(first, number):
            if runs[other].at < run.at and runs[other].start <= run.end and run.start <= runs[other].end:
                unite(parents, other, number)
    groups: dict[int, list[_Run]] = {}
    for number, run in enumerate(runs):
        groups.setdefault(root(parents, number), []).append(run)
    for group in groups.values():
        start, end = min(run.start for run in group), max(run.end for run in group)
        thick = sum(run.end - run.start for run in group) / (end - start)
        if thick <= MAX_THICK:
            at = sum(run.at * (run.end - run.start) for run in group) / sum(
                run.end - run.start for run in group
            )
            yield Rule(at, start, end)


def _runs(blocks: Image.Image, run: re.Pattern[bytes]) -> Iterator[_Run]:
    """Blocks in succession that a line goes through, row by row."""
    for found in run.finditer(blocks.tobytes()):
        at, left = divmod(found.start(), blocks.width)
        last, right = divmod(found.end(), blocks.width)
        if last > at:  # it continues in the next row, as the edge of a scan does
            right = blocks.width
        yield _Run(at, left * BLOCK, right * BLOCK)


def scaled(rules: Sequence[Rule], by: float) -> list[Rule]:
    """Lines in another unit."""
    return [Rule(rule.at * by, rule.start * by, rule.end * by) for rule in rules]
