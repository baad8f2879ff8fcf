"""HTML to Markdown, also for what other libraries give as HTML."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from bs4 import BeautifulSoup, Comment, Tag
from markdownify import MarkdownConverter

from services.connectors.convert import markdown
from services.connectors.convert.document import Document, Options, Page

DROPPED: Final = (
    "script", "style", "noscript", "template", "svg", "iframe", "object", "embed", "canvas", "head",
)  # fmt: skip
MAX_SPAN: Final = 100
UNSAFE_LINK: Final = re.compile(r"\s*(javascript|data|vbscript):", re.IGNORECASE)
BLANK_LINES: Final = re.compile(r"\n{3,}")


class _Converter(MarkdownConverter):
    """markdownify with tables of our own, where cells may span, and no HTML or scripts let through.

    Its published types leave out the methods that are meant to be overridden.
    """

    def escape(self, text: str, parent_tags: Any) -> str:
        escaped: str = super().escape(text, parent_tags)  # type: ignore[misc]  # stubs
        return markdown.TAG.sub(r"\\<", escaped)

    def convert_table(self, el: Tag, text: str, parent_tags: Any) -> str:  # noqa: ARG002 - its interface
        if el.find_parent("table") is not None:  # a table in a cell reads as that cell's text
            return f" {el.get_text(' ', strip=True)} "
        rows: list[list[str]] = []
        hanging: dict[tuple[int, int], str] = {}  # cells that reach down from an earlier row
        for number, line in enumerate(tag for tag in el.find_all("tr") if tag.find_parent("table") is el):
            cells: list[str] = []
            for tag in line.find_all(["td", "th"], recursive=False):
                while (number, len(cells)) in hanging:
                    cells.append(hanging.pop((number, len(cells))))
                content = self._cell(tag)
                for _ in range(_span(tag, "colspan")):
                    for below in range(1, _span(tag, "rowspan")):
                        hanging[number + below, len(cells)] = content
                    cells.append(content)
            while (number, len(cells)) in hanging:
                cells.append(hanging.pop((number, len(cells))))
            rows.append(cells)
        caption = el.find("caption")
        title = markdown.escape(caption.get_text(" ")) if caption is not None else ""
        return f"\n\n{markdown.join([title, markdown.table(rows)])}\n\n"

    def _cell(self, tag: Tag) -> str:
        inline = self.process_tag(tag, parent_tags={"td", "_inline"})  # type: ignore[attr-defined]  # stubs
        return re.sub(r"\s+", " ", inline.replace("|", "\\|").replace("\\\\|", "\\|")).strip()

    def convert_td(self, el: Tag, text: str, parent_tags: Any) -> str:  # noqa: ARG002 - its interface
        return text

    convert_th = convert_td

    def convert_a(self, el: Tag, text: str, parent_tags: Any) -> str:
        if not text.strip() or UNSAFE_LINK.match(str(el.get("href") or "")):
            return text
        link: str = super().convert_a(el, text, parent_tags)  # type: ignore[misc]  # stubs
        return link

    def convert_img(self, el: Tag, text: str, parent_tags: Any) -> str:
        if UNSAFE_LINK.match(str(el.get("src") or "")) or not el.get("src"):
            return str(el.get("alt") or "")
        image: str = super().convert_img(el, text, parent_tags)  # type: ignore[misc]  # stubs
        return image


def _span(tag: Tag, name: str) -> int:
    try:
        return min(max(int(str(tag.get(name) or 1)), 1), MAX_SPAN)
    except ValueError:
        return 1


def _unwrap_layout(table: Tag) -> None:
    """Turn a table of a single cell, which is no table, into its content."""
    rows = [tag for tag in table.find_all("tr") if tag.find_parent("table") is table]
    cells = [cell for row in rows for cell in row.find_all(["td", "th"], recursive=False)]
    if len(cells) == 1:
        table.replace_with(cells[0])
        cells[0].name = "div"


def to_markdown(source: bytes | str) -> str:
    """A page of HTML as Markdown, without what is no content."""
    soup = BeautifulSoup(source, "lxml")
    title = soup.title.get_text() if soup.title is not None else ""
    for tag in soup.find_all(DROPPED):
        tag.decompose()
    for comment in soup.find_all(string=lambda text: isinstance(text, Comment)):
        comment.extract()
    for table in soup.find_all("table"):
        _unwrap_layout(table)
    has_heading = soup.find("h1") is not None
    converter = _Converter(heading_style="ATX", bullets="-", escape_underscores=False, escape_asterisks=False)
    text = BLANK_LINES.sub("\n\n", converter.convert_soup(soup)).strip()
    return text if has_heading or not title else markdown.join([markdown.heading(1, title), text])


def read(path: Path, options: Options) -> Document:  # noqa: ARG001 - every reader has this signature
    """An HTML file as a document of one page."""

    def pages() -> Iterator[Page]:
        yield Page(to_markdown(path.read_bytes()))

    return Document(total=1, pages=pages())
