"""Text layers whose characters are not those that the page shows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Final
from unicodedata import normalize

import pypdfium2 as pdfium
from PIL import ImageOps

from switchyard.services.documents.model.document import Options
from switchyard.services.documents.ocr import reading
from switchyard.services.documents.page.lines import Line
from switchyard.services.documents.pdf.regions import part

UNREADABLE: Final = re.compile("[\ufffd\ue000-\uf8ff\x80-\x9f]")
UNREADABLE_SHARE: Final = 0.3
LATIN: Final = re.compile("[A-Za-z]")
VOWEL: Final = re.compile("[aeiouyAEIOUY]")
VOWEL_SHARE: Final = 0.27  # of Latin letters; no language that is written so has less than 0.33
ODD: Final = re.compile(r"[^\w\s.,;:!?()'\"\u2018-\u201d\u2013\u2014/%-]")
ODD_SHARE: Final = 0.25
HIGH: Final = re.compile("[\u00a1-\u024f]")
HIGH_SHARE: Final = 0.4  # of the letters: in no language that is written so more than 0.3
SCRIPTS: Final = tuple(
    re.compile(f"[{letters}]")
    for letters in (
        *("A-Za-z", "\u0370-\u03ff", "\u0400-\u052f", "\u0530-\u058f", "\u0590-\u05ff", "\u0600-\u06ff"),
        *("\u0900-\u0dff", "\u0e00-\u0eff", "\u10a0-\u10ff", "\u3040-\u9fff", "\uac00-\ud7a3"),
    )
)
MIXED_SCRIPTS: Final = 4
SCRIPT_SHARE: Final = 0.05
ENOUGH: Final = 50  # characters: fewer prove nothing
COMPARED_LINES: Final = 3
COMPARED_CHARS: Final = 200
ALIKE: Final = 0.5  # OCR and a text layer that is right come to 0.9
BORDER: Final = 20  # pixels, without which tesseract misses letters
SURE: Final = 70.0  # of 100, OCR's own confidence


def is_unreadable(text: str, *, of: int | None = None) -> bool:
    """Whether many characters stand for nothing, of so many; without, of those of the text."""
    return len(UNREADABLE.findall(text)) > (len(text) if of is None else of) * UNREADABLE_SHARE


def is_odd(text: str) -> bool:
    """Whether text looks unlike any language: worth a look, as code and tables of sums do so as well."""
    letters = "".join(text.split())
    if len(letters) < ENOUGH:
        return False
    latin = LATIN.findall(normalize("NFD", letters))  # a letter with an accent as one without
    if len(latin) >= ENOUGH and len(VOWEL.findall("".join(latin))) < len(latin) * VOWEL_SHARE:
        return True
    scripts = sum(len(script.findall(letters)) > len(letters) * SCRIPT_SHARE for script in SCRIPTS)
    return (
        len(ODD.findall(letters)) > len(letters) * ODD_SHARE
        or len(HIGH.findall(letters)) > len(letters) * HIGH_SHARE
        or scripts >= MIXED_SCRIPTS
    )


def odd_fonts(lines: Sequence[Line]) -> frozenset[str] | None:
    """The fonts of a page whose text looks unlike any language; None for any other page."""
    if not is_odd(" ".join(line.text for line in lines)):
        return None
    return frozenset(line.font for line in lines)


def differs(page: pdfium.PdfPage, lines: Sequence[Line], options: Options) -> bool:
    """Whether the fonts of a page name other letters than they show, by reading some lines by OCR."""
    straight = (line for line in lines if not line.upended)
    longest = sorted(straight, key=lambda line: len(line.text), reverse=True)
    matching = shown = 0
    for line in longest[:COMPARED_LINES]:
        image, _, _ = part(page, (line.left, line.top, line.right, line.bottom), margin=0.0)
        image = ImageOps.expand(image, BORDER, "white")
        read = reading.recognise(image, options.languages, line=True, cores=options.cores)
        if read.confidence < SURE or not read.lines:
            continue
        shown += 1
        seen = " ".join(each.text for each in read.lines)
        matching += _likeness(seen, line.text) >= ALIKE
    return shown > 0 and matching * 2 < shown


def _likeness(one: str, other: str) -> float:
    one, other = ("".join(text.split()).casefold()[:COMPARED_CHARS] for text in (one, other))
    return SequenceMatcher(None, one, other, autojunk=False).ratio()
