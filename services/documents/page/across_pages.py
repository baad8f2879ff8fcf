"""What the end of a page leaves open, and the next page continues."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from switchyard.services.documents.model.blocks import Block
from switchyard.services.documents.model.document import Page
from switchyard.services.documents.page.hyphens import joint
from switchyard.services.documents.page.lines import SENTENCE_END
from switchyard.services.documents.page.paragraphs import CAPTION

HYPHEN: Final = re.compile(r"(?<=[^\W_])[-\u00ad\u2010]([*_~]*)$")  # and what ends its emphasis
PARTED: Final = ("paragraph", "item")
LOWER, UPPER = 0.5, 0.5  # of the page: where a part must end, and where the next one begins
SAME_SIDE: Final = 0.01  # of the page's width
MIN_WIDTH: Final = 0.1  # of the page: narrower are labels, and what runs up its side
MIN_REST: Final = 0.03
MIN_CHARS: Final = 30  # of a part that continues
OPEN_END: Final = (
    ",-\u00ad\u2010\u2013\u2014)\u201d\u2019\"'"  # beside letters: page numbers and dates end otherwise
)


def continued(pages: Iterable[Page]) -> Iterator[Page]:
    """Pages whose first blocks say whether they continue the page before."""
    before: Block | None = None
    for page in pages:
        marked = page
        if page.blocks:
            goes_on = before is not None and _goes_on(before, page.blocks[0])
            if goes_on != page.blocks[0].continues:
                first = replace(page.blocks[0], continues=goes_on)
                marked = replace(page, blocks=(first, *page.blocks[1:]))
        yield marked
        at = open_at(page.blocks)
        before = page.blocks[at] if at is not None else None


def open_at(blocks: Sequence[Block]) -> int | None:
    """The place of the block that may continue on the next page; notes, pictures, captions may follow it."""
    for at in range(len(blocks) - 1, -1, -1):
        block = blocks[at]
        if block.kind in ("footnote", "image") or CAPTION.match(block.text):
            continue
        return at if block.kind in (*PARTED, "table") else None
    return None


def _goes_on(before: Block, first: Block) -> bool:
    if before.box is None or first.box is None or before.box[3] < LOWER or first.box[1] > UPPER:
        return False
    if before.kind == "table":
        return first.kind == "table" and _is_same_table(before, first)
    if before.kind == first.kind == "item":
        return True
    if first.kind != "paragraph" or CAPTION.match(first.text) or len(before.text) < MIN_CHARS:
        return False
    if before.box[2] - before.box[0] < MIN_WIDTH or first.box[2] - first.box[0] < MIN_REST:
        return False
    last = before.text[-1]
    ends = before.text.endswith(SENTENCE_END) or not (last.isalpha() or last in OPEN_END)
    return not ends and (first.text[:1].islower() or HYPHEN.search(before.text) is not None)


def _is_same_table(before: Block, first: Block) -> bool:
    """Whether two tables are one: by the program that made it, by a repeated header, or by their sides."""
    one, other = before.header.split("\t"), first.header.split("\t")
    if len(one) != len(other) or before.box is None or first.box is None:
        return False
    sides = all(abs(before.box[side] - first.box[side]) <= SAME_SIDE for side in (0, 2))
    return first.continues or one == other or sides


def together(one: str, other: str) -> str:
    """The Markdown of two parts of a paragraph as one."""
    broken = HYPHEN.search(one)
    marks = broken[1] if broken else ""
    before = one[: len(one) - len(marks)]
    within = bool(marks) and other.startswith(marks)  # emphasis that continues
    after = other.removeprefix(marks) if within else other
    dropped, between = joint(before, after)
    if between == " ":
        return f"{one} {other}"
    return f"{before[: len(before) - dropped]}{between}{'' if within else marks}{after}"
