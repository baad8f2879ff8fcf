"""PNG, JPEG and TIFF images, read by OCR."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from PIL import Image, ImageOps

from switchyard.services.documents.errors import FatalError
from switchyard.services.documents.model.document import Document, Options, Page, check_pages
from switchyard.services.documents.ocr.ahead import Pending, ahead, page_of
from switchyard.services.documents.ocr.reading import Reading
from switchyard.services.documents.page import across_pages

MAX_PIXELS: Final = 100_000_000  # A2 at 300 dpi is 35 million; grey, it takes 100 MB
Image.MAX_IMAGE_PIXELS = MAX_PIXELS
FORMATS: Final = ("PNG", "JPEG", "TIFF")


def read(path: Path, options: Options) -> Document:
    """An image as a document, whose pages are those of a TIFF file.

    Raises:
        FatalError: codes `image_too_large` and `too_many_pages`.
    """
    try:
        image = Image.open(path, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise _too_large(str(error)) from error
    _check(image)
    total = getattr(image, "n_frames", 1) if image.format == "TIFF" else 1
    check_pages(total, options)
    return Document(total, across_pages.continued(ahead(_pages(image, total, options))))


def _pages(image: Image.Image, total: int, options: Options) -> Iterator[Page | Pending[Page]]:
    with image:
        for number in range(total):
            image.seek(number)
            _check(image)
            page = _grey(image)
            if options.ocr == "never":
                yield Page("", warnings=("an image has no text of its own, and OCR was switched off",))
            else:
                yield Pending(Reading(page, options.languages, cores=options.cores), page_of)


def _check(image: Image.Image) -> None:
    """Refuse by its header an image that would fill the memory."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _too_large(f"{width} x {height} pixels")


def _too_large(size: str) -> FatalError:
    most = MAX_PIXELS // 1_000_000
    return FatalError(
        "image_too_large", f"at most {most} million pixels can be read; the image is larger: {size}"
    )


def _grey(image: Image.Image) -> Image.Image:
    """The whole image in shades of grey, upright, on white."""
    if image.mode.startswith("I"):  # 16 bits a pixel, which a plain conversion would cut off at 255
        upright = image.convert("I").point(lambda value: value / 256)
    elif image.has_transparency_data:
        with image.convert("RGBA") as layers:
            upright = Image.new("RGBA", layers.size, "white")
            upright.alpha_composite(layers)
    else:
        upright = image.convert("L")
    return ImageOps.exif_transpose(upright).convert("L")
