"""Handlers for images, each in a process of its own: `switchyard worker --handlers images:handlers`."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError
from pydantic import BaseModel, Field

from switchyard.handlers import Fatal, Handlers, InputFile, SyncContext

handlers = Handlers()
GAP = 4


class Thumbnail(BaseModel):
    """An image, and how wide and high it may be."""

    file: str
    edge: int = Field(default=160, ge=16, le=2000)


class Grey(BaseModel):
    """An image."""

    file: str


class Sheet(BaseModel):
    """Images for one sheet."""

    files: list[str] = Field(min_length=1, max_length=100)
    columns: int = Field(default=2, ge=1, le=10)


def opened(source: InputFile) -> Image.Image:
    """The image in a file."""
    try:
        return Image.open(source.path).convert("RGB")
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise Fatal(f"{source.name}: {error}", code="not_an_image") from error


def stored(image: Image.Image, name: str, context: SyncContext) -> dict[str, object]:
    """Store an image as an artifact; its width and height."""
    path: Path = context.scratch / name
    image.save(path)
    context.save(name, path)
    return {"width": image.width, "height": image.height}


@handlers.kind("thumbnail", process=True)
def thumbnail(payload: Thumbnail, context: SyncContext) -> dict[str, object]:
    """Make an image small."""
    image = opened(context.fetch(payload.file))
    image.thumbnail((payload.edge, payload.edge))
    return stored(image, "thumbnail.png", context)


@handlers.kind("grey", process=True)
def grey(payload: Grey, context: SyncContext) -> dict[str, object]:
    """Take the colour out of an image."""
    return stored(ImageOps.grayscale(opened(context.fetch(payload.file))), "grey.png", context)


@handlers.kind("contact-sheet", slots=1, process=True)
def contact_sheet(payload: Sheet, context: SyncContext) -> dict[str, object]:
    """Put images side by side."""
    images = []
    for number, file in enumerate(payload.files, start=1):
        images.append(opened(context.fetch(file)))
        context.progress(number / (len(payload.files) + 1), "reading", f"{number} of {len(payload.files)}")
    wide, high = max(image.width for image in images) + GAP, max(image.height for image in images) + GAP
    rows = -(-len(images) // payload.columns)
    sheet = Image.new("L", (wide * min(payload.columns, len(images)) + GAP, high * rows + GAP), 255)
    for number, image in enumerate(images):
        row, column = divmod(number, payload.columns)
        sheet.paste(image, (GAP + column * wide, GAP + row * high))
    return stored(sheet, "sheet.png", context)
