"""The links of a PDF page: where they are, and where they lead."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

import pypdfium2 as pdfium
from pypdfium2 import raw

from switchyard.services.documents.model.blocks import Box
from switchyard.services.documents.page.lines import Line, Word
from switchyard.services.documents.pdf.frame import Frame

MAX_LINKS: Final = 2_000
MAX_ADDRESS: Final = 2_048  # bytes, which is what browsers and servers agree on
SCHEMES: Final = ("http://", "https://", "mailto:", "ftp://", "tel:")

Link = tuple[Box, str]


def linked(lines: Sequence[Line], links: Sequence[Link]) -> list[Line]:
    """The lines with the links of their page on the words that they lie over."""
    if not links:
        return list(lines)
    return [_with_links(line, links) for line in lines]


def of(page: pdfium.PdfPage) -> Iterator[Link]:
    """The links of a page, as far as they lead out of the document."""
    frame = Frame.of(page)
    at, link = ctypes.c_int(0), raw.FPDF_LINK()
    for _ in range(MAX_LINKS):
        if not raw.FPDFLink_Enumerate(page.raw, at, link):
            return
        if address := _address(page, link):
            for left, bottom, right, top in _areas(link):
                yield frame.box(left, bottom, right, top), address


def _address(page: pdfium.PdfPage, link: raw.FPDF_LINK) -> str:
    """Where a link leads outside its document; nothing if it does not."""
    action = raw.FPDFLink_GetAction(link)
    if not action or raw.FPDFAction_GetType(action) != raw.PDFACTION_URI:
        return ""
    document = page.pdf.raw
    length = raw.FPDFAction_GetURIPath(document, action, None, 0)
    if not 1 < length <= MAX_ADDRESS:
        return ""
    buffer = ctypes.create_string_buffer(length)
    raw.FPDFAction_GetURIPath(document, action, buffer, length)
    address = buffer.value.decode("utf-8", errors="replace").strip()
    return address if address.lower().startswith(SCHEMES) else ""


def _areas(link: raw.FPDF_LINK) -> Iterator[Box]:
    """Left, bottom, right, top of each line that a link is on."""
    quads = raw.FPDFLink_CountQuadPoints(link)
    for number in range(min(quads, MAX_LINKS)):
        quad = raw.FS_QUADPOINTSF()
        if raw.FPDFLink_GetQuadPoints(link, number, quad):
            xs, ys = (quad.x1, quad.x2, quad.x3, quad.x4), (quad.y1, quad.y2, quad.y3, quad.y4)
            yield min(xs), min(ys), max(xs), max(ys)
    rect = raw.FS_RECTF()
    if quads <= 0 and raw.FPDFLink_GetAnnotRect(link, rect):
        yield rect.left, min(rect.bottom, rect.top), rect.right, max(rect.bottom, rect.top)


def _with_links(line: Line, links: Iterable[Link]) -> Line:
    near = [link for link in links if link[0][1] < line.bottom and link[0][3] > line.top]
    if not near or not line.words:
        return line
    return replace(line, words=tuple(_with_link(word, near) for word in line.words))


def _with_link(word: Word, links: Iterable[Link]) -> Word:
    across, down = (word.left + word.right) / 2, (word.top + word.bottom) / 2
    for (left, top, right, bottom), address in links:
        if left <= across <= right and top <= down <= bottom:
            return word._replace(look=replace(word.look, link=address))
    return word
