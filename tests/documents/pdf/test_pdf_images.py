"""The pictures of PDFs are saved as they are seen, where they are worth it."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final

import orjson
import pytest
from PIL import Image, ImageDraw

from switchyard.services.connectors.convert.connector import ConvertConnector
from switchyard.services.documents.pdf.pictures import MAX_PICTURES
from tests.connectors.attempts import LocalAttempt
from tests.documents.corpus import needs_ocr
from tests.documents.pdf_files import HELVETICA, page_of, pdf_of, stream_of

WORDS: Final = (
    "BT /H 11 Tf 72 700 Td (Enough plain words for a page that is text and shows a picture.) Tj ET "
)
WITH_X: Final = HELVETICA + " /XObject << /X 5 0 R /Y 6 0 R >>"
ACROSS: Final = {0: "1 0 0 1 0 0", 90: "0 1 -1 0 612 0", 180: "-1 0 0 -1 612 792"}
RED, WHITE, BLUE = (255, 0, 0), (255, 255, 255), (0, 0, 255)


@pytest.fixture
async def connector() -> AsyncIterator[ConvertConnector]:
    connector = ConvertConnector(slots=1)
    yield connector
    await connector.close()


async def converted(
    connector: ConvertConnector, directory: Path, data: bytes, **payload: Any
) -> tuple[dict[str, Any], dict[str, bytes]]:
    path = directory / "given.pdf"
    path.write_bytes(data)
    attempt = LocalAttempt(directory)
    attempt.payload = {"file": attempt.offer(path), "images": "save", "ocr": "never", **payload}
    return (await connector.run(attempt)).result, attempt.saved


def jpeg(mode: str = "RGB") -> bytes:
    """White, with a red corner at the top left."""
    image = Image.new("RGB", (80, 40), "white")
    image.paste(RED, (0, 0, 40, 20))
    data = io.BytesIO()
    image.convert(mode).save(data, "JPEG", quality=95)
    return data.getvalue()


def picture(data: bytes | str, entries: str = "", *, size: tuple[int, int] = (80, 40)) -> str:
    """A picture as an object; bytes are those of a JPEG."""
    if isinstance(data, bytes):
        entries += " /Filter [/ASCIIHexDecode /DCTDecode]"
        data = data.hex() + ">"
    if "/ColorSpace" not in entries and "/ImageMask" not in entries:
        entries += " /ColorSpace /DeviceRGB"
    if "/BitsPerComponent" not in entries:
        entries += " /BitsPerComponent 8"
    return stream_of(data, f"/Type /XObject /Subtype /Image /Width {size[0]} /Height {size[1]} {entries}")


def shown(matrix: str, name: str = "X") -> str:
    return f"q {matrix} cm /{name} Do Q "


def page(content: str, *objects: str, entries: str = "") -> bytes:
    return page_of(WORDS + content, resources=WITH_X, entries=entries, objects=objects)


def corners(data: bytes) -> list[tuple[int, ...]]:
    """The colours within the corners, clockwise from the top left."""
    with Image.open(io.BytesIO(data)) as image:
        colours = image.convert("RGB")
        right, bottom = image.width - 4, image.height - 4
        places = ((4, 4), (right, 4), (right, bottom), (4, bottom))
        return [tuple(round(part / 255) * 255 for part in pixel(colours, place)) for place in places]


def pixel(image: Image.Image, place: tuple[int, int]) -> tuple[int, ...]:
    found = image.getpixel(place)
    assert isinstance(found, tuple)
    return found


@pytest.mark.parametrize(
    ("matrix", "rotation", "red_at"),
    [
        ("80 0 0 40 100 400", 0, 0),
        ("-80 0 0 40 180 400", 0, 1),
        ("-80 0 0 -40 180 440", 0, 2),
        ("80 0 0 -40 100 440", 0, 3),
        ("0 -80 40 0 100 480", 0, 1),
        ("0 80 -40 0 140 400", 0, 3),
        ("0 80 40 0 100 400", 0, 2),
        ("0 -80 -40 0 140 480", 0, 0),
        ("80 0 0 40 100 400", 90, 1),
        ("80 0 0 40 100 400", 180, 2),
        ("0 80 -40 0 140 400", 90, 0),
    ],
)
async def test_a_picture_is_saved_as_it_is_seen(
    connector: ConvertConnector, tmp_path: Path, matrix: str, rotation: int, red_at: int
) -> None:
    words = f"q {ACROSS[rotation]} cm {WORDS}Q "  # those run across the page as it is shown
    data = page_of(
        words + shown(matrix), resources=WITH_X, entries=f"/Rotate {rotation}", objects=[picture(jpeg())]
    )
    result, saved = await converted(connector, tmp_path, data)
    [listed] = result["images"]
    found = saved[listed["name"]]
    assert [colour == RED for colour in corners(found)] == [at == red_at for at in range(4)]
    lies = ("0 -80" in matrix or "0 80" in matrix) != (rotation in (90, 270))
    assert (listed["width"], listed["height"]) == ((40, 80) if lies else (80, 40))


async def test_a_picture_on_a_page_whose_text_lies_on_its_side_is_saved_as_the_text_runs(
    connector: ConvertConnector, tmp_path: Path
) -> None:
    result, saved = await converted(
        connector, tmp_path, page(shown("80 0 0 40 100 400"), picture(jpeg()), entries="/Rotate 90")
    )
    [listed] = result["images"]
    assert saved[listed["name"]] == jpeg()
    # Its place is that on the page as it is shown, whose height is the width of what is drawn.
    assert listed["box"] == pytest.approx([400 / 792, 100 / 612, 440 / 792, 180 / 612], abs=0.001)


async def test_a_picture_drawn_within_a_turned_form_is_saved_as_it_is_seen(
    connector: ConvertConnector, tmp_path: Path
) -> None:
    form = stream_of(
        shown("80 0 0 40 0 0", "X"),
        "/Type /XObject /Subtype /Form /BBox [0 0 80 40] /Resources << /XObject << /X 5 0 R >> >>",
    )
    data = page(shown("-1 0 0 -1 300 400", "Y"), picture(jpeg()), form)
    _, saved = await converted(connector, tmp_path, data)
    assert [corners(found) for found in saved.values()] == [[WHITE, WHITE, RED, WHITE]]


async def test_jpeg_stays_as_it_is_whatever_it_is_wrapped_in(
    connector: ConvertConnector, tmp_path: Path
) -> None:
    _, saved = await converted(connector, tmp_path, page(shown("80 0 0 40 100 400"), picture(jpeg())))
    assert saved == {"image-1.jpg": jpeg()}


async def test_jpeg_in_the_colours_of_print_becomes_png(connector: ConvertConnector, tmp_path: Path) -> None:
    print_colours = picture(jpeg("CMYK"), "/ColorSpace /DeviceCMYK")
    _, saved = await converted(connector, tmp_path, page(shown("80 0 0 40 100 400"), print_colours))
    with Image.open(io.BytesIO(saved["image-1.png"])) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")


async def test_what_shines_through_a_picture_does_so_in_its_file(
    connector: ConvertConnector, tmp_path: Path
) -> None:
    mask = picture("00" * 1600 + "FF" * 1600 + ">", "/ColorSpace /DeviceGray /Filter /ASCIIHexDecode")
    data = page(shown("80 0 0 40 100 400"), picture(jpeg(), "/SMask 6 0 R"), mask)
    _, saved = await converted(connector, tmp_path, data)
    with Image.open(io.BytesIO(saved["image-1.png"])) as image:
        assert pixel(image, (20, 10))[3] == 0
        assert pixel(image, (20, 30)) == (*WHITE, 255)


async def test_pictures_of_the_same_data_in_other_colours_are_two(
    connector: ConvertConnector, tmp_path: Path
) -> None:
    stencil = picture("0F" * 400 + ">", "/ImageMask true /BitsPerComponent 1 /Filter /ASCIIHexDecode")
    places = [shown(f"80 0 0 40 100 {bottom}") for bottom in (500, 400, 300)]
    data = page(f"1 0 0 rg {places[0]} 0 0 1 rg {places[1]} 1 0 0 rg {places[2]}", stencil)
    result, saved = await converted(connector, tmp_path, data)
    for name, colour in (("image-1.png", RED), ("image-2.png", BLUE)):
        with Image.open(io.BytesIO(saved[name])) as image:
            assert image.getcolors(2) is not None
            assert pixel(image, (1, 1)) == (*colour, 255)
    assert references(result) == ["image-1.png", "image-2.png", "image-1.png"]


def references(result: dict[str, Any]) -> list[str]:
    lines = result["markdown"].splitlines()
    return [line.removeprefix("![](").removesuffix(")") for line in lines if line.startswith("![](")]


def strips(width: int, height: float) -> str:
    return "".join(shown(f"{width} 0 0 {height / 4} 0 {height / 4 * at}", "XY"[at % 2]) for at in range(4))


async def test_a_scan_in_strips_behind_the_text_is_no_picture_of_the_page(
    connector: ConvertConnector, tmp_path: Path
) -> None:
    pieces = (picture(jpeg()), picture(jpeg("L"), "/ColorSpace /DeviceGray"))
    whole, _ = await converted(connector, tmp_path, page(strips(612, 792), *pieces))
    assert (whole["images"], references(whole)) == ([], [])
    part, _ = await converted(connector, tmp_path, page(strips(300, 400), *pieces))
    assert len(part["images"]) == 2


async def test_a_scan_of_a_paragraph_behind_its_text_is_no_picture_of_the_page(
    connector: ConvertConnector, tmp_path: Path
) -> None:
    text = "".join(
        f"BT /H 11 Tf 72 {y} Td (Words of a line that the scan shows too.) Tj ET " for y in (500, 486)
    )
    scan, label = shown("210 0 0 28 70 483"), shown("210 0 0 150 70 483", "Y")
    pieces = (picture(jpeg()), picture(jpeg("L"), "/ColorSpace /DeviceGray"))
    result, _ = await converted(connector, tmp_path, page(scan + text, *pieces))
    assert result["images"] == []
    result, _ = await converted(connector, tmp_path, page(label + text, *pieces))
    assert len(result["images"]) == 1


async def test_a_picture_in_a_table_follows_the_table(connector: ConvertConnector, tmp_path: Path) -> None:
    rules = "".join(f"{x} 400 m {x} 520 l S " for x in (100, 200, 300)) + "".join(
        f"100 {y} m 300 {y} l S " for y in (400, 440, 480, 520)
    )
    texts = (
        (110, 495, "Name"),
        (210, 495, "Photo"),
        (110, 455, "Ada"),
        (110, 415, "Bob"),
        (210, 415, "none"),
    )
    cells = "".join(f"BT /H 10 Tf {x} {y} Td ({text}) Tj ET " for x, y, text in texts)
    data = page(rules + cells + shown("40 0 0 20 220 450"), picture(jpeg()))
    result, _ = await converted(connector, tmp_path, data)
    assert result["markdown"].endswith("| Ada |  |\n| Bob | none |\n\n![](image-1.jpg)\n")


async def test_a_logo_that_runs_through_the_pages_stands_on_the_first(
    connector: ConvertConnector, tmp_path: Path
) -> None:
    resources = (
        "/Resources << /Font << /H << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >>"
        " /XObject << /X 3 0 R >> >>"
    )
    pages = range(4, 12, 2)
    kids = " ".join(f"{at} 0 R" for at in pages)
    data = pdf_of(
        [
            "<< /Type /Catalog /Pages 2 0 R >>",
            f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} /MediaBox [0 0 612 792] {resources} >>",
            picture(jpeg()),
            *(
                each
                for at in pages
                for each in (
                    f"<< /Type /Page /Parent 2 0 R /Contents {at + 1} 0 R >>",
                    stream_of(WORDS + shown("80 0 0 40 500 740") + shown("80 0 0 40 100 400")),
                )
            ),
        ]
    )
    result, saved = await converted(connector, tmp_path, data, page_breaks=True)
    assert list(saved) == ["image-1.jpg"]
    shown_on = [text.count("image-1.jpg") for text in result["markdown"].split("<!-- page ")]
    assert shown_on == [2, 1, 1, 1]


async def test_json_names_the_picture_and_the_result_says_where_it_is(
    connector: ConvertConnector, tmp_path: Path
) -> None:
    data = page(shown("153 0 0 79.2 306 396"), picture(jpeg()))
    result, saved = await converted(connector, tmp_path, data, formats=["markdown", "json"])
    [block] = [block for block in blocks_of(saved["document.json"]) if block["kind"] == "image"]
    assert block["image"] == "image-1.jpg"
    assert block["box"] == result["images"][0]["box"] == pytest.approx([0.5, 0.4, 0.75, 0.5], abs=0.001)


def blocks_of(document: bytes) -> list[dict[str, Any]]:
    return [block for page in orjson.loads(document)["pages"] for block in page["blocks"]]


async def test_a_huge_picture_is_left_out_with_a_warning(connector: ConvertConnector, tmp_path: Path) -> None:
    entries = "/ColorSpace /DeviceGray /BitsPerComponent 1 /Filter /ASCIIHexDecode"
    huge = picture("00>", entries, size=(100_000, 100_000))
    result, _ = await converted(connector, tmp_path, page(shown("100 0 0 100 100 400"), huge))
    assert result["images"] == []
    assert result["warnings"] == ["images left out: 1 (too many, or too large)"]


async def test_a_picture_shown_out_of_proportion_keeps_its_own_size(
    connector: ConvertConnector, tmp_path: Path
) -> None:
    """Drawn in the page's proportions, it would have 1,600 million pixels."""
    entries = "/ColorSpace /DeviceGray /BitsPerComponent 1 /Filter /ASCIIHexDecode"
    wide = picture("00>", entries, size=(40_000, 900))
    result, _ = await converted(connector, tmp_path, page(shown("100 0 0 100 100 400"), wide))
    assert [(image["width"], image["height"]) for image in result["images"]] == [(40_000, 900)]


