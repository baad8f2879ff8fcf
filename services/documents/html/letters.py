"""The letters of an HTML page that its readers see, counted apart from how the page is read."""

from __future__ import annotations

import re
from typing import Any, Final

from switchyard.services.documents import self_check
from switchyard.services.documents.model.blocks import Block
from switchyard.services.documents.self_check import letters

# What is no content (see `docs/documents.md`), or stands there in other words.
LEFT_OUT: Final = frozenset({
    "head", "script", "style", "template", "nav", "noscript", "rt", "rp", "select", "math", "dialog", "audio",
    "video", "canvas", "datalist", "meter", "progress", "iframe", "map", "title", "desc", "metadata",
})  # fmt: skip
MORE: Final = frozenset({"ol", "input", "select", "math", "q"})  # of which more comes out
HIDDEN: Final = re.compile(r"(display\s*:\s*none|visibility\s*:\s*hidden)", re.IGNORECASE)


def warning(root: Any, blocks: tuple[Block, ...]) -> tuple[str, ...]:
    """What is said of a page whose letters are lost or doubled.

    Args:
        root: the page.
        blocks: what came out.
    """
    has, more, titled = 0, False, False
    waiting = [root]
    while waiting:
        at = waiting.pop()
        if at is not root:
            has += letters(at.tail or "")
        if not isinstance(at.tag, str):
            continue
        titled = titled or at.tag == "h1"
        more = more or at.tag in MORE
        if at.tag in LEFT_OUT or _is_hidden(at):
            continue
        has += letters(at.text or "")
        if at.tag == "img":
            has += letters(at.get("alt") or "")
        waiting += at
    if not titled:
        has += letters(root.findtext(".//title") or "")
    return self_check.warning("the page", has, blocks, "its HTML", more=more)


def _is_hidden(element: Any) -> bool:
    said = element.attrib
    return bool(said) and (
        "hidden" in said
        or said.get("aria-hidden") == "true"
        or said.get("role") in {"navigation", "search"}
        or HIDDEN.search(said.get("style", "")) is not None
    )
