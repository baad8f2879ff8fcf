"""A preview as readers get it: one copy for all of them."""

from __future__ import annotations

import base64
from functools import cached_property
from typing import Final

import orjson

from switchyard.events.encoding.preview import Preview, framed
from switchyard.services.dispatch.previews import Stamp

PREVIEW: Final = "preview"


class Shown:
    """A preview, encoded once.

    Args:
        job_id: whose it is.
        stamp: what is said of it.
        preview: the image.
    """

    def __init__(self, job_id: str, stamp: Stamp, preview: Preview) -> None:
        self.fence = stamp.fence
        self.at = stamp.at
        self._header = orjson.dumps({
            "type": PREVIEW, "job_id": job_id, "attempt": stamp.attempt, "at": stamp.at,
            "media_type": stamp.media_type,
        })  # fmt: skip
        self.frame = framed(self._header, preview.data)
        """The binary frame of a WebSocket."""
        self._image_at = len(self.frame) - len(preview.data)

    @cached_property
    def event(self) -> bytes:
        """The server-sent event."""
        image = memoryview(self.frame)[self._image_at :]
        return b'event: preview\ndata: %b,"data":"%b"}\n\n' % (self._header[:-1], base64.b64encode(image))

    @property
    def size(self) -> int:
        """Bytes that it takes at most."""
        return len(self.frame) * 7 // 3
