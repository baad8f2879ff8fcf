"""Pages in their order, of which some are read by OCR while the next are made."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Generic, TypeVar

from switchyard.services.documents import defeated, self_check
from switchyard.services.documents.errors import RetryableError
from switchyard.services.documents.model import blocks
from switchyard.services.documents.model.blocks import Block
from switchyard.services.documents.model.document import Page
from switchyard.services.documents.ocr.machine.cores import count
from switchyard.services.documents.ocr.reading import Reading
from switchyard.services.documents.ocr.recognised import Recognised
from switchyard.services.documents.self_check import letters

MAX_READ: Final = 16  # at once, each of 9 MB for a page in letter format
MAX_WAITING: Final = 64  # pages that are done behind one that is not

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pending(Generic[T]):
    """A page that is being read.

    Args:
        made: what is made of what it says.
        failed: what stands for it where the OCR program fails on it; without, all of the document fails.
    """

    reading: Reading
    made: Callable[[Recognised], T]
    failed: Callable[[RetryableError], T] | None = None


def ahead(pages: Iterator[T | Pending[T]]) -> Iterator[T]:
    """The pages, of which as many are being read as there are processors."""
    waiting: deque[T | Pending[T]] = deque()
    most = min(count(), MAX_READ)
    try:
        for page in pages:
            waiting.append(page)
            while waiting and (
                not isinstance(waiting[0], Pending)
                or len(waiting) > MAX_WAITING
                or sum(isinstance(each, Pending) for each in waiting) > most
            ):
                yield _done(waiting[0])
                waiting.popleft()
        while waiting:
            yield _done(waiting[0])
            waiting.popleft()
    finally:
        for each in waiting:
            if isinstance(each, Pending):
                each.reading.cancel()


def _done(page: T | Pending[T]) -> T:
    if not isinstance(page, Pending):
        return page
    try:
        return page.made(page.reading.result())
    except RetryableError as error:
        if page.failed is None:
            raise
        return page.failed(error)


def page_of(read: Recognised, pictures: Sequence[Block] = (), fields: Sequence[Block] = ()) -> Page:
    """What OCR read as a page.

    Args:
        read: what it says.
        pictures: which stand among it.
        fields: what is filled in, which stands there too unless the image shows it.
    """
    try:
        made = tuple(read.blocks())
        has = sum(letters(line.text) for line in read.lines)
        lost = self_check.warning("a page read by OCR", has, made, "what OCR read")
        written = "".join("".join(block.text.split()) for block in made)
        missing = [field for field in fields if "".join(field.text.split()) not in written]
        shown = blocks.among(made, (*pictures, *missing))
        return Page.of(shown, confidence=read.confidence, warnings=lost)
    except Exception as error:
        if defeated.passed_on(error):
            raise
        bare = defeated.page((line.text for line in read.lines), "a page read by OCR", error)
        return replace(bare, by_ocr=True, confidence=read.confidence)