async def test_more_pictures_than_a_page_may_have_are_left_out_with_a_warning(
    connector: ConvertConnector, tmp_path: Path
) -> None:
    result, saved = await converted(
        connector, tmp_path, page(shown("80 0 0 40 100 400") * (MAX_PICTURES + 3), picture(jpeg()))
    )
    assert len(saved) == 1
    assert len(references(result)) == MAX_PICTURES
    assert result["warnings"] == ["images left out: 3 (too many, or too large)"]


@pytest.mark.parametrize("data", [b"", b"no JPEG at all", jpeg()[:30]])
async def test_a_damaged_picture_leaves_the_page_as_it_is(
    connector: ConvertConnector, tmp_path: Path, data: bytes
) -> None:
    objects: Sequence[str] = (picture(data), picture(jpeg()))
    content = shown("80 0 0 40 100 400", "X") + shown("80 0 0 40 100 300", "Y")
    result, saved = await converted(connector, tmp_path, page(content, *objects))
    assert saved == {"image-1.jpg": jpeg()}
    assert result["markdown"].startswith("Enough plain words")
    assert result["warnings"] == ["images left out: 1 (damaged, or of a format that is not known)"]


def photo() -> bytes:
    """Neither light nor of letters."""
    image = Image.linear_gradient("L").resize((800, 600)).point(lambda value: 40 + value // 3)
    data = io.BytesIO()
    image.convert("RGB").save(data, "JPEG")
    return data.getvalue()


@needs_ocr
@pytest.mark.parametrize(("ocr", "by_ocr"), [("auto", 1), ("always", 1), ("never", 0)])
async def test_a_photo_stands_among_the_few_words_of_its_page(
    connector: ConvertConnector, tmp_path: Path, ocr: str, by_ocr: int
) -> None:
    above, below = (
        "BT /H 20 Tf 72 740 Td (Our team in May) Tj ET ",
        "BT /H 20 Tf 72 100 Td (Spring report) Tj ET",
    )
    data = page_of(
        above + shown("500 0 0 500 56 200") + below,
        resources=WITH_X,
        objects=[picture(photo(), size=(800, 600))],
    )
    result, saved = await converted(connector, tmp_path, data, ocr=ocr)
    assert saved == {"image-1.jpg": photo()}
    words = [line.lstrip("# ") for line in result["markdown"].splitlines() if line]
    assert words == ["Our team in May", "![](image-1.jpg)", "Spring report"]
    assert result["ocr_pages"] == by_ocr


@needs_ocr
async def test_a_scan_with_a_margin_is_text_and_no_picture(
    connector: ConvertConnector, tmp_path: Path
) -> None:
    scan = Image.new("L", (1500, 1900), 250)
    write = ImageDraw.Draw(scan)
    for at in range(12):
        write.text((100, 100 + at * 100), f"Line number {at} of a letter", fill=10, font_size=60)
    made = io.BytesIO()
    scan.convert("RGB").save(made, "JPEG")
    data = page_of(
        shown("480 0 0 608 66 92"), resources=WITH_X, objects=[picture(made.getvalue(), size=scan.size)]
    )
    result, saved = await converted(connector, tmp_path, data, ocr="auto")
    assert (saved, result["ocr_pages"]) == ({}, 1)
    assert "Line number 3 of a letter" in result["markdown"]
