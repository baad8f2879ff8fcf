"""Recognised lines with what their letters and ink show: the size, the weight, and bullets.

OCR estimates the size of a line by rules of thumb, and does not report whether it is bold.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import Final

from switchyard.services.documents.model.blocks import Box
from switchyard.services.documents.ocr.ink import Ink
from switchyard.services.documents.page.lines import Line, Word

ALIKE: Final = 0.08  # of the size, by which lines of plain text differ as OCR reports them
MIN_WORDS: Final = 3  # of one shape
CUT_OFF: Final = 1.1
BOLD: Final = (1.3, 2.6)  # times as wide strokes as plain text has; more is no writing
BULLET: Final = "\u2022"
MAX_BULLET_CHARS: Final = 2
FILLED: Final = 0.66  # of a bullet's box; a disc fills 0.79, and no letter so much
SQUARE: Final = 0.7  # of its longer side
RINGS: Final = frozenset("oO0eEcC\u00b0\u00a9\u00ae")  # what an empty bullet is taken for
RING: Final = 0.9  # of the height of a small letter: an o is as tall
BULLETS: Final = (0.25, 0.9)  # of the height of a small letter beside it
GAP: Final = 0.25  # of the size, between a bullet and its text
BESIDE: Final = (0.2, 2.2)  # of the size left of a line: where its bullet is, if it was not read
TALL: Final = frozenset("bdfhklijABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789\u00df\u00c4\u00d6\u00dc")
DEEP: Final = frozenset("gjpqy")

Shape = tuple[bool, bool, bool]


def measured(lines: Sequence[Line], ink: Ink | None) -> list[Line]:
    """The lines with sizes by the heights of their words, distinguished by their letters.

    Args:
        lines: with their words, upright.
        ink: that of the image they are on; without, weight and bullets are not detected.
    """
    usual = _middle([(line.size, len(line.text)) for line in lines])
    plain = [abs(line.size - usual) <= usual * ALIKE for line in lines]
    heights = _heights([line for line, is_plain in zip(lines, plain, strict=True) if is_plain])
    sized = [replace(line, size=_ratio(line, heights, line.size / usual) * usual) for line in lines]
    if ink is None:
        return sized
    strokes = [ink.width_of_strokes((line.left, line.top, line.right, line.bottom)) for line in sized]
    usual_stroke = _middle(
        [(stroke, len(line.text)) for stroke, line, like in zip(strokes, lines, plain, strict=True) if like]
    )
    small = heights.get((False, False, False), usual / 2)
    return [
        _with_bullet(replace(line, bold=_is_bold(stroke, line.size / usual, usual_stroke)), ink, small)
        for stroke, line in zip(strokes, sized, strict=True)
    ]


def without_specks(lines: Sequence[Line]) -> list[Line]:
    """The lines without signs that stand within a word of another one, such as the dots of its letters."""
    words = [word for line in lines for word in line.words if any(map(str.isalnum, word.text))]

    def is_speck(word: Word) -> bool:
        if any(map(str.isalnum, word.text)):
            return False
        across, down = (word.left + word.right) / 2, (word.top + word.bottom) / 2
        return any(one.left < across < one.right and one.top < down < one.bottom for one in words)

    kept = [(line, [word for word in line.words if not is_speck(word)]) for line in lines]
    return [line if len(words) == len(line.words) else line.part(words) for line, words in kept if words]


def _middle(weighted: Sequence[tuple[float, int]]) -> float:
    """The value in the middle, each as often as it counts; 1 for none."""
    half = sum(times for _, times in weighted) / 2
    for value, times in sorted(weighted):
        half -= times
        if half <= 0:
            return value or 1.0
    return 1.0


def _shape(word: Word) -> Shape | None:
    """Which letters make a word as tall as it is; None for one with signs."""
    if not word.text.isalnum():
        return None
    letters = set(word.text)
    return bool(letters & TALL), "t" in letters, bool(letters & DEEP)


def _heights(lines: Sequence[Line]) -> dict[Shape, float]:
    """How tall words of each shape are in plain text."""
    found: defaultdict[Shape, list[float]] = defaultdict(list)
    for word in (word for line in lines for word in line.words):
        if (shape := _shape(word)) is not None:
            found[shape].append(word.bottom - word.top)
    return {shape: median(each) for shape, each in found.items() if len(each) >= MIN_WORDS}


def _ratio(line: Line, heights: dict[Shape, float], reported: float) -> float:
    """How large a line is beside plain text, by its words or else as reported."""
    ratios = [
        (word.bottom - word.top) / heights[shape] for word in line.words if (shape := _shape(word)) in heights
    ]
    if len(ratios) >= MIN_WORDS:
        return median(ratios)
    if not ratios:
        return reported
    best = max(ratios)  # the box of a single word may be cut off
    return min(max(reported, best), best * CUT_OFF)


def _is_bold(stroke: float, size: float, usual: float) -> bool:
    least, most = BOLD
    return least <= stroke / (size * usual) <= most


def _with_bullet(line: Line, ink: Ink, small: float) -> Line:
    """The line with a bullet for what is one, whatever letter it was taken for, if for any."""
    if not line.words:
        return line
    first, *others = line.words
    if others and len(first.text) <= MAX_BULLET_CHARS and others[0].left - first.right >= line.size * GAP:
        box = (first.left, first.top, first.right, first.bottom)
        ring = first.text in RINGS and max(box[2] - box[0], box[3] - box[1]) <= RING * small
        if _is_bullet(box, ink, small, ring=ring):
            return line.part((first._replace(text=BULLET), *others))
    left, right = line.left - line.size * BESIDE[1], line.left - line.size * BESIDE[0]
    lost = ink.around((left, line.top, right, line.bottom)) if left > 0 else None
    if lost is None or lost[0] <= round(left) or not _is_bullet(lost, ink, small, ring=False):
        return line
    bullet = Word(BULLET, *lost)
    return replace(line.part((bullet, *line.words)), top=line.top, bottom=line.bottom)


def _is_bullet(box: Box, ink: Ink, small: float, *, ring: bool) -> bool:
    """Whether something is as large as a bullet, about as wide as high, and filled or a ring."""
    shorter, longer = sorted((box[2] - box[0], box[3] - box[1]))
    least, most = BULLETS
    if not least * small <= longer <= most * small or shorter < longer * SQUARE:
        return False
    return ring or ink.share(box) >= FILLED
