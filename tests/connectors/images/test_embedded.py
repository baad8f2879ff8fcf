from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image, PngImagePlugin

from switchyard.services.connectors.images import embedded, exif, jpeg, png, webp

TEXT = "a cat\nNegative prompt: x\nSteps: 3, Seed: 5"
WIDE = "K\N{LATIN SMALL LETTER A WITH DIAERESIS}se \N{CAT FACE}\nSteps: 1"
UNICODE = b"UNICODE\0"


def image(mode: str = "RGB") -> Image.Image:
    made = Image.new(mode, (9, 7), "red")
    made.putpixel((1, 1), 0)
    return made


def saved(form: str, **more: Any) -> bytes:
    buffer = io.BytesIO()
    image(more.pop("mode", "RGB")).save(buffer, form, **more)
    return buffer.getvalue()


def with_texts(**texts: str) -> bytes:
    info = PngImagePlugin.PngInfo()
    for name, text in texts.items():
        info.add_text(name, text, zip=name == "packed")
    return saved("PNG", pnginfo=info)


def comment(text: str, order: str = "utf-16-be") -> Image.Exif:
    found = Image.Exif()
    found[ExifTags.Base.Software] = "test"
    found.get_ifd(ExifTags.IFD.Exif)[0x9286] = UNICODE + text.encode(order)
    return found


def opened(data: bytes) -> Image.Image:
    made = Image.open(io.BytesIO(data))
    made.load()
    return made


def same_pixels(one: bytes, other: bytes) -> bool:
    return opened(one).tobytes() == opened(other).tobytes()


def comment_of(data: bytes) -> bytes:
    found: bytes = opened(data).getexif().get_ifd(ExifTags.IFD.Exif)[0x9286]
    return found


FILES = {
    "png": saved("PNG"), "palette": saved("PNG", mode="P"), "jpeg": saved("JPEG"), "webp": saved("WEBP"),
    "lossless": saved("WEBP", lossless=True), "alpha": saved("WEBP", lossless=True, mode="RGBA"),
    "extended": saved("WEBP", xmp=b"<x/>", lossless=True),
}  # fmt: skip


# --- As the ecosystem's tools read and write them


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("text", [TEXT, WIDE])
def test_parameters_that_are_written_are_read_by_us_and_by_others(name: str, text: str) -> None:
    made = embedded.with_parameters(FILES[name], text)
    assert made is not None
    assert embedded.said_by(made).parameters == text
    assert same_pixels(made, FILES[name])
    if "png" in name or name == "palette":
        assert opened(made).info["parameters"] == text
    else:
        assert comment_of(made) == UNICODE + text.encode("utf-16-be")


@pytest.mark.parametrize("name", FILES)
def test_what_was_written_is_removed_to_the_last_byte_of_it(name: str) -> None:
    made = embedded.with_parameters(FILES[name], TEXT)
    assert made is not None
    bare = b"".join(embedded.stripped(made))
    assert embedded.texts_of(bare) == {}
    assert b"N\0e\0g" not in bare
    assert b"Negative" not in bare
    assert same_pixels(bare, FILES[name])
    assert opened(bare).mode == opened(FILES[name]).mode


@pytest.mark.parametrize("order", ["utf-16-be", "utf-16-le"])
@pytest.mark.parametrize("form", ["WEBP", "JPEG"])
def test_comments_of_other_tools_are_read_in_either_order(form: str, order: str) -> None:
    data = saved(form, exif=comment(TEXT, order))
    assert embedded.said_by(data).parameters == TEXT
    assert embedded.texts_of(b"".join(embedded.stripped(data))) == {}


def test_texts_of_comfyui_are_read_in_png_and_webp() -> None:
    data = with_texts(prompt='{"1": {}}', workflow="{}", packed="p" * 5000)
    assert embedded.texts_of(data) == {"prompt": '{"1": {}}', "workflow": "{}", "packed": "p" * 5000}
    assert embedded.said_by(data).names == ["prompt", "workflow", "packed"]
    found = Image.Exif()
    found[0x0110], found[0x010F] = 'prompt:{"1": {}}', "workflow:{}"
    assert embedded.texts_of(saved("WEBP", exif=found)) == {"prompt": '{"1": {}}', "workflow": "{}"}


def test_profiles_stay_when_texts_go() -> None:
    icc = b"profile" * 20
    for form in ("PNG", "JPEG", "WEBP"):
        data = saved(form, icc_profile=icc, exif=comment(TEXT))
        bare = b"".join(embedded.stripped(data))
        assert opened(bare).info["icc_profile"] == icc
        assert len(bare) < len(data)


