"""What viewers open all the same is read with a warning; what only looks like a page is refused by name."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from PIL import Image

from services.connectors.convert.connector import ConvertConnector
from tests.connectors.hostile import convert, verdict
from tests.connectors.pdf_files import page_of, texts_of

pytestmark = pytest.mark.asyncio(loop_scope="module")
PDF = page_of(texts_of([(72, 700, "Hello world")]))
RTF = rb"{\rtf1\ansi Hello {\b world}\par}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def connector() -> AsyncIterator[ConvertConnector]:
    connector = ConvertConnector(slots=1, timeout_s=60)
    yield connector
    await connector.close()


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
