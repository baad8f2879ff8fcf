"""What a call has answered: images out of base64, each with its seed, and the caption of an image."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from switchyard.services.connectors.a1111.payload import A1111Payload
from switchyard.services.connectors.a1111.wording import failure_of
from switchyard.services.connectors.images.embedded import type_of
from switchyard.services.connectors.protocol import FatalError, RetryableError

IMAGES: Final = 2_000
INFOTEXT_CHARS: Final = 64 * 1024
INFO_FIELDS: Final = 200
HIDDEN: Final = frozenset(
    {
        "init_images",
        "mask",
        "image",
        "alwayson_scripts",
        "script_args",
        "force_task_id",
        "send_images",
        "save_images",
    }
)
"""Parameters that the result leaves out: images, and what the connector has set."""
PER_IMAGE: Final = frozenset(
    {"infotexts", "all_prompts", "all_negative_prompts", "all_seeds", "all_subseeds", "job_timestamp"}
)
"""Fields of `info` that stand with the images, or say nothing of them."""


class Made(NamedTuple):
    """One image of an answer.

    Args:
        data: its base64.
        kind: `image`, `grid`, or `extra` for what scripts add.
        seed, subseed: None where they are not known.
        infotext: its parameters as the server words them; "" for none.
    """

    data: str
    kind: str
    seed: int | None
    subseed: int | None
    infotext: str


class Said(NamedTuple):
    """An answer.

    Args:
        images: in their order.
        caption: what an image was found to show; None for other tasks.
        parameters: those with which the server worked.
        info: what it says of them beside.
    """

    images: list[Made]
    caption: str | None
    parameters: dict[str, Any]
    info: dict[str, Any]


def said_in(status: int, body: Any, payload: A1111Payload) -> Said:
    """What an answer says.

    Args:
        status: of HTTP.
        body: its JSON; None for what is none.
        payload: what was asked for.

    Raises:
        RetryableError, FatalError, BusyError: it says that the work was not done, or that is not in it.
    """
    if status != 200:
        raise failure_of(status, body, payload.task)
    if not isinstance(body, dict):
        raise RetryableError("backend_failed", "the server answers 200, and not with what was asked for")
    if payload.task == "interrogate":
        return _caption(body)
    found = [body["image"]] if payload.task == "upscale" and "image" in body else body.get("images")
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        if "error" in body or "detail" in body:
            raise failure_of(500, body, payload.task)
        raise RetryableError("backend_failed", "the server answers 200 without images")
    if len(found) > IMAGES:
        raise FatalError("too_many_outputs", f"the server has made more than {IMAGES} images")
    info = info_of(body.get("info"))
    images = _images(found, info, payload.images)
    made = sum(image.kind == "image" for image in images)
    if made < (payload.images or 1):
        raise RetryableError("images_missing", f"{made} of {payload.images or 1} images came")
    given = body.get("parameters")
    parameters = {
        name: value
        for name, value in (given.items() if isinstance(given, dict) else ())
        if name not in HIDDEN and value is not None
    }
    return Said(images, None, parameters or payload.parameters(), _beside(info))


def info_of(info: Any) -> dict[str, Any]:
    """What `info` says: JSON within JSON; NaN, which Python writes, is null. {} for what is none."""
    if isinstance(info, str):
        try:
            info = json.loads(info, parse_constant=lambda _: None)
        except (ValueError, RecursionError):
            return {}
    return info if isinstance(info, dict) else {}


def _beside(info: Mapping[str, Any]) -> dict[str, Any]:
    known = {name: value for name, value in info.items() if name not in PER_IMAGE}
    return dict(list(known.items())[:INFO_FIELDS])


def _images(found: list[str], info: Mapping[str, Any], wanted: int | None) -> list[Made]:
    """Each image with what is said of it; grids come first, and what scripts add last."""
    first = info.get("index_of_first_image")
    first = first if isinstance(first, int) and 0 <= first <= len(found) else 0
    infotexts = _list(info.get("infotexts"))
    seeds, subseeds = _list(info.get("all_seeds")), _list(info.get("all_subseeds"))
    images = []
    for index, data in enumerate(found):
        number = index - first
        kind = "grid" if number < 0 else "image" if wanted is None or number < wanted else "extra"
        infotext = infotexts[index] if index < len(infotexts) else ""
        seed = _seed(seeds, number, info.get("seed")) if kind == "image" else None
        subseed = _seed(subseeds, number, info.get("subseed")) if kind == "image" else None
        infotext = infotext[:INFOTEXT_CHARS] if isinstance(infotext, str) else ""
        images.append(Made(data, kind, seed, subseed, infotext))
    return images


def _seed(seeds: list[Any], number: int, first: Any) -> int | None:
    seed = seeds[number] if number < len(seeds) else first if number == 0 else None
    return seed if isinstance(seed, int) and not isinstance(seed, bool) else None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _caption(body: Mapping[str, Any]) -> Said:
    caption = body.get("caption")
    if not isinstance(caption, str):
        raise RetryableError("backend_failed", "the server answers 200 without a caption")
    if "<error>" in caption:  # so the server says that it failed
        raise RetryableError("generation_failed", "the server could not look at the image")
    return Said([], caption, {}, {})


def decoded(image: str, number: int, total: int) -> bytes:
    """The bytes of an image.

    Raises:
        RetryableError: code `invalid_image`: it is no base64, or no image.
    """
    text = image.partition(",")[2] if image.startswith("data:") else image
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise RetryableError("invalid_image", f"image {number} of {total} is no base64") from None
    if type_of(data[:16]) is None:
        raise RetryableError("invalid_image", f"image {number} of {total} is no PNG, JPEG, WebP or GIF")
    return data
