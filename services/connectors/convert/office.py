"""Word, PowerPoint and Excel documents of the Office Open XML formats."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import openpyxl
from openpyxl.worksheet._read_only import ReadOnlyWorksheet
from pptx import Presentation
from pptx.enum.shapes import MSO_SHAPE_TYPE, PP_PLACEHOLDER

from services.connectors.convert import archive, markdown, pieces
from services.connectors.convert.document import Document, Options, Page, check_pages
from services.connectors.convert.docx import DocxReader
from services.connectors.convert.ooxml import Package
from services.connectors.convert.xlsx import MAX_CELLS, Sheet, extras_of

DRAWING: Final = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
CHART: Final = "{http://schemas.openxmlformats.org/drawingml/2006/chart}"
LISTS: Final = (PP_PLACEHOLDER.BODY, PP_PLACEHOLDER.OBJECT)


def read_docx(path: Path, options: Options) -> Document:  # noqa: ARG001 - every reader has this signature
    """A Word document as one page, since only its layout program knows its pages."""
    archive.check_parts(path)

    def pages() -> Iterator[Page]:
        with Package(path) as package:
            yield Page(pieces.render(DocxReader(package).read()))

    return Document(1, pages())


def read_pptx(path: Path, options: Options) -> Document:
    """A presentation, one page a slide."""
    archive.check_parts(path)
    with path.open("rb") as file:
        slides = Presentation(file).slides
    check_pages(len(slides), options)
    return Document(len(slides), (Page(_slide(slide)) for slide in slides))


def _slide(slide: Any) -> str:
    title = slide.shapes.title
    blocks = [markdown.heading(1, title.text_frame.text)] if title is not None else []
    for shape in slide.shapes:
        if title is None or shape.shape_id != title.shape_id:
            blocks += _shape(shape)
    return markdown.join(blocks)


def _shape(shape: Any) -> list[str]:
    if shape.shape_type == MSO_SHAPE_TYPE.GROUP:
        return [block for inner in shape.shapes for block in _shape(inner)]
    if getattr(shape, "has_table", False):
        rows = [[markdown.cell(cell.text) for cell in row.cells] for row in shape.table.rows]
        return [markdown.table(rows)]
    if getattr(shape, "has_chart", False):
        return _chart(shape.chart)
    if not shape.has_text_frame:
        return []
    bulleted = shape.is_placeholder and shape.placeholder_format.type in LISTS
    return [_paragraph(paragraph, bulleted=bulleted) for paragraph in shape.text_frame.paragraphs]


def _paragraph(paragraph: Any, *, bulleted: bool) -> str:
    text = paragraph.text
    if not text.strip():
        return ""
    properties = paragraph._p.pPr  # noqa: SLF001 - python-pptx tells of bullets in no other way
    own = {child.tag.removeprefix(DRAWING) for child in properties} if properties is not None else set()
    if "buAutoNum" in own:
        return markdown.item(text, level=paragraph.level, marker="1.")
    if "buChar" in own or (bulleted and "buNone" not in own):
        return markdown.item(text, level=paragraph.level)
    return markdown.escape(text)


def _chart(chart: Any) -> list[str]:
    """The numbers behind a chart, of any type, as its XML caches them."""
    title = chart.chart_title.text_frame.text if chart.has_title and chart.chart_title.has_text_frame else ""
    columns: list[tuple[str, dict[int, str]]] = []
    categories: dict[int, str] = {}
    for series in chart._chartSpace.iter(f"{CHART}ser"):  # noqa: SLF001 - plots know a few types only
        categories |= _points(series, "cat") or _points(series, "xVal")
        name = " ".join(_points(series, "tx").values())
        columns.append((markdown.cell(name), _points(series, "val") or _points(series, "yVal")))
    header = ["", *(name for name, _ in columns)]
    at = sorted(set(categories).union(*(values for _, values in columns)))
    rows = [[categories.get(row, ""), *(values.get(row, "") for _, values in columns)] for row in at]
    return [markdown.escape(title), markdown.table([header, *rows]) if rows else ""]


def _points(series: Any, part: str) -> dict[int, str]:
    """The cached values of one part of a series by their place."""
    return {
        int(point.get("idx", 0)): markdown.cell("".join(point.itertext()))
        for holder in series.findall(f"{CHART}{part}")
        for point in holder.iter(f"{CHART}pt")
    }


def read_xlsx(path: Path, options: Options) -> Document:
    """A workbook, one page a sheet; sheets that are hidden are left out."""
    archive.check_parts(path)
    file = path.open("rb")  # by its path, openpyxl would go by the extension
    workbook = openpyxl.load_workbook(file, read_only=True, data_only=True)
    sheets = [sheet for sheet in workbook.worksheets if isinstance(sheet, ReadOnlyWorksheet)]
    visible = [sheet for sheet in sheets if sheet.sheet_state == "visible"]
    check_pages(len(visible), options)
    warnings = [f'the sheet "{sheet.title}" is hidden and left out' for sheet in sheets if sheet not in visible]

    def pages() -> Iterator[Page]:
        with Package(path) as package:
            for number, sheet in enumerate(visible):
                reader = Sheet(sheet, extras_of(package, sheet._worksheet_path))  # noqa: SLF001 - told by nothing else
                text = pieces.render(reader.read())
                found = warnings if number == 0 else []
                if reader.cut_off:
                    found = [*found, f'the sheet "{sheet.title}" was cut off after {MAX_CELLS:,} cells']
                yield Page(text, warnings=tuple(found))
        workbook.close()
        file.close()

    return Document(len(visible), pages())
