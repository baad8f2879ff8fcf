"""What is filled into the form of a PDF page, what is typed onto it, and what is remarked on it.

Source: ISO 32000-1, 12.5 and 12.7. Values are read from the fields themselves: how they look is often not
stored, and never in the text layer.
"""

from __future__ import annotations

import contextlib
import ctypes
import html
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import pypdfium2 as pdfium
from pypdfium2 import raw

from switchyard.services.documents.model.blocks import Block, Box, fractions
from switchyard.services.documents.model.runs import Run, render
from switchyard.services.documents.page.lines import Body, Line, Word, spaced
from switchyard.services.documents.pdf.frame import Frame

MAX_ANNOTATIONS: Final = 5_000  # a page
MAX_OPTIONS: Final = 1_000
MAX_BYTES: Final = 1024 * 1024
HIDDEN: Final = 1 << 1 | 1 << 5  # table 165: hidden, and not to be viewed
PASSWORD: Final = 1 << 13  # table 228
REMARKS: Final = frozenset({
    raw.FPDF_ANNOT_TEXT, raw.FPDF_ANNOT_LINE, raw.FPDF_ANNOT_SQUARE, raw.FPDF_ANNOT_CIRCLE,
    raw.FPDF_ANNOT_POLYGON, raw.FPDF_ANNOT_POLYLINE, raw.FPDF_ANNOT_HIGHLIGHT, raw.FPDF_ANNOT_UNDERLINE,
    raw.FPDF_ANNOT_SQUIGGLY, raw.FPDF_ANNOT_STRIKEOUT, raw.FPDF_ANNOT_STAMP, raw.FPDF_ANNOT_CARET,
    raw.FPDF_ANNOT_INK, raw.FPDF_ANNOT_FILEATTACHMENT,
})  # fmt: skip
TEXTS: Final = (raw.FPDF_FORMFIELD_TEXTFIELD,)
CHOICES: Final = (raw.FPDF_FORMFIELD_COMBOBOX, raw.FPDF_FORMFIELD_LISTBOX)
SIGNS: Final = {
    raw.FPDF_FORMFIELD_CHECKBOX: ("☐", "☑"),
    raw.FPDF_FORMFIELD_RADIOBUTTON: ("◯", "◉"),
}
KINDS: Final = {"Tx": raw.FPDF_FORMFIELD_TEXTFIELD, "Ch": raw.FPDF_FORMFIELD_COMBOBOX}
RADIO, PUSH = 1 << 15, 1 << 16  # table 226
TEXTUAL: Final = (raw.FPDF_PAGEOBJ_TEXT, raw.FPDF_PAGEOBJ_FORM)
PARAGRAPH: Final = re.compile(r"</p>|<br[^<>]*>")
RICH: Final = re.compile(r"<[^<>]*>")
NEAR: Final = 12.0  # of the size: what is filled in farther from a line stands by itself
USUAL_SIZE: Final = 10.0
LETTER: Final = 0.5  # of the size

Read = Callable[[object, int], int]


class Field(NamedTuple):
    """A text that is filled in or typed on, and where.

    Args:
        lines: those of the text.
        box: on the page as it is read.
        sign: whether it is a mark of its own, before what it marks.
    """

    lines: tuple[str, ...]
    box: Box
    sign: bool = False
    typed: bool = False


@dataclass(frozen=True, slots=True)
class Filled:
    """What a page has besides its content.

    Args:
        drawn: how many fields and stamps show a text that is drawn in them alone, and is not read.
    """

    fields: tuple[Field, ...] = ()
    remarks: tuple[Block, ...] = ()
    drawn: int = 0

    def blocks(self, size: tuple[float, float]) -> tuple[Block, ...]:
        """The fields, for a page of whose text no more is known than what OCR reads."""
        return tuple(
            Block(
                "paragraph",
                render([Run("\n".join(field.lines))]),
                "\n".join(field.lines),
                box=fractions(field.box, size),
            )
            for field in self.fields
            if not field.sign
        )


def begin(pdf: pdfium.PdfDocument) -> None:
    """Make the fields of a document known, before any page of it is opened."""
    if pdf.get_formtype() != raw.FORMTYPE_NONE:
        with contextlib.suppress(pdfium.PdfiumError):  # its widgets are read one by one then
            pdf.init_forms()


def of(page: pdfium.PdfPage, *, comments: bool) -> Filled:
    """Read the annotations of a page.

    Args:
        page: one of a document whose forms were begun with before.
        comments: whether to read remarks too; they are no content of the document.
    """
    count = min(raw.FPDFPage_GetAnnotCount(page.raw), MAX_ANNOTATIONS)
    if count <= 0:
        return Filled()
    reader = _Reader(page)
    fields: list[Field] = []
    remarks: list[Block] = []
    for number in range(count):
        annotation = raw.FPDFPage_GetAnnot(page.raw, number)
        if not annotation:
            continue
        try:
            kind = raw.FPDFAnnot_GetSubtype(annotation)
            if raw.FPDFAnnot_GetFlags(annotation) & HIDDEN:
                continue
            if kind == raw.FPDF_ANNOT_WIDGET:
                reader.add_widget(annotation)
            elif kind == raw.FPDF_ANNOT_FREETEXT:
                if (lines := _lines(reader.typed(annotation))) and (box := reader.box(annotation)):
                    fields.append(Field(lines, box, typed=True))
            elif kind == raw.FPDF_ANNOT_STAMP and not comments:
                reader.drawn += _has_text(annotation)
            elif comments and kind in REMARKS and (block := reader.remark(annotation)) is not None:
                remarks.append(block)
        finally:
            raw.FPDFPage_CloseAnnot(annotation)
    return Filled((*reader.fields, *fields), tuple(remarks), reader.drawn)


