"""Previews: which images may be one, and the frame that carries one with what is said of it.

A frame is four bytes, the length of a header as a big-endian number; the header, a JSON object; the image.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from switchyard.events.encoding.json_written import type_named
from switchyard.events.errors import InvalidError

INVALID_PREVIEW: Final = "invalid_preview"
PREVIEW_BYTES: Final = 256 * 1024
PREVIEW_PIXELS: Final = 2**24
"""What a reader may have to unpack: a small file may be a huge image."""
HEADER_BYTES: Final = 4096
PREVIEWS: Final = 4
PREVIEWS_S: Final = 1.0
"""So many previews of an attempt within so many seconds."""

_LENGTH: Final = struct.Struct(">I")
_MARKERS_WITH_SIZE: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_MARKERS_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD8)})
Size = tuple[int, int]


class Preview(NamedTuple):
    """What there is of a job's result so far."""

    data: bytes
    media_type: str


def preview_of(data: Any, media_type: Any) -> Preview:
    """A preview of one of the types that may be shown; whether it is such an image is not looked at.

    Raises:
        InvalidError: code `invalid_preview`: it is no bytes, or of another type.
    """
    if type(data) is not bytes:
        raise _refused("data", f"expected bytes, not {type_named(data)}")
    if not isinstance(media_type, str):
        raise _refused("media_type", f"expected {_EXPECTED}, not {type_named(media_type)}")
    if media_type not in TYPES:
        raise _refused("media_type", f"expected {_EXPECTED}, not {media_type[:80]!r}")
    return Preview(data, media_type)


def is_shown(preview: Preview) -> bool:
    """Whether it is an image of its type as far as its first bytes say, and of a size that can be shown."""
    try:
        width, height = TYPES[preview.media_type](preview.data)
    except (ValueError, IndexError, struct.error):
        return False
    return width > 0 and height > 0 and width * height <= PREVIEW_PIXELS


def framed(header: bytes, data: bytes) -> bytes:
    """A header and an image in one."""
    return b"%b%b%b" % (_LENGTH.pack(len(header)), header, data)


def parts_of(frame: bytes) -> tuple[bytes, bytes]:
    """The header and the image of a frame.

    Raises:
        ValueError: it is none.
    """
    if len(frame) < _LENGTH.size:
        raise ValueError("a frame is longer")
    (length,) = _LENGTH.unpack_from(frame)
    start = _LENGTH.size + length
    if length > HEADER_BYTES or start > len(frame):
        raise ValueError(f"a header of {length} bytes is not in the frame")
    return frame[_LENGTH.size : start], frame[start:]


def _refused(field: str, rule: str) -> InvalidError:
    return InvalidError(f"{field}: {rule}", code=INVALID_PREVIEW, field=field)


def _require(found: bool) -> None:  # noqa: FBT001 - it reads as a sentence
    if not found:
        raise ValueError("these bytes begin no such image")


def _png(data: bytes) -> Size:
    _require(data[:8] == b"\x89PNG\r\n\x1a\n" and data[12:16] == b"IHDR")
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _gif(data: bytes) -> Size:
    _require(data[:6] in (b"GIF87a", b"GIF89a"))
    width, height = struct.unpack_from("<HH", data, 6)
    return width, height


def _jpeg(data: bytes) -> Size:
    """Source: ITU-T T.81, annex B: the size stands in the first frame header."""
    _require(data[:2] == b"\xff\xd8")
    place = 2
    while True:
        _require(data[place] == 0xFF)
        marker = data[place + 1]
        if marker == 0xFF:  # a fill byte
            place += 1
            continue
        place += 2
        if marker in _MARKERS_ALONE:
            continue
        if marker in _MARKERS_WITH_SIZE:
            height, width = struct.unpack_from(">HH", data, place + 3)
            return width, height
        (length,) = struct.unpack_from(">H", data, place)
        _require(length >= 2)
        place += length


def _webp(data: bytes) -> Size:
    """Source: RFC 9649, section 2: the canvas of the extended format, or the frame of a simple one."""
    _require(data[:4] == b"RIFF" and data[8:12] == b"WEBP")
    match data[12:16]:
        case b"VP8X":
            _require(len(data) >= 30)
            return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
        case b"VP8L":
            _require(data[20] == 0x2F)
            (packed,) = struct.unpack_from("<I", data, 21)
            return 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)
        case b"VP8 ":
            _require(data[23:26] == b"\x9d\x01\x2a")
            width, height = struct.unpack_from("<HH", data, 26)
            return width & 0x3FFF, height & 0x3FFF
        case _:
            raise ValueError("the first chunk says no size")


TYPES: Final[dict[str, Callable[[bytes], Size]]] = {
    "image/png": _png, "image/jpeg": _jpeg, "image/webp": _webp, "image/gif": _gif,
}  # fmt: skip
"""What may be shown, and how the size of each is found."""
_EXPECTED: Final = ", ".join(TYPES)
