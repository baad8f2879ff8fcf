"""Files that are broken, mislabelled or made to do harm: each fails at once and says why."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openpyxl
import pypdfium2 as pdfium
import pytest
import pytest_asyncio
from PIL import Image
from pptx import Presentation

from switchyard.services.connectors.convert.connector import ConvertConnector
from switchyard.services.connectors.protocol import FatalError
from tests.documents.corpus import DOCUMENTS
from tests.documents.hostile import MIB, convert, zipped


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def connector() -> AsyncIterator[ConvertConnector]:
    connector = ConvertConnector(slots=1, timeout_s=60, memory_bytes=512 * MIB)
    yield connector
    await connector.close()


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def refusal(
    connector: ConvertConnector, directory: Path, data: bytes, name: str, media_type: str = "", **payload: Any
) -> FatalError:
    """The error of a file that must fail for good."""
    with pytest.raises(FatalError) as raised:
        await convert(connector, directory, data, name, media_type, **payload)
    assert len(raised.value.message) > 10
    assert str(directory) not in raised.value.message
    return raised.value


def document(name: str) -> bytes:
    return (DOCUMENTS / name).read_bytes()


def parts_of(name: str) -> dict[str, bytes]:
    with zipfile.ZipFile(DOCUMENTS / name) as archive:
        return {part: archive.read(part) for part in archive.namelist()}


def png_of_size(width: int, height: int) -> bytes:
    """A PNG that declares a size and holds next to nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack("!I", len(body)) + kind + body + struct.pack("!I", zlib.crc32(kind + body))

    header = struct.pack("!IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


def encrypted_pdf() -> bytes:
    """The smallest PDF with a password: its key is not the one of the empty password."""
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 200] >>",
        b"<< /Filter /Standard /V 1 /R 2 /O <" + b"41" * 32 + b"> /U <" + b"42" * 32 + b"> /P -44 >>",
    ]
    data = b"%PDF-1.4\n"
    offsets = []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"xref\n0 5\n0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    trailer = b"trailer\n<< /Size 5 /Root 1 0 R /Encrypt 4 0 R /ID [<00><00>] >>\n"
    return data + table + trailer + b"startxref\n%d\n%%%%EOF\n" % len(data)


@pytest.mark.parametrize("name", ["report.pdf", "scan.png", "letter.docx", "page.html", "nameless"])
async def test_empty_file_is_refused(connector: ConvertConnector, tmp_path: Path, name: str) -> None:
    assert (await refusal(connector, tmp_path, b"", name)).code == "empty_file"
    assert (await refusal(connector, tmp_path, b" \n\n", name)).code == "empty_file"


async def test_pdf_with_a_password_is_refused(connector: ConvertConnector, tmp_path: Path) -> None:
    error = await refusal(connector, tmp_path, encrypted_pdf(), "secret.pdf")
    assert error.code == "encrypted_file"
    assert "password" in error.message


async def test_office_document_with_a_password_is_refused(
    connector: ConvertConnector, tmp_path: Path
) -> None:
    container = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(1024) + "EncryptedPackage".encode("utf-16-le")
    assert (await refusal(connector, tmp_path, container, "secret.docx")).code == "encrypted_file"
    members = bytearray(document("docx_lists.docx"))
    for signature, flags_at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = members.find(signature)
        while at >= 0:
            members[at + flags_at] |= 1
            at = members.find(signature, at + 4)
    assert (await refusal(connector, tmp_path, bytes(members), "secret.docx")).code == "encrypted_file"


@pytest.mark.parametrize(
    "name",
    ["invoice.pdf", "phototest.tif", "phototest-rotated-180.png", "docx_lists.docx", "pptx_chart.pptx"],
)
@pytest.mark.parametrize("share", [0.3, 0.9])
async def test_truncated_file_is_refused(
    connector: ConvertConnector, tmp_path: Path, name: str, share: float
) -> None:
    whole = document(name)
    error = await refusal(connector, tmp_path, whole[: int(len(whole) * share)], name)
    assert error.code == "corrupt_file"


async def test_truncated_jpeg_is_refused(connector: ConvertConnector, tmp_path: Path) -> None:
    data = io.BytesIO()
    Image.effect_noise((400, 400), 50).save(data, "JPEG")
    error = await refusal(connector, tmp_path, data.getvalue()[:10_000], "photo.jpg")
    assert error.code == "corrupt_file"


