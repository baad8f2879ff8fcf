"""Controls on documents, sheets and slides of Office that are programs of their own (ActiveX).

Source: [MS-OFORMS] 2.2.5 (check boxes, options, texts and lists), 2.2.4 (labels) and 2.4.14 (strings);
ECMA-376 part 1, 22.6 and [MS-OE376] for the part that holds one.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from switchyard.services.documents.office.package import RELATIONSHIPS, Package

AX: Final = "{http://schemas.microsoft.com/office/2006/activeX}"
SIGNS: Final = {
    "8BD21D40-EC42-11CE-9E0D-00AA006002F3": ("☐", "☑"),
    "8BD21D50-EC42-11CE-9E0D-00AA006002F3": ("◯", "◉"),
    "8BD21D60-EC42-11CE-9E0D-00AA006002F3": ("☐", "☑"),  # a button that stays down
}
FIELDS: Final = frozenset(f"8BD21D{kind}0-EC42-11CE-9E0D-00AA006002F3" for kind in (1, 2, 3))
LABEL: Final = "978C9E23-D4B0-11CE-BF2D-00AA003F40D0"
# Buttons, pictures, bars and what is spun, which hold no text of the document.
SILENT: Final = frozenset({
    "D7053240-CE69-11CD-A777-00DD01143C57", "4C599241-6926-101B-9992-00000B65C6F9",
    "DFD181E0-5E2F-11CE-A449-00AA004A803D", "79176FB0-B7F2-11CE-97EF-00AA006D2776",
})  # fmt: skip
# The size of each property in the order of its bit; 0 for one that is stored elsewhere or nowhere.
OF_FIELD: Final = (
    4,
    4,
    4,
    4,
    1,
    1,
    1,
    1,
    0,
    2,
    4,
    2,
    2,
    2,
    2,
    2,
    1,
    1,
    1,
    0,
    1,
    1,
    4,
    4,
    4,
    4,
    4,
    2,
    2,
    2,
    0,
    0,
    4,
)
OF_LABEL: Final = (4, 4, 4, 4, 4, 0, 1, 4, 2, 2, 2, 2, 2)
FIELD_SIZE, FIELD_VALUE, FIELD_CAPTION, LABEL_CAPTION = 8, 22, 23, 3
VERSION: Final = b"\0\2"
CLASS_BYTES: Final = 16
SECTOR: Final = 64  # at whose multiples a stream within a storage begins
COMPRESSED: Final = 1 << 31
MAX_BYTES: Final = 1024 * 1024


def text_of(package: Package, part: str) -> str | None:
    """What a control shows; nothing for a button, None where that cannot be read.

    Args:
        package: that of the document.
        part: that of the control.
    """
    root = package.parse(part)
    kind = "" if root is None else root.get(f"{AX}classid", "").strip("{}").upper()
    if kind in SILENT:
        return ""
    if root is None or not (kind in SIGNS or kind in FIELDS or kind == LABEL):
        return None
    properties = {each.get(f"{AX}name", ""): each.get(f"{AX}value", "") for each in root.iter(f"{AX}ocxPr")}
    found: tuple[str, str] | None = properties.get("Value", ""), properties.get("Caption", "")
    if not properties:
        relation = package.relations(part).get(root.get(f"{RELATIONSHIPS}id", ""))
        data = package.content(relation.target) if relation is not None else b""
        found = _stored(data[:MAX_BYTES], label=kind == LABEL)
    if found is None:
        return None
    value, caption = found
    if kind not in SIGNS:
        return value or caption
    unset, is_set = SIGNS[kind]
    return f"{is_set if value.strip().lower() in {'1', '-1', 'true'} else unset} {caption}".rstrip()


def _stored(data: bytes, *, label: bool) -> tuple[str, str] | None:
    """Value and caption of a control by its bytes, behind the class it is of or within a storage."""
    for at in (CLASS_BYTES, 0, *range(SECTOR, len(data), SECTOR)):
        if data[at : at + 2] == VERSION:
            found = _read(data[at:], label=label)
            if found is not None:
                return found
    return None


def _read(data: bytes, *, label: bool) -> tuple[str, str] | None:
    sizes, wide = (OF_LABEL, "<I") if label else (OF_FIELD, "<Q")
    start = 4 + struct.calcsize(wide)
    if len(data) < start:
        return None
    (length,) = struct.unpack_from("<H", data, 2)
    (mask,) = struct.unpack_from(wide, data, 4)
    if not start - 4 <= length <= len(data) - 4 or mask >> len(sizes) or not mask:
        return None
    at, counts = start, dict[int, int]()
    for bit, size in enumerate(sizes):
        if size and mask >> bit & 1:
            at += -at % size
            if at + size > len(data):
                return None
            if size == 4:
                (counts[bit],) = struct.unpack_from("<I", data, at)
            at += size
    at += -at % 4
    if label:
        return "", _strings(data, at, [counts.get(LABEL_CAPTION, 0)])[0]
    at += 8 * (mask >> FIELD_SIZE & 1)
    value, caption = _strings(data, at, [counts.get(FIELD_VALUE, 0), counts.get(FIELD_CAPTION, 0)])
    return value, caption


def _strings(data: bytes, at: int, counts: Sequence[int]) -> list[str]:
    """Strings in succession, each of which begins at a multiple of 4 bytes."""
    found = []
    for count in counts:
        length = count & ~COMPRESSED
        encoding = "latin-1" if count & COMPRESSED else "utf-16-le"
        found.append(data[at : at + length].decode(encoding, errors="replace"))
        at += length + -length % 4
    return found
