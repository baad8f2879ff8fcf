"""The engine `docling`: a document converted by a docling-serve."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from switchyard.services.connectors.convert.engines.docling.api import NAME, Api
from switchyard.services.connectors.convert.engines.http import again
from switchyard.services.connectors.convert.engines.protocol import (
    BAD,
    MODELS,
    AwayError,
    Made,
    Request,
    UnsuitedError,
)
from switchyard.services.connectors.convert.section import DOCLING_KEY, DoclingSection
from switchyard.services.connectors.protocol import RetryableError
from switchyard.services.documents.sniff import NAMES, OFFICE

TYPES: Final = {
    "pdf": "application/pdf", "png": "image/png", "jpeg": "image/jpeg", "tiff": "image/tiff",
    "docx": f"{OFFICE}wordprocessingml.document", "pptx": f"{OFFICE}presentationml.presentation",
    "xlsx": f"{OFFICE}spreadsheetml.sheet", "html": "text/html",
}  # fmt: skip
"""What it reads."""
ASKED_AS: Final = {"markdown": "md", "text": "text"}
LOOK: Final = "switchyard.services.connectors.convert.engines.pdf:look"
COLLECT: Final = "switchyard.services.connectors.convert.engines.docling.answer:collect"
PLAIN_LANGUAGES: Final = ["eng"]
"""What a payload that names no languages says; the server's own are used then."""


class Docling:
    """The engine.

    Args:
        section: its settings.
    """

    name = NAME

    def __init__(self, section: DoclingSection) -> None:
        self._section = section
        self._api = Api(section, section.key(DOCLING_KEY))

    async def convert(self, request: Request) -> Made:
        """Have a document converted."""
        payload, section = request.payload, self._section
        directory = request.directory(NAME)
        request.progress(0.0, "look", "looking at the file")
        found = await request.isolated(LOOK, {
            "source": str(request.source), "name": request.name, "media_type": request.media_type,
            "directory": str(directory), "max_pages": payload.max_pages,
            "part_pages": None, "part_bytes": None,
        })  # fmt: skip
        kind = found["format"]
        if kind not in TYPES:
            raise UnsuitedError("unsupported_format", f"{NAME} does not read {NAMES[kind]}")
        (part,) = found["parts"]
        path = Path(part["path"])
        mark = f"<!-- page break of {request.attempt.job_id} -->"
        to = directory / "answer.json"
        request.progress(0.05, NAME, "converting")

        async def call() -> None:
            await self._api.convert(
                path, name=f"document.{kind}", media_type=TYPES[kind], options=self._options(request, mark),
                to=to,
            )  # fmt: skip

        await again(call, pause_s=section.retry_s, wait_s=0.0)
        request.progress(0.95, "pages", "writing the pages")
        try:
            said = await request.isolated(COLLECT, {
                "path": str(to), "directory": str(directory), "format": kind, "formats": request.formats,
                "images": payload.images == "save", "mark": mark, "page_breaks": payload.page_breaks,
                "pages": found["pages"], "ocr": payload.ocr, "warnings": found["warnings"],
            })  # fmt: skip
        except RetryableError as error:
            if error.code in (BAD, MODELS):
                raise AwayError(self._api.shown(error.message)) from None
            raise
        request.progress(1.0, "pages", "")
        return Made(directory, said, {"pages": said["pages"]})

    def _options(self, request: Request, mark: str) -> dict[str, Any]:
        payload = request.payload
        formats = dict.fromkeys(
            ["markdown", *request.formats]
        )  # Markdown in any case: it says where pages begin
        options: dict[str, Any] = {
            **self._section.options,
            "to_formats": [ASKED_AS[name] for name in formats],
            "image_export_mode": "embedded" if payload.images == "save" else "placeholder",
            "md_page_break_placeholder": mark,
            "do_ocr": payload.ocr != "never",
            "force_ocr": payload.ocr == "always",
        }
        if payload.languages != PLAIN_LANGUAGES:
            options["ocr_lang"] = payload.languages
        return options

    async def close(self) -> None:
        """End all connections."""
        await self._api.close()
