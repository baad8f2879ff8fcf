"""Office documents and pages made to do harm: each ends in an answer, and the next file is read."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from switchyard.services.connectors.convert.connector import ConvertConnector
from tests.documents.corpus import DOCUMENTS
from tests.documents.hostile import MIB, convert, nested, verdict, zipped
from tests.documents.office_files import NAMESPACES, p, relationships, style, table, tc, write_docx


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def connector() -> AsyncIterator[ConvertConnector]:
    connector = ConvertConnector(slots=1, timeout_s=60, memory_bytes=512 * MIB)
    yield connector
    await connector.close()


pytestmark = pytest.mark.asyncio(loop_scope="module")


def parts(body: str, **more: str) -> dict[str, bytes]:
    """The parts of a Word document with this body."""
    declared = " ".join(f'xmlns:{prefix}="{name}"' for prefix, name in NAMESPACES.items())
    links = {"r": ("officeDocument", "word/document.xml")}
    document = f"<w:document {declared}><w:body>{body}</w:body></w:document>"
    return {
        "_rels/.rels": relationships(links).encode(),
        "word/document.xml": document.encode(),
    } | {name: text.encode() for name, text in more.items()}


async def test_archives_within_archives_are_not_unpacked(connector: ConvertConnector, tmp_path: Path) -> None:
    bomb = zipped({"zeros": bytes(10 * MIB)})
    for _ in range(4):
        bomb = zipped({f"{number}.zip": bomb for number in range(10)})
    assert await verdict(connector, tmp_path, bomb, "a.zip") == "unsupported_format"
    inside = parts(p("fine")) | {"word/embeddings/a.zip": bomb}
    assert await verdict(connector, tmp_path, zipped(inside), "a.docx") is None


async def test_members_that_overlap_are_refused(connector: ConvertConnector, tmp_path: Path) -> None:
    """The directory of the archive names the same megabytes ten thousand times."""
    whole = bytearray(zipped({"word/document.xml": bytes(2 * MIB)}))
    at = whole.rfind(b"PK\x01\x02")
    end = whole.rfind(b"PK\x05\x06")
    entry, tail = bytes(whole[at:end]), bytes(whole[end:])
    count = 1_000
    size, total = len(entry) * count, struct.pack("<HHII", count, count, len(entry) * count, at)
    assert size < 2**32
    bomb = bytes(whole[:at]) + entry * count + tail[:8] + total + tail[20:]
    assert await verdict(connector, tmp_path, bomb, "a.docx") == "archive_too_large"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32"])
@pytest.mark.parametrize("part", ["word/document.xml", "word/anything.else"])
async def test_entities_are_refused_in_every_part_and_encoding(
    connector: ConvertConnector, tmp_path: Path, part: str, encoding: str
) -> None:
    for declared in (
        '<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">',
        '<!ENTITY a SYSTEM "file:///etc/passwd">',
        '<!ENTITY % a SYSTEM "http://127.0.0.1:9/x.dtd"> %a;',
    ):
        bomb = f"{' ' * 200}<!DOCTYPE x [{declared}]><x>&a;</x>"
        made = zipped(parts(p("x")) | {part: bomb.encode(encoding)})
        assert await verdict(connector, tmp_path, made, "a.docx") == "unsafe_file"


async def test_entities_of_a_page_are_not_fetched_and_do_not_grow(
    connector: ConvertConnector, tmp_path: Path
) -> None:
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10 if n else "ha"}">' for n in range(10))
    page = (
        f'<!DOCTYPE html [{entities}<!ENTITY x SYSTEM "file:///etc/passwd">]><html><p>&e9; &x; end</p></html>'
    )
    markdown = (await convert(connector, tmp_path, page.encode(), "a.html")).result["markdown"]
    assert len(markdown) < 2_000
    assert "root:" not in markdown
    assert "end" in markdown


async def test_relations_that_lead_in_circles_end(connector: ConvertConnector, tmp_path: Path) -> None:
    circle = relationships(
        {
            "r1": ("officeDocument", "document.xml"),
            "r2": ("styles", "document.xml"),
            "r3": ("footnotes", "document.xml"),
            "r4": ("numbering", "../word/../word/document.xml"),
            "r5": ("image", "../../../../etc/passwd"),
            "r6": ("chart", "document.xml"),
        }
    )
    drawn = '<w:r><w:drawing><a:blip r:embed="r5"/></w:drawing></w:r>'
    made = zipped(parts(p("round", drawn)) | {"word/_rels/document.xml.rels": circle.encode()})
    result = (await convert(connector, tmp_path, made, "a.docx")).result
    assert result["markdown"].startswith("round")
    for target in ("", "..", "/", "no/such/part.xml"):
        lost = zipped(
            parts(p("x")) | {"_rels/.rels": relationships({"r": ("officeDocument", target)}).encode()}
        )
        assert await verdict(connector, tmp_path, lost, "a.docx") == "corrupt_file"


async def test_slides_whose_layouts_and_masters_lead_in_circles_end(
    connector: ConvertConnector, tmp_path: Path
) -> None:
    with zipfile.ZipFile(DOCUMENTS / "pptx_chart.pptx") as archive:
        deck = {name: archive.read(name) for name in archive.namelist()}
    slide = "../slides/slide1.xml"
    circle = relationships(
        {"rId1": ("slideLayout", slide), "rId2": ("slideMaster", slide), "rId3": ("chart", slide)}
    )
    deck["ppt/slides/_rels/slide1.xml.rels"] = circle.encode()
    assert await verdict(connector, tmp_path, zipped(deck), "a.pptx") is None


@pytest.mark.parametrize("depth", [30, 5_000])
async def test_tables_within_tables_end(connector: ConvertConnector, tmp_path: Path, depth: int) -> None:
    wide = '<w:tbl><w:tr><w:tc><w:tcPr><w:gridSpan w:val="100"/></w:tcPr><w:p><w:r><w:t>x</w:t></w:r></w:p>'
    closing = f"</w:tc>{tc('y')}</w:tr></w:tbl>"
    code = await verdict(connector, tmp_path, zipped(parts(nested(wide, closing, depth))), "a.docx")
    assert code == (None if depth == 30 else "corrupt_file")
    page = nested("<table><tr><td colspan=100 rowspan=1000>x", "<td>y</table>", depth)
    assert await verdict(connector, tmp_path, f"<html>{page}".encode(), "a.html") in {None, "too_deep"}


@pytest.mark.parametrize("names", [["ins"], ["sdt", "sdtContent"], ["hyperlink"], ["smartTag"]])
async def test_elements_nested_beyond_reason_are_refused(
    connector: ConvertConnector, tmp_path: Path, names: list[str]
) -> None:
    opening = "".join(f"<w:{name}>" for name in names)
    closing = "".join(f"</w:{name}>" for name in reversed(names))
    body = nested(opening, closing, 100_000, p("x"))
    assert await verdict(connector, tmp_path, zipped(parts(body)), "a.docx") == "corrupt_file"


async def test_many_notes_links_and_styles_take_no_longer_than_they_must(
    connector: ConvertConnector, tmp_path: Path
) -> None:
    count = 4_000
    body = "".join(
        p("x", f'<w:r><w:footnoteReference w:id="{n}"/></w:r>', style=f"S{n}") for n in range(count)
    )
    notes = "".join(f'<w:footnote w:id="{n}">{p("n")}</w:footnote>' for n in range(count))
    styles = "".join(style(f"S{n}", f'<w:basedOn w:val="S{n + 1}"/>') for n in range(count))
    path = write_docx(tmp_path / "many.docx", body, footnotes=notes, styles=styles)
    assert await verdict(connector, tmp_path, path.read_bytes(), "a.docx") is None


async def test_runs_of_breaks_and_spaces_take_no_longer_than_they_must(
    connector: ConvertConnector, tmp_path: Path
) -> None:
    for inner in ("<br>" * 100_000 + "x", "&nbsp; " * 100_000 + "x", "`" * 300_000, "*<b> </b>" * 30_000):
        page = f"<html><p>a{inner}b</p></html>".encode()
        assert await verdict(connector, tmp_path, page, "a.html") is None


async def test_repeated_cells_do_not_multiply_without_bound(
    connector: ConvertConnector, tmp_path: Path
) -> None:
    text = "long " * 10_000
    page = f"<html><table><tr><td rowspan=1000 colspan=100>{text}<td>y</tr>" + "<tr><td>z" * 999
    markdown = (await convert(connector, tmp_path, page.encode(), "a.html")).result
    assert markdown["markdown"] is None or len(markdown["markdown"]) < 1_000_000
    merged = table(tc(text, '<w:gridSpan w:val="999999999"/>') + tc("y"), tc("z"))
    made = (await convert(connector, tmp_path, zipped(parts(merged)), "a.docx")).result
    assert made["markdown"].count("long") == 10_000
