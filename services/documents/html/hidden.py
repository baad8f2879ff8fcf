"""What of an HTML page nobody sees, or is no content of it."""

from __future__ import annotations

import re
from typing import Any, Final

DROPPED: Final = frozenset({
    "audio", "canvas", "datalist", "dialog", "embed", "head", "iframe", "map", "meter", "nav",
    "noscript", "object", "progress", "rp", "rt", "script", "style", "template",
    "video",
})  # fmt: skip
HIDDEN: Final = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)


def is_hidden(element: Any) -> bool:
    """Whether an element is left out with all that is in it."""
    return (
        element.tag in DROPPED
        or element.get("hidden") is not None
        or element.get("aria-hidden") == "true"
        or element.get("role") in {"navigation", "search"}
        or bool(HIDDEN.search(element.get("style") or ""))
    )