class _Reader:
    """Reads the annotations of one page."""

    def __init__(self, page: pdfium.PdfPage) -> None:
        self._form = page.formenv.raw if page.formenv else None
        self._frame = Frame.of(page)
        self._size = page.get_size()
        self.fields: list[Field] = []
        self.drawn = 0

    def add_widget(self, annotation: raw.FPDF_ANNOTATION) -> None:
        """Take in a field, unless it is empty."""
        kind, flags = self._kind(annotation)
        box = self.box(annotation)
        if box is None:
            return
        if kind in SIGNS:
            sign = SIGNS[kind][self._is_checked(annotation)]
            self.fields.append(Field((sign,), box, sign=True))
            return
        value = ""
        if kind in CHOICES:
            value = ", ".join(self._chosen(annotation))
        if kind in (*TEXTS, *CHOICES):
            value = value or self._value(annotation) or _bare(self.string(annotation, "RV"))
            self.drawn += kind in TEXTS and not value and _has_text(annotation)
        if kind == raw.FPDF_FORMFIELD_SIGNATURE and raw.FPDFAnnot_HasKey(annotation, b"V"):
            value = "(signed)"
            self.drawn += _has_text(annotation)
        if lines := _lines("(password)" if value and flags & PASSWORD else value):
            self.fields.append(Field(lines, box))

    def typed(self, annotation: raw.FPDF_ANNOTATION) -> str:
        """A text that is typed onto the page, be it plain or rich."""
        return self.string(annotation, "Contents") or _bare(self.string(annotation, "RC"))

    def remark(self, annotation: raw.FPDF_ANNOTATION) -> Block | None:
        """A remark as a block; None for one that says nothing."""
        text = " ".join(_lines(self.string(annotation, "Contents")))
        box = self.box(annotation)
        if not text or box is None:
            return None
        author = " ".join(self.string(annotation, "T").split())
        remark = f"Comment by {author}: {text}" if author else f"Comment: {text}"
        return Block("quote", f"> {render([Run(remark)])}", remark, box=fractions(box, self._size))

    def box(self, annotation: raw.FPDF_ANNOTATION) -> Box | None:
        """Where an annotation is; None for one that is nowhere."""
        rect = raw.FS_RECTF()
        if not raw.FPDFAnnot_GetRect(annotation, rect):
            return None
        left, right = sorted((rect.left, rect.right))
        bottom, top = sorted((rect.bottom, rect.top))
        return self._frame.box(left, bottom, right, top)

    def string(self, annotation: raw.FPDF_ANNOTATION, key: str) -> str:
        """A text of an annotation itself."""
        return _text(
            lambda buffer, size: raw.FPDFAnnot_GetStringValue(annotation, key.encode(), buffer, size)
        )

    def _kind(self, annotation: raw.FPDF_ANNOTATION) -> tuple[int, int]:
        if self._form is not None:
            kind = raw.FPDFAnnot_GetFormFieldType(self._form, annotation)
            if kind > 0:
                return kind, raw.FPDFAnnot_GetFormFieldFlags(self._form, annotation)
        number = ctypes.c_float()
        flags = int(number.value) if raw.FPDFAnnot_GetNumberValue(annotation, b"Ff", number) else 0
        named = self.string(annotation, "FT")
        if named == "Btn" and not flags & PUSH:
            box, option = raw.FPDF_FORMFIELD_CHECKBOX, raw.FPDF_FORMFIELD_RADIOBUTTON
            return option if flags & RADIO else box, flags
        return KINDS.get(named, raw.FPDF_FORMFIELD_UNKNOWN), flags

    def _of_form(self, read: Callable[..., int], annotation: raw.FPDF_ANNOTATION) -> str:
        if self._form is None:
            return ""
        return _text(lambda buffer, size: read(self._form, annotation, buffer, size))

    def _value(self, annotation: raw.FPDF_ANNOTATION) -> str:
        value = self._of_form(raw.FPDFAnnot_GetFormFieldValue, annotation)
        return value or self.string(annotation, "V")

    def _is_checked(self, annotation: raw.FPDF_ANNOTATION) -> bool:
        """Whether a box is checked: as it is shown, or by its value where it has no look."""
        if self._form is not None and raw.FPDFAnnot_IsChecked(self._form, annotation):
            return True
        # A box of a group has no value of its own; where a look is missing, pdfium takes it for Off.
        return any(self.string(annotation, key) not in {"", "Off"} for key in ("AS", "V"))

    def _chosen(self, annotation: raw.FPDF_ANNOTATION) -> Iterator[str]:
        if self._form is None:
            return
        for number in range(min(raw.FPDFAnnot_GetOptionCount(self._form, annotation), MAX_OPTIONS)):
            if raw.FPDFAnnot_IsOptionSelected(self._form, annotation, number):
                yield self._option(annotation, number)

    def _option(self, annotation: raw.FPDF_ANNOTATION, number: int) -> str:
        return _text(
            lambda buffer, size: raw.FPDFAnnot_GetOptionLabel(self._form, annotation, number, buffer, size)
        )


