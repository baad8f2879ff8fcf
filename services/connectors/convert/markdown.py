"""The pieces of Markdown that more than one reader writes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

SPACE: Final = re.compile(r"\s+")
TAG: Final = re.compile(r"<(?=[A-Za-z/!?])")
LEADING: Final = re.compile(r"^(#{1,6}\s|>|```|~~~|[-+*]\s|={3,}$|-{3,}$)")
LINK: Final = re.compile(r"!?\[((?:[^\[\]\\]|\\.)*)\]\([^()\s]*\)")
EMPHASIS: Final = re.compile(r"(?<![\w\\])(\*{1,3}|~~)(?=\S)(.+?)(?<=\S)\1(?!\w)")
CODE: Final = re.compile(r"(?<!\\)(`+) ?(.+?) ?\1(?!`)")
ESCAPED: Final = re.compile(r"\\([!-/:-@\[-`{-~])")
INDENT: Final = "    "  # wide enough below "- " and below "10. "


def inline(text: str) -> str:
    """Text of a document within a line, so that none of it reads as HTML."""
    return TAG.sub(r"\\<", text)


def escape(text: str) -> str:
    """Text of a document in one line, so that none of it reads as HTML or as a Markdown block."""
    return LEADING.sub(r"\\\1", TAG.sub(r"\\<", SPACE.sub(" ", text).strip()))


def plain(text: str) -> str:
    """Inline Markdown without its marks."""
    text = EMPHASIS.sub(r"\2", EMPHASIS.sub(r"\2", LINK.sub(r"\1", text)))
    return ESCAPED.sub(r"\1", CODE.sub(r"\2", text))


def heading(level: int, text: str) -> str:
    """A heading of level 1 to 6, or nothing for no text."""
    text = TAG.sub(r"\\<", SPACE.sub(" ", text).strip())
    return f"{'#' * min(max(level, 1), 6)} {text}" if text else ""


def item(text: str, *, level: int = 0, marker: str = "-") -> str:
    """A list item; `level` counts from 0."""
    return f"{INDENT * level}{marker} {escape(text)}"


def cell(text: str) -> str:
    """Text that fits a table's cell."""
    return TAG.sub(r"\\<", SPACE.sub(" ", text).strip()).replace("|", "\\|")


def row(cells: Iterable[str]) -> str:
    """One row of cells that are Markdown already."""
    return f"| {' | '.join(cells)} |"


def separator(width: int) -> str:
    """What stands between a table's first row and the others."""
    return row(["---"] * width)


def table(rows: Sequence[Sequence[str]]) -> str:
    """A table whose first row is its header; short rows are filled, and empty ones left out.

    Args:
        rows: cells that are Markdown already (see `cell`).
    """
    rows = [cells for cells in rows if any(cells)]
    if not rows:
        return ""
    width = max(len(cells) for cells in rows)
    filled = [row([*cells, *[""] * (width - len(cells))]) for cells in rows]
    return "\n".join([filled[0], separator(width), *filled[1:]])


def join(blocks: Iterable[str]) -> str:
    """Blocks with a blank line between them, list items without."""
    text = ""
    last = ""
    for block in blocks:
        if not block.strip():
            continue
        if text:
            text += "\n" if _is_item(last) and _is_item(block) else "\n\n"
        text += block
        last = block
    return text


def _is_item(block: str) -> bool:
    return re.match(r"\s*(-|\d+\.) ", block) is not None
