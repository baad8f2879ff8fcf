"""Raised and lowered text: marked while a document is read, and written as it was asked for at the end.

Without, 10 to the fifth power reads as 105. The marks are characters that Unicode gives no meaning, so that
they pass through all that is done with text; whatever of them a document has itself is left out.
"""

from __future__ import annotations

import re
from typing import Final, Literal

Form = Literal["unicode", "html", "caret"]
UP, DOWN = "^", "_"  # one sign a level: ^_ is lowered beside what is raised
RAISED, LOWERED, END = "\ufdd0", "\ufdd1", "\ufdd2"
_STARTS: Final = {UP: RAISED, DOWN: LOWERED}
INNERMOST: Final = re.compile(f"([{RAISED}{LOWERED}])([^{RAISED}-{END}]*){END}")
AGAIN: Final = re.compile(f"([{RAISED}{LOWERED}])([^{RAISED}-{END}]*){END}\\1")
STRAY: Final = re.compile(f"[{RAISED}-{END}]")
MAX_DEPTH: Final = 6
MAX_RUNS: Final = 8  # in succession of one kind
SIGNS: Final = "0123456789+-\u2212\u2013=()"
SMALL: Final = {
    RAISED: str.maketrans(f"{SIGNS}ni", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁻⁼⁽⁾ⁿⁱ"),
    LOWERED: str.maketrans(SIGNS, "₀₁₂₃₄₅₆₇₈₉₊₋₋₋₌₍₎"),
}
BESIDE: Final = frozenset(", *\u2217\u2020\u2021\u00a7\u00b6")  # has no small form, and is read without one
BRACKETED: Final = re.compile(r"\\?\[.*\]")
TRADE: Final = {"TM": "\u2122", "SM": "\u2120"}
ORDINALS: Final = frozenset({"st", "nd", "rd", "th", "er", "re", "ère", "ème", "nde", "os", "as"})


def marked(text: str, script: str) -> str:
    """Text as it stands above or below the line, the spaces around it left where they are.

    Args:
        text: that of a run.
        script: `UP`, `DOWN`, or several of them, the outermost first.
    """
    inner = text.strip()
    if not inner or not script:
        return text
    start = len(text) - len(text.lstrip())
    starts = "".join(_STARTS[level] for level in script[:MAX_DEPTH])
    return f"{text[:start]}{starts}{inner}{END * len(starts)}{text[start + len(inner) :]}"


def is_marked(text: str) -> bool:
    """Whether some of it stands above or below the line."""
    return END in text


def bare(text: str) -> str:
    """Text without the marks."""
    return STRAY.sub("", text)


def plain(text: str) -> str:
    """Marked text as it is written where no HTML can stand."""
    return written(text, "unicode")


def written(text: str, form: Form) -> str:
    """Marked text as it was asked for.

    Args:
        text: may have any length.
        form: `unicode` has small digits and signs, and is like `caret` for what Unicode has not.
    """
    if END not in text:
        return STRAY.sub("", text) if RAISED in text or LOWERED in text else text
    for _ in range(MAX_RUNS):
        text, joined = AGAIN.subn(r"\1\2", text)
        if not joined:
            break
    for _ in range(MAX_DEPTH):
        text, found = INNERMOST.subn(lambda match: _written(match, form), text)
        if not found:
            break
    return STRAY.sub("", text)


def _written(match: re.Match[str], form: Form) -> str:
    start, text = match[1], match[2]
    if form == "html":
        tag = "sup" if start == RAISED else "sub"
        return f"<{tag}>{text}</{tag}>" if text else ""
    if not any(map(str.isalnum, text)) and (form == "caret" or not set(text) & set(SIGNS)):
        return text  # a sign of a note
    if BRACKETED.fullmatch(text):  # the number of a reference
        return text
    if start == RAISED:
        if text in TRADE:
            return TRADE[text]
        if text in ORDINALS and match.string[match.start() - 1 : match.start()].isdigit():
            return text
    small = SMALL[start]
    if form == "unicode" and all(ord(character) in small or character in BESIDE for character in text):
        return text.translate(small)
    sign = UP if start == RAISED else DOWN
    return f"{sign}{text}" if len(text) == 1 else f"{sign}{{{text}}}"
