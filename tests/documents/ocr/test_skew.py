"""Scans that are askew or stand on their heads are read, and their blocks are placed on the page as given."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from switchyard.services.documents.model.document import Options, Page
from switchyard.services.documents.ocr import images, skew
from tests.documents.corpus import DOCUMENTS, expected, likeness, needs_ocr

NAME = "phototest.tif"


def scan(degrees: float) -> Image.Image:
    """A straight page, with a margin, turned counterclockwise."""
    with Image.open(DOCUMENTS / NAME) as straight:
        page = Image.new("L", (straight.width + 100, straight.height + 100), 255)
        page.paste(straight.convert("L"), (50, 50))
    return page.rotate(degrees, expand=True, fillcolor=255, resample=Image.Resampling.BICUBIC)


@pytest.mark.parametrize("degrees", [-10.0, -4.0, -1.5, 1.5, 3.0, 10.0])
def test_the_skew_of_a_scan_is_found(degrees: float) -> None:
    assert skew.angle(scan(degrees)) == pytest.approx(-degrees, abs=0.5)


@pytest.mark.parametrize("degrees", [0.0, 0.3, 90.0, 180.0])
def test_a_page_that_is_not_askew_is_left_as_it_is(degrees: float) -> None:
    assert skew.angle(scan(degrees)) == 0


def test_what_is_no_text_is_left_as_it_is() -> None:
    assert skew.angle(Image.new("L", (800, 600), 255)) == 0
    assert skew.angle(Image.linear_gradient("L")) == 0


def read(tmp_path: Path, degrees: float) -> Page:
    path = tmp_path / "scan.png"
    scan(degrees).save(path)
    (page,) = images.read(path, Options("auto", ("eng",), 1)).pages
    return page


@needs_ocr
@pytest.mark.parametrize("degrees", [-10.0, 5.0])
def test_a_scan_that_is_askew_is_read(tmp_path: Path, degrees: float) -> None:
    assert likeness(expected(NAME), read(tmp_path, degrees).markdown) > 0.98


@needs_ocr
@pytest.mark.parametrize(
    ("degrees", "place"), [(0.0, (0.1, 0.2)), (7.0, (0.1, 0.25)), (180.0, (0.85, 0.8)), (90.0, (0.2, 0.85))]
)
def test_boxes_lie_on_the_page_as_it_was_given(
    tmp_path: Path, degrees: float, place: tuple[float, float]
) -> None:
    first = read(tmp_path, degrees).blocks[0]
    assert first.box is not None
    left, top, right, bottom = first.box
    across, down = place
    assert left - 0.1 <= across <= right + 0.1
    assert top - 0.1 <= down <= bottom + 0.1
    assert (right - left > bottom - top) == (degrees != 90)
