"""Cells of a workbook, where openpyxl reads less than they say."""

from __future__ import annotations

import re
from typing import Any, Final

from openpyxl.worksheet._reader import FORMULA_TAG, INLINE_STRING, WorkSheetParser

from switchyard.services.documents.model import scripts
from switchyard.services.documents.office.package import Element, Package

MAIN: Final = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
SCRIPTS: Final = {"superscript": scripts.UP, "subscript": scripts.DOWN}
MAX_FORMULA: Final = 200  # characters
# ECMA-376 part 1, 22.9.2.19: what XML cannot hold, and an underscore that would read as the start of it.
ESCAPED: Final = re.compile("_x([0-9A-Fa-f]{4})_")
SURROGATE: Final = re.compile("[\ud800-\udfff]")


class CellParser(WorkSheetParser):
    """Reads what stands above and below the line, and the formulas that have no value yet.

    What is not looked at, rules of colour, comments and pages, may be wrong in any way.
    """

    def parse_formatting(self, element: Element) -> None:
        """Rules by which cells are coloured."""

    def parse_extensions(self, element: Element) -> None:
        """Further rules."""

    def parse_validation(self) -> None:
        """What may be put into cells."""

    def parse_cell(self, element: Any) -> dict[str, Any]:
        """A cell; one whose formula has no stored value says `uncalculated`, and has the formula."""
        cell: dict[str, Any] = super().parse_cell(element)
        if cell["value"] is None:
            if element.find(FORMULA_TAG) is not None:
                cell |= {"value": self._formula(element), "data_type": "s", "uncalculated": True}
        elif element.get("t") == "inlineStr":
            written = element.find(INLINE_STRING)
            if written is not None and (_has_scripts(written) or _is_escaped(written)):
                cell["value"] = _marked(written)
        elif element.get("t") == "str":
            cell["value"] = unescaped(str(cell["value"]))
        return cell

    def _formula(self, element: Any) -> str:
        try:
            formula = self.parse_formula(element)  # type: ignore[no-untyped-call]
        except Exception:  # noqa: BLE001 - the value is missing whatever the formula is
            formula = "="
        written = formula if isinstance(formula, str) else getattr(formula, "text", None) or "="
        return written if len(written) <= MAX_FORMULA else f"{written[:MAX_FORMULA]}…"


def mark_scripts(package: Package, strings: list[str]) -> None:
    """Mark what stands above and below the line in the texts that cells share, in the order of their part.

    Those with escaped characters are read again as well: openpyxl takes some as they are.
    """
    for part in package.related(package.main_part(), "sharedStrings"):
        if package.mentions(part, b"vertAlign") or package.mentions(part, b"_x"):
            for number, item in enumerate(package.children(part, f"{MAIN}sst")):
                if number < len(strings) and (_has_scripts(item) or _is_escaped(item)):
                    strings[number] = _marked(item)


def unescaped(text: str) -> str:
    """A text with the characters that stand escaped in it; without those that no text has."""
    if "_x" not in text:
        return text
    found = ESCAPED.sub(lambda match: _character(int(match[1], 16)), text)
    if SURROGATE.search(found):
        found = found.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return found


def _character(code: int) -> str:
    return chr(code) if code >= ord(" ") or chr(code) in "\t\n" else ""


def _has_scripts(item: Element) -> bool:
    return next(item.iter(f"{MAIN}vertAlign"), None) is not None


def _is_escaped(item: Element) -> bool:
    return any(ESCAPED.search(text.text or "") for text in item.iter(f"{MAIN}t"))


def _marked(item: Element) -> str:
    return "".join(
        scripts.marked(unescaped(run.findtext(f"{MAIN}t") or ""), _script(run))
        if run.tag == f"{MAIN}r"
        else unescaped(run.text or "")
        for run in item
        if run.tag in {f"{MAIN}t", f"{MAIN}r"}
    )


def _script(run: Element) -> str:
    align = run.find(f"{MAIN}rPr/{MAIN}vertAlign")
    return "" if align is None else SCRIPTS.get(align.get("val", ""), "")
