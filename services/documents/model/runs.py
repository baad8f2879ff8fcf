"""Runs of formatted text as one piece of inline Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final, NamedTuple

from switchyard.services.documents.model import scripts
from switchyard.services.documents.write import markdown

UNSAFE_LINK: Final = re.compile(r"(javascript|data|vbscript|file):", re.IGNORECASE)
IGNORED: Final = re.compile(r"[\x00-\x20\x7f]+")  # what browsers take out of an address
SPACE: Final = re.compile(r"\s+")
SPACE_IN_LINE: Final = re.compile(r"[^\S\n]+")
SPACED_BREAK: Final = re.compile(r" ?(?:\n ?)+")
BACKTICKS: Final = re.compile(r"`+")


@dataclass(frozen=True, slots=True)
class Look:
    """How a run of text is set.

    Args:
        script: whether above or below the line; see `scripts.marked`.
    """

    bold: bool = False
    italic: bool = False
    struck: bool = False
    code: bool = False
    link: str = ""
    script: str = ""


PLAIN: Final = Look()


class Run(NamedTuple):
    """Text of one look; `raw` is Markdown already."""

    text: str
    look: Look = PLAIN
    raw: bool = False


def plain(runs: Iterable[Run]) -> str:
    """The words alone."""
    return SPACE.sub(" ", "".join(run.text for run in runs)).strip()


def verbatim(runs: Iterable[Run]) -> str:
    """The text as it is, for code."""
    return "".join(
        scripts.plain(scripts.marked(run.text, run.look.script)) if run.look.script else run.text
        for run in runs
    )


def render(runs: Iterable[Run], *, emphasis: bool = True) -> str:
    """Runs as inline Markdown in which nothing reads as HTML.

    Args:
        runs: in the order they are read; spaces in succession become one, line breaks are kept.
        emphasis: whether bold and italic are marked, which in a heading they are not.
    """
    runs = list(runs)
    if all(run.look is PLAIN and not run.raw for run in runs):  # as most are
        text = SPACE_IN_LINE.sub(" ", "".join(run.text for run in runs))
        return markdown.inline(SPACED_BREAK.sub("\n", text).strip())
    if not emphasis:
        runs = (run._replace(look=replace(run.look, bold=False, italic=False)) for run in runs)
    pieces: list[str] = []
    for link, linked in groupby(_collapsed(runs), key=lambda run: run.look.link):
        text = "".join(_looking(list(alike)) for _, alike in groupby(linked, key=_look))
        pieces.append(_linked(text, link))
    return SPACED_BREAK.sub("\n", "".join(pieces)).strip()


def _collapsed(runs: Iterable[Run]) -> Iterable[Run]:
    """Runs without spaces at the start and without two in succession; what is empty is left out."""
    spaced = True
    for run in runs:
        text = SPACE_IN_LINE.sub(" ", run.text)
        if spaced:
            text = text.removeprefix(" ")
        if text:
            spaced = text.endswith((" ", "\n"))
            yield run if text == run.text else run._replace(text=text)


def _look(run: Run) -> tuple[bool, ...]:
    look = run.look
    return look.bold, look.italic, look.struck, look.code


def _looking(runs: list[Run]) -> str:
    look = runs[0].look
    if any(run.look.script for run in runs):
        runs = [_scripted(run) for run in runs]
    text = "".join(run.text if run.raw or look.code else markdown.inline(run.text) for run in runs)
    before, inner, after = _edges(text)
    if not inner:
        return text
    if look.code:
        inner = code(SPACE.sub(" ", inner))
    marks = "*" * (look.italic + 2 * look.bold)
    if look.struck:
        inner = f"~~{inner}~~"
    return f"{before}{marks}{inner}{marks}{after}"


def _scripted(run: Run) -> Run:
    if run.raw:
        return run
    text = scripts.marked(run.text, run.look.script)
    return run._replace(text=scripts.plain(text) if run.look.code else text)


def code(text: str) -> str:
    """Text as code, in more backticks than it holds in succession."""
    fence = "`" * (max((len(found) for found in BACKTICKS.findall(text)), default=0) + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def _linked(text: str, link: str) -> str:
    before, inner, after = _edges(text)
    if not inner or not link or link.startswith("#") or not safe(link):
        return text
    return f"{before}[{inner}]({address(link)}){after}"


def safe(link: str) -> bool:
    """Whether an address leads somewhere and does nothing by itself."""
    return not UNSAFE_LINK.match(IGNORED.sub("", link))


def address(link: str) -> str:
    """An address that can stand within the parentheses of a link."""
    link = SPACE.sub("%20", link.strip())
    for mark, code_ in (("(", "%28"), (")", "%29"), ("<", "%3C"), (">", "%3E")):
        link = link.replace(mark, code_)
    return link


def image(description: str, source: str) -> str:
    """A reference to an image, or its description alone where the source is unknown."""
    description = markdown.inline(SPACE.sub(" ", description).strip()).replace("[", "").replace("]", "")
    if not source or not safe(source):
        return description
    return f"![{description}]({address(source)})"


def _edges(text: str) -> tuple[str, str, str]:
    """The spaces before and after, and what is between them."""
    start = len(text) - len(text.lstrip())
    inner = text.strip()
    return text[:start], inner, text[start + len(inner) :]
