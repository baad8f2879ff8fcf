"""Word, PowerPoint and Excel documents of the Office Open XML formats."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, Final

import openpyxl
from openpyxl.worksheet._read_only import ReadOnlyWorksheet

from switchyard.services.documents import defeated, self_check
from switchyard.services.documents.model import pieces
from switchyard.services.documents.model.document import Document, Options, Page, check_pages
from switchyard.services.documents.office import archive, comments
from switchyard.services.documents.office.package import STRICT, Package, transitional
from switchyard.services.documents.office.sheets import letters as sheet_letters
from switchyard.services.documents.office.sheets.cells import mark_scripts
from switchyard.services.documents.office.sheets.read import MAX_CELLS, Sheet, bare, extras_of
from switchyard.services.documents.office.slides.read import SlideReader, slide_parts
from switchyard.services.documents.office.word.read import DocxReader
from switchyard.services.documents.self_check import letters

BOM: Final = b"\xef\xbb\xbf"


def read_docx(path: Path, options: Options) -> Document:
    """A Word document as one page, since only its layout program knows its pages."""
    archive.check_parts(path)

    def pages() -> Iterator[Page]:
        with Package(path, options.album) as package:
            reader = DocxReader(package, comments=options.comments)
            made = Page.of(pieces.blocks(reader.read()))
            found = reader.letters
            more = found.more or options.comments or reader.has_chunks
            lost = self_check.warning(
                "the document", found.count, made.blocks, "its XML", without={"footnote"}, more=more
            )
            yield replace(made, warnings=(*reader.warnings, *lost))

    return Document(1, pages())


def read_pptx(path: Path, options: Options) -> Document:
    """A presentation, one page a slide; slides that are hidden are left out."""
    archive.check_parts(path)
    with Package(path) as package:
        found = list(slide_parts(package))
    shown = [part for part, hidden in found if not hidden]
    check_pages(len(shown), options)
    left_out = len(found) - len(shown)
    warnings = (f"{left_out} hidden slides are left out",) if left_out else ()

    def pages() -> Iterator[Page]:
        with Package(path, options.album) as package:
            reader = SlideReader(package)
            for number, part in enumerate(shown):
                found = warnings if number == 0 else ()
                try:
                    remarks = comments.of_slide(package, part) if options.comments else ()
                    made = Page.of(pieces.blocks([*reader.read(part), *remarks]))
                    more = options.comments
                    if reader.unread:
                        of = f"{reader.unread} controls (ActiveX) of slide {number + 1}"
                        found = (*found, f"{of} cannot be read and were left out")
                    found = (*found, *_slide_warning(reader.root, number + 1, made, more=more))
                except Exception as error:
                    if defeated.passed_on(error):
                        raise
                    made = defeated.page(_texts(package, part), f"slide {number + 1}", error)
                yield replace(made, warnings=(*found, *made.warnings))

    return Document(len(shown), pages())


def read_xlsx(path: Path, options: Options) -> Document:
    """A workbook, one page a sheet; sheets that are hidden are left out."""
    archive.check_parts(path)
    file = _transitional(path)  # by its path, openpyxl would go by the extension
    workbook = openpyxl.load_workbook(file, read_only=True, data_only=True)
    sheets: list[Any] = [sheet for sheet in workbook.worksheets if isinstance(sheet, ReadOnlyWorksheet)]
    shown = [sheet for sheet in sheets if sheet.sheet_state == "visible"]
    check_pages(len(shown), options)
    warnings = [f'the sheet "{sheet.title}" is hidden and left out' for sheet in sheets if sheet not in shown]

    def pages() -> Iterator[Page]:
        strings: list[int] = []
        with Package(file, options.album) as package:
            for number, sheet in enumerate(shown):
                part = sheet._worksheet_path  # noqa: SLF001 - nothing else has it
                found = warnings if number == 0 else []
                try:
                    if number == 0:
                        strings = sheet_letters.shared(package)
                        mark_scripts(package, sheet._shared_strings)  # noqa: SLF001 - all sheets have the same
                    extras = extras_of(package, part)
                    if options.comments:
                        extras.drawn += comments.of_sheet(package, part)
                    reader = Sheet(sheet, extras)
                    made = Page.of(pieces.blocks(reader.read()))
                    found = [*found, *_sheet_warning(package, part, strings, reader, made)]
                except Exception as error:
                    if defeated.passed_on(error):
                        raise
                    made = defeated.page(bare(sheet, package, part), f'the sheet "{sheet.title}"', error)
                else:
                    if reader.uncalculated:
                        of = f'{reader.uncalculated:,} formulas of the sheet "{sheet.title}"'
                        found = [*found, f"{of} have no stored value; the formulas stand in their place"]
                    if extras.unread:
                        of = f'{extras.unread} controls (ActiveX) of the sheet "{sheet.title}"'
                        found = [*found, f"{of} cannot be read and were left out"]
                    if reader.cut_off:
                        found = [*found, f'the sheet "{sheet.title}" was cut off after {MAX_CELLS:,} cells']
                yield replace(made, warnings=(*found, *made.warnings))
        workbook.close()
        file.close()

    return Document(len(shown), pages())


def _texts(package: Package, part: str) -> list[str]:
    root = package.parse(part)
    return defeated.texts_of(root) if root is not None else []


def _slide_warning(root: Any, number: int, made: Page, *, more: bool) -> tuple[str, ...]:
    """What is said of a slide whose letters are lost or doubled; its notes are not in its XML."""
    found = self_check.XmlLetters()
    if root is not None:
        found.add(root)
    return self_check.warning(
        f"slide {number}", found.count, made.blocks, "its XML", without={"quote"}, more=more or found.more
    )


def _sheet_warning(
    package: Package, part: str, strings: list[int], reader: Sheet, made: Page
) -> tuple[str, ...]:
    """What is said of a sheet whose letters are lost; it is said already of one that was cut off."""
    if reader.cut_off:
        return ()
    has = sheet_letters.of(package, part, strings)
    count = letters(reader.title) + has.texts + reader.drawn
    # Only the count of numbers and dates can be held against the XML.
    count += reader.letters * has.others // reader.others if reader.others else has.others
    of = f'the sheet "{reader.title}"'
    return self_check.warning(of, count, made.blocks, "its XML", repeated=reader.repeated)


def _transitional(path: Path) -> IO[bytes]:
    """A workbook as openpyxl reads it: it finds no sheet in one of strict namespaces."""
    with zipfile.ZipFile(path) as given:
        main = next((name for name in given.namelist() if name.lower() == "_rels/.rels"), None)
        if main is None or STRICT not in given.read(main):
            return path.open("rb")
        file = TemporaryFile()  # noqa: SIM115 - closed with the workbook
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as made:
            for member in given.infolist():
                data = given.read(member)
                made.writestr(
                    member.filename, transitional(data) if data[:8].lstrip(BOM).startswith(b"<") else data
                )
    file.seek(0)
    return file
