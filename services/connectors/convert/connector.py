"""The connector of kind `convert`, as the worker sees it: no parser is imported here."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, Field

from switchyard.services.connectors.isolation.calls import run_isolated
from switchyard.services.connectors.isolation.processes import Limits, ProcessCrashed, ProcessPool
from switchyard.services.connectors.payload import FileId, Payload, parse
from switchyard.services.connectors.protocol import Attempt, FatalError, Outcome, RetryableError
from switchyard.services.connectors.sections import InProcesses
from switchyard.services.documents.model.document import Ocr
from switchyard.services.documents.model.scripts import Form
from switchyard.services.documents.ocr.machine.tesseract import installed
from switchyard.services.documents.sniff import FORMATS
from switchyard.services.documents.write.outputs import MEDIA_TYPES, NAMES
from switchyard.services.settings import GIB

INLINE_BYTES: Final = 64 * 1024
MAX_PAGES: Final = 10_000
TIMEOUT_S: Final = 3_600.0  # 1,000 scanned pages at 3 s each, and some
# What a library dies of by its own doing; a kill comes from outside and may not come again.
FAULTS: Final = {signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP}


OutputFormat = Literal["markdown", "json", "text"]
Language = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{1,31}$")]


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
    max_pages: Annotated[int, Field(ge=1, le=MAX_PAGES)] | None = None


class ConvertSection(InProcesses):
    """The settings of a converter.

    Args:
        timeout_s: for one document.
    """

    timeout_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = TIMEOUT_S


class ConvertConnector:
    """Converts documents to Markdown in child processes.

    Args:
        slots: how many attempts it runs at once; more processes than processors do not help.
        timeout_s: for one document.
        memory_bytes: for one document, and again for the OCR program.
        id: that of the instance.
    """

    kind = "convert"
    payload_model: type[BaseModel] = ConvertPayload
    section_model = ConvertSection

    def __init__(
        self,
        *,
        slots: int,
        memory_bytes: int = GIB,
        timeout_s: float = TIMEOUT_S,
        id: str = kind,  # noqa: A002 - as others call it
    ) -> None:
        self.id = id
        self.slots = slots
        self._timeout_s = timeout_s
        self._cores: TemporaryDirectory[str] | None = None  # of the first document on
        # No document runs code of its own, so a child may convert for one tenant after another.
        self._pool = ProcessPool(
            size=min(slots, os.cpu_count() or 1), limits=Limits(memory_bytes, one_core=True), name="convert"
        )

    @classmethod
    def make(cls, section: ConvertSection, /) -> ConvertConnector:
        """An instance."""
        return cls(id=section.id, timeout_s=section.timeout_s, **section.limits())

    def capabilities(self) -> dict[str, Any]:
        """The formats, and what OCR there is."""
        ocr = installed()
        return {
            "convert": {
                "formats": list(FORMATS),
                "ocr": ocr is not None,
                "ocr_version": ocr.version if ocr else None,
                "ocr_languages": list(ocr.languages) if ocr else [],
            }
        }

    def watch(self, changed: Callable[[], None]) -> None:
        """What is installed is looked for once."""

    async def run(self, attempt: Attempt) -> Outcome:
        """Fetch the file, convert it page by page, and save what is too large for a result."""
        payload = parse(ConvertPayload, attempt.payload)
        source = attempt.scratch / "source"
        formats = list(dict.fromkeys(payload.formats))
        if self._cores is None:
            self._cores = TemporaryDirectory(prefix="switchyard-ocr-")
        attempt.progress(0.0, stage="fetch", message="fetching the file")
        file = await attempt.fetch(payload.file, source)
        made = await self._converted(
            attempt,
            {
                "source": str(source),
                "directory": str(attempt.scratch),
                "formats": formats,
                "name": file["name"],
                "media_type": file["type"],
                "ocr": payload.ocr,
                "languages": payload.languages,
                "page_breaks": payload.page_breaks,
                "max_pages": payload.max_pages or MAX_PAGES,
                "images": payload.images,
                "scripts": payload.scripts,
                "comments": payload.comments,
                "cores": self._cores.name,
            },
        )
        text = None
        saved: dict[str, dict[str, Any] | None] = dict.fromkeys(NAMES)
        for name in formats:
            target = attempt.scratch / NAMES[name]
            if name == "markdown" and (await asyncio.to_thread(target.stat)).st_size <= INLINE_BYTES:
                text = await asyncio.to_thread(target.read_text, encoding="utf-8")
            else:
                saved[name] = await attempt.save(NAMES[name], target, media_type=MEDIA_TYPES[name])
        images = [
            await attempt.save(image["name"], attempt.scratch / image["name"], media_type=image["type"])
            for image in made["images"]
        ]
        return Outcome(
            {
                "markdown": text,
                "artifact": saved["markdown"],
                "json": saved["json"],
                "text": saved["text"],
                "pages": made["pages"],
                "ocr_pages": made["ocr_pages"],
                "running_lines": made["running_lines"],
                "confidence": made["confidence"],
                "format": made["format"],
                "images": [listed | image for listed, image in zip(made["images"], images, strict=True)],
                "warnings": made["warnings"],
            },
            artifacts=(*(artifact for artifact in saved.values() if artifact is not None), *images),
            usage={"pages": made["pages"]},
        )

    async def _converted(self, attempt: Attempt, arguments: dict[str, Any]) -> dict[str, Any]:
        """What the conversion reports; a crash that the file causes would come again, and is fatal."""
        try:
            made: dict[str, Any] = await run_isolated(
                self._pool,
                "switchyard.services.connectors.convert.engine:convert",
                arguments,
                attempt=attempt,
                timeout_s=self._timeout_s,
                on_progress=lambda done: attempt.progress(
                    done["page"] / done["pages"],
                    stage="pages",
                    message=f"page {done['page']} of {done['pages']}",
                ),
            )
        except RetryableError as error:
            crash = error.__cause__
            if isinstance(crash, ProcessCrashed) and -crash.returncode in FAULTS:
                fault = signal.Signals(-crash.returncode).name
                raise FatalError(
                    "reader_crashed",
                    f"reading the file made the process crash ({fault}); it is damaged or malicious",
                ) from error
            raise
        return made

    async def close(self) -> None:
        """End the child processes."""
        await self._pool.close()
        if self._cores is not None:
            await asyncio.to_thread(self._cores.cleanup)
