"""Lines in reading order as headings, paragraphs, list items and code."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, zip_longest
from statistics import median
from typing import Final, Literal

from switchyard.services.documents.model import scripts
from switchyard.services.documents.model.runs import PLAIN, Look, Run
from switchyard.services.documents.page.hyphens import KEPT, joint
from switchyard.services.documents.page.lines import SENTENCE_END, Body, Line, Table

BULLETS: Final = "\u2022\u25cf\u25aa\u25e6\u2023\u25a0\u25cb\u2043\u25a1\u25c6\u25ba\u27a2\u2714\uf0b7\u00b7"
BULLET: Final = re.compile(rf"^(?:[{BULLETS}]\s*|[\x80-\x9f\ue000-\uf8ff*\u2013-]\s+)(?=\S)")
BOX: Final = re.compile(r"^[\u2610-\u2612\u25c9\u25ef] (?=\S)")
NUMBER: Final = re.compile(r"^(\d{1,3}[.)])\s+(?=\S)")
# What Markdown has no list for begins a paragraph, in which the label stays.
LABEL: Final = re.compile(
    r"^(?:\((?:\d{1,3}|[A-Za-z]|[ivxIVX]{2,5})\)|[a-z]\)|[\u2460-\u2473\u3260-\u327b]"
    r"|\d{1,2}(?:\.\d{1,2}){1,3}\.?\s)\s*(?=\S)"
)
CAPTION: Final = re.compile(
    r"^(?:figure|fig\.|table|listing|abbildung|abb\.|tabelle|tableau|figura|tabla)\s*\d", re.IGNORECASE
)
PAGE_DIGITS: Final = "0123456789ivxlcIVXLC-"
MAX_PAGE_CHARS: Final = 9
MIN_LEADERS: Final = 4
# Heading levels by size relative to the body, as browsers set them: 2, 1.5 and 1.17 em.
LEVELS: Final = ((1.75, 1), (1.33, 2), (1.12, 3))
BOLD_LEVEL: Final = 4
MAX_HEADING_CHARS: Final = 160
MAX_BOLD_HEADING_CHARS: Final = 80
MAX_HEADING_LINES: Final = 3
GAP: Final = 1.5  # of the size, between words of a line that is not of one piece
ALIKE: Final = 0.08  # of the size
SAME_SIZE: Final = 0.15
MAX_INDENT: Final = 80  # characters of a line of code
SPACE: Final = Run(" ")  # most are alike

Kind = Literal["text", "heading", "item", "code", "image"]


@dataclass(slots=True)
class Paragraph:
    """Lines that belong together.

    Args:
        marker: that of an item, as Markdown writes it.
        dropped: how many characters of each line's text are the marker.
        level: that of a heading.
    """

    kind: Kind
    marker: str = "-"
    level: int = 0
    lines: list[Line] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)

    @property
    def left(self) -> float:
        """Where its first line begins."""
        return self.lines[0].left

    def text(self) -> str:
        """The words, those that are broken at a line's end put together."""
        return text_of(self.runs())

    def runs(self) -> list[Run]:
        """The words with their looks."""
        runs: list[Run] = []
        for line, dropped in zip(self.lines, self.dropped, strict=True):
            added = _runs(line, dropped)
            if not added:
                continue
            if runs:
                last, first = runs[-1], added[0]
                ending, between = joint(last.text, first.text)
                runs[-1] = last._replace(text=last.text[: len(last.text) - ending])
                if between:
                    runs.append(Run(between, _shared(last.look, first.look)))
            runs += added
        if runs and runs[-1].text.endswith(KEPT):
            runs[-1] = runs[-1]._replace(text=f"{runs[-1].text[:-1]}-")
        return runs

    def code(self) -> str:
        """Lines of code with their indents."""
        widths = [(line.right - line.left) / len(line.text) for line in self.lines if line.text]
        width = max(median(widths), 0.1)
        left = min(line.left for line in self.lines)
        return scripts.plain("\n".join(_set_in_columns(line, left, width) for line in self.lines))


def text_of(runs: Iterable[Run]) -> str:
    """The words of runs."""
    return "".join([run.text for run in runs])


def _runs(line: Line, dropped: int) -> list[Run]:
    if not line.words:
        return [Run(line.text[dropped:])]
    runs: list[Run] = []
    left_out = len(line.text[:dropped].replace(" ", "")) if dropped else 0
    last: Look | None = None
    for word in line.words:
        text, look = word.text, word.look
        if left_out or not text:
            cut = min(left_out, len(text))
            left_out -= cut
            if cut == len(text):
                continue
            text = text[cut:]
        if last is not None and not word.glued:
            runs.append(SPACE if last is look is PLAIN else Run(" ", _shared(last, look)))
        runs.append(Run(text, look, word.raised))
        last = look
    return runs


def _shared(one: Look, other: Look) -> Look:
    """How a space between two words looks."""
    return one if one == other else PLAIN


