"""Word documents made for the tests from the XML of their body."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

OFFICE: Final = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
NAMESPACES: Final = {
    "w": "http://schemas.openxmlformats.org/wordprocessingml/2006/main",
    "r": OFFICE,
    "a": "http://schemas.openxmlformats.org/drawingml/2006/main",
    "wp": "http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing",
    "wps": "http://schemas.microsoft.com/office/word/2010/wordprocessingShape",
    "mc": "http://schemas.openxmlformats.org/markup-compatibility/2006",
    "v": "urn:schemas-microsoft-com:vml",
    "m": "http://schemas.openxmlformats.org/officeDocument/2006/math",
}
DECLARED: Final = " ".join(f'xmlns:{prefix}="{name}"' for prefix, name in NAMESPACES.items())
TYPES: Final = (
    '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Default Extension="xml" ContentType="application/xml"/><Override PartName="/word/{main}" ContentType='
    '"application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>'
)
PARTS: Final[tuple[str, ...]] = ("styles", "numbering", "footnotes", "endnotes")


def relationships(targets: dict[str, tuple[str, str]]) -> str:
    """A part of relationships: by their id the kind and the target, an address being external."""
    entries = "".join(
        f'<Relationship Id="{name}" Type="{OFFICE}/{kind}" Target="{target}"'
        + (' TargetMode="External"/>' if ":" in target else "/>")
        for name, (kind, target) in targets.items()
    )
    namespace = "http://schemas.openxmlformats.org/package/2006/relationships"
    return f'<Relationships xmlns="{namespace}">{entries}</Relationships>'


def write_docx(
    path: Path,
    body: str,
    *,
    main: str = "document.xml",
    links: dict[str, tuple[str, str]] | None = None,
    extra: Mapping[str, str | bytes] | None = None,
    **parts: str,
) -> Path:
    """Write a Word document.

    Args:
        path: where.
        body: what is within `w:body`.
        main: the name of the main part.
        links: further relationships of the main part.
        extra: further parts by their name.
        parts: what is within the root of `styles`, `numbering`, `footnotes` and `endnotes`.
    """
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("[Content_Types].xml", TYPES.replace("{main}", main))
        archive.writestr("_rels/.rels", relationships({"r": ("officeDocument", f"word/{main}")}))
        archive.writestr(f"word/{main}", f"<w:document {DECLARED}><w:body>{body}</w:body></w:document>")
        own = {name: (name, f"{name}.xml") for name in PARTS if name in parts}
        archive.writestr(f"word/_rels/{main}.rels", relationships(own | (links or {})))
        for name in own:
            archive.writestr(f"word/{name}.xml", f"<w:{name} {DECLARED}>{parts[name]}</w:{name}>")
        for name, text in (extra or {}).items():
            archive.writestr(name, text)
    return path


def p(*inside: str, style: str = "", properties: str = "") -> str:
    """A paragraph of runs; text that is no XML becomes a run."""
    named = f'<w:pStyle w:val="{style}"/>' if style else ""
    runs = "".join(part if part.startswith("<") else r(part) for part in inside)
    return f"<w:p><w:pPr>{named}{properties}</w:pPr>{runs}</w:p>"


def r(text: str, properties: str = "") -> str:
    """A run."""
    return f'<w:r><w:rPr>{properties}</w:rPr><w:t xml:space="preserve">{text}</w:t></w:r>'


def item(text: str, level: int = 0, number: int = 1) -> str:
    """A paragraph of a list."""
    listed = f'<w:numPr><w:ilvl w:val="{level}"/><w:numId w:val="{number}"/></w:numPr>'
    return p(text, properties=listed)


def level(number: int, form: str, text: str, more: str = "") -> str:
    """A level of a list."""
    return (
        f'<w:lvl w:ilvl="{number}"><w:start w:val="1"/><w:numFmt w:val="{form}"/>{more}'
        f'<w:lvlText w:val="{text}"/></w:lvl>'
    )


def numbering(*lists: str) -> str:
    """Lists numbered from 1, each of the given levels."""
    abstract = "".join(
        f'<w:abstractNum w:abstractNumId="{at}">{levels}</w:abstractNum>'
        for at, levels in enumerate(lists, 1)
    )
    return abstract + "".join(
        f'<w:num w:numId="{at}"><w:abstractNumId w:val="{at}"/></w:num>' for at in range(1, len(lists) + 1)
    )


def style(name: str, more: str = "", *, kind: str = "paragraph", style_id: str = "") -> str:
    """A style, whose id is its name without spaces."""
    style_id = style_id or name.replace(" ", "")
    return f'<w:style w:type="{kind}" w:styleId="{style_id}"><w:name w:val="{name}"/>{more}</w:style>'


def table(*rows: str) -> str:
    """A table."""
    return f"<w:tbl>{''.join(f'<w:tr>{row}</w:tr>' for row in rows)}</w:tbl>"


def tc(text: str, properties: str = "") -> str:
    """A cell of a table, of text or of blocks."""
    return f"<w:tc><w:tcPr>{properties}</w:tcPr>{text if text.startswith('<') else p(text)}</w:tc>"
