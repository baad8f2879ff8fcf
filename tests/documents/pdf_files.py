"""PDF files written object by object."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final


def pdf_of(objects: Sequence[str]) -> bytes:
    """A PDF of these objects, which are numbered from 1; the first is its catalog."""
    body = bytearray(b"%PDF-1.4\n")
    offsets = []
    for number, each in enumerate(objects, start=1):
        offsets.append(len(body))
        body += f"{number} 0 obj\n{each}\nendobj\n".encode()
    start, count = len(body), len(objects) + 1
    body += f"xref\n0 {count}\n0000000000 65535 f \n".encode()
    body += "".join(f"{offset:010} 00000 n \n" for offset in offsets).encode()
    body += f"trailer << /Size {count} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n".encode()
    return bytes(body)


def stream_of(content: str, entries: str = "") -> str:
    """An object with content."""
    return f"<< /Length {len(content)} {entries} >>\nstream\n{content}\nendstream"


HELVETICA: Final = "/Font << /H << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >>"


def page_of(
    content: str, *, resources: str = HELVETICA, entries: str = "", objects: Sequence[str] = ()
) -> bytes:
    """A PDF of one page in letter format.

    Args:
        content: its operators; /H is Helvetica.
        resources: what is within its dictionary of resources.
        entries: further ones of the page itself.
        objects: further ones, numbered from 5.
    """
    page = f"<< /Type /Page /Parent 2 0 R /Contents 4 0 R /Resources << {resources} >> {entries} >>"
    return pdf_of(
        [
            "<< /Type /Catalog /Pages 2 0 R >>",
            "<< /Type /Pages /Kids [3 0 R] /Count 1 /MediaBox [0 0 612 792] >>",
            page,
            stream_of(content),
            *objects,
        ]
    )


def pages_of(contents: Sequence[str]) -> bytes:
    """A PDF of pages in letter format with these contents, in which /H is Helvetica."""
    kids = " ".join(f"{3 + 2 * number} 0 R" for number in range(len(contents)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(contents)} /MediaBox [0 0 612 792] >>",
    ]
    for number, content in enumerate(contents):
        resources = f"/Resources << {HELVETICA} >>"
        objects.append(f"<< /Type /Page /Parent 2 0 R /Contents {4 + 2 * number} 0 R {resources} >>")
        objects.append(stream_of(content))
    return pdf_of(objects)


def texts_of(texts: Sequence[tuple[float, float, str]]) -> str:
    """Content with texts at these places, in points from the lower left."""
    return "".join(f"BT /H 10 Tf {x} {y} Td ({text}) Tj ET\n" for x, y, text in texts)


@dataclass(frozen=True)
class Text:
    """A text at a place in points from the lower left of a page, which is counted from 0.

    Args:
        artifact: the properties of one that is none of the document's content.
    """

    x: float
    y: float
    text: str
    page: int = 0
    font: str = "H"
    size: int = 10
    artifact: str = ""


@dataclass(frozen=True)
class Element:
    """An element of a structure tree, with what is in it and its attributes."""

    kind: str
    within: Sequence[Element | Text] = ()
    attributes: str = ""


BOLD_TOO: Final = (
    "/Font << /H << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> "
    "/B << /Type /Font /Subtype /Type1 /BaseFont /Helvetica-Bold >> >>"
)


def tagged_of(roots: Sequence[Element | Text], *, drawn: str = "") -> bytes:
    """A tagged PDF of pages in letter format; the texts of `roots` themselves are not tagged.

    Args:
        roots: what the document has in it; /H is Helvetica and /B the same in bold.
        drawn: further content of the first page.
    """
    tree = _Tree()
    root = tree.new()
    elements = [tree.element(each, root) for each in roots if isinstance(each, Element)]
    for each in roots:
        if isinstance(each, Text):
            text = texts_of([(each.x, each.y, each.text)])
            marked = f"/Artifact << {each.artifact} >> BDC {text} EMC\n"
            tree.contents[each.page] += marked if each.artifact else text
    tree.contents[0] += drawn
    pages, parents = tree.new(), tree.new()
    catalog = (
        f"<< /Type /Catalog /Pages {pages} 0 R /MarkInfo << /Marked true >> /StructTreeRoot {root} 0 R >>"
    )
    kids = [tree.page(number, pages) for number in range(len(tree.contents))]
    listed = " ".join(f"{kid} 0 R" for kid in kids)
    tree.objects[pages] = f"<< /Type /Pages /Kids [{listed}] /Count {len(kids)} /MediaBox [0 0 612 792] >>"
    nums = " ".join(f"{at} [{' '.join(f'{of} 0 R' for of in marks)}]" for at, marks in tree.marks.items())
    tree.objects[parents] = f"<< /Nums [{nums}] >>"
    below = " ".join(f"{each} 0 R" for each in elements)
    tree.objects[root] = f"<< /Type /StructTreeRoot /K [{below}] /ParentTree {parents} 0 R >>"
    return pdf_of([catalog, *(tree.objects[number] for number in sorted(tree.objects))])


class _Tree:
    """Numbers the objects of a tagged PDF, of which the first is its catalog."""

    def __init__(self) -> None:
        self.objects: dict[int, str] = {}
        self.contents: defaultdict[int, str] = defaultdict(str)
        self.marks: defaultdict[int, list[int]] = defaultdict(list)  # by page, the element of each
        self._pages: dict[int, int] = {}

    def new(self) -> int:
        self.objects[number := len(self.objects) + 2] = ""
        return number

    def element(self, element: Element, parent: int) -> int:
        number = self.new()
        kids = [
            f"{self.element(each, number)} 0 R" if isinstance(each, Element) else self._marked(each, number)
            for each in element.within
        ]
        self.objects[number] = (
            f"<< /Type /StructElem /S /{element.kind} /P {parent} 0 R /K [{' '.join(kids)}] "
            f"/A << {element.attributes} >> >>"
        )
        return number

    def page(self, number: int, pages: int) -> int:
        content = self.new()
        self.objects[content] = stream_of(self.contents[number])
        self.objects[at := self._page(number)] = (
            f"<< /Type /Page /Parent {pages} 0 R /Contents {content} 0 R /StructParents {number} "
            f"/Resources << {BOLD_TOO} >> >>"
        )
        return at

    def _page(self, number: int) -> int:
        if number not in self._pages:
            self._pages[number] = self.new()
        return self._pages[number]

    def _marked(self, text: Text, element: int) -> str:
        mark = len(self.marks[text.page])
        self.marks[text.page].append(element)
        self.contents[text.page] += (
            f"/Span << /MCID {mark} >> BDC BT /{text.font} {text.size} Tf {text.x} {text.y} Td "
            f"({text.text}) Tj ET EMC\n"
        )
        return f"<< /Type /MCR /Pg {self._page(text.page)} 0 R /MCID {mark} >>"