def _set_in_columns(line: Line, left: float, width: float) -> str:
    """A line whose words stand as many characters apart as they do on the page."""
    if not line.words:
        return line.text
    text = ""
    for word in line.words:
        at = min(round((word.left - left) / width), len(text) + MAX_INDENT)
        if not text or not word.glued:
            text += " " * max(at - len(text), 1 if text else 0)
        text += word.text
    return text


def paragraphs(
    lines: Sequence[Line], *, body: Body, slack: float, page: Sequence[Line] = ()
) -> list[Paragraph]:
    """Lines in reading order as what they form.

    Args:
        lines: in reading order.
        body: how plain text looks.
        slack: by how much more than usual a heading must exceed the body.
        page: all lines of the page, which show what stands out; these ones without.
    """
    found: list[Paragraph] = []
    gaps = [after.top - before.bottom for before, after in pairwise(lines)]
    usual = median([gap for gap in gaps if 0 <= gap < body.size] or [0.0])
    page = page or lines
    mostly_italic = sum(line.italic for line in page) * 2 > len(page)
    mostly_bold = sum(line.bold for line in page) * 2 > len(page)
    for number, line in enumerate(lines):
        after = lines[number + 1] if number + 1 < len(lines) else None
        last = found[-1] if found else None
        listed = any(_is_numbered_beside(line, other) for other in lines[max(number - 1, 0) : number + 2])
        made, dropped = _kind(line, body=body, slack=slack, bold_stands_out=not mostly_bold, listed=listed)
        other = body.font and line.font != body.font and all(word.font != body.font for word in line.words)
        stands_out = ((line.italic and not mostly_italic) or other) and not (body.headed or line.level)
        if made.kind == "text" and stands_out and _heads(last, line, after, body=body, usual=usual):
            made = Paragraph("heading", level=BOLD_LEVEL)
        if last is not None and made.level == BOLD_LEVEL and _is_wrapped_bold(last, line, usual=usual):
            made = Paragraph("text")
        if not body.mono and line.is_code and made.kind in ("text", "item"):
            made, dropped = Paragraph("code"), 0
        if last is None or made.kind == "item" or not _goes_on(last, line, made, usual=usual):
            found.append(made)
        found[-1].lines.append(line)
        found[-1].dropped.append(dropped)
    for paragraph, following in zip_longest(found, found[1:]):
        if (paragraph.kind == "heading" and not _is_heading(paragraph, following)) or (
            paragraph.kind == "code" and len(paragraph.lines) == 1
        ):
            paragraph.kind = "text"
    return found


def _is_numbered_beside(line: Line, other: Line) -> bool:
    """Whether two lines are items of one list, and not numbered headings."""
    return (
        other is not line
        and NUMBER.match(line.text) is not None
        and NUMBER.match(other.text) is not None
        and abs(line.size - other.size) <= line.size * ALIKE
        and abs(line.top - other.top) < line.size * 2
    )


def joined(parts: Sequence[Paragraph | Table], *, body: Body) -> list[Paragraph | Table]:
    """The parts of a page, with paragraphs that a figure or a table parts put together before it."""
    kept: list[Paragraph | Table] = []
    open_: Paragraph | None = None  # of plain text, and not at the end of a sentence
    for part in parts:
        if isinstance(part, Paragraph) and part.kind == "heading":
            open_ = None
        if isinstance(part, Table) or part.kind not in ("text", "item") or not _is_plain(part, body):
            kept.append(part)
            continue
        first = part.lines[0].text[part.dropped[0] :]
        if open_ is not None and kept[-1] is not open_ and part.kind == "text" and first[:1].islower():
            open_.lines += part.lines
            open_.dropped += part.dropped
        else:
            kept.append(part)
            open_ = part
        if part.lines[-1].text.endswith(SENTENCE_END):
            open_ = None
    return kept


def _is_plain(paragraph: Paragraph, body: Body) -> bool:
    """Whether it looks as most of the text does, and not as a caption or a label in a figure."""
    line = paragraph.lines[0]
    alike = abs(line.size - body.size) <= body.size * ALIKE and line.font == body.font
    return alike and not CAPTION.match(line.text)


