"""HTML, piece by piece."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from lxml import etree

from switchyard.services.documents.errors import FatalError
from switchyard.services.documents.html import letters, styles
from switchyard.services.documents.html.encoding import decode
from switchyard.services.documents.html.hidden import is_hidden
from switchyard.services.documents.html.tables import grid, is_layout, own_cells, strays
from switchyard.services.documents.model import pieces, scripts
from switchyard.services.documents.model import runs as inline
from switchyard.services.documents.model.album import Album
from switchyard.services.documents.model.document import Document, Options, Page
from switchyard.services.documents.model.pieces import Piece
from switchyard.services.documents.model.runs import PLAIN, Look, Run
from switchyard.services.documents.model.scripts import DOWN, UP

Element = Any
BLOCKS: Final = frozenset({
    "address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details", "dir", "div",
    "dl", "dt", "fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6",
    "header", "hgroup", "hr", "html", "legend", "li", "listing", "main", "menu", "noframes", "ol", "p",
    "plaintext", "pre", "search", "section", "summary", "table", "tbody", "td", "tfoot", "th", "thead",
    "tr", "ul", "xmp",
})  # fmt: skip
HEADINGS: Final = {f"h{level}": level for level in range(1, 7)}
BOLD: Final = {"b", "strong"}
ITALIC: Final = {"i", "em", "cite", "var", "dfn"}
STRUCK: Final = {"s", "strike", "del"}
CODE: Final = {"code", "kbd", "samp", "tt"}
BOXES: Final = {"checkbox": ("☐", "☑"), "radio": ("◯", "◉")}
TYPED: Final = {"text", "number", "date", "datetime-local", "month", "week", "time", "email", "tel", "url"}
SCRIPTS: Final = {"sup": UP, "sub": DOWN}
LISTS: Final = {"ul", "ol", "menu", "dir"}
LISTINGS: Final = {"pre", "listing", "xmp", "plaintext"}
SPACE: Final = re.compile(r"[ \t\r\n\f]+")  # not the no-break space
LANGUAGE: Final = re.compile(
    r"\b(?:language|lang|highlight-source|highlight|brush:)[-: ]?\s*([A-Za-z0-9+#]+)"
)
PERMALINK: Final = re.compile(r"[¶#§🔗]|\[?edit\]?")
RESOURCE_LIMIT: Final = "ERR_RESOURCE_LIMIT"  # libxml2: 2048 levels
MAX_DEPTH: Final = 120  # of elements; each takes some frames of Python's stack


def read(path: Path, options: Options) -> Document:
    """An HTML file as a document of one page."""

    def pages() -> Iterator[Page]:
        root = parsed(path.read_bytes())
        if root is None:
            yield Page.of(())
            return
        made = Page.of(pieces.blocks(_pieces(root, options.album)))
        yield replace(made, warnings=letters.warning(root, made.blocks))

    return Document(total=1, pages=pages())


def read_pieces(source: bytes, album: Album | None = None) -> Iterator[Piece]:
    """The content of a page, without what is no content.

    Raises:
        FatalError: code `too_deep`.
    """
    root = parsed(source)
    if root is not None:
        yield from _pieces(root, album)


def parsed(source: bytes) -> Element | None:
    """The root of a page; None where there is none.

    Raises:
        FatalError: code `too_deep`.
    """
    text = decode(source).replace("\0", "")
    parser = etree.HTMLParser(
        encoding="utf-8", huge_tree=True, no_network=True, remove_comments=True, remove_pis=True
    )
    # As bytes, so that what the page says of its encoding is not believed a second time.
    root = etree.fromstring(text.encode("utf-8", errors="replace"), parser)
    if any(error.type_name == RESOURCE_LIMIT for error in parser.error_log):
        raise FatalError("too_deep", "the page's elements are nested too deeply to be read")
    return root


def _pieces(root: Element, album: Album | None) -> Iterator[Piece]:
    styles.apply(root)
    titled = next((True for _ in root.iter("h1")), False)
    title = root.findtext(".//title") or ""
    if not titled:
        yield from pieces.heading(1, inline.render([Run(title)]))
    yield from pieces.settled(_Reader(album=album).read(root))


class _Reader:
    """Walks a page; text that follows on text is a paragraph, whatever it is wrapped in.

    Args:
        below: how deep the elements already are that it is given.
    """

    def __init__(self, below: int = 0, album: Album | None = None) -> None:
        self._album = album
        self._runs: list[Run] = []
        self._quoted = 0
        self._items: list[tuple[int, str]] = []  # the depth and mark of the item that is to begin
        self._depth = -1  # of the innermost list
        self._below = below

    def read(self, root: Element) -> Iterator[Piece]:
        """Everything within an element."""
        yield from self._walk(root, PLAIN)
        yield from self._flush()

    def _flush(self) -> Iterator[Piece]:
        """End the paragraph under way."""
        text = inline.render(self._runs)
        self._runs = []
        if not text:
            return
        if self._items:
            depth, mark = self._items.pop()
            yield Piece("item", text, level=depth, mark=mark)
        elif self._quoted:
            yield Piece("quote", text)
        else:
            yield Piece("paragraph", text, level=self._depth + 1)

    def _walk(self, element: Element, look: Look) -> Iterator[Piece]:
        """What is within an element, and after each of its children."""
        if self._below == MAX_DEPTH:  # below it the words alone
            self._add("".join(element.itertext()), look)
            return
        self._below += 1
        self._add(element.text, look)
        for child in element:
            if isinstance(child.tag, str) and not is_hidden(child):
                yield from self._child(child, look)
            self._add(child.tail, look)
        self._below -= 1

    def _add(self, text: str | None, look: Look) -> None:
        if text:
            self._runs.append(Run(SPACE.sub(" ", text), look))

    def _child(self, child: Element, look: Look) -> Iterator[Piece]:
        tag = child.tag
        if tag in BLOCKS:
            yield from self._flush()
            yield from self._block(child, look)
            yield from self._flush()
            return
        match tag:
            case "br":
                self._runs.append(Run("\n", look))
            case "img":
                self._image(child, look)
            case "input" | "select" | "textarea":
                self._add(_filled_in(child), look)
            case "math":
                self._add(_formula(child), look)
            case "svg":
                self._add(_lettering(child), look)
            case "q":
                self._add("“", look)
                yield from self._walk(child, look)
                self._add("”", look)
            case "a" if _is_permalink(child):
                pass
            case _:
                yield from self._walk(child, _looking(child, look))

    def _block(self, element: Element, look: Look) -> Iterator[Piece]:
        tag = element.tag
        if tag in HEADINGS:
            yield from self._heading(element)
        elif tag in LISTINGS:
            yield from self._listing(element)
        elif tag in LISTS:
            yield from self._list(element, look)
        elif tag == "table":
            yield from self._table(element, look)
        elif tag == "blockquote":
            self._quoted += 1
            yield from self._walk(element, look)
            yield from self._flush()
            self._quoted -= 1
        elif tag == "dt":
            self._items = [(self._depth + 1, "-")]
            yield from self._walk(element, Look(bold=True))
        elif tag == "dd":
            self._items = [(self._depth + 2, "-")]
            yield from self._walk(element, look)
        else:
            yield from self._walk(element, look)

    def _heading(self, element: Element) -> Iterator[Piece]:
        found = list(self._walk(element, PLAIN))  # blocks within a heading are not allowed, and rare
        runs, self._runs = self._runs, []
        text = inline.render(runs, emphasis=False)
        self._items = []
        yield from pieces.heading(HEADINGS[element.tag], text)
        yield from found

    def _listing(self, element: Element) -> Iterator[Piece]:
        text = scripts.plain(_verbatim(element))
        classes = [element.get("class") or "", *(code.get("class") or "" for code in element.iter("code"))]
        parent = element.getparent()
        if parent is not None:
            classes.append(parent.get("class") or "")
        named = next((found[1] for name in classes if (found := LANGUAGE.search(name))), "")
        if text.strip():
            yield Piece("code", text.strip("\n").rstrip(), mark=named.lower())

    def _list(self, element: Element, look: Look) -> Iterator[Piece]:
        self._items = []  # an item that holds only a list shows only that
        self._depth += 1
        number = _integer(element.get("start"), 1)
        yield from self._between(element.text, look)
        for before, child in pairwise((None, *element)):
            if before is not None:
                yield from self._between(before.tail, look)
            if not isinstance(child.tag, str) or is_hidden(child):
                continue
            if child.tag != "li":  # a list right within a list, or something out of place
                self._depth -= child.tag in LISTS
                yield from self._block(child, look) if child.tag in BLOCKS else self._walk(child, look)
                self._depth += child.tag in LISTS
                yield from self._flush()
                continue
            number = _integer(child.get("value"), number)
            self._items = [(self._depth, f"{number}." if element.tag == "ol" else "-")]
            yield from self._walk(child, look)
            yield from self._flush()
            self._items = []
            number += 1
        if len(element):
            yield from self._between(element[-1].tail, look)
        self._depth -= 1

    def _between(self, text: str | None, look: Look) -> Iterator[Piece]:
        """Text of a list that stands in no item of it."""
        if text and text.strip():
            self._add(text, look)
            yield from self._flush()

    def _table(self, table: Element, look: Look) -> Iterator[Piece]:
        self._add(strays(table), look)  # where browsers show it
        yield from self._flush()
        if is_layout(table):
            for cell in own_cells(table):
                yield from self._walk(cell, look)
                yield from self._flush()
            return
        caption = table.find("caption")
        if caption is not None:
            yield from pieces.paragraph(_Reader(self._below, self._album).flat(caption))
        self._items = []
        yield from pieces.table(grid(table, _Reader(self._below, self._album).flat))

    def flat(self, element: Element) -> str:
        """All that is within an element, in one line."""
        written = [
            " ".join(cell for row in piece.rows for cell in row) if piece.kind == "table" else piece.text
            for piece in self.read(element)
        ]
        return " ".join(text for text in written if text)

    def _image(self, element: Element, look: Look) -> None:
        source = element.get("src") or element.get("data-src") or ""
        if self._album is not None and source[:5].lower() == "data:":
            source = self._album.add_data(source)
        text = inline.image(element.get("alt") or "", source)
        if text:
            self._runs.append(Run(text, look, raw=True))


def _looking(element: Element, look: Look) -> Look:
    tag = element.tag
    style = element.get("style") or ""
    return Look(
        bold=look.bold or tag in BOLD or "font-weight:bold" in style.replace(" ", ""),
        italic=look.italic or tag in ITALIC,
        struck=look.struck or tag in STRUCK,
        code=look.code or tag in CODE,
        link=(element.get("href") or "") if tag == "a" and element.get("href") else look.link,
        script=look.script + _script(element),
    )


def _script(element: Element) -> str:
    if element.tag in SCRIPTS:
        return SCRIPTS[element.tag]
    return styles.script_of(element.get("style") or "")


def _is_permalink(link: Element) -> bool:
    """Whether a link is the sign that some pages put beside a heading to point at it."""
    text = "".join(link.itertext()).strip()
    heading = any(parent.tag in HEADINGS for parent in link.iterancestors())
    return heading and bool(PERMALINK.fullmatch(text))


def _verbatim(element: Element) -> str:
    parts = [element.text or ""]
    for child in element:
        if isinstance(child.tag, str) and not is_hidden(child):
            inner = "\n" if child.tag == "br" else _verbatim(child)
            parts.append(scripts.marked(inner, _script(child)))
        parts.append(child.tail or "")
    return "".join(parts)


def _filled_in(element: Element) -> str:
    """What a part of a form shows; a list, where the page says what is chosen."""
    if element.tag == "textarea":
        return element.text or ""
    if element.tag == "select":
        chosen = [option for option in element.iter("option") if option.get("selected") is not None]
        return ", ".join(" ".join("".join(option.itertext()).split()) for option in chosen)
    kind = (element.get("type") or "text").lower()
    if kind in BOXES:
        return BOXES[kind][element.get("checked") is not None]
    return element.get("value") or "" if kind in TYPED else ""


def _formula(element: Element) -> str:
    for note in element.iter("annotation"):
        if note.get("encoding") == "application/x-tex" and note.text:
            return f"${note.text.strip()}$"
    return _linear(element)


def _linear(element: Element, depth: int = 0) -> str:
    """A formula in one line, whose powers, indices and fractions stand apart from what is beside them."""
    tag = str(element.tag).rpartition("}")[2].rpartition(":")[2]
    children = [child for child in element if isinstance(child.tag, str)]
    if depth == MAX_DEPTH or not children:
        return "".join(element.itertext())
    if tag == "semantics":  # what follows the first is the same in another way
        return _linear(children[0], depth + 1)
    parts = [_linear(child, depth + 1) for child in children]
    match tag, parts:
        case (("msup" | "mover"), [base, power]):
            return base + scripts.marked(power, UP)
        case (("msub" | "munder"), [base, index]):
            return base + scripts.marked(index, DOWN)
        case (("msubsup" | "munderover"), [base, index, power]):
            return base + scripts.marked(index, DOWN) + scripts.marked(power, UP)
        case "mfrac", [over, under]:
            return f"({over})/({under})"
        case "msqrt", _:
            return f"√({''.join(parts)})"
        case "mroot", [base, power]:
            return f"{scripts.marked(power, UP)}√({base})"
        case _:
            tails = (child.tail or "" for child in children)
            return (element.text or "") + "".join(
                part + tail for part, tail in zip(parts, tails, strict=True)
            )


def _lettering(drawing: Element) -> str:
    """The texts of a drawing, such as the labels of a chart."""
    texts = (" ".join("".join(text.itertext()).split()) for text in drawing.iter("text"))
    return "".join(f" {text} " for text in texts if text)


def _integer(text: str | None, default: int) -> int:
    try:
        return int(text) if text and len(text) < 10 else default
    except ValueError:
        return default
