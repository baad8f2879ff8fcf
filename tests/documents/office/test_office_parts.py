"""What Office documents hold in ways that few programs write: read, or a warning says what is missing."""

from __future__ import annotations

import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from openpyxl import Workbook
from PIL import Image as PillowImage
from PIL.PngImagePlugin import PngInfo

from switchyard.services.connectors.convert.connector import ConvertConnector
from switchyard.services.documents.office.package import TRANSITIONAL
from tests.documents.corpus import DOCUMENTS, converted
from tests.documents.hostile import convert, zipped
from tests.documents.office_files import p, r, relationships, write_docx

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def connector() -> AsyncIterator[ConvertConnector]:
    connector = ConvertConnector(slots=1, timeout_s=60)
    yield connector
    await connector.close()


def parts_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize(
    "name",
    [
        "docx_lists.docx",
        "tablecell.docx",
        "pptx_chart.pptx",
        "xlsx_01.xlsx",
        "xlsx_09_section_label_header.xlsx",
    ],
)
async def test_document_in_strict_namespaces_comes_out_as_any_other(tmp_path: Path, name: str) -> None:
    strict = parts_of(DOCUMENTS / name)
    for part in strict:
        for namespace, other in TRANSITIONAL.items() if part.endswith((".xml", ".rels")) else ():
            strict[part] = strict[part].replace(other, namespace)
    (tmp_path / name).write_bytes(zipped(strict))
    assert b"purl.oclc.org" in b"".join(strict.values())
    assert converted(tmp_path / name) == converted(DOCUMENTS / name)


CHUNKS: dict[str, str | bytes] = {
    "page.html": "<!DOCTYPE html><html><body><h2>Part</h2><p>of <b>HTML</b></p></body></html>",
    "text.txt": "plain words",
    "rich.rtf": r"{\rtf1 of {\i Rich Text}\par}",
    "page.mht": "MIME-Version: 1.0\nContent-Type: multipart/related\n\n<html>",
}


async def test_documents_within_a_document_are_read_or_warned_of(
    connector: ConvertConnector, tmp_path: Path
) -> None:
    inner = write_docx(tmp_path / "inner.docx", p("of Word")).read_bytes()
    chunks = CHUNKS | {"inner.docx": inner, "damaged.docx": inner[:200]}
    links = {f"c{number}": ("aFChunk", name) for number, name in enumerate(chunks)}
    body = p("Before") + "".join(f'<w:altChunk r:id="{name}"/>' for name in (*links, "nowhere")) + p("After")
    source = write_docx(
        tmp_path / "a.docx", body, links=links, extra={f"word/{name}": data for name, data in chunks.items()}
    )
    made = (await convert(connector, tmp_path, source.read_bytes(), "a.docx")).result
    assert made["markdown"] == (
        "Before\n\n## Part\n\nof **HTML**\n\nplain words\n\nof *Rich Text*\n\nof Word\n\nAfter\n"
    )
    assert [warning.partition(",")[0] for warning in made["warnings"]] == [
        "page.mht",
        "damaged.docx",
        "another document that is put into this one is missing",
    ]


async def test_document_that_puts_in_itself_ends(connector: ConvertConnector, tmp_path: Path) -> None:
    links = {"c": ("aFChunk", "inner.docx")}
    body = p("again") + '<w:altChunk r:id="c"/>'
    data = write_docx(tmp_path / "0.docx", p("innermost")).read_bytes()
    for _ in range(8):
        data = write_docx(
            tmp_path / "a.docx", body, links=links, extra={"word/inner.docx": data}
        ).read_bytes()
    made = (await convert(connector, tmp_path, data, "a.docx")).result
    assert made["markdown"] == "\n\n".join(["again"] * 5) + "\n"
    assert len(made["warnings"]) == 1


def box(inner: str) -> str:
    """A field of a form as Word wrote them before content controls."""
    return (
        f'<w:r><w:fldChar w:fldCharType="begin"><w:ffData>{inner}</w:ffData></w:fldChar></w:r>'
        '<w:r><w:instrText> FORM </w:instrText></w:r><w:r><w:fldChar w:fldCharType="separate"/></w:r>'
    )


