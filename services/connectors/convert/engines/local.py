"""The converter of Switchyard itself, in a child process."""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from switchyard.services.connectors.convert.engines.protocol import Made, Request
from switchyard.services.connectors.convert.parts import Gathered, read
from switchyard.services.connectors.convert.payload import MAX_PAGES, PartOf

PAGES: Final = "pages.bin"
"""The file of a part; here, because what writes it needs more than a gateway has."""


class Local:
    """The engine `local`."""

    name = "local"

    def __init__(self) -> None:
        self._cores: TemporaryDirectory[str] | None = None  # of the first document on

    async def convert(self, request: Request) -> Made:
        """Convert a document page by page; one that is to be split is said to be."""
        said = await self._called(
            "convert",
            request,
            {"source": str(request.source), "name": request.name, "media_type": request.media_type}
            | ({"split_over": request.split_over} if request.split_over is not None else {}),
        )
        return Made(request.attempt.scratch, said, {"pages": said["pages"]})

    async def read_part(self, request: Request, part: PartOf) -> Path:
        """Read some pages of a PDF; the file that they are in then."""
        place = {"source": str(request.source), "name": request.name, "media_type": request.media_type}
        # A part may have few pages for OCR. Whether it fails on all of the document is seen by who joins.
        goes_on = {"goes_on": request.attempt.number > 1}
        await self._called("read_part", request, place | part.model_dump() | goes_on)
        return request.attempt.scratch / PAGES

    async def join(self, request: Request, parts: Gathered) -> Made:
        """Put the pages of a PDF together."""
        said = await self._called(
            "join", request, {"total": parts.total, "parts": parts.files, "missing": parts.missing}
        )
        return Made(request.attempt.scratch, said, {"pages": said["pages"]})

    async def _called(self, function: str, request: Request, arguments: dict[str, Any]) -> dict[str, Any]:
        payload = request.payload
        if self._cores is None:
            self._cores = TemporaryDirectory(prefix="switchyard-ocr-")
        same = {
            "directory": str(request.attempt.scratch),
            "formats": request.formats,
            "ocr": payload.ocr,
            "languages": payload.languages,
            "page_breaks": payload.page_breaks,
            "max_pages": payload.max_pages or MAX_PAGES,
            "images": payload.images,
            "scripts": payload.scripts,
            "comments": payload.comments,
            "sizes": payload.sizes,
            "cores": self._cores.name,
        }
        return await read(
            request.isolated,
            f"switchyard.services.connectors.convert.engine:{function}",
            same | arguments,
            lambda done: request.progress(
                done["page"] / done["pages"], "pages", f"page {done['page']} of {done['pages']}"
            ),
        )

    async def close(self) -> None:
        """Remove what its processes share."""
        if self._cores is not None:
            await asyncio.to_thread(self._cores.cleanup)
