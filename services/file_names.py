"""Names of files that others have given, made such as any system takes, and that lead nowhere else."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

NAME_BYTES: Final = 180
UNSAFE: Final = re.compile(r'[<>:"/\\|?*]')
DEVICES: Final = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\.|$)", re.IGNORECASE)
FORBIDDEN_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def safe(name: str) -> str:
    """A name that is one on every system, and leads nowhere else than into the directory it is put in."""
    plain = unicodedata.normalize("NFC", "".join(
        "_" if unicodedata.category(one) in FORBIDDEN_CATEGORIES else one for one in name
    ))  # fmt: skip
    plain = UNSAFE.sub("_", plain).strip(" ").rstrip(". ")
    if plain.startswith("."):
        plain = f"_{plain[1:]}"
    if not plain:
        plain = "file"
    if DEVICES.match(plain):
        plain = f"_{plain}"
    return _cut(plain, "")


def unique(name: str, taken: set[str]) -> str:
    """The name, or with a number where it is taken; upper and lower case are one on some systems."""
    found, count = name, 1
    while _folded(found) in taken:
        count += 1
        found = _cut(name, f" ({count})")
    taken.add(_folded(found))
    return found


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()


def _cut(name: str, mark: str) -> str:
    """The name with a mark before its ending, its middle cut to what file systems take."""
    stem, dot, ending = name.rpartition(".")
    if not stem or len(ending.encode()) > NAME_BYTES // 4:
        stem, dot, ending = name, "", ""
    room = NAME_BYTES - len(f"{mark}{dot}{ending}".encode())
    return f"{stem.encode()[:room].decode(errors='ignore')}{mark}{dot}{ending}"