END = '<w:r><w:fldChar w:fldCharType="end"/></w:r>'


async def test_boxes_and_choices_of_a_form_in_word_show_their_state(tmp_path: Path) -> None:
    choice = '<w:ddList><w:result w:val="1"/><w:listEntry w:val="red"/><w:listEntry w:val="blue"/></w:ddList>'
    source = write_docx(
        tmp_path / "a.docx",
        p(box("<w:checkBox><w:checked/></w:checkBox>"), END, " yes ", box("<w:checkBox/>"), END, " no ")
        + p(box('<w:checkBox><w:default w:val="1"/><w:checked w:val="0"/></w:checkBox>'), END, " maybe")
        + p("colour: ", box(choice), END, ", again: ", box(choice), r("blue"), END)
        + p("name: ", box("<w:textInput/>"), r("Ada"), END),
    )
    assert converted(source) == "☑ yes ☐ no\n\n☐ maybe\n\ncolour: blue, again: blue\n\nname: Ada\n"


SVG = '<?xml version="1.0"?><!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://x"><svg xmlns="http://www.w3.org/2000/svg"/>'


async def test_drawing_with_a_document_type_makes_no_document_unsafe(tmp_path: Path) -> None:
    source = write_docx(tmp_path / "a.docx", p("text"), extra={"word/media/image1.svg": SVG})
    assert converted(source) == "text\n"


async def test_part_that_hides_behind_the_name_of_a_drawing_is_refused(
    connector: ConvertConnector, tmp_path: Path
) -> None:
    styles = SVG.replace("<svg ", '<w:styles xmlns:w="w" ').replace(
        '"http://x">', '"http://x" [<!ENTITY a "b">]>'
    )
    links = {"s": ("styles", "media/styles.svg")}
    source = write_docx(tmp_path / "a.docx", p("text"), links=links, extra={"word/media/styles.svg": styles})
    with pytest.raises(Exception, match="declares a document type"):
        await convert(connector, tmp_path, source.read_bytes(), "a.docx")


async def test_check_boxes_on_a_sheet_show_their_state(tmp_path: Path) -> None:
    book = Workbook()
    sheet: Any = book.active
    sheet.append(["done", "what"])
    sheet.append(["", "cook"])
    book.save(tmp_path / "a.xlsx")

    def shape(kind: str, checked: str, row: int, label: str) -> str:
        return (
            f'<v:shape><v:textbox><div>{label}<br></div></v:textbox><x:ClientData ObjectType="{kind}">'
            f"<x:Anchor>0, 1, {row}, 2, 1, 3, {row + 1}, 4</x:Anchor>{checked}</x:ClientData></v:shape>"
        )

    drawing = (
        '<xml xmlns:v="urn:schemas-microsoft-com:vml" xmlns:x="urn:schemas-microsoft-com:office:excel">'
        + shape("Checkbox", "<x:Checked>1</x:Checked>", 4, "Soup")
        + shape("Checkbox", "", 5, "Salad")
        + shape("Note", "", 6, "a comment")
        + "</xml>"
    )
    parts = parts_of(tmp_path / "a.xlsx") | {
        "xl/drawings/vml.vml": drawing.encode(),
        "xl/worksheets/_rels/sheet1.xml.rels": relationships(
            {"r": ("vmlDrawing", "../drawings/vml.vml")}
        ).encode(),
    }
    (tmp_path / "b.xlsx").write_bytes(zipped(parts))
    assert converted(tmp_path / "b.xlsx") == (
        "## Sheet\n\n| done | what |\n| --- | --- |\n|  | cook |\n\n☑ Soup\n\n☐ Salad\n"
    )


async def test_image_data_that_looks_like_a_declaration_is_no_declaration(tmp_path: Path) -> None:
    said = PngInfo()
    said.add_text("XML", "<!DOCTYPE svg>")
    PillowImage.new("L", (20, 20)).save(tmp_path / "a.png", pnginfo=said)
    source = write_docx(
        tmp_path / "a.docx", p("x"), extra={"word/media/a.png": (tmp_path / "a.png").read_bytes()}
    )
    assert converted(source) == "x\n"
