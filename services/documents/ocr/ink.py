"""What the pixels of an image show that its words do not: how bold a line is, and what is a bullet."""

from __future__ import annotations

from typing import Final

from PIL import Image, ImageChops

from switchyard.services.documents.model.blocks import Box

LEVELS: Final = 256
INK: Final = 255


class Ink:
    """The dark of a grey image.

    Args:
        image: with the text upright.
    """

    def __init__(self, image: Image.Image) -> None:
        self._image = image
        limit = between(image.histogram())
        self._table = [INK if value <= limit else 0 for value in range(LEVELS)]

    def width_of_strokes(self, box: Box) -> float:
        """How many pixels a dark run has, on average, in the rows of a part of the image; 0 without any."""
        dark = self._dark(box)
        # The offset of a row begins with its own end, which a column of paper keeps apart.
        starts = ImageChops.subtract(dark, ImageChops.offset(dark, 1, 0))
        count = starts.histogram()[INK]
        return dark.histogram()[INK] / count if count else 0.0

    def share(self, box: Box) -> float:
        """How much of a part of the image is dark, 0 to 1."""
        dark = self._dark(box, margin=0)
        return dark.histogram()[INK] / max(dark.width * dark.height, 1)

    def around(self, box: Box) -> Box | None:
        """The box around all that is dark in a part of the image; None where nothing is."""
        left, top, _, _ = (round(at) for at in box)
        found = self._dark(box, margin=0).getbbox()
        return (left + found[0], top + found[1], left + found[2], top + found[3]) if found else None

    def _dark(self, box: Box, *, margin: int = 1) -> Image.Image:
        left, top, right, bottom = (round(at) for at in box)
        left, right = max(left - margin, 0), min(right + margin, self._image.width)
        return self._image.crop((left, top, right, bottom)).point(self._table)


def between(counts: list[int]) -> int:
    """The grey that parts dark from light so that each is as much alike as can be. Source: N. Otsu, 1979."""
    total = sum(counts)
    whole = sum(value * count for value, count in enumerate(counts))
    best, found, below, under = -1.0, LEVELS // 2, 0, 0
    for value, count in enumerate(counts):
        below += count
        under += value * count
        above = total - below
        if not below or not above:
            continue
        apart = below * above * (under / below - (whole - under) / above) ** 2
        if apart > best:
            best, found = apart, value
    return found
