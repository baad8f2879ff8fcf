"""How the coordinates of a PDF page become those of its reader."""

from __future__ import annotations

from dataclasses import dataclass

import pypdfium2 as pdfium

from switchyard.services.documents.model.blocks import Box


@dataclass(frozen=True, slots=True)
class Frame:
    """How a page's own coordinates, upwards from anywhere, become those of a reader."""

    left: float
    bottom: float
    right: float
    top: float
    rotation: int

    @classmethod
    def of(cls, page: pdfium.PdfPage) -> Frame:
        """The frame of what is shown of a page."""
        left, bottom, right, top = page.get_bbox()
        return cls(left, bottom, right, top, page.get_rotation())

    @property
    def sideways(self) -> bool:
        """Whether what runs across the page runs down in its own coordinates."""
        return self.rotation in (90, 270)

    def box(self, x0: float, y0: float, x1: float, y1: float) -> Box:
        """Left, top, right, bottom as read, downwards from the top left."""
        if not self.rotation:  # as most are
            return x0 - self.left, self.top - y1, x1 - self.left, self.top - y0
        match self.rotation:
            case 90:
                return y0 - self.bottom, x0 - self.left, y1 - self.bottom, x1 - self.left
            case 180:
                return self.right - x1, y0 - self.bottom, self.right - x0, y1 - self.bottom
            case 270:
                return self.top - y1, self.right - x1, self.top - y0, self.right - x0
            case _:
                return x0 - self.left, self.top - y1, x1 - self.left, self.top - y0
