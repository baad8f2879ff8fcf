"""Footnotes of a PDF page: small text below, marked as a raised mark in the text is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from switchyard.services.documents.model import scripts
from switchyard.services.documents.page.lines import Line, spaced

SMALLER: Final = 0.95  # of the plain text's size, at most
LABEL: Final = re.compile(r"[(\[]?([1-9]\d{0,2}|[*\u2217\u2020\u2021\u00a7\u00b6]{1,3})[.)\]]?")
SAME_SIZE: Final = 0.1  # of the size
GAP: Final = 1.2  # of the size, between two lines of one note


@dataclass(frozen=True, slots=True)
class Note:
    """One footnote.

    Args:
        mark: as it stands in the text: a number or a sign.
        name: what it is called in the Markdown, where no other note of the document is called so.
        after: the line of the text that it stands below; None at the top.
        lines: without the mark.
    """

    mark: str
    name: str
    after: Line | None
    lines: tuple[Line, ...]


def parted(lines: Sequence[Line], *, body: float) -> tuple[list[Line], list[Note]]:
    """The lines of a page without its footnotes, and the footnotes.

    Args:
        lines: in reading order.
        body: the size of plain text.
    """
    raised = (word.text for line in lines for word in line.words[1:] if word.raised)
    marks = {mark for text in raised if (mark := label(text))}
    if not marks:
        return list(lines), []
    kept: list[Line] = []
    notes: list[Note] = []
    last: Line | None = None  # of the note that may continue
    for line in lines:
        if (
            line.size < body * SMALLER
            and (begun := _begun(line, kept[-1] if kept else None))
            and begun.mark in marks
        ):
            notes.append(begun)
            last = line
        elif last is not None and _goes_on(last, line):
            notes[-1] = replace(notes[-1], lines=(*notes[-1].lines, line))
            last = line
        else:
            kept.append(line)
            last = None
    return kept, notes


def named(notes: Sequence[Note], taken: set[str], page: int) -> list[Note]:
    """The notes of a page under names of their own, which are taken then."""
    found: list[Note] = []
    for number, note in enumerate(notes, start=1):
        name = note.mark if note.mark.isdigit() and note.mark not in taken else f"{page}-{number}"
        taken.add(name)
        found.append(replace(note, name=name))
    return found


def label(text: str) -> str:
    """A mark without what stands around it; nothing for what is no mark."""
    found = LABEL.fullmatch(scripts.bare(text))
    return found[1] if found else ""


def _begun(line: Line, after: Line | None) -> Note | None:
    """The note that a line begins."""
    if len(line.words) < 2 or not (mark := label(line.words[0].text)):
        return None
    rest = (line.words[1]._replace(glued=False), *line.words[2:])
    return Note(mark, mark, after, (replace(line, text=spaced(rest), words=rest, left=rest[0].left),))


def _goes_on(before: Line, line: Line) -> bool:
    return (
        abs(line.size - before.size) <= before.size * SAME_SIZE
        and -before.size < line.top - before.bottom < before.size * GAP
        and line.left < before.right
        and line.right > before.left
    )
