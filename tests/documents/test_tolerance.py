"""What viewers open all the same is read with a warning; what only looks like a page is refused by name."""

from __future__ import annotations

import gzip
import io
import re
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from PIL import Image

from switchyard.services.connectors.convert.connector import ConvertConnector
from switchyard.services.connectors.protocol import FatalError
from tests.documents.hostile import convert, verdict
from tests.documents.pdf_files import page_of, stream_of, texts_of

pytestmark = pytest.mark.asyncio(loop_scope="module")
PDF = page_of(texts_of([(72, 700, "Hello world")]))
RTF = rb"{\rtf1\ansi Hello {\b world}\par}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def connector() -> AsyncIterator[ConvertConnector]:
    connector = ConvertConnector(slots=1, timeout_s=60)
    yield connector
    await connector.close()


def pages_utf_16() -> bytes:
    return "<html><p>Hello world</p></html>".encode("utf-16-le")


def mac_binary(data: bytes) -> bytes:
    return b"\0\x05a.pdf".ljust(65, b"\0") + b"PDF CARO".ljust(63, b"\0") + data


def ole(*names: str) -> bytes:
    """An OLE file whose directory is in its fourth sector and continues in its third."""
    entries = b"".join(
        name.encode("utf-16-le").ljust(64, b"\0") + struct.pack("<H", 2 * len(name) + 2) + bytes(62)
        for name in ("Root Entry", *["\x05SummaryInformation"] * 3, *names)
    ).ljust(1024, b"\0")
    header = bytearray(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1".ljust(512, b"\0"))
    struct.pack_into("<H", header, 30, 9)
    struct.pack_into("<I", header, 48, 3)
    struct.pack_into("<109I", header, 76, 0, *[0xFFFFFFFF] * 108)
    table = struct.pack("<4I", 0xFFFFFFFD, 0xFFFFFFFE, 0xFFFFFFFE, 2).ljust(512, b"\xff")
    return bytes(header) + table + bytes(512) + entries[512:] + entries[:512]


EXCEL_XML = (
    b'<?xml version="1.0"?><?mso-application progid="Excel.Sheet"?>'
    b'<Workbook xmlns="urn:schemas-microsoft-com:office:spreadsheet"><Worksheet><Table>'
)


def png() -> bytes:
    data = io.BytesIO()
    Image.new("L", (40, 40), 255).save(data, "PNG")
    return data.getvalue()


@pytest.mark.parametrize(
    ("data", "name", "warned"),
    [
        (PDF.replace(b"%%EOF\n", b""), "a.pdf", "the PDF has no end"),
        (PDF + bytes(10_000), "a.pdf", "bytes stand after the PDF"),
        (PDF + b"<html>an error page</html>\n" * 1_000, "a.pdf", "bytes stand after the PDF"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/pdf\r\n\r\n" + PDF,
            "a.pdf",
            "bytes stand before the PDF",
        ),
        (b"<html>\n" + PDF, "a.pdf", "bytes stand before the PDF"),
        (b"<html>" + b"%PDF-1.4 is a format. " * 500 + PDF, "a.pdf", "bytes stand before the PDF"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 9_000 + b"\r\n\r\n" + PDF, "a.pdf", "bytes stand before"),
        (bytes(range(256)) * 40 + PDF, "nameless", "bytes stand before the PDF"),
        (mac_binary(PDF), "a.pdf", "bytes stand before the PDF"),
        (b"\x1b%-12345X@PJL ENTER LANGUAGE=PDF\r\n" + PDF, "a.pdf", "bytes stand before the PDF"),
        (b"<html><p>Hello world</p></html>".decode().encode("utf-16"), "a.xls", "content is an HTML page"),
        (pages_utf_16(), "a.xls", "its content is an HTML page"),
        (b"<html><p>Hello world</p></html>", "a.xls", "its content is an HTML page; it was read as that"),
        (RTF, "a.doc", "its content is a Rich Text document; it was read as that"),
    ],
)
async def test_document_that_viewers_open_is_read_with_a_warning(
    connector: ConvertConnector, tmp_path: Path, data: bytes, name: str, warned: str
) -> None:
    made = (await convert(connector, tmp_path, data, name)).result
    assert made["markdown"].replace("*", "") == "Hello world\n"
    (warning,) = made["warnings"]
    assert warned in warning


async def test_files_that_a_pdf_encloses_are_warned_of(connector: ConvertConnector, tmp_path: Path) -> None:
    named = "/Names << /EmbeddedFiles << /Names [(a.xml) 5 0 R] >> >>"
    file = "<< /Type /Filespec /F (a.xml) /EF << /F 6 0 R >> >>"
    objects = [file, stream_of("<a/>", "/Type /EmbeddedFile")]
    data = page_of(texts_of([(72, 700, "Hello world")]), objects=objects)
    enclosing = data.replace(b"/Type /Catalog", b"/Type /Catalog " + named.encode())
    made = (await convert(connector, tmp_path, enclosing, "a.pdf")).result
    assert made["warnings"] == ["the PDF encloses other files, 1 in all, which were not read"]


@pytest.mark.parametrize("offset", [b"0", b"7", b"999999999"])
async def test_pdf_whose_table_of_objects_is_elsewhere_is_read(
    connector: ConvertConnector, tmp_path: Path, offset: bytes
) -> None:
    data = re.sub(rb"startxref\n\d+", b"startxref\n" + offset, PDF)
    assert (await convert(connector, tmp_path, data, "a.pdf")).result["markdown"] == "Hello world\n"


@pytest.mark.parametrize("at", [0, 2_000])
async def test_page_that_speaks_of_pdf_is_still_a_page(
    connector: ConvertConnector, tmp_path: Path, at: int
) -> None:
    page = b"<html>" + b" " * at + b"<p>It begins with %PDF-1.7 and ends.</p>"
    made = (await convert(connector, tmp_path, page, "a.html")).result
    assert made["markdown"] == "It begins with %PDF-1.7 and ends.\n"
    assert made["warnings"] == []


@pytest.mark.parametrize(
    ("data", "name", "what"),
    [
        (ole("\x06DataSpaces", "EncryptedPackage"), "a.docx", "protected by a password"),
        (ole("WordDocument"), "a.doc", "an old Word document"),
        (ole("Workbook"), "a.xls", "an old Excel workbook"),
        (ole("PowerPoint Document"), "a.ppt", "an old PowerPoint presentation"),
        (ole("MatOST"), "a.wps", "a document of Microsoft Works"),
        (ole("__properties_version1.0"), "a.msg", "an Outlook message"),
        (ole("anything"), "a.doc", "an old Office document"),
        (ole()[:700], "a.doc", "an old Office document"),
        (ole("WordDocument"), "a.docx", 'called "a.docx", but its content is an old Word document'),
        (b"\xffWPC\x10\0\0\0", "a.wpd", "a WordPerfect document"),
        (b"\x01\xfe2\0\0\0", "a.wps", "a document of Microsoft Works"),
        (gzip.compress(PDF), "a.pdf", "its content is packed with gzip"),
        (EXCEL_XML, "a.xls", "a workbook in the XML of Excel 2003"),
        (EXCEL_XML, "a.xml", "a workbook in the XML of Excel 2003"),
        (b"a,b\n1,2\n", "a.xls", "its content is plain text"),
    ],
)
async def test_file_of_another_format_is_refused_by_its_name(
    connector: ConvertConnector, tmp_path: Path, data: bytes, name: str, what: str
) -> None:
    with pytest.raises(FatalError) as refused:
        await convert(connector, tmp_path, data, name)
    assert what in refused.value.message
    assert refused.value.code in {"unsupported_format", "mislabelled_file", "encrypted_file"}


@pytest.mark.parametrize("data", [PDF, b"\xef\xbb\xbf" + PDF, b"\r\n\0" + PDF, PDF + b"\r\n\0\0"])
async def test_bytes_around_a_pdf_that_mean_nothing_are_not_warned_of(
    connector: ConvertConnector, tmp_path: Path, data: bytes
) -> None:
    assert (await convert(connector, tmp_path, data, "a.pdf")).result["warnings"] == []


@pytest.mark.parametrize("name", ["photo.jpg", "photo.tiff", "photo.gif"])
async def test_image_of_another_name_is_read_with_a_warning(
    connector: ConvertConnector, tmp_path: Path, name: str
) -> None:
    made = (await convert(connector, tmp_path, png(), name, media_type="image/jpeg")).result
    assert made["format"] == "png"
    assert (
        made["warnings"][0]
        == f'the file is called "{name}", but its content is a PNG image; it was read as that'
    )


HEAD = b"From: a@example.org\r\nSubject: hello\r\nMIME-Version: 1.0\r\n"
MAIL = HEAD + b"Content-Type: text/html\r\n\r\n<html><p>hi</p></html>"
WEB_ARCHIVE = (
    HEAD + b'Content-Type: multipart/related;\r\n\tboundary="x"\r\n\r\n--x\r\n\r\n<html><p>hi</p></html>'
)


@pytest.mark.parametrize(
    ("data", "name", "code"),
    [
        (MAIL, "a.eml", "unsupported_format"),
        (MAIL, "nameless", "unsupported_format"),
        (b"Return-Path: <a@b>\nReceived: from c\n\tby d\n\n<html>", "a.eml", "unsupported_format"),
        (
            b"HTTP/1.1 200 OK\r\nDate: today\r\nContent-Type: text/html\r\n\r\n<html>",
            "page",
            "unsupported_format",
        ),
        (MAIL, "a.html", "mislabelled_file"),
        (WEB_ARCHIVE, "a.mht", "unsupported_format"),
        (WEB_ARCHIVE, "a.mhtml", "unsupported_format"),
        (b"<html><p>hi</p></html>", "a.mht", "mislabelled_file"),
        (WEB_ARCHIVE, "a.doc", "mislabelled_file"),
    ],
)
async def test_mail_and_web_archives_never_come_out_as_pages(
    connector: ConvertConnector, tmp_path: Path, data: bytes, name: str, code: str
) -> None:
    assert await verdict(connector, tmp_path, data, name) == code


async def test_page_that_speaks_of_mail_is_still_a_page(connector: ConvertConnector, tmp_path: Path) -> None:
    page = b"<html><p>Subject: hello<br>From: me</p></html>"
    assert (await convert(connector, tmp_path, page, "a.html")).result[
        "markdown"
    ] == "Subject: hello  \nFrom: me\n"


async def test_rich_text_keeps_its_form(connector: ConvertConnector, tmp_path: Path) -> None:
    source = rb"""{\rtf1\ansi\ansicpg1252\uc1\deff0{\fonttbl{\f0\fswiss Arial;}{\f1\fcharset204 Times;}}
{\stylesheet{\s0 Normal;}{\s1\b heading 1;}}{\*\generator Word;}{\header left out}
\pard\s1 Title\par\pard Plain \b bold\b0  and \i it\i0 , 10{\super 5} \u8364? {\f1 \'cf\'f0} caf\'e9
 \u-10179?\u-8704?
 x{\footnote A \b note\b0 .\par}.\par
{\field{\*\fldinst HYPERLINK "http://a.example/c"}{\fldrslt link}} here\line below \v hidden\v0\par
\pard{\listtext\f0 \'b7\tab}first\par\pard{\listtext 2.\tab}second\par
\trowd\cellx100\cellx200 \pard\intbl a\cell b\cell\row\trowd\cellx100\cellx200 \pard\intbl 1\cell 2\cell\row
\pard{\pict\pngblip\bin4 }}{{ 8950}Last.\par}"""
    made = (await convert(connector, tmp_path, source, "a.rtf")).result
    assert made["markdown"] == (
        "# Title\n\nPlain **bold** and *it*, 10⁵ € Пр café 😀 x[^1].\n\n[link](http://a.example/c) here  "
        "\nbelow\n\n- first\n2. second\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n\nLast.\n\n[^1]: A **note**.\n"
    )
    assert made["warnings"] == ["1 images of Rich Text are left out"]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"{\\rtf1" + b"{" * 50_000, "too_deep"),
        (b"{\\rtf1 \\" + b"}" * 50_000 + b"\\u99999999999 \\'zz \\bin-5 x\\uc-1\\u55357 x\\par", None),
        (
            b"{\\rtf1\\ansicpg99999 {\\field{\\fldrslt{\\footnote{\\footnote a\\par" + bytes(range(256)) * 40,
            None,
        ),
        (b"{\\rtf1\\cell\\row\\cell a", None),
    ],
)
async def test_hostile_rich_text_is_read_or_refused(
    connector: ConvertConnector, tmp_path: Path, data: bytes, code: str | None
) -> None:
    assert await verdict(connector, tmp_path, data, "a.rtf") == code
