"""Previews of an attempt are bounded, whatever its connector sends."""

from __future__ import annotations

from typing import Any

import pytest

from switchyard.services.connectors.protocol import FatalError
from switchyard.services.worker.attempts.previews import PREVIEW_BYTES, Preview, Previews


def test_what_is_too_large_or_comes_too_fast_is_dropped_and_counted() -> None:
    now = 100.0
    shown: list[Preview] = []
    previews = Previews(shown.append, clock=lambda: now)
    for n in range(6):
        previews.take(b"%d" % n, "image/webp")
    assert [preview.data for preview in shown] == [b"0", b"1", b"2", b"3"]
    assert previews.dropped == 2
    now = 100.9
    previews.take(b"6", "image/webp")
    assert previews.dropped == 3
    now = 101.0
    previews.take(b"x" * (PREVIEW_BYTES + 1), "image/webp")
    assert previews.dropped == 4
    previews.take(b"x" * PREVIEW_BYTES, "image/webp")
    assert previews.latest is not None
    assert len(previews.latest.data) == PREVIEW_BYTES
    assert len(shown) == 5


@pytest.mark.parametrize(
    ("data", "media_type"),
    [("text", "image/webp"), (bytearray(8), "image/webp"), (None, "image/webp"), (b"x", ""), (b"x", None),
     (b"x", "image"), (b"x", "image/webp\r\nx: y")],
)  # fmt: skip
def test_what_is_no_preview_is_the_connectors_fault(data: Any, media_type: Any) -> None:
    previews = Previews()
    with pytest.raises(FatalError) as raised:
        previews.take(data, media_type)
    assert raised.value.code == "invalid_preview"
    assert previews.latest is None
