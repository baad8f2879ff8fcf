"""Previews on their way from an attempt to its readers: as they are published, and the last of each job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import orjson
import structlog
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.encoding.preview import PREVIEW_BYTES, TYPES, Preview, framed, is_shown, parts_of
from switchyard.events.errors import UnavailableError
from switchyard.services import clock
from switchyard.services.broker import topology
from switchyard.services.broker.reader import last_message
from switchyard.services.broker.topology_spec import TopologyError
from switchyard.services.settings import Settings

log = structlog.get_logger()


class Stamp(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of a preview.

    Args:
        fence: that of its attempt.
        attempt: the attempt's number.
        at: when it was published.
        media_type: that of the image.
    """

    fence: int
    attempt: int = 0
    at: str = ""
    media_type: str


_STAMP: Final = msgspec.json.Decoder(Stamp)


def packed(preview: Preview, stamp: Mapping[str, Any]) -> bytes:
    """A preview as it is published, now; `stamp` has fence and attempt, and may have more."""
    return framed(orjson.dumps({**stamp, "at": clock.now(), "media_type": preview.media_type}), preview.data)


def unpacked(body: bytes) -> tuple[Stamp, Preview]:
    """What was published.

    Raises:
        ValueError: it is no preview, or none that may be shown.
    """
    header, data = parts_of(body)
    try:
        stamp = _STAMP.decode(header)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"the header cannot be read: {error}") from error
    preview = Preview(data, stamp.media_type)
    if stamp.media_type not in TYPES or len(data) > PREVIEW_BYTES or not is_shown(preview):
        raise ValueError("it is no image that may be shown")
    return stamp, preview


async def last_preview(nc: Client, job_id: str, settings: Settings) -> bytes | None:
    """The last preview that was published of a job within a minute, packed; None where there is none.

    The stream is in memory: where the broker has restarted without it, it is made again.

    Raises:
        UnavailableError: the broker does not answer.
    """
    timeout_s = settings.request_timeout_s
    try:
        stored = await last_message(nc, subjects.PREVIEWS, subjects.preview(job_id), timeout_s=timeout_s)
    except UnavailableError:
        if not await restored(nc, settings):
            raise
        return None
    return None if stored is None else stored.data


async def restored(nc: Client, settings: Settings) -> bool:
    """Make the stream again if the broker has lost it; whether it had.

    Raises:
        UnavailableError: the broker does not answer, or has no room for it.
    """
    try:
        is_new = await topology.restore_stream(
            nc, subjects.PREVIEWS, replicas=settings.replicas, max_bytes=settings.stream_bytes()
        )
    except TopologyError as error:
        raise UnavailableError(f"previews cannot be kept: {error}") from error
    if is_new:
        log.info("stream_restored", stream=subjects.PREVIEWS)
    return is_new