def test_animations_stay_animations() -> None:
    frames = [image(), Image.new("RGB", (9, 7), "blue")]
    for form in ("PNG", "WEBP"):
        buffer = io.BytesIO()
        more: dict[str, Any] = {"exif": comment(TEXT)} if form == "WEBP" else {}
        frames[0].save(buffer, form, save_all=True, append_images=frames[1:], duration=50, **more)
        assert opened(b"".join(embedded.stripped(buffer.getvalue()))).n_frames == 2  # type: ignore[attr-defined]


def test_a_file_without_texts_stays_as_it_is_and_others_are_left_alone(tmp_path: Path) -> None:
    for number, data in enumerate((FILES["png"], b"", b"no image", saved("GIF"), FILES["jpeg"])):
        (path := tmp_path / str(number)).write_bytes(data)
        assert embedded.strip_file(path) is False
        assert path.read_bytes() == data
        assert embedded.said_by_file(path) == embedded.Said("", [])
    (path := tmp_path / "texts.png").write_bytes(with_texts(parameters=TEXT))
    assert embedded.said_by_file(path).parameters == TEXT
    assert embedded.strip_file(path) is True
    assert embedded.said_by_file(path) == embedded.Said("", [])
    assert len(list(tmp_path.iterdir())) == 6


# --- Hostile files


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


HEAD = png.SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0))
END = chunk(b"IEND", b"")


def test_texts_that_unpack_to_more_than_any_text_has_are_left_out() -> None:
    bomb = zlib.compress(bytes(300 * 1024**2))
    data = HEAD + chunk(b"zTXt", b"parameters\0\0" + bomb) + chunk(b"tEXt", b"prompt\0x") + END
    assert embedded.texts_of(data) == {"prompt": "x"}
    data = HEAD + chunk(b"iTXt", b"parameters\0\1\0\0\0" + bomb) + END
    assert embedded.texts_of(data) == {}
    assert b"".join(embedded.stripped(data)) == HEAD + END


def test_what_follows_the_end_goes_with_the_texts() -> None:
    data = FILES["png"] + b"prompt: secret"
    assert b"".join(embedded.stripped(data)) == FILES["png"]


def test_many_texts_are_bounded() -> None:
    data = HEAD + b"".join(chunk(b"tEXt", f"k{n}\0v".encode()) for n in range(5000)) + END
    assert len(embedded.texts_of(data)) == png.FIELDS
    assert len(embedded.said_by(data).names) == embedded.NAMES
    assert len(embedded.said_by(with_texts(parameters="x" * 100_000)).parameters) == embedded.SHOWN_CHARS


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_cut_off_anywhere_does_no_harm(name: str) -> None:
    whole = embedded.with_parameters(FILES[name], TEXT)
    assert whole is not None
    for length in range(len(whole)):
        cut = whole[:length]
        embedded.texts_of(cut)
        bare = b"".join(embedded.stripped(cut))
        assert len(bare) <= max(length, 12)
        assert b"Negative" not in bare or name not in ("png", "palette")
        embedded.with_parameters(cut, TEXT)


@given(st.sampled_from(sorted(FILES)), st.integers(0, 400), st.binary(min_size=1, max_size=8))
def test_damage_anywhere_raises_nothing(name: str, place: int, damage: bytes) -> None:
    data = bytearray(embedded.with_parameters(FILES[name], TEXT) or b"")
    data[place : place + len(damage)] = damage
    embedded.said_by(bytes(data))
    b"".join(embedded.stripped(bytes(data)))
    embedded.with_parameters(bytes(data), TEXT)


@given(st.binary(max_size=300))
def test_any_block_is_read(block: bytes) -> None:
    for order in (b"II*\0", b"MM\0*"):
        assert isinstance(exif.texts_of(order + block), dict)


@given(st.text(max_size=300))
def test_any_text_comes_back(text: str) -> None:
    data = embedded.with_parameters(FILES["webp"], text)
    assert data is not None
    if text.isprintable() and text.isascii():
        assert embedded.said_by(data).parameters == text


def test_a_text_that_has_no_room_is_not_written() -> None:
    assert embedded.with_parameters(FILES["jpeg"], "x" * jpeg.MOST) is None
    assert embedded.with_parameters(b"no image", TEXT) is None
    assert webp.block_of(memoryview(FILES["webp"])) == b""
