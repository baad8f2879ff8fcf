"""Where what a PDF page draws comes to stand."""

from __future__ import annotations

from typing import Final

import pypdfium2 as pdfium

Point = tuple[float, float]
Matrix = tuple[float, float, float, float, float, float]

IDENTITY: Final[Matrix] = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)


def matrix_of(drawn: pdfium.PdfObject) -> Matrix:
    """How an object's own coordinates become the page's, through the forms that it is drawn in."""
    return _product(drawn.get_matrix().get(), outer_matrix_of(drawn))


def outer_matrix_of(drawn: pdfium.PdfObject) -> Matrix:
    """How the coordinates in the form that an object is drawn in become the page's."""
    found = IDENTITY
    container = drawn.container
    while container is not None:
        found = _product(found, container.get_matrix().get())
        container = container.container
    return found


def _product(inner: Matrix, outer: Matrix) -> Matrix:
    a, b, c, d, e, f = inner
    p, q, r, s, t, u = outer
    return a * p + b * r, a * q + b * s, c * p + d * r, c * q + d * s, e * p + f * r + t, e * q + f * s + u


def moved(point: Point, matrix: Matrix) -> Point:
    """Where a matrix takes a point."""
    x, y = point
    a, b, c, d, e, f = matrix
    return a * x + c * y + e, b * x + d * y + f
