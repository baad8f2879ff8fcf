"""Which images may be previews, and the frame that carries one."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switchyard.events.encoding.preview import (
    HEADER_BYTES,
    TYPES,
    Preview,
    framed,
    is_shown,
    parts_of,
    preview_of,
)
from switchyard.events.errors import InvalidError
from tests.images import EACH, drawn, png


@pytest.mark.parametrize("media_type", TYPES)
def test_each_type_is_known_by_its_bytes(media_type: str) -> None:
    for of, data in EACH.items():
        assert is_shown(Preview(data, media_type)) == (of == media_type)


@pytest.mark.parametrize(
    "data",
    [drawn("WEBP", lossless=True), drawn("WEBP", mode="RGBA", lossless=True),
     drawn("WEBP", mode="RGBA", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0")],
)  # fmt: skip
def test_all_forms_of_webp_are_known(data: bytes) -> None:
    assert is_shown(Preview(data, "image/webp"))


def test_a_progressive_jpeg_with_fill_bytes_and_marks_before_its_size_is_known() -> None:
    data = drawn("JPEG", progressive=True)
    assert is_shown(Preview(data, "image/jpeg"))
    assert is_shown(Preview(data[:2] + b"\xff\x01\xff\xff" + data[3:], "image/jpeg"))
    assert not is_shown(Preview(data[:2] + b"\xff\xe0\x00\x01", "image/jpeg"))


def test_an_image_that_would_take_much_memory_is_not_shown() -> None:
    assert is_shown(Preview(png(4096, 4096), "image/png"))
    for size in ((4096, 4097), (2**31, 2**31), (0, 8), (8, 0)):
        assert not is_shown(Preview(png(*size), "image/png"))
    huge = b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff" * 6
    assert not is_shown(Preview(huge, "image/webp"))


@pytest.mark.parametrize("media_type", TYPES)
def test_an_image_that_is_cut_off_before_its_size_is_not_shown(media_type: str) -> None:
    data = EACH[media_type]
    assert not is_shown(
        Preview(data[:15], media_type) if media_type != "image/gif" else Preview(b"", media_type)
    )
    for length in range(len(data)):
        is_shown(Preview(data[:length], media_type))  # and raises nothing


@given(st.binary(max_size=64), st.sampled_from([*TYPES]))
def test_anything_is_judged(data: bytes, media_type: str) -> None:
    starts = {
        "image/png": b"\x89PNG\r\n\x1a\n", "image/jpeg": b"\xff\xd8\xff", "image/gif": b"GIF89a",
        "image/webp": b"RIFF\0\0\0\0WEBP",
    }  # fmt: skip
    is_shown(Preview(data, media_type))
    is_shown(Preview(starts[media_type] + data, media_type))


@pytest.mark.parametrize(
    ("data", "media_type", "field"),
    [("text", "image/webp", "data"), (bytearray(8), "image/webp", "data"), (None, "image/webp", "data"),
     (b"x", "", "media_type"), (b"x", None, "media_type"), (b"x", "image", "media_type"),
     (b"x", "image/svg+xml", "media_type"), (b"x", "IMAGE/PNG", "media_type"),
     (b"x", "text/html", "media_type"),
     (b"x", "image/webp\r\nx: y", "media_type"), (b"x", "image/" + "p" * 10_000, "media_type")],
)  # fmt: skip
def test_what_is_no_preview_is_refused_with_its_field(data: Any, media_type: Any, field: str) -> None:
    with pytest.raises(InvalidError) as raised:
        preview_of(data, media_type)
    assert (raised.value.code, raised.value.field) == ("invalid_preview", field)
    assert len(raised.value.message) < 300
    assert preview_of(b"x", "image/png") == Preview(b"x", "image/png")


@given(st.binary(max_size=HEADER_BYTES), st.binary())
def test_a_frame_gives_back_what_was_put_in(header: bytes, data: bytes) -> None:
    assert parts_of(framed(header, data)) == (header, data)


@pytest.mark.parametrize(
    "frame", [b"", b"\0\0\0", struct.pack(">I", 5) + b"abcd", struct.pack(">I", 2**32 - 1),
              struct.pack(">I", HEADER_BYTES + 1) + bytes(HEADER_BYTES + 1)],
)  # fmt: skip
def test_what_is_no_frame_is_refused(frame: bytes) -> None:
    with pytest.raises(ValueError, match="frame"):
        parts_of(frame)
