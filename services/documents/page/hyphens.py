"""Words that a line's end breaks, and those whose hyphen only stands there."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

from switchyard.services.documents.page.lines import Line, Word

KEPT: Final = "\u2011"  # a hyphen that is the word's own
HYPHEN: Final = re.compile(rf"(?<=[^\W_])[-\u00ad\u2010{KEPT}]$")
LINKING: Final = re.compile(r"(?:und|oder|sowie|bzw|and|or|et|ou)\b")  # "pre- and post-", "Vor- und Nachname"
WORD: Final = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
BROKEN: Final = re.compile(r"([^\W\d_]+(?:-[^\W\d_]+)*)-$")
MAX_WORDS: Final = 200_000
MAX_BELOW: Final = 3  # lines in the page's content, among which is the one that continues
CELL_GAP: Final = 1.0  # em
MIN_CHARS: Final = 4  # of a word of its own: shorter ones also begin and end others


def joint(before: str, after: str) -> tuple[int, str]:
    """How many characters end a line in vain, and what stands between it and the next."""
    if not after[:1].isalnum() or HYPHEN.search(before) is None:
        return 0, " "
    if before[-1] == KEPT:
        return 1, "-"
    if LINKING.match(after):
        return 0, " "
    return int(after[0].islower()), ""


def unbroken(texts: Iterable[str]) -> str:
    """The texts of lines as one, words that a line's end breaks put together."""
    whole = ""
    for text in texts:
        if whole and text:
            dropped, between = joint(whole, text)
            whole = whole[: len(whole) - dropped] + between
        whole += text
    return whole.removesuffix(KEPT) + "-" if whole.endswith(KEPT) else whole


class Vocabulary:
    """The words of a document as far as it is read; they show which hyphens are the word's own."""

    def __init__(self) -> None:
        self._words: Counter[str] = Counter()

    def learn(self, lines: Iterable[Line]) -> None:
        """Take in the whole words of a page."""
        if len(self._words) > MAX_WORDS:
            return
        broken = False
        for line in lines:
            words = WORD.findall(line.text.lower())
            rest = words[1:] if broken else words
            broken = line.text.endswith("-")
            self._words.update(rest[:-1] if broken else rest)

    def with_hyphens(self, lines: Sequence[Line]) -> list[Line]:
        """The lines of a page, with `KEPT` at the ends of lines and cells for a hyphen of the word itself."""
        return [
            self._with_hyphens(line, lines[at + 1 : at + 1 + MAX_BELOW]) if "-" in line.text else line
            for at, line in enumerate(lines)
        ]

    def _with_hyphens(self, line: Line, following: Sequence[Line]) -> Line:
        words = list(line.words)
        for at, word in enumerate(words):
            last = at == len(words) - 1
            if not word.text.endswith("-") or word.look.code:
                continue
            if not last and not _is_apart(word, words[at + 1]):
                continue
            found = BROKEN.search("".join(part.text for part in _parts(words, at)))
            after = _below(word, following, last=last)
            if found and after and self._keeps(found[1].lower(), after):
                words[at] = word._replace(text=word.text[:-1] + KEPT)
        return line if words == list(line.words) else line.part(words)

    def _keeps(self, before: str, after: str) -> bool:
        """Whether two parts are known with a hyphen between them, or as words of their own and not as one."""
        last = before.rpartition("-")[2]
        joined = self._words[last + after] + self._words[before + after]
        dashed = self._words[f"{before}-{after}"] + self._words[f"{last}-{after}"]
        if joined or dashed:
            return dashed > joined
        return min(len(last), len(after)) >= MIN_CHARS and last in self._words and after in self._words


def _parts(words: Sequence[Word], at: int) -> Sequence[Word]:
    """A word with what is glued before it."""
    first = at
    while first and words[first].glued:
        first -= 1
    return words[first : at + 1]


def _below(word: Word, following: Sequence[Line], *, last: bool) -> str:
    """The part of a word that stands below another, in small letters; empty where none does."""
    for line in following:
        for before, first in pairwise((None, *line.words)):
            if first is None or (before is not None and not _is_apart(before, first)):
                continue
            if first.top > word.top and first.left <= word.right and _starts(first, line) > word.left:
                return _fragment(first)
    return _fragment(following[0].words[0]) if last and following and following[0].words else ""


def _starts(first: Word, line: Line) -> float:
    """Where the words end that stand together from one on."""
    right = first.right
    for word in line.words[line.words.index(first) + 1 :]:
        if word.left - right > CELL_GAP * (word.bottom - word.top):
            break
        right = word.right
    return right


def _fragment(word: Word) -> str:
    found = WORD.match(word.text)
    return found[0] if found and found[0][0].islower() else ""


def _is_apart(before: Word, after: Word) -> bool:
    return after.left - before.right > CELL_GAP * (after.bottom - after.top)
