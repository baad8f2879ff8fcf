"""The images of an answer, stored as artifacts with their parameters."""

from __future__ import annotations

import asyncio
import struct
from typing import Any, Final, NamedTuple

from switchyard.events.encoding.preview import TYPES as SIZES
from switchyard.services.connectors.a1111.answers import Said, decoded
from switchyard.services.connectors.images import embedded
from switchyard.services.connectors.protocol import Attempt

HEAD_BYTES: Final = 256 * 1024


class File(NamedTuple):
    """An image as it is stored.

    Args:
        data: its bytes.
        media_type: by its first bytes.
        width, height: in pixels; 0 where the file does not say.
        said: what it says of how it was made.
    """

    data: bytes
    media_type: str
    width: int
    height: int
    said: embedded.Said


class Stored(NamedTuple):
    """Artifacts, and what the result says of each."""

    artifacts: tuple[dict[str, Any], ...]
    outputs: list[dict[str, Any]]


async def store(attempt: Attempt, said: Said, task: str, *, keep: bool) -> Stored:
    """Store the images of an answer.

    Args:
        attempt: whose they are.
        said: the answer.
        task: what they are named after.
        keep: whether they say how they were made.

    Raises:
        RetryableError: code `invalid_image`.
    """
    total = len(said.images)
    # All are looked at before the first one is stored.
    files = [
        await asyncio.to_thread(file_of, image.data, image.infotext, number, total, keep=keep)
        for number, image in enumerate(said.images, 1)
    ]
    artifacts, outputs = [], []
    for number, (image, file) in enumerate(zip(said.images, files, strict=True), 1):
        attempt.progress(1.0, stage="storing", message=f"image {number} of {total}")
        name = f"{task}-{number:02}{embedded.TYPES[file.media_type]}"
        artifacts.append(await attempt.save(name, file.data, media_type=file.media_type))
        output: dict[str, Any] = {"artifact": name, "kind": image.kind, "embedded": file.said.names}
        if file.width:
            output |= {"width": file.width, "height": file.height}
        if image.seed is not None:
            output["seed"] = image.seed
        if image.subseed is not None:
            output["subseed"] = image.subseed
        if text := (file.said.parameters or image.infotext):
            output["parameters"] = text[: embedded.SHOWN_CHARS]
        outputs.append(output)
    return Stored(tuple(artifacts), outputs)


def file_of(image: str, infotext: str, number: int, total: int, *, keep: bool) -> File:
    """An image out of base64, with its parameters in it or without; it computes for a while.

    Raises:
        RetryableError: code `invalid_image`.
    """
    data = decoded(image, number, total)
    if not keep:
        data = b"".join(embedded.stripped(data))
    elif infotext and not embedded.said_by(data).parameters:
        data = embedded.with_parameters(data, infotext) or data
    media_type = embedded.type_of(data[:16]) or "application/octet-stream"
    try:
        width, height = SIZES[media_type](data[:HEAD_BYTES])
    except (KeyError, ValueError, IndexError, struct.error):
        width = height = 0
    return File(data, media_type, width, height, embedded.said_by(data))
