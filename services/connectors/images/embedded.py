"""Generation parameters in image files, as the tools of Stable Diffusion read and write them.

PNG has texts by keyword: `parameters` of AUTOMATIC1111, `prompt` and `workflow` of ComfyUI. WebP and JPEG
have the parameters as the comment of their EXIF block. Nothing is unpacked but texts, and those within
bounds: a file that is damaged or hostile is read as far as it is sound.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from switchyard.services.connectors.images import exif, jpeg, png, webp
from switchyard.services.connectors.images.exif import PARAMETERS

Answer = TypeVar("Answer")

TYPES: Final = {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp", "image/gif": ".gif"}
"""Types that are known by their first bytes, with how names of such files end."""
NAMES: Final = 20
NAME_CHARS: Final = 79
"""Source: the longest keyword of a PNG text."""
SHOWN_CHARS: Final = 16 * 1024


class Said(NamedTuple):
    """What a file says of how it was made.

    Args:
        parameters: as AUTOMATIC1111 writes them, at most 16,384 characters; "" for none.
        names: the keywords of all its texts.
    """

    parameters: str
    names: list[str]


def type_of(head: bytes) -> str | None:
    """The media type of an image that begins so; None for one that is not known."""
    if head.startswith(png.SIGNATURE):
        return "image/png"
    if head.startswith(jpeg.START):
        return "image/jpeg"
    if webp.is_webp(head):
        return "image/webp"
    return "image/gif" if head[:6] in (b"GIF87a", b"GIF89a") else None


def texts_of(data: bytes | memoryview) -> dict[str, str]:
    """All texts of an image by name; {} for what has none."""
    view = memoryview(data)
    match type_of(bytes(view[:16])):
        case "image/png":
            return png.texts_of(view)
        case "image/jpeg":
            return exif.texts_of(jpeg.block_of(view))
        case "image/webp":
            return exif.texts_of(webp.block_of(view))
        case _:
            return {}


def said_by(data: bytes | memoryview) -> Said:
    """What is shown of the texts of an image."""
    texts = texts_of(data)
    names = [name for name in texts if name.isprintable() and 0 < len(name) <= NAME_CHARS]
    return Said(texts.get(PARAMETERS, "")[:SHOWN_CHARS], names[:NAMES])


def stripped(data: bytes | memoryview) -> list[memoryview]:
    """An image in parts without its texts; as it is where its type has none that are known."""
    view = memoryview(data)
    match type_of(bytes(view[:16])):
        case "image/png":
            return png.without_texts(view)
        case "image/jpeg":
            return jpeg.without_block(view)
        case "image/webp":
            return webp.without_block(view)
        case _:
            return [view]


def with_parameters(data: bytes, parameters: str) -> bytes | None:
    """An image with parameters, which it had none of; None where it can have none."""
    view = memoryview(data)
    parts: list[memoryview] = []
    match type_of(data[:16]):
        case "image/png":
            parts = png.with_text(view, PARAMETERS, parameters)
        case "image/jpeg" if not jpeg.block_of(view):
            parts = jpeg.with_block(view, exif.block_of(parameters))
        case "image/webp" if not webp.block_of(view):
            parts = webp.with_block(view, exif.block_of(parameters))
    return b"".join(parts) or None


# --- Files


def said_by_file(path: Path) -> Said:
    """What a file says; it may be of any size and form."""
    return _mapped(path, said_by, Said("", []))


def strip_file(path: Path) -> bool:
    """Take the texts out of a file; whether it is another than before."""
    to = path.with_name(f"{path.name}.stripped")

    def write(view: memoryview) -> bool:
        parts = stripped(view)
        if sum(map(len, parts)) == len(view):
            return False
        with to.open("wb") as file:
            for part in parts:
                file.write(part)
        return True

    if changed := _mapped(path, write, False):
        to.replace(path)
    return changed


def _mapped(path: Path, ask: Callable[[memoryview], Answer], empty: Answer) -> Answer:
    if path.stat().st_size == 0:
        return empty
    with path.open("rb") as file:
        # It is closed with the last part of it that somebody holds.
        return ask(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))
