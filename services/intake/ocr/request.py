"""What a client of Mistral's OCR asks for, and the payload of the job that does it.

Source: the API's reference, and what the client `mistralai` 3.7.0 sends.
"""

from __future__ import annotations

import base64
import binascii
import mimetypes
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, NamedTuple
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from switchyard.events.errors import InvalidError
from switchyard.services.intake.faults import from_msgspec

KIND: Final = "convert"
"""The kind that reads documents where the settings name none."""
MODEL: Final = "mistral-ocr-latest"
MODEL_CHARS: Final = 200
SHOWN_CHARS: Final = 80
MOST_PAGE: Final = 10_000
MOST_RANGES: Final = 500
SIGNED: Final = re.compile(r"/mistral/v1/files/([A-Za-z0-9._-]{1,200})/signed\Z")
"""The path of an address that a client has been given for a file of ours."""
_TYPE: Final = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,80}"
_DATA: Final = re.compile(
    rf"data:({_TYPE}/{_TYPE})?(?:;[A-Za-z0-9=._-]{{1,60}}){{0,3}}?;base64,", re.IGNORECASE
)
_RANGE: Final = re.compile(r"\s*([0-9]{1,6})\s*(?:-\s*([0-9]{1,6})\s*)?")
_NAME: Final = re.compile(r"[A-Za-z0-9 ._()-]{1,100}")
NOT_DONE: Final = (
    "bbox_annotation_format", "document_annotation_format", "document_annotation_prompt",
)  # fmt: skip
"""What is asked for in vain: nobody is to wait for it."""

Range = tuple[int, int]
Count = Annotated[int, Meta(ge=0, le=1_000_000)]


class ImageUrl(msgspec.Struct, frozen=True):
    """An image by its address."""

    url: str


class OcrDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A document: by the id of a stored file, or by an address that is ours or holds it."""

    type: str | None = None
    document_url: str | None = None
    document_name: str | None = None
    image_url: str | ImageUrl | None = None
    file_id: str | None = None


class OcrForm(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be read, and how; fields that are not known are passed over."""

    document: OcrDocument
    model: Annotated[str, Meta(min_length=1, max_length=MODEL_CHARS)] | None = None
    pages: str | list[int] | None = None
    include_image_base64: bool | None = None
    image_limit: Count | None = None
    image_min_size: Count | None = None
    table_format: str | None = None
    bbox_annotation_format: Any = None
    document_annotation_format: Any = None
    document_annotation_prompt: Any = None


class Inline(NamedTuple):
    """A document that came within the request.

    Args:
        data: its bytes.
        name: what it is called.
        type: its media type.
    """

    data: bytes
    name: str
    type: str


class Shown(msgspec.Struct, frozen=True, omit_defaults=True):
    """What of a conversion is answered.

    Args:
        model: as the client has named it.
        pages: the first and last of each run of pages, from 0; None for all.
        images: whether images are sent.
        image_limit: how many at most.
        image_min_size: how many pixels one has at least each way.
    """

    model: str = MODEL
    pages: tuple[Range, ...] | None = None
    images: bool = False
    image_limit: int | None = None
    image_min_size: int = 0

    def has_page(self, index: int) -> bool:
        """Whether a page is answered, counted from 0."""
        return self.pages is None or any(first <= index <= last for first, last in self.pages)


class Asked(NamedTuple):
    """A request that has been read.

    Args:
        file: the id of the file to read; "" for one that came with the request.
        inline: that.
        shown: what of it is answered.
    """

    file: str
    inline: Inline | None
    shown: Shown

    def payload(self, file_id: str) -> dict[str, Any]:
        """The payload of the job.

        Args:
            file_id: where the document lies.
        """
        images = "save" if self.shown.images else "none"
        return {"file": file_id, "page_breaks": True, "sizes": True, "images": images}


def from_fields(fields: Mapping[str, Any], *, within: str) -> Asked:
    """A request as a line of a batch has it.

    Args:
        fields: those of the line's body.
        within: where that stands.

    Raises:
        InvalidError: a field breaks a rule.
    """
    try:
        form = msgspec.convert(fields, OcrForm)
    except msgspec.ValidationError as error:
        raise from_msgspec(error, within=within) from None
    return asked(form, within=within)


