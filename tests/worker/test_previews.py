"""Previews of an attempt are bounded, whatever its connector sends."""

from __future__ import annotations

import importlib
from collections import Counter
from types import ModuleType

import pytest

from switchyard._worker.previews import RAW_BYTES, Previews, fits, scaled
from switchyard.events.encoding.preview import PREVIEW_BYTES, Preview, is_shown
from switchyard.events.errors import InvalidError
from tests.images import EACH, noise, padded, png


def test_what_comes_too_fast_is_dropped_and_counted() -> None:
    now = 100.0
    shown: list[Preview] = []
    dropped: Counter[str] = Counter()
    previews = Previews(shown.append, lambda why: dropped.update([why]), clock=lambda: now)
    for mark in range(6):
        previews.take(padded(100, mark), "image/png")
    assert [preview.data for preview in shown] == [padded(100, mark) for mark in range(4)]
    assert dropped == {"too_fast": 2}
    now = 100.9
    previews.take(png(), "image/png")
    assert dropped == {"too_fast": 3}
    now = 101.0
    for data in (padded(RAW_BYTES + 1), b"<svg/>", png()[:20], png(60_000, 60_000)):
        previews.take(data, "image/png")  # none of these counts for the pace
    assert dropped == {"too_fast": 3, "too_large": 1, "unreadable": 3}
    for _ in range(4):
        previews.take(png(), "image/png")
    assert len(shown) == 8
    with pytest.raises(InvalidError):
        previews.take(png(), "text/html")


@pytest.mark.parametrize(
    ("data", "media_type", "becomes"),
    [(noise("PNG", 900), "image/png", "image/jpeg"),
     (noise("JPEG", 1500, quality=98), "image/jpeg", "image/jpeg"),
     (noise("PNG", 700, "RGBA"), "image/png", "image/webp"),
     (noise("WEBP", 900, quality=100), "image/webp", "image/jpeg")],
)  # fmt: skip
def test_a_large_image_is_made_small_enough(data: bytes, media_type: str, becomes: str) -> None:
    assert len(data) > PREVIEW_BYTES
    small = scaled(Preview(data, media_type))
    assert small is not None
    assert small.media_type == becomes
    assert fits(small)
    assert is_shown(small)


@pytest.mark.parametrize(("media_type", "data"), EACH.items())
def test_an_image_that_fits_is_left_as_it_is(media_type: str, data: bytes) -> None:
    assert scaled(Preview(data, media_type)) == (data, media_type)


def test_an_image_that_cannot_be_unpacked_is_dropped() -> None:
    large = noise("PNG", 900)
    for data in (large[: PREVIEW_BYTES + 1], png(16_000, 16_000) + bytes(PREVIEW_BYTES)):
        assert scaled(Preview(data, "image/png")) is None


def test_a_large_image_is_dropped_where_there_is_no_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> ModuleType:
        raise ModuleNotFoundError(name)

    large = Preview(noise("PNG", 900), "image/png")
    assert scaled(large) is not None
    monkeypatch.setattr(importlib, "import_module", missing)
    assert scaled(large) is None
