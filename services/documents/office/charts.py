"""The numbers behind a chart of an Office document, as its XML caches them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from switchyard.services.documents.model import pieces, runs
from switchyard.services.documents.model.pieces import Piece
from switchyard.services.documents.office.package import Element
from switchyard.services.documents.write import markdown

CHART: Final = "{http://schemas.openxmlformats.org/drawingml/2006/chart}"
DRAWING: Final = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
KINDS: Final = {
    "areaChart": "Area", "area3DChart": "Area", "lineChart": "Line", "line3DChart": "Line",
    "stockChart": "Stock", "radarChart": "Radar", "scatterChart": "Scatter", "pieChart": "Pie",
    "pie3DChart": "Pie", "doughnutChart": "Doughnut", "barChart": "Bar", "bar3DChart": "Bar",
    "ofPieChart": "Pie", "surfaceChart": "Surface", "surface3DChart": "Surface", "bubbleChart": "Bubble",
}  # fmt: skip
MAX_POINTS: Final = 5_000
MAX_SERIES: Final = 100


def pieces_of(space: Element) -> Iterator[Piece]:
    """A chart as its title, its kind and the table of its numbers."""
    yield from pieces.paragraph(runs.render([runs.Run(title(space))]))
    yield Piece("paragraph", kind(space))
    yield from pieces.table(rows(space))


def title(space: Element) -> str:
    """The title that the chart shows, if it has one of its own."""
    found = space.find(f"{CHART}chart/{CHART}title")
    if found is None:
        return ""
    written = "".join(text.text or "" for text in found.iter(f"{DRAWING}t"))
    return written or " ".join(point.text or "" for point in found.iter(f"{CHART}v"))


def kind(space: Element) -> str:
    """What sort of chart it is, in two words."""
    area = space.find(f"{CHART}chart/{CHART}plotArea")
    for plot in area if area is not None else ():
        name = KINDS.get(str(plot.tag).removeprefix(CHART))
        if name is not None:
            return f"{name} chart"
    return "Chart"


def rows(space: Element) -> list[list[str]]:
    """Categories down, series across; none where nothing is cached."""
    columns: list[tuple[str, dict[int, str]]] = []
    categories: dict[int, str] = {}
    for series in list(space.iter(f"{CHART}ser"))[:MAX_SERIES]:
        categories |= _points(series, "cat") or _points(series, "xVal")
        name = " ".join(_points(series, "tx").values())
        columns.append((name, _points(series, "val") or _points(series, "yVal")))
    at = sorted(set(categories).union(*(values for _, values in columns)))
    if not at:
        return []
    header = ["", *(_cell(name) for name, _ in columns)]
    return [header, *([categories.get(row, ""), *(of.get(row, "") for _, of in columns)] for row in at)]


def _points(series: Element, part: str) -> dict[int, str]:
    """The cached values of one part of a series by their place; the innermost of several levels of names."""
    found: dict[int, str] = {}
    for holder in series.findall(f"{CHART}{part}"):
        level = holder.find(f".//{CHART}lvl")
        for point in (holder if level is None else level).iter(f"{CHART}pt"):
            if len(found) < MAX_POINTS and point.get("idx", "").isdecimal():
                text = "".join(value.text or "" for value in point.iter(f"{CHART}v"))
                found[int(point.get("idx"))] = _cell(_short(text))
        if not found:  # a name that is written into the chart itself
            text = "".join(value.text or "" for value in holder.findall(f"{CHART}v"))
            found |= {0: _cell(text)} if text else {}
    return found


def _short(text: str) -> str:
    """A number without the digits that only its binary form has."""
    try:
        return f"{float(text):.15g}" if "." in text or "E" in text else text
    except ValueError:
        return text


def _cell(text: str) -> str:
    return markdown.inline(" ".join(text.split()))
