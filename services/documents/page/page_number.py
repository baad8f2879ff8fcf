"""The number of its page that a running line may have in it."""

from __future__ import annotations

import re
from itertools import islice
from typing import Final

from switchyard.services.documents.page.lines import Line

NUMBERED: Final = "\0"  # stands around how far a number is from the page's own
PAGES: Final = (
    r"pages?|pp?\.|pg\.?|seite|s\.|página|pagina|pág\.|pag\.|side|sida|sivu|strona|strana|str\.|"
    r"страница|стр\.|第"
)
OF: Final = r"of|von|de|sur|di|av|van|из|/"
ONLY_NUMBER: Final = re.compile(
    rf"\W*(?:{PAGES})?\s*(\d{{1,5}})(?:\s*(?:{OF})\s*\d{{1,5}})?\W*", re.IGNORECASE
)
PREFIXED: Final = re.compile(r"\W*(?:[A-Za-z]{1,2}|\d{1,2})\s?[-\u2013]\s?(\d{1,3})\W*")  # by its chapter
ROMAN: Final = re.compile(r"\W*([ivxlc]{1,8})\W*", re.IGNORECASE)
WITH_WORD: Final = re.compile(rf"(?<!\w)(?:{PAGES})\s*(\d{{1,5}})(?!\w)", re.IGNORECASE)
OF_ALL: Final = re.compile(rf"(?<![\w./])(\d{{1,5}})\s*(?:{OF})\s*\d{{1,5}}(?![\w./])", re.IGNORECASE)
PARTED: Final = re.compile(r"^(\d{1,5})\s*[|·•]|[|·•]\s*(\d{1,5})$")
DASHED: Final = re.compile(r"(?<![^\s])[-\u2013](\d{1,5})[-\u2013](?![^\s])")
ANY: Final = re.compile(r"(?<![\w.,:/-])\d{1,5}(?![\w.,:/-])")
CLOCK: Final = re.compile(r"\b\d{1,2}:\d\d\b")
MANY_WORDS: Final = 6
MAX_NUMBERS: Final = 6  # of a line
DIGITS: Final = re.compile(r"\d{1,5}")
LABEL: Final = re.compile(r"[:#№]$|\b(?:no|nr|nº)\.?$", re.IGNORECASE)
GAPS: Final = (1.0, 3.0)  # of the size, after a number and before one: that may be a chapter's
VALUES: Final = {"i": 1, "v": 5, "x": 10, "l": 50, "c": 100}

Number = tuple[int, int, int]


def number_in(line: Line) -> Number | None:
    """From where to where in its text a line has what may be the page's number, and that; None for none."""
    for pattern in (ONLY_NUMBER, WITH_WORD, OF_ALL, PARTED, DASHED):
        if found := pattern.fullmatch(line.text) if pattern is ONLY_NUMBER else pattern.search(line.text):
            group = found.lastindex or 1
            return found.start(group), found.end(group), int(found[group])
    if found := PREFIXED.fullmatch(line.text):
        return found.start(1), found.end(1), int(found[1])
    if found := ROMAN.fullmatch(line.text):
        return found.start(1), found.end(1), _roman(found[1].lower())
    return _at_end(line)


def numbers_in(line: Line) -> list[Number]:
    """All numbers of a line that may be the page's: any of one that has many words or was stamped on."""
    found = number_in(line)
    if found is not None:
        return [found]
    if not is_long(line):
        return []
    numbers = (at for at in ANY.finditer(line.text) if not LABEL.search(line.text[: at.start()].rstrip()))
    return [(at.start(), at.end(), int(at[0])) for at in islice(numbers, MAX_NUMBERS)]


def is_long(line: Line) -> bool:
    """Whether a line says more than what it counts, such as a file's name and when it was printed."""
    return len(line.text.split()) >= MANY_WORDS or CLOCK.search(line.text) is not None


def _at_end(line: Line) -> Number | None:
    """A number that begins or ends a line, apart from its words."""
    if len(line.words) < 2:
        return None
    first, second, before, last = line.words[0], line.words[1], line.words[-2], line.words[-1]
    if DIGITS.fullmatch(first.text) and second.left - first.right >= line.size * GAPS[0]:
        return 0, len(first.text), int(first.text)
    apart = last.left - before.right >= line.size * GAPS[1] and not LABEL.search(before.text)
    if apart and DIGITS.fullmatch(last.text):
        return len(line.text) - len(last.text), len(line.text), int(last.text)
    return None


def _roman(text: str) -> int:
    values = [VALUES[letter] for letter in text]
    return sum(-one if one < other else one for one, other in zip(values, [*values[1:], 0], strict=True))
