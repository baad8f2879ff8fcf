"""PDF files written object by object."""

from __future__ import annotations

from collections.abc import Sequence


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
