"""Word, PowerPoint and Excel documents of the Office Open XML formats."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import mammoth
import openpyxl
from openpyxl.worksheet._read_only import ReadOnlyWorksheet
from pptx import Presentation
from pptx.enum.shapes import MSO_SHAPE_TYPE, PP_PLACEHOLDER

from services.connectors.convert import archive, html, markdown
from services.connectors.convert.document import Document, Options, Page, check_pages

STYLES: Final = """
p[style-name='Title'] => h1:fresh
p[style-name='Subtitle'] => h2:fresh
"""
DRAWING: Final = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
CHART: Final = "{http://schemas.openxmlformats.org/drawingml/2006/chart}"
LISTS: Final = (PP_PLACEHOLDER.BODY, PP_PLACEHOLDER.OBJECT)


def read_docx(path: Path, options: Options) -> Document:  # noqa: ARG001 - every reader has this signature
    """A Word document as one page, since only its layout program knows its pages."""
    archive.check_parts(path)

    def pages() -> Iterator[Page]:
        with path.open("rb") as file:
            made = mammoth.convert_to_html(
                file, style_map=STYLES, convert_image=mammoth.images.img_element(lambda _: {"src": ""})
            )
        yield Page(html.to_markdown(made.value))

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


@dataclass(slots=True)
class _Area:
    """Rows without an empty one between them, and the columns they use; all counted from 0."""

    first_row: int
    last_row: int
    first_column: int
    last_column: int


def read_xlsx(path: Path, options: Options) -> Document:
    """A workbook, one page a sheet; rows without an empty one between them are a table."""
    archive.check_parts(path)
    file = path.open("rb")  # by its path, openpyxl would go by the extension
    workbook = openpyxl.load_workbook(file, read_only=True, data_only=True)
    sheets = [sheet for sheet in workbook.worksheets if isinstance(sheet, ReadOnlyWorksheet)]
    check_pages(len(sheets), options)

    def pages() -> Iterator[Page]:
        for sheet in sheets:
            sheet.reset_dimensions()  # what the file declares may be wrong, and huge
            yield Page(markdown.join([markdown.heading(2, sheet.title), *_areas(sheet)]))
        workbook.close()
        file.close()

    return Document(len(sheets), pages())


def _areas(sheet: Any) -> Iterator[str]:
    """The tables of a sheet; it is read once to see how wide they are and once more to write them."""
    areas = list(_find_areas(sheet))
    rows = enumerate(sheet.iter_rows(values_only=True))
    for area in areas:
        written: list[str] = []
        for number, values in rows:
            if number >= area.first_row:
                cells = values[area.first_column : area.last_column + 1]
                written.append(_row(cells, area.last_column - area.first_column + 1))
            if number == area.last_row:
                break
        written.insert(1, markdown.separator(area.last_column - area.first_column + 1))
        yield "\n".join(written)


def _find_areas(sheet: Any) -> Iterator[_Area]:
    area: _Area | None = None
    for number, values in enumerate(sheet.iter_rows(values_only=True)):
        used = [column for column, value in enumerate(values) if _value(value)]
        if not used:
            if area is not None:
                yield area
            area = None
        elif area is None:
            area = _Area(number, number, used[0], used[-1])
        else:
            area.last_row = number
            area.first_column = min(area.first_column, used[0])
            area.last_column = max(area.last_column, used[-1])
    if area is not None:
        yield area


def _row(cells: tuple[Any, ...], width: int) -> str:
    written = [markdown.cell(_value(value)) for value in cells]
    return markdown.row([*written, *[""] * (width - len(written))])


def _value(value: Any) -> str:
    """A cell's value as a person would write it."""
    match value:
        case None:
            return ""
        case bool():
            return "TRUE" if value else "FALSE"
        case float():
            return f"{value:.15g}"
        case dt.datetime() if value.time() == dt.time():
            return value.date().isoformat()
        case dt.datetime():
            return value.isoformat(" ")
        case _:
            return str(value)