@pytest.mark.parametrize(
    ("content", "name", "media_type"),
    [
        ("phototest-rotated-180.png", "report.pdf", ""),
        ("invoice.pdf", "picture.png", ""),
        ("invoice.pdf", "letter.docx", ""),
        ("docx_lists.docx", "slides.pptx", ""),
        ("xlsx_09_section_label_header.xlsx", "page.html", ""),
        ("example_03.html", "report.pdf", ""),
        ("phototest.tif", "photo.pdf", ""),
        ("invoice.pdf", "nameless", "image/png"),
        ("invoice.pdf", "report.pdf", "text/html; charset=utf-8"),
    ],
)
async def test_file_whose_name_or_type_contradicts_its_content_is_refused(
    connector: ConvertConnector, tmp_path: Path, content: str, name: str, media_type: str
) -> None:
    error = await refusal(connector, tmp_path, document(content), name, media_type)
    assert error.code == "mislabelled_file"
    assert "but its content is" in error.message


@pytest.mark.parametrize(
    ("content", "name", "media_type"),
    [
        ("invoice.pdf", "nameless", ""),
        ("invoice.pdf", "REPORT.PDF", "application/octet-stream"),
        ("invoice.pdf", "report.bin", "application/x-www-form-urlencoded"),
        ("docx_lists.docx", "letter.docx", "application/zip"),
        ("example_03.html", "page", "text/html; charset=utf-8"),
    ],
)
async def test_file_that_claims_nothing_else_is_taken_for_what_it_is(
    connector: ConvertConnector, tmp_path: Path, content: str, name: str, media_type: str
) -> None:
    outcome = await convert(connector, tmp_path, document(content), name, media_type)
    assert outcome.result["format"] == content.rpartition(".")[2]


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"Just some words.", "note.txt"),
        (b"Just some words.", "nameless"),
        (bytes(range(256)) * 10, "data.bin"),
        (b"GIF89a" + bytes(100), "picture.gif"),
        (zipped({"a.txt": b"hello"}), "archive.zip"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(2000), "letter.doc"),
    ],
)
async def test_format_that_cannot_be_converted_is_named(
    connector: ConvertConnector, tmp_path: Path, data: bytes, name: str
) -> None:
    assert (await refusal(connector, tmp_path, data, name)).code == "unsupported_format"


async def test_document_with_too_many_pages_is_refused(connector: ConvertConnector, tmp_path: Path) -> None:
    book = io.BytesIO()
    with pdfium.PdfDocument.new() as pdf:
        for _ in range(4):
            pdf.new_page(200, 200)
        pdf.save(book)
    error = await refusal(connector, tmp_path, book.getvalue(), "book.pdf", max_pages=3)
    assert error.code == "too_many_pages"
    assert (await convert(connector, tmp_path, book.getvalue(), "book.pdf", max_pages=4)).usage == {
        "pages": 4
    }


async def test_image_bomb_is_refused_by_its_header(connector: ConvertConnector, tmp_path: Path) -> None:
    assert (
        await refusal(connector, tmp_path, png_of_size(60_000, 60_000), "a.png")
    ).code == "image_too_large"
    assert (await refusal(connector, tmp_path, png_of_size(2**31 - 1, 2), "b.png")).code == "image_too_large"


async def test_pages_of_a_tiff_are_checked_one_by_one(connector: ConvertConnector, tmp_path: Path) -> None:
    pages = io.BytesIO()
    small, large = Image.new("1", (10, 10)), Image.new("1", (20_000, 20_000))
    small.save(pages, "TIFF", save_all=True, append_images=[large], compression="group4")
    assert (await refusal(connector, tmp_path, pages.getvalue(), "a.tif")).code == "image_too_large"


async def test_zip_bomb_is_refused_before_it_is_unpacked(connector: ConvertConnector, tmp_path: Path) -> None:
    for name in ("docx_lists.docx", "pptx_chart.pptx", "xlsx_09_section_label_header.xlsx"):
        bomb = zipped(parts_of(name) | {"media/image.bin": bytes(64 * MIB)})
        assert (await refusal(connector, tmp_path, bomb, name)).code == "archive_too_large"


async def test_archive_of_too_many_parts_is_refused(connector: ConvertConnector, tmp_path: Path) -> None:
    many = parts_of("docx_lists.docx") | {f"media/{number}": b"" for number in range(20_001)}
    assert (await refusal(connector, tmp_path, zipped(many), "a.docx")).code == "archive_too_large"


