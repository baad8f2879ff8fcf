"""What OCR finds in an image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import cos, radians, sin
from typing import Final

from switchyard.services.documents.model.blocks import Block, Box, fractions
from switchyard.services.documents.page import assemble
from switchyard.services.documents.page.lines import Body, Line, Table

SIZE_SLACK: Final = 1.02  # the boxes of words are a pixel or two too large or too small

Size = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Recognised:
    """The text of one image.

    Args:
        confidence: 0 to 100, weighted by length.
        size: width and height of the image in pixels, as it was read; None where unknown.
        given: the same as it was given.
        turned: by how many degrees counterclockwise it was turned to be read.
    """

    lines: tuple[Line, ...]
    tables: tuple[Table, ...]
    confidence: float
    size: Size | None = None
    given: Size | None = None
    turned: float = 0.0

    def blocks(self) -> tuple[Block, ...]:
        """The page as blocks."""
        made = assemble.arrange(
            self.lines, body=Body.of(self.lines), tables=self.tables, slack=SIZE_SLACK, size=self.size
        )
        size = self.size
        if not self.turned or size is None:
            return made
        return tuple(replace(block, box=block.box and self._fractions(block.box, size)) for block in made)

    def _fractions(self, box: Box, size: Size) -> Box | None:
        """A box in fractions of the image as it was read, as it was given."""
        width, height = size
        left, top, right, bottom = box
        return fractions(
            self.on_given((left * width, top * height, right * width, bottom * height)), self.given
        )

    def on_given(self, box: Box) -> Box:
        """A box in pixels of the image as it was read, on the image as it was given."""
        if not self.turned or self.size is None or self.given is None:
            return box
        return turned(box, -self.turned, self.size, self.given)


def turned(box: Box, degrees: float, size: Size, into: Size) -> Box:
    """The box around another that is turned with its image, counterclockwise about the middle.

    Args:
        box: left, top, right and bottom in pixels.
        degrees: by how many it is turned.
        size: that of the image.
        into: the size of the image that it becomes.
    """
    cosine, sine = cos(radians(degrees)), sin(radians(degrees))
    left, top, right, bottom = box
    xs: list[float] = []
    ys: list[float] = []
    for x, y in ((left, top), (right, top), (left, bottom), (right, bottom)):
        across, down = x - size[0] / 2, y - size[1] / 2
        xs.append(across * cosine + down * sine + into[0] / 2)
        ys.append(down * cosine - across * sine + into[1] / 2)
    return min(xs), min(ys), max(xs), max(ys)
