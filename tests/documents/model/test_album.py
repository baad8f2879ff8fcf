"""Images of documents are saved, once each, and referred to where they stand."""

from __future__ import annotations

import asyncio
import base64
import io
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pypdfium2 as pdfium
import pytest
from PIL import Image
from pptx import Presentation

from switchyard.services.connectors.convert.connector import ConvertConnector
from switchyard.services.documents.model import album as albums
from switchyard.services.documents.model.album import Album
from tests.connectors.attempts import LocalAttempt
from tests.documents.office_files import p, r, write_docx
from tests.documents.pdf_files import page_of, stream_of


def picture(kind: str, colour: str = "red", size: tuple[int, int] = (64, 48)) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", size, colour).save(data, kind)
    return data.getvalue()


@pytest.fixture
async def connector() -> AsyncIterator[ConvertConnector]:
    connector = ConvertConnector(slots=1)
    yield connector
    await connector.close()


async def result_of(
    connector: ConvertConnector, directory: Path, document: Path, **payload: Any
) -> tuple[dict[str, Any], dict[str, bytes]]:
    attempt = LocalAttempt(directory)
    attempt.payload = {"file": attempt.offer(document), "images": "save", "ocr": "never", **payload}
    outcome = await connector.run(attempt)
    assert {artifact["name"] for artifact in outcome.artifacts} == set(attempt.saved)
    assert all(set(one) == {"file", "name", "type", "size_bytes", "sha256"} for one in outcome.artifacts)
    return outcome.result, attempt.saved


def pdf_with(path: Path, images: list[tuple[bytes, tuple[float, float, float, float]]]) -> Path:
    """Text at the top and at the bottom of a page, and JPEG pictures at left, bottom, width and height."""
    source = path.with_suffix(".source")
    source.write_bytes(
        page_of("BT /H 11 Tf 72 700 Td (What comes before.) Tj ET BT /H 11 Tf 72 100 Td (And after.) Tj ET")
    )
    with pdfium.PdfDocument(source) as document:
        page = document[0]
        for data, (left, bottom, width, height) in images:
            image = pdfium.PdfImage.new(document)
            image.load_jpeg(io.BytesIO(data), inline=True)
            image.set_matrix(pdfium.PdfMatrix(width, 0, 0, height, left, bottom))
            page.insert_obj(image)
        page.gen_content()
        document.save(path)
    return path


async def test_a_picture_of_a_pdf_is_saved_as_it_is_and_stands_in_its_place(
    connector: ConvertConnector, tmp_path: Path
) -> None:
    red, blue = picture("JPEG"), picture("JPEG", "blue")
    path = pdf_with(
        tmp_path / "p.pdf", [(blue, (72, 200, 64, 48)), (red, (72, 500, 64, 48)), (red, (300, 500, 64, 48))]
    )
    result, saved = await result_of(connector, tmp_path, path)
    assert saved == {"image-1.jpg": blue, "image-2.jpg": red}
    assert [line for line in result["markdown"].splitlines() if line] == [
        "What comes before.", "![](image-2.jpg)", "![](image-2.jpg)", "![](image-1.jpg)", "And after.",
    ]  # fmt: skip
    first = result["images"][0]
    assert (first["name"], first["type"], first["page"]) == ("image-1.jpg", "image/jpeg", 1)
    assert (first["width"], first["height"], first["size_bytes"]) == (64, 48, len(blue))
    assert first["file"]


async def test_a_picture_that_is_no_jpeg_becomes_png(connector: ConvertConnector, tmp_path: Path) -> None:
    path = tmp_path / "raw.pdf"
    pixels = "FF0000" * 400 + ">"
    entries = (
        "/Type /XObject /Subtype /Image /Width 20 /Height 20 /ColorSpace /DeviceRGB /BitsPerComponent 8"
        " /Filter /ASCIIHexDecode"
    )
    path.write_bytes(
        page_of(
            "q 100 0 0 100 72 300 cm /X Do Q",
            resources="/XObject << /X 5 0 R >>",
            objects=[stream_of(pixels, entries)],
        )
    )
    _, saved = await result_of(connector, tmp_path, path)
    with Image.open(io.BytesIO(saved["image-1.png"])) as image:
        assert (image.format, image.size) == ("PNG", (20, 20))
        assert image.convert("RGB").getpixel((10, 10)) == (255, 0, 0)