def asked(form: OcrForm, *, within: str = "") -> Asked:
    """What a form means.

    Args:
        form: as it was sent.
        within: the path of it, where it is a part of something.

    Raises:
        InvalidError: a field breaks a rule.
    """
    before = f"{within}." if within else ""
    for name in NOT_DONE:
        if getattr(form, name) is not None:
            raise _wrong(before + name, "annotations are not made here; leave it out")
    if form.table_format not in (None, "markdown"):
        raise _wrong(before + "table_format", "tables are written as markdown alone")
    file, inline = _document(form.document, f"{before}document")
    shown = Shown(
        form.model or MODEL,
        None if form.pages is None else ranges(form.pages, before + "pages"),
        bool(form.include_image_base64), form.image_limit, form.image_min_size or 0,
    )  # fmt: skip
    return Asked(file, inline, shown)


def ranges(pages: str | list[int], field: str) -> tuple[Range, ...]:
    """Pages as runs.

    Args:
        pages: numbers from 0, or a text such as `0,2-4`.
        field: where they stand.

    Raises:
        InvalidError: they are none.
    """
    parts: Sequence[str | int] = pages.split(",", MOST_RANGES) if isinstance(pages, str) else pages
    if len(parts) > MOST_RANGES or not parts:
        raise _wrong(field, f"1 to {MOST_RANGES} pages or runs of pages were expected")
    found = []
    for number, part in enumerate(parts):
        place = field if isinstance(part, str) else f"{field}[{number}]"
        first, last = _range(part)
        if not 0 <= first <= last < MOST_PAGE:
            said = repr(part)[:SHOWN_CHARS]
            raise _wrong(place, f"pages from 0 to {MOST_PAGE - 1}, such as 0,2-4, were expected, not {said}")
        found.append((first, last))
    return tuple(found)


def _range(part: str | int) -> Range:
    if isinstance(part, int):
        return part, part
    match = _RANGE.fullmatch(part)
    return (-1, -1) if match is None else (int(match[1]), int(match[2] or match[1]))


def _document(document: OcrDocument, field: str) -> tuple[str, Inline | None]:
    image = document.image_url
    given = {
        "document_url": document.document_url,
        "image_url": image.url if isinstance(image, ImageUrl) else image,
        "file_id": document.file_id,
    }
    named = [name for name, value in given.items() if value is not None]
    if len(named) != 1:
        raise _wrong(field, "one of document_url, image_url and file_id was expected")
    name, value = named[0], given[named[0]] or ""
    place = f"{field}.{name}"
    if isinstance(image, ImageUrl) and name == "image_url":
        place += ".url"
    if name == "file_id":
        if not 0 < len(value) <= 200:
            raise _wrong(place, "the id of a file was expected")
        return value, None
    if value[:5].lower() == "data:":
        return "", _inline(value, document.document_name, place)
    return _of_address(value, place), None


def _of_address(url: str, place: str) -> str:
    try:
        path = urlsplit(url).path
    except ValueError:
        path = ""
    found = SIGNED.search(path)
    if found is None:
        message = (
            "nothing is fetched from elsewhere: a file's own address (/v1/files/{id}/url) or a data: URI was "
            "expected; or store the file, and say its file_id"
        )
        raise InvalidError(f"{place}: {message}", code="address_refused", field=place)
    return found[1]


def _inline(uri: str, name: str | None, place: str) -> Inline:
    head = _DATA.match(uri)
    if head is None:
        raise _wrong(place, "data:<media type>;base64,<data> was expected")
    try:
        data = base64.b64decode(uri[head.end() :].encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise _wrong(place, "its data are no base64") from None
    if not data:
        raise _wrong(place, "it holds no data")
    media_type = (head[1] or "application/octet-stream").lower()
    if name is None or _NAME.fullmatch(name) is None or name in (".", ".."):
        name = f"document{mimetypes.guess_extension(media_type) or ''}"
    return Inline(data, name, media_type)


def _wrong(field: str, rule: str) -> InvalidError:
    return InvalidError(f"{field}: {rule}", field=field)
