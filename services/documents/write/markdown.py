"""The pieces of Markdown that more than one reader writes."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

SPACE: Final = re.compile(r"\s+")
TAG: Final = re.compile(r"<(?=[A-Za-z/!?])")
LEADING: Final = re.compile(r"^(#{1,6}\s|>|```|~~~|[-+*]\s|={3,}$|-{3,}$)")
IMAGE: Final = re.compile(r"!\[((?:[^\[\]\\]|\\.)*)\]\([^()\s]*\)")  # which a link may hold
LINK: Final = re.compile(r"\[((?:[^\[\]\\]|\\.)*)\]\([^()\s]*\)")
# By what stands beside each, not in pairs: to search for the other of each takes the square of the time.
EMPHASIS: Final = re.compile(r"(?<![\w\\*~])(?:\*{1,3}|~~)(?=[^\s*~])|(?<=[^\s\\*~])(?:\*{1,3}|~~)(?![\w*~])")
BACKTICKS: Final = re.compile(r"(?<!\\)`+")
FENCES: Final = re.compile(r"`{3,}")
ESCAPED: Final = re.compile(r"\\([!-/:-@\[-`{-~])")
INDENT: Final = "    "  # wide enough below "- " and below "10. "


def inline(text: str) -> str:
    """Text of a document within a line, so that none of it reads as HTML."""
    return TAG.sub(r"\\<", text)


def unlike_blocks(text: str) -> str:
    """Inline Markdown in one line, so that it does not read as a block."""
    return LEADING.sub(r"\\\1", text)


def fenced(code: str, language: str = "") -> str:
    """A block of code, in a fence longer than any in it."""
    fence = "`" * max(3, max((len(run) + 1 for run in FENCES.findall(code)), default=3))
    return f"{fence}{language}\n{code}\n{fence}"


def plain(text: str) -> str:
    """Inline Markdown without its marks."""
    pieces = _parted(LINK.sub(r"\1", IMAGE.sub(r"\1", text)))
    return "".join(
        piece if is_code else ESCAPED.sub(r"\1", EMPHASIS.sub("", piece)) for piece, is_code in pieces
    )


def _parted(text: str) -> Iterator[tuple[str, bool]]:
    """Text in succession, and whether it is code: between two runs of as many backticks."""
    runs = [match.span() for match in BACKTICKS.finditer(text)]
    later: dict[int, list[int]] = defaultdict(list)  # by length, the runs still to come, the next one last
    for number in range(len(runs) - 1, -1, -1):
        later[runs[number][1] - runs[number][0]].append(number)
    at = number = 0
    while number < len(runs):
        start, end = runs[number]
        same = later[end - start]
        while same and same[-1] <= number:
            same.pop()
        if not same:
            number += 1
            continue
        number, (stop, after) = same[-1] + 1, runs[same[-1]]
        yield text[at:start], False
        yield text[end:stop].strip(" "), True
        at = after
    yield text[at:], False


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
            text += "\n" if are_near(last, block) else "\n\n"
        text += block
        last = block
    return text


def are_near(one: str, other: str) -> bool:
    """Whether no blank line parts two blocks: both are items of a list."""
    return _is_item(one) and _is_item(other)


def _is_item(block: str) -> bool:
    return re.match(r"\s*(-|\d+[.)]) ", block) is not None