def _has_text(annotation: raw.FPDF_ANNOTATION) -> bool:
    """Whether a text is drawn in an annotation, or a drawing that may have one."""
    count = min(raw.FPDFAnnot_GetObjectCount(annotation), MAX_OPTIONS)
    objects = (raw.FPDFAnnot_GetObject(annotation, number) for number in range(count))
    return any(raw.FPDFPageObj_GetType(each) in TEXTUAL for each in objects if each)


def _bare(rich: str) -> str:
    """The words of a rich text (12.7.3.4), a line for each of its paragraphs."""
    return html.unescape(RICH.sub("", PARAGRAPH.sub("\n", rich)))


def _text(read: Read) -> str:
    """What a function of pdfium writes into a buffer, in UTF-16."""
    length = read(None, 0)
    if not 2 < length <= MAX_BYTES:
        return ""
    buffer = (ctypes.c_ushort * (length // 2 + 1))()
    read(buffer, length)
    return bytes(buffer)[: length - 2].decode("utf-16-le", errors="replace").rstrip("\0")


def _lines(text: str) -> tuple[str, ...]:
    found = (" ".join(line.split()) for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"))
    return tuple(line for line in found if line)


def placed(lines: Sequence[Line], fields: Sequence[Field], body: Body) -> list[Line]:
    """The lines of a page with what is filled in: within the line that it stands beside, or by itself."""
    if not fields:
        return list(lines)
    made = list(lines)
    size = body.size or USUAL_SIZE
    for field in fields:
        at = None if field.typed else _beside(made, field, size)
        if at is not None:  # each row of a form stands by itself
            made[at] = replace(_with(made[at], field) if len(field.lines) == 1 else made[at], starts=True)
        if at is None or len(field.lines) > 1:
            made += _alone(field, size, body.font)
    return made


def standing_alone(fields: Sequence[Field]) -> list[Line]:
    """What is filled in as lines of a page that has no other."""
    return [line for field in fields for line in _alone(field, USUAL_SIZE, "")]


def _beside(lines: Sequence[Line], field: Field, size: float) -> int | None:
    """The line that a field stands in, before or behind."""
    left, top, right, bottom = field.box
    best, nearest = None, size * NEAR
    for at, line in enumerate(lines):
        if line.upended or not line.words or not top < (line.top + line.bottom) / 2 < bottom:
            continue
        before, behind = left - line.right, line.left - right
        far = max(before, behind, 0.0)
        if field.sign and before > 0:  # a box stands before what it is for
            far = before + size
        if not field.sign and behind > 0:
            far = behind + size
        if far < nearest:
            best, nearest = at, far
    return best


def _with(line: Line, field: Field) -> Line:
    left, _, right, _ = field.box
    middle = left if field.sign else (left + right) / 2
    at = next(
        (at for at, word in enumerate(line.words) if (word.left + word.right) / 2 > middle), len(line.words)
    )
    near = line.words[min(at, len(line.words) - 1)]
    box = (left, line.top, max(right, left + 1), line.bottom)
    added = _words(field.lines[0], box, line.bottom - line.top, near.font, near.mark)
    after = [
        word._replace(glued=False) if not number else word for number, word in enumerate(line.words[at:])
    ]
    words = (*line.words[:at], *added, *after)
    return replace(
        line,
        text=spaced(words),
        words=words,
        left=min(line.left, left),
        right=max(line.right, added[-1].right),
    )


def _alone(field: Field, size: float, font: str) -> Iterator[Line]:
    left, top, right, bottom = field.box
    height = min(max((bottom - top) / len(field.lines), 1.0), size * 1.2)
    for number, text in enumerate(field.lines):
        box = (left, top + number * height, max(right, left + 1), top + (number + 1) * height)
        words = tuple(_words(text, box, size, font, -1))
        yield Line(
            text, left, box[1], words[-1].right, box[3], size, starts=number == 0, words=words, font=font
        )


def _words(text: str, box: Box, size: float, font: str, mark: int) -> list[Word]:
    """The words of a text from the left of a box."""
    left, top, right, bottom = box
    wide = min((right - left) / len(text), size * LETTER)
    words: list[Word] = []
    at = 0
    for word in text.split(" "):
        start = left + at * wide
        words.append(Word(word, start, top, start + len(word) * wide, bottom, font=font, mark=mark))
        at += len(word) + 1
    return words
