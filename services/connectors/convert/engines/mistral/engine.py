"""The engine `mistral`: a document, or each part of a long PDF, read by Mistral's OCR."""

from __future__ import annotations

import asyncio
import base64
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

from switchyard.services.connectors.convert.engines.http import TooLargeError, again
from switchyard.services.connectors.convert.engines.mistral.api import NAME, OCR, Api
from switchyard.services.connectors.convert.engines.mistral.reading import Reading
from switchyard.services.connectors.convert.engines.mistral.remote import Part, Remote
from switchyard.services.connectors.convert.engines.protocol import (
    BAD,
    AwayError,
    Made,
    Request,
    UnsuitedError,
)
from switchyard.services.connectors.convert.section import MISTRAL_KEY, MistralSection
from switchyard.services.connectors.protocol import Attempt, FatalError, RetryableError
from switchyard.services.documents.sniff import NAMES, OFFICE

TYPES: Final = {
    "pdf": "application/pdf", "png": "image/png", "jpeg": "image/jpeg",
    "docx": f"{OFFICE}wordprocessingml.document", "pptx": f"{OFFICE}presentationml.presentation",
}  # fmt: skip
"""What it reads."""
IMAGES: Final = ("png", "jpeg")
LOOK: Final = "switchyard.services.connectors.convert.engines.pdf:look"
CHECK: Final = "switchyard.services.connectors.convert.engines.mistral.answer:check"
COLLECT: Final = "switchyard.services.connectors.convert.engines.mistral.answer:collect"


class Mistral:
    """The engine.

    Args:
        section: its settings.
    """

    name = NAME

    def __init__(self, section: MistralSection) -> None:
        self._section = section
        self._api = Api(section, section.key(MISTRAL_KEY))
        self.remote = Remote(self._api, section)
        """Batches there."""

    async def convert(self, request: Request) -> Made:
        """Have a document read; a PDF beyond the limits in parts, one after the other."""
        section, payload = self._section, request.payload
        directory = request.directory(NAME)
        request.progress(0.0, "look", "looking at the file")
        found = await request.isolated(LOOK, {
            "source": str(request.source), "name": request.name, "media_type": request.media_type,
            "directory": str(directory), "max_pages": payload.max_pages,
            "part_pages": section.max_pages, "part_bytes": section.max_bytes,
        })  # fmt: skip
        kind = found["format"]
        if kind not in TYPES:
            raise UnsuitedError("unsupported_format", f"{NAME} does not read {NAMES[kind]}")
        for part in found["parts"]:
            part["size_bytes"] = (await asyncio.to_thread(Path(part["path"]).stat)).st_size
            if part["size_bytes"] > section.max_bytes:
                raise UnsuitedError("document_too_large", f"{NAME} takes {section.max_bytes} bytes of {kind}")
        parts, usage = await (self._in_batch if request.in_batch else self._in_turn)(
            request, found["parts"], kind, directory
        )
        request.progress(0.95, "pages", "writing the pages")
        said = await request.isolated(COLLECT, {
            "parts": parts, "directory": str(directory), "format": kind, "images": payload.images == "save",
            "page_breaks": payload.page_breaks, "warnings": found["warnings"],
        })  # fmt: skip
        request.progress(1.0, "pages", "")
        return Made(directory, said, usage)

    async def _in_turn(
        self, request: Request, found: list[dict[str, Any]], kind: str, directory: Path
    ) -> tuple[list[dict[str, Any]], dict[str, int | float]]:
        """Have all parts read, one after the other: their answers as files, and what is billed."""
        parts: list[dict[str, Any]] = []
        usage: dict[str, int | float] = {"pages": 0, "bytes": 0}
        for number, part in enumerate(found, 1):
            request.progress(0.95 * (number - 1) / len(found), NAME, f"part {number} of {len(found)}")
            read, billed = await self._part(request, part, kind, directory / f"answer-{number}.json", number)
            usage = {unit: usage[unit] + billed[unit] for unit in usage}
            parts.append(read)
        return parts, usage

    async def _in_batch(
        self, request: Request, found: list[dict[str, Any]], kind: str, directory: Path
    ) -> tuple[list[dict[str, Any]], dict[str, int | float]]:
        """Have all parts read as a batch: the same."""
        read = [part | {"path": str(directory / f"answer-{n}.json")} for n, part in enumerate(found)]
        asked = {
            Part(
                Path(part["path"]), part["first"], part["pages"], part["size_bytes"], Path(into["path"]),
                TYPES[kind], kind in IMAGES,
            ): into
            for part, into in zip(found, read, strict=True)
        }  # fmt: skip

        async def check(part: Part) -> dict[str, int]:
            try:
                said: dict[str, int] = (await request.isolated(CHECK, asked[part]))["usage"]
            except RetryableError as error:
                if error.code == BAD:
                    raise AwayError(self._api.shown(error.message)) from None
                raise
            return said

        reading = Reading(self.remote, request, list(asked), check)
        try:
            billed = await reading.run()
        except FatalError:
            self.remote.leave(reading.jobs)
            raise
        self.remote.leave(reading.jobs)
        return read, {unit: sum(one[unit] for one in billed) for unit in ("pages", "bytes")}

    async def _part(
        self, request: Request, part: dict[str, Any], kind: str, to: Path, number: int
    ) -> tuple[dict[str, Any], dict[str, int]]:
        """Have a part read; the answer as a file, and what is billed for it."""
        section = self._section
        read = part | {"path": str(to)}
        # What has been read of a document is not paid for again if its other parts can wait a little.
        wait_s = section.wait_s if number > 1 else 0.0

        async def call() -> dict[str, Any]:
            async with AsyncExitStack() as stack:
                document = await self._document(request, part, kind, stack)
                body = {
                    "model": section.model, "document": document,
                    "include_image_base64": request.payload.images == "save",
                }  # fmt: skip
                try:
                    answer = await self._api.download(
                        "POST", OCR, to=to, most_bytes=section.answer_bytes, json=body
                    )
                except TooLargeError:
                    raise UnsuitedError(
                        "output_too_large", f"the answer of {NAME} has more than {section.answer_bytes} bytes"
                    ) from None
                self._api.judge(answer)
            try:
                return await request.isolated(CHECK, read)
            except RetryableError as error:
                if error.code == BAD:
                    raise AwayError(self._api.shown(error.message)) from None
                raise

        checked = await again(call, pause_s=section.retry_s, wait_s=wait_s)
        return read, checked["usage"]

    async def _document(
        self, request: Request, part: dict[str, Any], kind: str, stack: AsyncExitStack
    ) -> dict[str, Any]:
        """A document as the OCR takes it: within the call, or by the address of a file stored there."""
        path = Path(part["path"])
        if part["size_bytes"] <= self._section.inline_bytes:
            data = base64.b64encode(await asyncio.to_thread(path.read_bytes)).decode()
            address = f"data:{TYPES[kind]};base64,{data}"
        else:
            address = await stack.enter_async_context(
                self._api.stored(
                    path, name=f"document.{kind}", media_type=TYPES[kind], grace_s=request.attempt.grace_s
                )
            )
        if kind in IMAGES:
            return {"type": "image_url", "image_url": address}
        return {"type": "document_url", "document_url": address}

    async def stop(self, attempt: Attempt, remote_id: str) -> None:
        """Cancel the batches of a document.

        Raises:
            RetryableError: the API is away.
        """
        await self.remote.stop(attempt, remote_id)

    async def close(self) -> None:
        """Remove what was to be removed later, and end all connections."""
        await self.remote.close()
        await self._api.close()
