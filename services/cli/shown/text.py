"""Text in the columns of a terminal."""

from __future__ import annotations

import os
import unicodedata
from typing import IO, Final

WIDE: Final = frozenset("WF")
UNSPACED: Final = frozenset({"Mn", "Me", "Cf"})
CUT: Final = "…"
BOLD: Final = "1"
STATES: Final = {
    "succeeded": "32", "completed": "32", "accepted": "32", "active": "32", "ok": "32", "healthy": "32",
    "running": "36", "leased": "36", "cancelling": "36",
    "queued": "33", "scheduled": "33", "blocked": "33", "retrying": "33", "review": "35", "paused": "33",
    "draining": "33",
    "dead": "31", "failed": "31", "damaged": "31", "lost": "31", "unhealthy": "31",
    "cancelled": "2", "expired": "2", "archived": "2", "ended": "2",
}  # fmt: skip
"""Codes of colours (ECMA-48) by state."""


def columns_of(text: str) -> int:
    """How many columns of a terminal a text takes (Unicode UAX #11)."""
    if text.isascii():
        return len(text)
    return sum(_columns(char) for char in text)


def _columns(char: str) -> int:
    if unicodedata.category(char) in UNSPACED:
        return 0
    return 2 if unicodedata.east_asian_width(char) in WIDE else 1


def cut(text: str, width: int) -> str:
    """The text in so many columns at most, with an ellipsis where its rest is left out."""
    if columns_of(text) <= width:
        return text
    kept, taken = list[str](), 0
    for char in text:
        taken += _columns(char)
        if taken > width - 1:
            break
        kept.append(char)
    return "".join(kept) + (CUT if width > 0 else "")


def coloured(text: str, code: str | None) -> str:
    """The text between what switches a colour on and off."""
    return f"\x1b[{code}m{text}\x1b[0m" if code and text else text


def may_colour(stream: IO[str]) -> bool:
    """Whether colours are wanted: at a terminal that has some, unless NO_COLOR is set (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
