"""PDF files written object by object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final


def pdf_of(objects: Sequence[str]) -> bytes:
    """A PDF of these objects, which are numbered from 1; the first is its catalog."""
    body = bytearray(b"%PDF-1.4\n")
    offsets = []
    for number, each in enumerate(objects, start=1):
        offsets.append(len(body))
        body += f"{number} 0 obj\n{each}\nendobj\n".encode()
    start, count = len(body), len(objects) + 1
    body += f"xref\n0 {count}\n0000000000 65535 f \n".encode()
    body += "".join(f"{offset:010} 00000 n \n" for offset in offsets).encode()
    body += f"trailer << /Size {count} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n".encode()
    return bytes(body)


def stream_of(content: str, entries: str = "") -> str:
    """An object with content."""
    return f"<< /Length {len(content)} {entries} >>\nstream\n{content}\nendstream"


HELVETICA: Final = "/Font << /H << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >>"


def page_of(
    content: str, *, resources: str = HELVETICA, entries: str = "", objects: Sequence[str] = ()
) -> bytes:
    """A PDF of one page in letter format.

    Args:
        content: its operators; /H is Helvetica.
        resources: what is within its dictionary of resources.
        entries: further ones of the page itself.
        objects: further ones, numbered from 5.
    """
    page = f"<< /Type /Page /Parent 2 0 R /Contents 4 0 R /Resources << {resources} >> {entries} >>"
    return pdf_of(
        [
            "<< /Type /Catalog /Pages 2 0 R >>",
            "<< /Type /Pages /Kids [3 0 R] /Count 1 /MediaBox [0 0 612 792] >>",
            page,
            stream_of(content),
            *objects,
        ]
    )


def pages_of(contents: Sequence[str]) -> bytes:
    """A PDF of pages in letter format with these contents, in which /H is Helvetica."""
    kids = " ".join(f"{3 + 2 * number} 0 R" for number in range(len(contents)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(contents)} /MediaBox [0 0 612 792] >>",
    ]
    for number, content in enumerate(contents):
        resources = f"/Resources << {HELVETICA} >>"
        objects.append(f"<< /Type /Page /Parent 2 0 R /Contents {4 + 2 * number} 0 R {resources} >>")
        objects.append(stream_of(content))
    return pdf_of(objects)


def texts_of(texts: Sequence[tuple[float, float, str]]) -> str:
    """Content with texts at these places, in points from the lower left."""
    return "".join(f"BT /H 10 Tf {x} {y} Td ({text}) Tj ET\n" for x, y, text in texts)
