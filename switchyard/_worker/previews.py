"""The previews of one attempt: at most four a second, each an image that can be sent, or is made so small."""

from __future__ import annotations

import importlib
import io
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from switchyard.events.encoding.preview import (
    PREVIEW_BYTES,
    PREVIEWS,
    PREVIEWS_S,
    Preview,
    is_shown,
    preview_of,
)

RAW_BYTES: Final = 16 * 1024 * 1024
"""What is scaled; a larger one is dropped."""
SIDES: Final = (1024, 768, 512, 256)
QUALITY: Final = 80

TOO_FAST: Final = "too_fast"
TOO_LARGE: Final = "too_large"
UNREADABLE: Final = "unreadable"
UNSENT: Final = "unsent"


class Pace:
    """So many within so many seconds.

    Args:
        most: how many.
        within_s: the seconds.
        clock: monotonic seconds.
    """

    def __init__(self, most: int, within_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._within_s = within_s
        self._clock = clock
        self._taken_at: deque[float] = deque(maxlen=most)

    @property
    def is_free(self) -> bool:
        """Whether there may be another."""
        taken_at = self._taken_at
        return len(taken_at) < (taken_at.maxlen or 0) or self._clock() - taken_at[0] >= self._within_s

    def take(self) -> bool:
        """Count another, if there may be one; whether there may."""
        if not self.is_free:
            return False
        self._taken_at.append(self._clock())
        return True


class Previews:
    """Takes previews, at most four within a second; the others are dropped, and counted.

    Args:
        sink: given each that is taken; it must not block.
        dropped: called with the reason for each that is not.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        sink: Callable[[Preview], None],
        dropped: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sink = sink
        self._dropped = dropped
        self._pace = Pace(PREVIEWS, PREVIEWS_S, clock)

    def take(self, data: Any, media_type: Any) -> None:
        """Take a preview, or drop it.

        Raises:
            InvalidError: code `invalid_preview`, it is no bytes, or of a type that is not shown.
        """
        preview = preview_of(data, media_type)
        if not self._pace.is_free:
            self._dropped(TOO_FAST)
        elif len(data) > RAW_BYTES:
            self._dropped(TOO_LARGE)
        elif not is_shown(preview):
            self._dropped(UNREADABLE)
        else:
            self._pace.take()
            self._sink(preview)


def fits(preview: Preview) -> bool:
    """Whether it can be sent as it is."""
    return len(preview.data) <= PREVIEW_BYTES


def scaled(preview: Preview) -> Preview | None:
    """A preview made small enough to be sent; None where that cannot be done. It computes for a while.

    It needs Pillow, which the extra `documents` brings.
    """
    if fits(preview):
        return preview
    if not is_shown(preview):  # nothing is unpacked before its size is known
        return None
    try:
        images = importlib.import_module("PIL.Image")
        format_name = preview.media_type.removeprefix("image/").upper()
        with images.open(io.BytesIO(preview.data), formats=[format_name]) as image:
            image.draft("RGB", (SIDES[0], SIDES[0]))
            has_alpha = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
            small = image.convert("RGBA" if has_alpha else "RGB")
        for side in SIDES:
            small.thumbnail((side, side))
            written = io.BytesIO()
            small.save(written, "WEBP" if has_alpha else "JPEG", quality=QUALITY)
            done = Preview(written.getvalue(), "image/webp" if has_alpha else "image/jpeg")
            if fits(done):
                return done
    except Exception:  # noqa: BLE001 - foreign bytes in a foreign library, or none: it is dropped and counted
        return None
    return None