def _kind(
    line: Line, *, body: Body, slack: float, bold_stands_out: bool, listed: bool
) -> tuple[Paragraph, int]:
    """What a line begins or continues, and how long its marker is."""
    if line.image:
        return Paragraph("image"), 0
    if line.upended:
        return Paragraph("text"), 0
    if line.level > 0:
        return Paragraph("heading", level=line.level), 0
    ratio = line.size / body.size if body.size else 1.0
    if bullet := BULLET.match(line.text):
        return Paragraph("item"), bullet.end()
    if BOX.match(line.text):
        return Paragraph("item"), 0  # the box stays: it shows whether it is checked
    if line.item and not NUMBER.match(line.text) and not LABEL.match(line.text):
        return Paragraph("item"), 0
    if _has_leaders(line.text):  # of a table of contents
        number = NUMBER.match(line.text)
        return (Paragraph("item", marker=number[1]), number.end()) if number else (Paragraph("item"), 0)
    level = next((level for least, level in LEVELS if ratio >= least * slack), 0)
    if level and not listed and not line.level:
        return Paragraph("heading", level=level), 0
    if (number := NUMBER.match(line.text)) and not (line.bold and bold_stands_out):
        return Paragraph("item", marker=number[1]), number.end()
    short = len(line.text) <= MAX_BOLD_HEADING_CHARS and not CAPTION.match(line.text)
    tall = ratio > 0.9 or (ratio > 0.75 and line.text.isupper())
    marked = line.bold and bold_stands_out and not body.headed and not line.level
    if marked and tall and short and not _has_gaps(line):
        return Paragraph("heading", level=BOLD_LEVEL), 0
    return Paragraph("text"), 0


def _has_gaps(line: Line) -> bool:
    """Whether it is several things beside each other; a heading has one gap at most, after its number."""
    words = line.words[1:] if line.words and line.words[0].text[:1].isdigit() else line.words
    return any(after.left - before.right > line.size * GAP for before, after in pairwise(words))


def _has_leaders(text: str) -> bool:
    """Whether dots lead to a page number at the end."""
    before = text.rstrip(PAGE_DIGITS)
    return len(text) - len(before) in range(1, MAX_PAGE_CHARS) and (
        before[-2 * MIN_LEADERS :].replace(" ", "")[-MIN_LEADERS:] == "." * MIN_LEADERS
    )


def _is_wrapped_bold(paragraph: Paragraph, line: Line, *, usual: float) -> bool:
    """Whether a bold line is the rest of a bold item or paragraph, and so no heading."""
    before = paragraph.lines[-1]
    near = 0 <= line.top - before.top <= usual + before.size * 1.6
    return paragraph.kind != "heading" and before.bold and near


def _heads(last: Paragraph | None, line: Line, after: Line | None, *, body: Body, usual: float) -> bool:
    """Whether a line that stands out is above plain text, and apart from what comes before it."""
    if after is None or (after.italic and line.italic) or len(line.text) > MAX_BOLD_HEADING_CHARS:
        return False
    if (line.font == after.font and not line.italic) or _has_gaps(line):
        return False
    if not line.italic and (
        after.font != body.font or line.size < body.size * 0.95 or CAPTION.match(line.text)
    ):
        return False
    apart = last is None or not 0 <= line.top - last.lines[-1].bottom <= usual + line.size * 0.4
    below = 0 <= after.top - line.top < line.size * 2.5 and abs(after.left - line.left) < line.size
    first = line.text.lstrip("([0123456789.)] ")[:1]
    return apart and below and first.isalpha() and not first.islower() and line.text[-1:].isalnum()


def _goes_on(last: Paragraph, line: Line, made: Paragraph, *, usual: float) -> bool:
    """Whether a line belongs to what comes before it."""
    before = last.lines[-1]
    if made.kind == "heading" or last.kind == "heading":
        return (
            made.kind == last.kind
            and made.level == last.level
            and abs(line.size - before.size) <= before.size * SAME_SIZE
            and not line.starts
            and -before.size < line.top - before.bottom < before.size * 0.8
        )
    if "image" in (made.kind, last.kind):
        return False
    if made.kind == "code" or last.kind == "code":
        return made.kind == last.kind and -before.size < line.top - before.bottom < before.size * 2
    if line.starts or LABEL.match(line.text):
        return False
    if line.top < before.top - before.size:  # the next column
        return not before.text.endswith(SENTENCE_END) and line.text[:1].islower()
    if line.top - before.bottom > usual + before.size * 0.4:
        return False
    if abs(line.size - before.size) > before.size * SAME_SIZE:
        return False
    if last.kind == "item":
        unmarked = last.lines[0].item and not last.dropped[0]
        return line.left > last.left + line.size * (-0.5 if unmarked else 0.5)
    indented = line.left > last.left + line.size * 0.8 and line.left > before.left + line.size * 0.8
    return not (indented and before.text.endswith(SENTENCE_END))


def _is_heading(paragraph: Paragraph, following: Paragraph | None) -> bool:
    if paragraph.lines[0].level > 0:
        return True
    if following is not None and following.kind == "item":
        first, item = paragraph.lines[0], following.lines[0]
        if abs(item.size - first.size) <= first.size * ALIKE and item.bold == first.bold:
            return False  # it only introduces the list
    text = paragraph.text()
    plain = paragraph.level == BOLD_LEVEL and text.endswith((".", ",", ";"))
    return (
        len(paragraph.lines) <= MAX_HEADING_LINES
        and len(text) <= MAX_HEADING_CHARS
        and any(character.isalnum() for character in text)
        and not plain
    )
