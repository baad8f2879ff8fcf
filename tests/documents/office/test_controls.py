"""Controls that are programs of their own (ActiveX) give what they show, or it is reported as missing."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import pytest
from openpyxl import Workbook
from pptx import Presentation

from tests.documents.corpus import report
from tests.documents.office_files import OFFICE, p, relationships, write_docx

CHECK, OPTION, TEXT = (f"8BD21D{kind}0-EC42-11CE-9E0D-00AA006002F3" for kind in (4, 5, 1))
LABEL = "978C9E23-D4B0-11CE-BF2D-00AA003F40D0"
BUTTON = "D7053240-CE69-11CD-A777-00DD01143C57"
VALUE_BIT, CAPTION_BIT, SIZE_BIT, BITS_BIT, CURSOR_BIT = 22, 23, 8, 0, 7


def string(text: str) -> tuple[int, bytes]:
    """The count of a string and its bytes, in one byte each where that is enough."""
    narrow = text.isascii()
    data = text.encode("latin-1" if narrow else "utf-16-le")
    return len(data) | (1 << 31 if narrow else 0), data.ljust(-(-len(data) // 4) * 4, b"\0")


def stored(value: str, caption: str = "") -> bytes:
    """A field as it is stored, behind the class that it is of."""
    (of_value, text), (of_caption, label) = string(value), string(caption)
    mask = sum(1 << bit for bit in (BITS_BIT, CURSOR_BIT, SIZE_BIT, VALUE_BIT, CAPTION_BIT))
    block = struct.pack("<IB3xII", 7, 1, of_value, of_caption) + struct.pack("<II", 100, 50) + text + label
    return bytes(16) + b"\0\2" + struct.pack("<HQ", len(block) + 8, mask) + block


def label(caption: str) -> bytes:
    of_caption, text = string(caption)
    block = struct.pack("<I", of_caption) + text + struct.pack("<II", 100, 50)
    return bytes(16) + b"\0\2" + struct.pack("<HI", len(block) + 4, 1 << 3 | 1 << 5) + block


def control(kind: str, properties: str = "") -> str:
    return (
        f'<ax:ocx xmlns:ax="http://schemas.microsoft.com/office/2006/activeX" xmlns:r="{OFFICE}" '
        f'ax:classid="{{{kind}}}" ax:persistence="persistStreamInit" r:id="rId1">{properties}</ax:ocx>'
    )


def parts(directory: str, controls: list[tuple[str, bytes | str]]) -> dict[str, str | bytes]:
    """The parts of controls, each by its class and what is stored of it."""
    made: dict[str, str | bytes] = {}
    for number, (kind, data) in enumerate(controls, start=1):
        path = f"{directory}/activeX/activeX{number}"
        made[f"{path}.xml"] = control(kind, data if isinstance(data, str) else "")
        if isinstance(data, bytes):
            made[f"{path}.bin"] = data
            target = {"rId1": ("activeXControlBinary", f"activeX{number}.bin")}
            made[f"{directory}/activeX/_rels/activeX{number}.xml.rels"] = relationships(target)
    return made


CONTROLS: list[tuple[str, bytes | str]] = [
    (CHECK, stored("1", "Agreed")),
    (CHECK, stored("0", "Überprüft €")),
    (OPTION, stored("1", "Left")),
    (TEXT, b"\xd0\xcf\x11\xe0".ljust(192, b"\0") + stored("typed in")[16:]),  # within a storage
    (LABEL, label("A label")),
    (BUTTON, b""),
    (
        CHECK,
        '<ax:ocxPr ax:name="Value" ax:value="1"/><ax:ocxPr ax:name="Caption" ax:value="In XML"/>',
    ),
]
SHOWN = ["☑ Agreed", "☐ Überprüft €", "◉ Left", "typed in", "A label", "☑ In XML"]
UNREAD: list[bytes] = [
    b"", b"\0", bytes(16) + b"\0\2\xff\xff" + b"\xff" * 8, stored("1")[:30], bytes(40_000),
]  # fmt: skip


def document(path: Path, controls: list[tuple[str, bytes | str]]) -> Path:
    numbers = range(1, len(controls) + 1)
    body = "".join(p(f'<w:r><w:object><w:control r:id="c{n}"/></w:object></w:r>') for n in numbers)
    links = {f"c{n}": ("control", f"activeX/activeX{n}.xml") for n in numbers}
    return write_docx(path, body, links=links, extra=parts("word", controls))


def test_controls_of_a_document_are_written(tmp_path: Path) -> None:
    made = report(document(tmp_path / "a.docx", CONTROLS))
    assert made["markdown"].split("\n\n") == [*SHOWN[:-1], f"{SHOWN[-1]}\n"]
    assert made["warnings"] == []


@pytest.mark.parametrize("data", UNREAD)
def test_control_that_cannot_be_read_is_warned_of(tmp_path: Path, data: bytes) -> None:
    made = report(document(tmp_path / "a.docx", [(CHECK, data), ("0" * 8, "")]))
    assert made["warnings"] == ["2 controls (ActiveX) cannot be read and were left out"]


def added(
    path: Path, part: str, xml: str, more: dict[str, str | bytes], links: dict[str, tuple[str, str]]
) -> Path:
    """An Office document with something more before the end of a part, and further parts."""
    source = path.read_bytes()
    of_part = f"{part.rpartition('/')[0]}/_rels/{part.rpartition('/')[2]}.rels"
    with zipfile.ZipFile(io.BytesIO(source)) as given, zipfile.ZipFile(path, "w") as made:
        for name in given.namelist():
            if name == part:
                text = given.read(name).decode()
                at = text.rindex("</")
                made.writestr(name, text[:at] + xml + text[at:])
            elif name != of_part:
                made.writestr(name, given.read(name))
        made.writestr(of_part, relationships(links))
        for name, data in more.items():
            made.writestr(name, data)
    return path


def test_controls_of_a_sheet_stand_where_they_are_drawn(tmp_path: Path) -> None:
    book = Workbook()
    sheet = book.worksheets[0]
    sheet["A1"], sheet["A5"] = "above", "below"
    book.save(path := tmp_path / "a.xlsx")
    drawing = "http://schemas.openxmlformats.org/drawingml/2006/spreadsheetDrawing"
    anchor = (
        "<controlPr><anchor><from><xdr:col>0</xdr:col><xdr:row>{}</xdr:row></from>"
        "<to><xdr:col>9</xdr:col><xdr:row>9</xdr:row></to></anchor></controlPr>"
    )
    named = "".join(
        f'<control shapeId="1" r:id="c{n}">{{}}</control>'.format(anchor.format(2))
        + f'<control r:id="c{n}"/>'
        for n in (1, 2)
    )
    controls = [(CHECK, stored("1", "Agreed")), (TEXT, b"")]
    links = {f"c{n}": ("control", f"../activeX/activeX{n}.xml") for n in (1, 2)}
    xml = f'<controls xmlns:r="{OFFICE}" xmlns:xdr="{drawing}">{named}</controls>'
    made = report(added(path, "xl/worksheets/sheet1.xml", xml, parts("xl", [*controls]), links))
    assert made["markdown"] == "## Sheet\n\nabove\n\n☑ Agreed\n\nbelow\n"
    assert made["warnings"] == ['1 controls (ActiveX) of the sheet "Sheet" cannot be read and were left out']


def test_controls_of_a_slide_are_written(tmp_path: Path) -> None:
    deck = Presentation()
    deck.slides.add_slide(deck.slide_layouts[5]).shapes.title.text = "Title"
    deck.save(str(path := tmp_path / "a.pptx"))
    xml = f'<p:controls xmlns:r="{OFFICE}"><p:control r:id="c1"/><p:control r:id="c1"/></p:controls>'
    links = {"c1": ("control", "../activeX/activeX1.xml")}
    controls: list[tuple[str, bytes | str]] = [(TEXT, stored("typed in"))]
    made = report(added(path, "ppt/slides/slide1.xml", xml, parts("ppt", controls), links))
    assert made["markdown"] == "# Title\n\ntyped in\n"
    assert made["warnings"] == []