async def test_archive_that_lies_about_its_sizes_is_corrupt(
    connector: ConvertConnector, tmp_path: Path
) -> None:
    part = "word/document.xml"
    parts = parts_of("docx_lists.docx")
    data = bytearray(zipped(parts))
    for signature, size_at, name_at in ((b"PK\x01\x02", 24, 46), (b"PK\x03\x04", 22, 30)):
        at = data.find(signature)
        while bytes(data[at + name_at : at + name_at + len(part)]) != part.encode():
            at = data.find(signature, at + 4)
        data[at + size_at : at + size_at + 4] = struct.pack("<I", 1000)
    assert (await refusal(connector, tmp_path, bytes(data), "a.docx")).code == "corrupt_file"


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("docx_lists.docx", "word/document.xml"),
        ("pptx_chart.pptx", "ppt/presentation.xml"),
        ("xlsx_09_section_label_header.xlsx", "xl/workbook.xml"),
        ("docx_lists.docx", "_rels/.rels"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
async def test_office_document_with_entities_is_refused(
    connector: ConvertConnector, tmp_path: Path, name: str, part: str, encoding: str
) -> None:
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10 if n else "ha"}">' for n in range(10))
    xml = f'<?xml version="1.0"?><!DOCTYPE x [{entities}]><x>&e9;</x>'
    bomb = zipped(parts_of(name) | {part: xml.encode(encoding)})
    assert (await refusal(connector, tmp_path, bomb, name)).code == "unsafe_file"


async def test_office_document_without_its_parts_is_corrupt(
    connector: ConvertConnector, tmp_path: Path
) -> None:
    for part, name in (("word/document.xml", "a.docx"), ("ppt/presentation.xml", "a.pptx")):
        assert (await refusal(connector, tmp_path, zipped({part: b"<x/>"}), name)).code == "corrupt_file"
    assert (await refusal(connector, tmp_path, zipped({"xl/workbook.xml": b"<"}), "a.xlsx")).code == (
        "corrupt_file"
    )


async def test_deeply_nested_html_is_refused(connector: ConvertConnector, tmp_path: Path) -> None:
    page = b"<html><body>" + b"<div>" * 50_000 + b"deep"
    assert (await refusal(connector, tmp_path, page, "deep.html")).code == "too_deep"


@pytest.mark.parametrize(
    "tag", [b"<div>", b"<b>", b"<ul><li>", b"<blockquote>", b"<table><tr><td>x</td><td>"]
)
async def test_html_nested_within_bounds_keeps_its_innermost_words(
    connector: ConvertConnector, tmp_path: Path, tag: bytes
) -> None:
    page = b"<html><body>" + tag * 600 + b"deep"
    assert "deep" in (await convert(connector, tmp_path, page, "deep.html")).result["markdown"]


async def test_workbook_with_a_cell_in_its_last_corner_stays_small(
    connector: ConvertConnector, tmp_path: Path
) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet["A1"] = "first"
    sheet["XFD1048576"] = "last"
    data = io.BytesIO()
    book.save(data)
    markdown = (await convert(connector, tmp_path, data.getvalue(), "wide.xlsx")).result["markdown"]
    assert markdown == "## Sheet\n\nfirst\n\nlast\n"


async def test_page_of_enormous_size_is_read(connector: ConvertConnector, tmp_path: Path) -> None:
    poster = io.BytesIO()
    with pdfium.PdfDocument.new() as pdf:
        pdf.new_page(14_400, 14_400)
        pdf.save(poster)
    assert (await convert(connector, tmp_path, poster.getvalue(), "poster.pdf")).result["pages"] == 1


async def test_text_cannot_smuggle_html_into_the_markdown(
    connector: ConvertConnector, tmp_path: Path
) -> None:
    deck = Presentation()
    slide = deck.slides.add_slide(deck.slide_layouts[1])
    slide.shapes.title.text = "<script>alert(1)</script>"
    slide.placeholders[1].text_frame.text = "<img src=x onerror=alert(1)>"
    data = io.BytesIO()
    deck.save(data)
    markdown = (await convert(connector, tmp_path, data.getvalue(), "deck.pptx")).result["markdown"]
    assert markdown.replace("\\<", "").count("<") == 0