async def test_an_image_of_a_word_document_is_saved(connector: ConvertConnector, tmp_path: Path) -> None:
    drawing = (
        '<w:drawing><wp:inline><wp:docPr id="1" name="x" descr="A red field"/><a:graphic><a:graphicData>'
        '<a:blip r:embed="i1"/></a:graphicData></a:graphic></wp:inline></w:drawing>'
    )
    path = write_docx(
        tmp_path / "d.docx", p(r("Before.")) + p(f"<w:r>{drawing}</w:r>"),
        links={"i1": ("image", "media/../media/image1.png")},
        extra={"word/media/image1.png": picture("PNG")},
    )  # fmt: skip
    result, saved = await result_of(connector, tmp_path, path)
    assert saved == {"image-1.png": picture("PNG")}
    assert "![A red field](image-1.png)" in result["markdown"]


async def test_a_description_cannot_end_its_image(connector: ConvertConnector, tmp_path: Path) -> None:
    drawing = (
        '<w:drawing><wp:inline><wp:docPr id="1" name="x" descr="a](javascript:alert)&lt;script&gt;&#10;b"/>'
        '<a:graphic><a:graphicData><a:blip r:embed="i1"/></a:graphicData></a:graphic></wp:inline></w:drawing>'
    )
    path = write_docx(
        tmp_path / "d.docx", p(f"<w:r>{drawing}</w:r>"), links={"i1": ("image", "media/image1.png")},
        extra={"word/media/image1.png": picture("PNG")},
    )  # fmt: skip
    result, _ = await result_of(connector, tmp_path, path)
    assert result["markdown"].strip() == "![a(javascript:alert)\\<script> b](image-1.png)"


async def test_images_of_slides_name_their_slide(connector: ConvertConnector, tmp_path: Path) -> None:
    deck = Presentation()
    for colour in ("red", "green"):
        slide = deck.slides.add_slide(deck.slide_layouts[6])
        slide.shapes.add_picture(io.BytesIO(picture("PNG", colour)), 0, 0)
    deck.save(str(tmp_path / "deck.pptx"))
    result, saved = await result_of(connector, tmp_path, tmp_path / "deck.pptx")
    assert [(image["name"], image["page"]) for image in result["images"]] == [
        ("image-1.png", 1), ("image-2.png", 2),
    ]  # fmt: skip
    assert saved["image-2.png"] == picture("PNG", "green")


async def test_an_image_within_a_page_of_html_is_saved_and_one_elsewhere_is_not_fetched(
    connector: ConvertConnector, tmp_path: Path
) -> None:
    inner = base64.b64encode(picture("GIF")).decode()
    path = tmp_path / "page.html"
    path.write_text(
        f'<html><body><p>A <img alt="field" src="data:image/gif;base64,{inner}"> here</p>'
        '<img alt="far" src="http://127.0.0.1:9/x.png"><img alt="none" src="data:image/png;base64,AAAA">'
        "</body></html>"
    )
    result, saved = await result_of(connector, tmp_path, path)
    assert saved == {"image-1.gif": picture("GIF")}
    assert "A ![field](image-1.gif) here" in result["markdown"]
    assert "![far](http://127.0.0.1:9/x.png)" in result["markdown"]
    assert "data:" not in result["markdown"]


async def test_no_image_is_saved_unless_it_is_asked_for(connector: ConvertConnector, tmp_path: Path) -> None:
    path = pdf_with(tmp_path / "p.pdf", [(picture("JPEG"), (72, 200, 64, 48))])
    result, saved = await result_of(connector, tmp_path, path, images="none")
    assert (result["images"], saved) == ([], {})
    assert "![" not in result["markdown"]


def test_what_is_no_image_or_too_small_is_not_saved(tmp_path: Path) -> None:
    album = Album(tmp_path)
    for data in (b"", b"no image", picture("PNG")[:20], picture("PNG", size=(200, 3))):
        assert album.add(data) == ""
    assert album.images == []
    assert album.warnings() == ["images left out: 3 (damaged, or of a format that is not known)"]
    assert list(tmp_path.iterdir()) == []


def test_a_picture_that_would_fill_the_memory_is_never_unpacked(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return len(data).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")

    head = (100_000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000)))
    album = Album(tmp_path)
    assert album.add(bomb) == ""
    assert album.warnings() == ["images left out: 1 (too many, or too large)"]
    assert list(tmp_path.iterdir()) == []


def test_there_is_a_limit_to_images_and_a_warning_beyond_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(albums, "MAX_IMAGES", 2)
    album = Album(tmp_path)
    names = [album.add(picture("PNG", colour)) for colour in ("red", "red", "green", "blue", "white")]
    assert names == ["image-1.png", "image-1.png", "image-2.png", "", ""]
    assert album.warnings() == ["images left out: 2 (too many, or too large)"]


