"""What runs through a document and is said nowhere else in it, such as a letterhead, kept at its end."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from switchyard.services.documents.model import blocks
from switchyard.services.documents.model.blocks import Block
from switchyard.services.documents.model.document import Page
from switchyard.services.documents.page.lines import Line
from switchyard.services.documents.page.page_number import ANY, ONLY_NUMBER, is_long, number_in
from switchyard.services.documents.page.running_lines import NEAR_PAGES, is_marked
from switchyard.services.documents.write import markdown

NO_LETTER: Final = re.compile(r"[\W_]+")
OF_PARTS: Final = re.compile(r"(?=(?:\D*\d){1,5}\D*$)[\W\d_]+")  # such as 7-45
MAX_TEXTS: Final = 1_000  # of a document


class KeptOnce:
    """Remembers what was left out of a document's pages, until a page says it as its own."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._waiting: dict[str, str] = {}
        self._behind: deque[str] = deque(maxlen=NEAR_PAGES)
        self._all: list[str] | None = []  # for a document that would say nothing without them

    def room(self, gone: Sequence[Line]) -> bool:
        """Whether all of these lines can be remembered."""
        return len(self._known) + len(gone) <= MAX_TEXTS

    def add(self, gone: Sequence[Line], own: Sequence[Line]) -> None:
        """Take in a page: the lines left out of it, and those that are its own."""
        self._behind.append("".join(line.text for line in own))
        if own:
            self._all = None
        elif self._all is not None and len(self._all) + len(gone) <= MAX_TEXTS:
            self._all += [line.text for line in gone]
        new = {key: line.text for line in gone if (key := _key(line)) and key not in self._known}
        self._known |= new.keys()
        if new or self._waiting:
            said = [_letters(text) for text in (self._behind if new else [self._behind[-1]])]
            waiting = self._waiting | new
            self._waiting = {
                key: text for key, text in waiting.items() if not any(key in each for each in said)
            }

    def at_end(self, pages: Iterator[Page], total: int) -> Iterator[Page]:
        """The pages of a document, and at the end of the last one what is said nowhere else.

        That is all of it where nothing else is said.
        """
        empty = True
        for number, page in enumerate(pages, start=1):
            empty = empty and not page.blocks
            texts = self._all if empty and self._all else self._waiting.values()
            if number < total or not texts:
                yield page
                continue
            rest = (Block("paragraph", _written(text), text) for text in texts)
            made = (*page.blocks, *rest)
            yield replace(page, blocks=made, markdown=blocks.join(made))


def _key(line: Line) -> str:
    """By what the same line is known on other pages; empty for a page's number alone."""
    if ONLY_NUMBER.fullmatch(line.text) or (is_marked(line) and OF_PARTS.fullmatch(line.text)):
        return ""
    if (found := number_in(line)) is None:
        return _letters(ANY.sub("", line.text) if is_long(line) else line.text)
    start, end, _ = found
    return _letters(line.text[:start] + line.text[end:])


def _letters(text: str) -> str:
    return NO_LETTER.sub("", text).casefold()


def _written(text: str) -> str:
    return markdown.unlike_blocks(markdown.inline(text))
