"""The previews of one attempt: the latest is kept; what is too large or comes too fast is dropped."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from switchyard._worker.context import MEDIA_TYPE
from switchyard.events.encoding.json_written import type_named
from switchyard.services.connectors.protocol import FatalError

INVALID_PREVIEW: Final = "invalid_preview"
PREVIEW_BYTES: Final = 256 * 1024
PREVIEWS: Final = 4
PREVIEWS_S: Final = 1.0


class Preview(NamedTuple):
    """What there is of a job's result so far."""

    data: bytes
    media_type: str


def nobody(_: Preview) -> None:
    """Nobody wants to see it."""


class Previews:
    """Takes previews, at most four within a second.

    Args:
        sink: given each that is taken; it must not block.
        clock: monotonic seconds.
    """

    def __init__(
        self, sink: Callable[[Preview], None] = nobody, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._sink = sink
        self._clock = clock
        self._taken_at: deque[float] = deque(maxlen=PREVIEWS)
        self.latest: Preview | None = None
        self.dropped = 0

    def take(self, data: bytes, media_type: str) -> None:
        """Take a preview, or drop it.

        Raises:
            FatalError: code `invalid_preview`, it is no bytes or no media type.
        """
        if type(data) is not bytes:
            raise FatalError(INVALID_PREVIEW, f"data: expected bytes, not {type_named(data)}")
        if not (isinstance(media_type, str) and MEDIA_TYPE.fullmatch(media_type)):
            rule = "media_type: expected words as in `image/webp`"
            raise FatalError(INVALID_PREVIEW, f"{rule}, not {type_named(media_type)}")
        now = self._clock()
        is_full = len(self._taken_at) == PREVIEWS and now - self._taken_at[0] < PREVIEWS_S
        if is_full or len(data) > PREVIEW_BYTES:
            self.dropped += 1
            return
        self._taken_at.append(now)
        self.latest = Preview(data, media_type)
        self._sink(self.latest)
