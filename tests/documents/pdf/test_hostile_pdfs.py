"""PDFs and images made to do harm: each ends in an answer, and the next file is read."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from PIL import Image

from switchyard.services.connectors.convert.connector import ConvertConnector
from tests.documents.corpus import needs_ocr, report
from tests.documents.hostile import (
    MIB,
    convert,
    deflated,
    nested,
    pdf,
    pdf_page,
    png_chunks,
    stream,
    tiff_directory,
    verdict,
)

CATALOG = b"<< /Type /Catalog /Pages 2 0 R >>"
HELLO = stream(b"BT /F 12 Tf 20 200 Td (Hello) Tj ET")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def connector() -> AsyncIterator[ConvertConnector]:
    connector = ConvertConnector(slots=1, timeout_s=90, memory_bytes=512 * MIB)
    yield connector
    await connector.close()


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("times", [1, 2])
async def test_content_that_unpacks_without_end_is_stopped(
    connector: ConvertConnector, tmp_path: Path, times: int
) -> None:
    packed = deflated(600 * MIB, times=times)
    filters = b"/Filter [%s]" % (b"/FlateDecode " * times)
    code = await verdict(connector, tmp_path, pdf_page(stream(packed, filters)), "a.pdf")
    assert code in {None, "memory_exceeded", "corrupt_file", "reader_crashed"}


async def test_page_tree_that_leads_back_into_itself_ends(
    connector: ConvertConnector, tmp_path: Path
) -> None:
    itself = pdf(CATALOG, b"<< /Type /Pages /Kids [2 0 R] /Count 1 >>")
    parent = pdf(
        CATALOG,
        b"<< /Type /Pages /Kids [3 0 R 3 0 R] /Count 2 >>",
        b"<< /Type /Pages /Parent 2 0 R /Kids [2 0 R] /Count 1 >>",
    )
    inherited = pdf(
        CATALOG,
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 /Parent 2 0 R >>",
        b"<< /Type /Page /Parent 2 0 R >>",
    )
    for data in (itself, parent, inherited):
        assert await verdict(connector, tmp_path, data, "a.pdf") in {None, "corrupt_file"}


@pytest.mark.parametrize("count", [b"2147483647", b"-1", b"99999999999999999999", b"(x)"])
async def test_page_count_that_lies_costs_nothing(
    connector: ConvertConnector, tmp_path: Path, count: bytes
) -> None:
    page = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] >>"
    data = pdf(CATALOG, b"<< /Type /Pages /Kids [3 0 R] /Count %s >>" % count, page)
    assert await verdict(connector, tmp_path, data, "a.pdf") in {None, "corrupt_file", "too_many_pages"}


async def test_cross_reference_tables_that_chase_each_other_end(
    connector: ConvertConnector, tmp_path: Path
) -> None:
    whole = pdf_page(HELLO)
    at = int(whole.rpartition(b"startxref\n")[2].split()[0])
    for previous in (b"/Prev %d" % at, b"/XRefStm %d" % at, b"/Prev 0", b"/Prev 999999999"):
        data = whole.replace(b"/Root 1 0 R", b"/Root 1 0 R " + previous)
        assert await verdict(connector, tmp_path, data, "a.pdf") in {None, "corrupt_file"}


async def test_forms_that_draw_themselves_end(connector: ConvertConnector, tmp_path: Path) -> None:
    def form(name: bytes, target: int) -> bytes:
        resources = b"/Resources << /XObject << /%s %d 0 R >> >>" % (name, target)
        return stream(b"/%s Do " % name * 10, b"/Type /XObject /Subtype /Form /BBox [0 0 9 9] " + resources)

    draw = stream(b"/X Do " * 10)
    itself = pdf_page(draw, form(b"X", 6), resources=b"/XObject << /X 6 0 R >>")
    each_other = pdf_page(draw, form(b"Y", 7), form(b"X", 6), resources=b"/XObject << /X 6 0 R >>")
    for data in (itself, each_other):
        code = await verdict(connector, tmp_path, data, "a.pdf")
        assert code in {None, "corrupt_file", "memory_exceeded", "reader_crashed"}


async def test_forms_that_multiply_are_bounded(connector: ConvertConnector, tmp_path: Path) -> None:
    forms = [
        stream(
            b"/X Do " * 4,
            b"/Type /XObject /Subtype /Form /BBox [0 0 9 9] /Resources << /XObject << /X %d 0 R >> >>"
            % (number + 7),
        )
        for number in range(9)
    ]
    last = stream(b"BT (x) Tj ET", b"/Type /XObject /Subtype /Form /BBox [0 0 9 9]")
    data = pdf_page(stream(b"/X Do"), *forms, last, resources=b"/XObject << /X 6 0 R >>")
    await verdict(connector, tmp_path, data, "a.pdf")


@pytest.mark.parametrize("depth", [1_000, 200_000])
async def test_objects_nested_deeply_end(connector: ConvertConnector, tmp_path: Path, depth: int) -> None:
    arrays = nested("[", "]", depth).encode()
    dictionaries = nested("<</A ", ">>", depth, "1").encode()
    for data in (
        pdf_page(HELLO, arrays, entries=b"/Junk 6 0 R"),
        pdf_page(HELLO, entries=b"/Junk " + arrays),
        pdf_page(HELLO, dictionaries, entries=b"/Junk 6 0 R"),
        pdf_page(stream(b"BT /F 9 Tf " + arrays + b" TJ (Hello) Tj ET")),
        pdf_page(stream(nested("q ", "Q ", depth, "BT /F 9 Tf (x) Tj ET ").encode())),
        pdf_page(stream(b"BT " + b"(" * depth + b")" * depth + b" Tj ET")),
    ):
        assert await verdict(connector, tmp_path, data, "a.pdf") in {None, "corrupt_file", "memory_exceeded"}


async def test_references_that_refer_to_each_other_end(connector: ConvertConnector, tmp_path: Path) -> None:
    for data in (
        pdf_page(b"6 0 R", b"4 0 R"),
        pdf_page(HELLO, b"7 0 R", b"6 0 R", entries=b"/Rotate 6 0 R /CropBox 7 0 R"),
        pdf_page(stream(b"x", b"/Filter 6 0 R /DecodeParms 6 0 R"), b"[6 0 R]"),
        pdf_page(HELLO.replace(b"/Length 35", b"/Length 4 0 R")),
    ):
        assert await verdict(connector, tmp_path, data, "a.pdf") in {None, "corrupt_file"}


async def test_object_streams_that_hold_themselves_end(connector: ConvertConnector, tmp_path: Path) -> None:
    body = b"6 0 << /Type /ObjStm /N 1 /First 4 /Length 9 >>"
    data = pdf_page(HELLO, stream(body, b"/Type /ObjStm /N 1 /First 4 /Extends 6 0 R"))
    assert await verdict(connector, tmp_path, data, "a.pdf") in {None, "corrupt_file"}


async def test_fonts_without_maps_are_read_as_well_as_can_be(
    connector: ConvertConnector, tmp_path: Path
) -> None:
    loop = stream(
        b"/CIDInit /ProcSet findresource begin /Mine usecmap endcmap", b"/CMapName /Mine /UseCMap 8 0 R"
    )
    composite = b"<< /Type /Font /Subtype /Type0 /BaseFont /X "
    fonts = [
        composite + b"/Encoding /Identity-H /DescendantFonts [7 0 R] >>",
        composite + b"/Encoding 8 0 R /ToUnicode 8 0 R /DescendantFonts [7 0 R] >>",
        composite + b"/Encoding /..#2F..#2Fetc#2Fpasswd /DescendantFonts [6 0 R] >>",
        b"<< /Type /Font /Subtype /Type3 /FontBBox [0 0 9 9] /FontMatrix [0 0 0 0 0 0] /CharProcs << >> >>",
    ]
    descendant = b"<< /Type /Font /Subtype /CIDFontType2 /BaseFont /X /W [0 4294967295 1] /DW -1 >>"
    shown = stream(b"BT /F 12 Tf 20 200 Td <00010002> Tj /G 12 Tf <0003FFFF> Tj ET")
    for font in fonts:
        data = pdf_page(shown, font, descendant, loop, resources=b"/Font << /F 6 0 R /G 6 0 R >>")
        assert await verdict(connector, tmp_path, data, "a.pdf") in {None, "corrupt_file"}


async def test_page_without_measure_is_read(connector: ConvertConnector, tmp_path: Path) -> None:
    for box in (
        b"[0 0 0 0]",
        b"[0 0 1e30 1e30]",
        b"[9 9 -9 -9]",
        b"[0 0 nan inf]",
        b"[]",
        b"[0 0 1e-30 1e-30]",
    ):
        entries = b"/CropBox %s /UserUnit 1e9" % box
        data = pdf_page(HELLO, entries=entries).replace(b"[0 0 300 300]", box)
        assert await verdict(connector, tmp_path, data, "a.pdf") in {None, "corrupt_file", "image_too_large"}


async def test_lines_and_characters_without_number_end(connector: ConvertConnector, tmp_path: Path) -> None:
    rules = b"".join(
        b"0 %d m 300 %d l S %d 0 m %d 300 l S\n" % (n % 300, n % 300, n, n) for n in range(5_000)
    )
    packed = zlib.compress(rules + b"BT /F 1 Tf " + b"(x) Tj 1 1 Td " * 20_000 + b"ET")
    code = await verdict(connector, tmp_path, pdf_page(stream(packed, b"/Filter /FlateDecode")), "a.pdf")
    assert code in {None, "memory_exceeded"}


@needs_ocr
async def test_image_in_a_page_that_unpacks_without_end_is_stopped(
    connector: ConvertConnector, tmp_path: Path
) -> None:
    for width, filters in (
        (20_000, b"/FlateDecode"),
        (2_000_000_000, b"/FlateDecode"),
        (60_000, b"/CCITTFaxDecode"),
    ):
        picture = stream(
            deflated(400 * MIB, b"\0"),
            b"/Type /XObject /Subtype /Image /Width %d /Height %d /BitsPerComponent 8"
            b" /ColorSpace /DeviceGray /Filter %s" % (width, width, filters),
        )
        data = pdf_page(stream(b"300 0 0 300 0 0 cm /I Do"), picture, resources=b"/XObject << /I 6 0 R >>")
        code = await verdict(connector, tmp_path, data, "a.pdf", ocr="auto")
        assert code in {None, "memory_exceeded", "corrupt_file", "image_too_large"}


async def test_images_that_unpack_without_end_are_stopped(
    connector: ConvertConnector, tmp_path: Path
) -> None:
    header = struct.pack("!IIBBBBB", 100, 100, 8, 2, 0, 0, 0)
    bomb = deflated(200 * MIB, b"\0")
    for data in (
        png_chunks((b"IHDR", header), (b"IDAT", bomb), (b"IEND", b"")),
        png_chunks(
            (b"IHDR", header), (b"zTXt", b"k\0\0" + bomb), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")
        ),
        png_chunks(
            (b"IHDR", header), (b"iCCP", b"k\0\0" + bomb), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")
        ),
    ):
        assert await verdict(connector, tmp_path, data, "a.png") in {None, "corrupt_file"}


async def test_directories_of_a_tiff_that_lead_back_end(connector: ConvertConnector, tmp_path: Path) -> None:
    entries = {256: (4, 10), 257: (4, 10), 258: (3, 1), 259: (3, 1), 262: (3, 1), 273: (4, 8), 278: (4, 10)}
    for following in (8, 0, 0xFFFFFFF0):
        data = tiff_directory(entries, following=following) + bytes(100)
        assert await verdict(connector, tmp_path, data, "a.tif") in {None, "corrupt_file", "too_many_pages"}
    large = tiff_directory(entries | {256: (4, 2**31), 257: (4, 2**31)}, following=0)
    assert await verdict(connector, tmp_path, large, "a.tif") in {"corrupt_file", "image_too_large"}


async def test_tiff_of_too_many_pages_is_refused(connector: ConvertConnector, tmp_path: Path) -> None:
    pages = io.BytesIO()
    dot = Image.new("1", (1, 1))
    dot.save(pages, "TIFF", save_all=True, append_images=[dot] * 30)
    assert await verdict(connector, tmp_path, pages.getvalue(), "a.tif", max_pages=30) == "too_many_pages"
    assert (await convert(connector, tmp_path, pages.getvalue(), "a.tif", max_pages=31)).result["pages"] == 31


def tagged(*elements: bytes, owner: int = 9) -> bytes:
    """A PDF of one marked text that the object `owner` has, and these elements, which count from 8."""
    catalog = CATALOG.replace(b">>", b"/MarkInfo << /Marked true >> /StructTreeRoot 6 0 R >>")
    return pdf(
        catalog,
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 300] /Contents 4 0 R /StructParents 0"
        b" /Resources << /Font << /F 5 0 R >> >> >>",
        stream(b"/P << /MCID 0 >> BDC BT /F 12 Tf 20 200 Td (Hello) Tj ET EMC"),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        b"<< /Type /StructTreeRoot /K [8 0 R] /ParentTree 7 0 R >>",
        b"<< /Nums [0 [%d 0 R]] >>" % owner,
        *elements,
    )


def element(kind: bytes, parent: int, kids: bytes, more: bytes = b"") -> bytes:
    return b"<< /Type /StructElem /S /%s /P %d 0 R /Pg 3 0 R /K [%s] %s >>" % (kind, parent, kids, more)


@pytest.mark.parametrize(
    "elements",
    [
        pytest.param([element(b"Sect", 9, b"9 0 R"), element(b"Sect", 8, b"8 0 R 0")], id="in a circle"),
        pytest.param([element(b"Table", 8, b"8 0 R"), element(b"TR", 9, b"9 0 R 0")], id="of itself"),
        pytest.param([element(b"Sect", 6, b"9 0 R"), element(b"P", 6, b"0 " * 300_000)], id="many marks"),
        pytest.param(
            [element(b"Sect", 6, b"null " * 1_000_000 + b"9 0 R"), element(b"P", 8, b"0")], id="gaps"
        ),
    ],
)
async def test_structure_trees_without_end_are_read_as_far_as_they_make_sense(
    connector: ConvertConnector, tmp_path: Path, elements: list[bytes]
) -> None:
    outcome = await convert(connector, tmp_path, tagged(*elements), "a.pdf")
    assert "Hello" in outcome.result["markdown"]


async def test_a_deep_structure_tree_ends(connector: ConvertConnector, tmp_path: Path) -> None:
    depth = 20_000
    elements = [element(b"Sect", max(at - 1, 6), b"%d 0 R" % (at + 1)) for at in range(8, 8 + depth)]
    elements.append(element(b"P", 7 + depth, b"0"))
    outcome = await convert(connector, tmp_path, tagged(*elements, owner=8 + depth), "a.pdf")
    assert "Hello" in outcome.result["markdown"]


async def test_cells_that_span_millions_of_others_do_not(connector: ConvertConnector, tmp_path: Path) -> None:
    spans = b"/A << /O /Table /ColSpan 2000000000 /RowSpan 1e38 >>"
    cells = [element(b"TD", 9, b"0" if at == 10 else b"", spans) for at in range(10, 2_010)]
    kids = b" ".join(b"%d 0 R" % at for at in range(10, 2_010))
    table = tagged(element(b"Table", 6, b"9 0 R"), element(b"TR", 8, kids), *cells, owner=10)
    outcome = await convert(connector, tmp_path, table, "a.pdf")
    assert outcome.result["markdown"] == "Hello\n"


@needs_ocr
async def test_a_page_whose_picture_cannot_be_drawn_says_so(tmp_path: Path) -> None:
    entries = b"/Type /XObject /Subtype /Image /ColorSpace /DeviceGray /BitsPerComponent 8"
    picture = stream(b"0000", entries + b" /Width 200000 /Height 200000 /Filter /ASCIIHexDecode")
    shown = stream(b"q 250 0 0 250 20 20 cm /I Do Q")
    path = tmp_path / "a.pdf"
    path.write_bytes(pdf_page(shown, picture, resources=b"/XObject << /I 6 0 R >>"))
    (warning,) = report(path, ocr="auto")["warnings"]
    assert warning.startswith("page 1 shows nothing, though pictures are on it (1)")
