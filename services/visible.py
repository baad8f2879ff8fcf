"""Text that others wrote, as it may be shown at a terminal."""

from __future__ import annotations

import re
from typing import Final

# A terminal obeys the first two ranges and turns text around at the others; surrogates cannot be written.
UNSEEN: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str, *, keep: str = "") -> str:
    """The text with control characters written as Python writes them, so that no terminal obeys them.

    Args:
        text: from whoever could write a message.
        keep: those that stay as they are.
    """
    return UNSEEN.sub(lambda found: found[0] if found[0] in keep else _escape(found[0]), text)


SECRETS: Final = re.compile(
    r"(?P<kept>swy_[0-9a-f]{16}|oct|eyJ)(?:_[0-9A-Za-z]{8,}|[0-9A-Za-z_-]{4,}\.[0-9A-Za-z_-]+\.[0-9A-Za-z_-]*)"
)
"""What begins as a key or token of ours: what follows opens a door, whole or cut."""


def redacted(text: str) -> str:
    """The text with `***` for the secret part of every key and token in it that has a form of ours."""
    if "_" not in text and "eyJ" not in text:
        return text
    return SECRETS.sub(r"\g<kept>_***", text)


def _escape(char: str) -> str:
    return f"\\x{ord(char):02x}" if ord(char) < 0x100 else f"\\u{ord(char):04x}"
