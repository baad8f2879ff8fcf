"""Pages in their order, of which some are read by OCR while the next are made."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from switchyard.services.documents import defeated, self_check
from switchyard.services.documents.model import blocks
from switchyard.services.documents.model.document import Page
from switchyard.services.documents.ocr.machine.cores import count
from switchyard.services.documents.ocr.reading import Reading
from switchyard.services.documents.self_check import letters

MAX_READ: Final = 16  # at once, each of 9 MB for a page in letter format
MAX_WAITING: Final = 64  # pages that are done behind one that is not


def ahead(pages: Iterator[Page | Reading]) -> Iterator[Page]:
    """The pages, of which as many are being read as there are processors."""
    waiting: deque[Page | Reading] = deque()
    most = min(count(), MAX_READ)
    try:
        for page in pages:
            waiting.append(page)
            while waiting and (
                isinstance(waiting[0], Page)
                or len(waiting) > MAX_WAITING
                or sum(isinstance(each, Reading) for each in waiting) > most
            ):
                yield _done(waiting[0])
                waiting.popleft()
        while waiting:
            yield _done(waiting[0])
            waiting.popleft()
    finally:
        for each in waiting:
            if isinstance(each, Reading):
                each.cancel()


def _done(page: Page | Reading) -> Page:
    if isinstance(page, Page):
        return page
    read = page.result()
    try:
        made = tuple(read.blocks())
        has = sum(letters(line.text) for line in read.lines)
        lost = self_check.warning("a page read by OCR", has, made, "what OCR read")
        written = "".join("".join(block.text.split()) for block in made)
        missing = [field for field in page.fields if "".join(field.text.split()) not in written]
        shown = blocks.among(made, (*page.pictures, *missing))
        return Page.of(shown, confidence=read.confidence, warnings=lost)
    except Exception as error:
        if defeated.passed_on(error):
            raise
        bare = defeated.page((line.text for line in read.lines), "a page read by OCR", error)
        return replace(bare, by_ocr=True, confidence=read.confidence)