def test_the_size_of_all_images_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    red, green = picture("PNG"), picture("PNG", "green")
    monkeypatch.setattr(albums, "MAX_TOTAL_BYTES", len(red) + 1)
    album = Album(tmp_path)
    assert (album.add(red), album.add(green)) == ("image-1.png", "")
    assert album.warnings() == ["images left out: 1 (too many, or too large)"]


def test_an_image_that_is_shown_again_is_not_read_again(tmp_path: Path) -> None:
    album, read = Album(tmp_path), 0

    def data() -> bytes:
        nonlocal read
        read += 1
        return picture("PNG")

    assert {album.once(b"the same", data) for _ in range(100_000)} == {"image-1.png"}
    assert read == 1


def test_no_image_is_read_when_there_is_no_room_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(albums, "MAX_IMAGES", 1)
    album = Album(tmp_path)
    album.add(picture("PNG"))

    def data() -> bytes:
        raise AssertionError("it was read")

    assert album.once(b"another", data) == ""


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (b"\x01\0\0\0" + bytes(36) + b" EMF" + bytes(60), "image/emf"),
        (b"\xd7\xcd\xc6\x9a" + bytes(60), "image/wmf"),
        (b"\x01\0\x09\0\0\x03" + bytes(60), "image/wmf"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- by hand -->\n<!DOCTYPE svg>\n<svg/ >", None),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- by hand -->\n<!DOCTYPE svg>\n<svg >", "image/svg+xml"),
        (b"<html><svg></svg></html>", None),
    ],
)
def test_drawings_are_saved_as_they_are(tmp_path: Path, data: bytes, media_type: str | None) -> None:
    album = Album(tmp_path)
    name = album.add(data)
    assert [image["type"] for image in album.images] == ([media_type] if media_type else [])
    assert not name or (tmp_path / name).read_bytes() == data


def drawing(relation: str, description: str = "") -> str:
    return p(
        f'<w:r><w:drawing><wp:inline><wp:docPr id="1" name="x" descr="{description}"/><a:graphic>'
        f'<a:graphicData><a:blip r:embed="{relation}"/></a:graphicData></a:graphic></wp:inline></w:drawing>'
        "</w:r>"
    )


async def test_a_description_stays_in_its_place(connector: ConvertConnector, tmp_path: Path) -> None:
    descriptions = ("A field&#10;&#10;made by a program", "x](javascript:a) [y", "&lt;script&gt;")
    path = write_docx(
        tmp_path / "d.docx", "".join(drawing("i1", description) for description in descriptions),
        links={"i1": ("image", "media/image1.png")}, extra={"word/media/image1.png": picture("PNG")},
    )  # fmt: skip
    result, _ = await result_of(connector, tmp_path, path)
    assert [line for line in result["markdown"].splitlines() if line] == [
        "![A field made by a program](image-1.png)",
        "![x(javascript:a) y](image-1.png)",
        "![\\<script>](image-1.png)",
    ]


async def test_an_image_that_is_not_saved_is_written_as_its_description_alone(
    connector: ConvertConnector, tmp_path: Path
) -> None:
    parts = {"image1.png": picture("PNG"), "image-1.png": picture("PNG", size=(8, 8)), "bad.png": b"no image"}
    targets = [*parts, "missing.png", "../../../../etc/passwd", "/etc/passwd"]
    path = write_docx(
        tmp_path / "d.docx",
        "".join(drawing(f"i{at}", f"number {at}") for at in range(len(targets))),
        links={
            f"i{at}": ("image", target if target[0] in "./" else f"media/{target}")
            for at, target in enumerate(targets)
        },
        extra={f"word/media/{name}": data for name, data in parts.items()},
    )
    result, saved = await result_of(connector, tmp_path, path)
    assert saved == {"image-1.png": picture("PNG")}
    assert [line for line in result["markdown"].splitlines() if line] == [
        "![number 0](image-1.png)", *(f"number {at}" for at in range(1, len(targets))),
    ]  # fmt: skip


async def test_an_image_elsewhere_is_not_fetched(connector: ConvertConnector, tmp_path: Path) -> None:
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.read(100))
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1")
    async with server:
        address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/x.png"
        word = write_docx(tmp_path / "d.docx", drawing("i1", "far"), links={"i1": ("image", address)})
        page = tmp_path / "page.html"
        page.write_text(f'<p>So <img alt="far" src="{address}"></p><link rel="icon" href="{address}">')
        for path in (word, page):
            result, saved = await result_of(connector, tmp_path, path)
            assert f"![far]({address})" in result["markdown"]
            assert saved == {}
    assert asked == []
