"""How near a conversion comes to the Markdown that was expected."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Final

from rapidfuzz.distance import Indel, Levenshtein

COMMENT: Final = re.compile(r"<!--.*?-->", re.DOTALL)
IMAGE: Final = re.compile(r"!\[[^\]]*\]\([^)]*\)")
LINK: Final = re.compile(r"\[([^\]]*)\]\([^)]*\)")
RULE: Final = re.compile(r"^\s*\|?[-:| ]{3,}\|?\s*$", re.MULTILINE)
HEADING_MARK: Final = re.compile(r"^\s*#+ ", re.MULTILINE)
ITEM_MARK: Final = re.compile(r"^\s*(?:[-*+•●]|\d+[.)])\s+", re.MULTILINE)
OTHER_MARKS: Final = re.compile(r"[|*_`\\•●]")
ONE_WRITING: Final = str.maketrans(
    # What is expected has raised and lowered digits on the line.
    "’‘“”„—–\u00a0⁰¹²³⁴⁵⁶⁷⁸⁹₀₁₂₃₄₅₆₇₈₉⁻₋⁺₊⁽⁾ⁿⁱ",  # noqa: RUF001 - these are what is made alike
    '\'\'"""-- 01234567890123456789--++()ni',
)
SPACE: Final = re.compile(r"\s+")
NO_WORD: Final = re.compile(r"\W+")
HEADING: Final = re.compile(r"^#{1,6} +(.+)$", re.MULTILINE)
SEPARATOR: Final = re.compile(r"[\s|:\-]+")
ITEM: Final = re.compile(r"^[ \t]*(?:[-*+•●]|\d+[.)])[ \t]+(\S.*)$", re.MULTILINE)
CELL_BORDER: Final = re.compile(r"(?<!\\)\|")


@dataclass(frozen=True, slots=True)
class Scores:
    """One conversion beside what was expected; None where nothing of the kind was.

    Args:
        text: 0 to 1, the likeness of the plain texts (1 - normalised insertions and deletions).
        character_errors: edits a character of the expected text; over 1 where much was made up.
        heading_f1: 0 to 1, of headings as a bag, whatever their level.
        cell_f1: 0 to 1, of the filled cells of all tables as a bag.
        item_f1: 0 to 1, of the items of all lists as a bag, whatever their level and mark.
    """

    text: float
    character_errors: float
    heading_f1: float | None
    cell_f1: float | None
    item_f1: float | None


def score(expected: str, actual: str) -> Scores:
    """All measures of one conversion."""
    return Scores(
        text=likeness(expected, actual),
        character_errors=character_errors(expected, actual),
        heading_f1=f1(headings(expected), headings(actual)),
        cell_f1=f1(cells(expected), cells(actual)),
        item_f1=f1(items(expected), items(actual)),
    )


def likeness(one: str, other: str) -> float:
    """0 to 1, how alike two pieces of Markdown are as plain text."""
    return round(Indel.normalized_similarity(plain(one), plain(other)), 4)


def character_errors(expected: str, actual: str) -> float:
    """Insertions, deletions and substitutions a character of the expected plain text."""
    wanted, got = plain(expected), plain(actual)
    return round(Levenshtein.distance(wanted, got) / max(1, len(wanted)), 4)


def plain(markdown: str) -> str:
    """The words of Markdown without its marks and without kinds of quotes, dashes and spaces."""
    text = LINK.sub(r"\1", IMAGE.sub("", COMMENT.sub("", markdown)))
    text = ITEM_MARK.sub("", HEADING_MARK.sub("", RULE.sub("", text)))
    return SPACE.sub(" ", OTHER_MARKS.sub(" ", text).translate(ONE_WRITING)).strip()


def headings(markdown: str) -> list[str]:
    """The words of the headings, in lower case and without punctuation."""
    return [_words(text) for text in HEADING.findall(markdown)]


def cells(markdown: str) -> list[str]:
    """The words of the filled cells of all tables, row by row."""
    rows = [line.strip() for line in markdown.splitlines() if line.strip().startswith("|")]
    found = [
        _words(cell)
        for row in rows
        if not SEPARATOR.fullmatch(row)
        for cell in CELL_BORDER.split(row.strip("|"))
    ]
    return [words for words in found if words]


def items(markdown: str) -> list[str]:
    """The words of the items of all lists."""
    return [_words(text) for text in ITEM.findall(markdown)]


def f1(expected: list[str], actual: list[str]) -> float | None:
    """The harmonic mean of precision and recall of a bag; None where nothing was expected."""
    if not expected:
        return None
    matched = (Counter(expected) & Counter(actual)).total()
    return round(2 * matched / (len(expected) + len(actual)), 3)


def _words(text: str) -> str:
    return NO_WORD.sub(" ", plain(text)).strip().lower()
