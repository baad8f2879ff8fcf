"""What a job of kind `convert` says."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, ValidationInfo, field_validator

from switchyard.services.connectors.payload import FileId, Payload
from switchyard.services.documents.model.document import Ocr
from switchyard.services.documents.model.scripts import Form

MAX_PAGES: Final = 10_000

EngineName = Literal["local", "mistral", "docling"]
OutputFormat = Literal["markdown", "json", "text"]
Language = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{1,31}$")]

MAKES: Final[dict[str, frozenset[str]]] = {
    "local": frozenset({"markdown", "json", "text"}),
    "mistral": frozenset({"markdown"}),
    "docling": frozenset({"markdown", "text"}),
}
"""By engine, the formats that it makes."""
ALWAYS_READS: Final = frozenset({"mistral"})
"""Engines that read every page by OCR."""


class PartOf(Payload):
    """Which pages of a PDF a part reads; from this kind itself, for those who join them.

    Args:
        first: from 0.
        total: how many the PDF has.
    """

    first: Annotated[int, Field(ge=0, lt=MAX_PAGES)]
    count: Annotated[int, Field(ge=1, le=MAX_PAGES)]
    total: Annotated[int, Field(ge=1, le=MAX_PAGES)]


class ConvertPayload(Payload):
    """Which file to convert, and how."""

    file: FileId
    ocr: Ocr = "auto"
    languages: Annotated[list[Language], Field(min_length=1, max_length=8, default_factory=lambda: ["eng"])]
    formats: Annotated[
        list[OutputFormat], Field(min_length=1, max_length=3, default_factory=lambda: ["markdown"])
    ]
    page_breaks: bool = False
    images: Literal["none", "save"] = "none"
    scripts: Form = "unicode"
    comments: bool = False
    sizes: bool = False
    max_pages: Annotated[int, Field(ge=1, le=MAX_PAGES)] | None = None
    engine: EngineName | None = None
    batch: bool | None = None
    parts: bool | Annotated[int, Field(ge=1, le=MAX_PAGES)] | None = None
    part: PartOf | None = None

    @field_validator("engine")
    @classmethod
    def _can_do_it(cls, engine: EngineName | None, info: ValidationInfo) -> EngineName | None:
        if engine is not None and (why := why_not(engine, info.data.get("formats"), info.data.get("ocr"))):
            raise ValueError(why)
        return engine

    @field_validator("batch")
    @classmethod
    def _has_batches(cls, batch: bool | None, info: ValidationInfo) -> bool | None:  # noqa: FBT001 - pydantic's
        engine = info.data.get("engine")
        if batch and engine is not None and engine not in BATCHES:
            raise ValueError(f"{engine} does not take documents in batches")
        return batch


BATCHES: Final = frozenset({"mistral"})
"""Engines that take documents in batches."""


def why_not(engine: str, formats: list[OutputFormat] | None, ocr: str | None) -> str:
    """Why an engine does not do what a payload asks for; "" where it does."""
    if lacking := sorted(set(formats or ()) - MAKES[engine]):
        return f"{engine} makes no {' and no '.join(lacking)}, which formats asks for"
    if ocr == "never" and engine in ALWAYS_READS:
        return f"{engine} reads every page by OCR, and ocr says never"
    return ""
