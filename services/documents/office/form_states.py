"""What a PDF form does not show: boxes whose state is stored nowhere that it can be read, and XFA alone."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator
from typing import Final

import pypdfium2 as pdfium
from pypdfium2 import raw

MAX_PAGES: Final = 200  # a longer form is looked at as far as that
MAX_ANNOTATIONS: Final = 2_000  # a page
BOXES: Final = (raw.FPDF_FORMFIELD_CHECKBOX, raw.FPDF_FORMFIELD_RADIOBUTTON)
XFA: Final = "the PDF is an XFA form, whose text only some viewers show; what other viewers show was read"

Place = tuple[int, int]  # of a page and an annotation on it


def begin(pdf: pdfium.PdfDocument) -> tuple[str, ...]:
    """Make the fields of a document known, before any page of it is opened; warnings.

    A box has its own state, or its group has that of all. The library reads the first alone, and gives a box
    without one the state Off as soon as it knows the form.
    """
    kind = pdf.get_formtype()
    if kind == raw.FORMTYPE_NONE:
        return ()
    widgets, stateless = _stateless(pdf)
    with contextlib.suppress(pdfium.PdfiumError):  # its widgets are read one by one then
        pdf.init_forms()
    warnings = []
    if kind == raw.FORMTYPE_XFA_FULL or (kind == raw.FORMTYPE_XFA_FOREGROUND and not widgets):
        warnings.append(XFA)
    if stateless and pdf.formenv is not None and (unknown := _unknown(pdf, stateless)):
        warnings.append(f"{unknown} check boxes or options of the form do not show whether they are chosen")
    return tuple(warnings)


def _stateless(pdf: pdfium.PdfDocument) -> tuple[int, set[Place]]:
    """How many widgets there are, and which have no state of their own but may have one of their group."""
    widgets, found = 0, set[Place]()
    for place, annotation in _widgets(pdf):
        widgets += 1
        has = {key: raw.FPDFAnnot_HasKey(annotation, key.encode()) for key in ("AS", "V", "Parent")}
        if has["Parent"] and not has["AS"] and not has["V"]:
            found.add(place)
    return widgets, found


def _unknown(pdf: pdfium.PdfDocument, stateless: set[Place]) -> int:
    """How many of the boxes without a state are in groups of which none is checked."""
    form = pdf.formenv.raw
    groups: defaultdict[bytes, list[bool]] = defaultdict(list)
    checked: set[bytes] = set()
    for place, annotation in _widgets(pdf):
        if raw.FPDFAnnot_GetFormFieldType(form, annotation) not in BOXES:
            continue
        length = raw.FPDFAnnot_GetFormFieldName(form, annotation, None, 0)
        name = (raw.FPDF_WCHAR * (length // 2 + 1))()
        raw.FPDFAnnot_GetFormFieldName(form, annotation, name, length)
        groups[bytes(name)].append(place in stateless)
        if raw.FPDFAnnot_IsChecked(form, annotation):
            checked.add(bytes(name))
    return sum(sum(lacking) for name, lacking in groups.items() if name not in checked)


def _widgets(pdf: pdfium.PdfDocument) -> Iterator[tuple[Place, raw.FPDF_ANNOTATION]]:
    for number in range(min(len(pdf), MAX_PAGES)):
        page = raw.FPDF_LoadPage(pdf.raw, number)  # without what is done to forms as a page is opened
        if not page:
            continue
        try:
            for at in range(min(raw.FPDFPage_GetAnnotCount(page), MAX_ANNOTATIONS)):
                annotation = raw.FPDFPage_GetAnnot(page, at)
                if not annotation:
                    continue
                try:
                    if raw.FPDFAnnot_GetSubtype(annotation) == raw.FPDF_ANNOT_WIDGET:
                        yield (number, at), annotation
                finally:
                    raw.FPDFPage_CloseAnnot(annotation)
        finally:
            raw.FPDF_ClosePage(page)
