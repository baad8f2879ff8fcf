"""By how much a scan is askew, measured by the white between its lines."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from PIL import Image

WIDTH: Final = 600  # pixels, in which lines of text are still apart
MOST: Final = 12.0  # degrees; more is no skew
COARSE: Final = 1.0
FINE: Final = 0.25
LEAST: Final = 1.0  # degrees; less does no harm, and turning an image blurs it
BETTER: Final = 1.5  # how much sharper the lines must be than as the page was given
INK: Final = 140  # of 255: darker is ink
INK_SHARE: Final = (0.002, 0.4)  # of the image; a photo has more
BLACK, WHITE = 255, 0  # turned round, so that what comes in from outside counts as paper


def angle(image: Image.Image) -> float:
    """How many degrees counterclockwise set a grey image straight; 0 for none that is clearly better."""
    small = image.copy()
    small.thumbnail((WIDTH, WIDTH))
    ink = small.point([BLACK if value < INK else WHITE for value in range(256)])
    least, most = (ink.width * ink.height * share for share in INK_SHARE)
    if not least <= ink.histogram()[BLACK] <= most:
        return 0.0
    given = _sharpness(ink, 0.0)
    steps = int(MOST / COARSE)
    best = max((step * COARSE for step in range(-steps, steps + 1)), key=lambda at: _sharpness(ink, at))
    steps = int(COARSE / FINE)
    best = max((best + step * FINE for step in range(-steps, steps + 1)), key=lambda at: _sharpness(ink, at))
    if abs(best) < LEAST or abs(best) > MOST or _sharpness(ink, best) < given * BETTER:
        return 0.0
    return best


def _sharpness(ink: Image.Image, degrees: float) -> float:
    """How much neighbouring rows differ: most where lines of text and the white between them lie level."""
    turned = ink.rotate(degrees, resample=Image.Resampling.NEAREST, fillcolor=WHITE) if degrees else ink
    rows = turned.resize((1, turned.height), Image.Resampling.BOX).tobytes()
    return sum((below - above) ** 2 for above, below in pairwise(rows))
