"""Check boxes and options on a sheet, which old and new versions of Excel draw as VML."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from lxml import etree

from switchyard.services.documents.model import pieces, runs
from switchyard.services.documents.model.pieces import Piece

EXCEL: Final = "{urn:schemas-microsoft-com:office:excel}"
VML: Final = "{urn:schemas-microsoft-com:vml}"
SHOWN: Final = {
    ("Checkbox", True): "☑",
    ("Checkbox", False): "☐",
    ("Radio", True): "◉",
    ("Radio", False): "◯",
}
MAX_CONTROLS: Final = 10_000
MAX_PLACE: Final = 1_048_576


def controls(source: bytes) -> Iterator[tuple[int, int, list[Piece]]]:
    """The boxes and options of a drawing with the row and column where each begins."""
    parser = etree.XMLParser(recover=True, resolve_entities=False, no_network=True, load_dtd=False)
    # Excel itself leaves line breaks open, which XML does not allow.
    root = etree.fromstring(source.replace(b"<br>", b" "), parser) if source.strip() else None
    for number, shape in enumerate(root.iter(f"{VML}shape") if root is not None else ()):
        data = shape.find(f"{EXCEL}ClientData")
        checked = (data.findtext(f"{EXCEL}Checked") or "").strip() == "1" if data is not None else False
        sign = SHOWN.get((data.get("ObjectType", ""), checked)) if data is not None else None
        if number == MAX_CONTROLS:
            return
        if data is None or sign is None:
            continue
        box = shape.find(f"{VML}textbox")
        label = " ".join("".join(box.itertext()).split()) if box is not None else ""
        column, row = _place(data.findtext(f"{EXCEL}Anchor") or "")
        yield row, column, list(pieces.paragraph(runs.render([runs.Run(f"{sign} {label}".strip())])))


def _place(anchor: str) -> tuple[int, int]:
    """Column and row; an anchor is the column, the way into it, the row, the way into that, and so on."""
    parts = [part.strip() for part in anchor.split(",")]
    if len(parts) < 3 or not (parts[0].isdecimal() and parts[2].isdecimal()):
        return 0, 0
    return min(int(parts[0][:8]), MAX_PLACE), min(int(parts[2][:8]), MAX_PLACE)
