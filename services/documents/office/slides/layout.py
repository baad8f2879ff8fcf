"""Where the shapes of a slide are, what they inherit, and in which order they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from switchyard.services.documents.office.package import Element, Package, chosen

A: Final = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
P: Final = "{http://schemas.openxmlformats.org/presentationml/2006/main}"
SHAPES: Final = {f"{P}{name}" for name in ("sp", "pic", "graphicFrame")}
BODIES: Final = {"", "body", "obj", "subTitle", "tbl", "chart", "dgm", "media", "clipArt", "pic"}
STYLES: Final = {"title": "titleStyle", "ctrTitle": "titleStyle"}
OVERLAP: Final = 0.2  # of the smaller one, by which two may overlap and still be apart


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in English Metric Units."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, slots=True)
class Shape:
    """A shape of a slide.

    Args:
        placeholder: what the layout keeps the place for ("title", "body", "" for any content), or None.
        index: by which the layout knows the place.
    """

    element: Element
    box: Box | None
    placeholder: str | None = None
    index: str = "0"


class Template:
    """A slide's layout and master, from which it inherits; the nearer first."""

    def __init__(self, roots: list[Element]) -> None:
        self._roots = roots
        self._places = [list(_flat(root)) for root in roots]

    def placeholders(self, shape: Shape) -> Iterator[Element]:
        """The placeholders that a shape stands for."""
        if shape.placeholder is None:
            return
        for depth, places in enumerate(self._places):
            found = [place for place in places if place.placeholder is not None]
            same = [place for place in found if depth == 0 and place.index == shape.index]
            alike = [place for place in found if _role(place) == _role(shape)]
            yield from (place.element for place in [*same, *alike][:1])

    def levels(self, shape: Shape) -> Iterator[Element]:
        """Where the style of a shape's paragraphs may be: elements that hold `a:lvl1pPr` and so on."""
        for element in (shape.element, *self.placeholders(shape)):
            yield from element.iterfind(f".//{A}lstStyle")
        if shape.placeholder is None:
            return
        for root in self._roots:
            style = STYLES.get(shape.placeholder, "bodyStyle")
            yield from root.iterfind(f"{P}txStyles/{P}{style}")


class Templates:
    """The layouts of a presentation, each read once."""

    def __init__(self, package: Package) -> None:
        self._package = package
        self._by_layout: dict[str, Template] = {}

    def of(self, slide: str) -> Template:
        """What a slide inherits from."""
        layout = next(self._package.related(slide, "slideLayout"), "")
        if layout not in self._by_layout:
            master = next(self._package.related(layout, "slideMaster"), "") if layout else ""
            roots = [self._package.parse(part) for part in (layout, master) if part]
            self._by_layout[layout] = Template([root for root in roots if root is not None])
        return self._by_layout[layout]

    @staticmethod
    def none() -> Template:
        """What inherits from nothing."""
        return Template([])


def _role(shape: Shape) -> str:
    if shape.placeholder in STYLES:
        return "title"
    return "body" if shape.placeholder in BODIES else shape.placeholder or ""


def shapes_of(root: Element, template: Template) -> Iterator[Shape]:
    """The shapes of a slide, those of groups among them; a placeholder may be where its layout has it."""
    for shape in _flat(root):
        box = shape.box
        if box is None:
            inherited = (_box(place) for place in template.placeholders(shape))
            box = next((found for found in inherited if found is not None), None)
        yield Shape(shape.element, box, shape.placeholder, shape.index)


def _flat(root: Element) -> Iterator[Shape]:
    tree = root.find(f"{P}cSld/{P}spTree")
    if tree is not None:
        yield from _members(tree, lambda box: box)


def _members(tree: Element, placed: Callable[[Box], Box]) -> Iterator[Shape]:
    for child in chosen(tree):
        named = next(child.iter(f"{P}cNvPr"), None)
        if named is not None and named.get("hidden") in {"1", "true"}:
            continue
        if child.tag == f"{P}grpSp":
            yield from _members(child, _within(child, placed))
        elif child.tag in SHAPES:
            box = _box(child)
            place = child.find(f".//{P}nvPr/{P}ph")
            yield Shape(
                child,
                None if box is None else placed(box),
                None if place is None else place.get("type", ""),
                "0" if place is None else place.get("idx", "0"),
            )


def _box(element: Element) -> Box | None:
    for path in (f"{P}spPr/{A}xfrm", f"{P}xfrm", f"{P}grpSpPr/{A}xfrm"):
        found = _rectangle(element.find(path), "off", "ext")
        if found is not None:
            return found
    return None


def _rectangle(frame: Element | None, corner: str, extent: str) -> Box | None:
    start = frame.find(f"{A}{corner}") if frame is not None else None
    size = frame.find(f"{A}{extent}") if frame is not None else None
    if start is None or size is None:
        return None
    try:
        left, top = float(start.get("x", "0")), float(start.get("y", "0"))
        return Box(left, top, left + float(size.get("cx", "0")), top + float(size.get("cy", "0")))
    except ValueError:
        return None


def _within(group: Element, placed: Callable[[Box], Box]) -> Callable[[Box], Box]:
    """How the shapes of a group, which has a scale of its own, lie on the slide."""
    frame = group.find(f"{P}grpSpPr/{A}xfrm")
    outer, inner = _rectangle(frame, "off", "ext"), _rectangle(frame, "chOff", "chExt")
    if outer is None or inner is None:
        return placed
    across = (outer.right - outer.left) / ((inner.right - inner.left) or 1)
    down = (outer.bottom - outer.top) / ((inner.bottom - inner.top) or 1)

    def moved(box: Box) -> Box:
        return placed(
            Box(
                outer.left + (box.left - inner.left) * across,
                outer.top + (box.top - inner.top) * down,
                outer.left + (box.right - inner.left) * across,
                outer.top + (box.bottom - inner.top) * down,
            )
        )

    return moved


def in_reading_order(shapes: list[Shape]) -> list[Shape]:
    """Column by column where there are columns, else from top to bottom; what has no place comes first."""
    return [shape for shape in shapes if shape.box is None] + _cut(
        [shape for shape in shapes if shape.box is not None]
    )


def _cut(shapes: list[Shape]) -> list[Shape]:
    for start, end in ((_left, _right), (_top, _bottom)):
        parts = _apart(shapes, start, end)
        if len(parts) > 1:
            return [shape for part in parts for shape in _cut(part)]
    return sorted(shapes, key=lambda shape: (_top(shape), _left(shape)))


def _apart(
    shapes: list[Shape], start: Callable[[Shape], float], end: Callable[[Shape], float]
) -> list[list[Shape]]:
    """The shapes in groups with nothing that reaches from one into the next."""
    parts: list[list[Shape]] = []
    reach = size = 0.0
    for shape in sorted(shapes, key=start):
        length = end(shape) - start(shape)
        if parts and start(shape) < reach - OVERLAP * min(length, size):
            parts[-1].append(shape)
        else:
            parts.append([shape])
            reach = end(shape)
        if end(shape) >= reach:
            reach, size = end(shape), length
    return parts


def _left(shape: Shape) -> float:
    return shape.box.left if shape.box else 0.0


def _right(shape: Shape) -> float:
    return shape.box.right if shape.box else 0.0


def _top(shape: Shape) -> float:
    return shape.box.top if shape.box else 0.0


def _bottom(shape: Shape) -> float:
    return shape.box.bottom if shape.box else 0.0
