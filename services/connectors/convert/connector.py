"""The connector of kind `convert`, as the worker sees it: no parser is imported here."""

from __future__ import annotations

import asyncio
import hmac
import os
import signal
from collections.abc import Callable
from typing import Any, Final

from pydantic import BaseModel

from switchyard.services.connectors.convert import parts
from switchyard.services.connectors.convert.engines.choice import Engines
from switchyard.services.connectors.convert.engines.docling.engine import Docling
from switchyard.services.connectors.convert.engines.local import Local
from switchyard.services.connectors.convert.engines.mistral.engine import Mistral
from switchyard.services.connectors.convert.engines.protocol import Engine, Isolated, Made, Request
from switchyard.services.connectors.convert.payload import ConvertPayload
from switchyard.services.connectors.convert.section import MISTRAL_KEY, TIMEOUT_S, ConvertSection
from switchyard.services.connectors.isolation.calls import run_isolated
from switchyard.services.connectors.isolation.processes import Limits, ProcessCrashed, ProcessPool
from switchyard.services.connectors.payload import parse
from switchyard.services.connectors.protocol import (
    Attempt,
    Backend,
    FatalError,
    Outcome,
    RetryableError,
)
from switchyard.services.documents.ocr.machine.tesseract import installed
from switchyard.services.documents.sniff import FORMATS
from switchyard.services.documents.write.outputs import MEDIA_TYPES, NAMES
from switchyard.services.settings import GIB

BATCHES_AT: Final = "mistral"
"""The engine that has a batch API."""
INLINE_BYTES: Final = 64 * 1024
# What a library dies of by its own doing; a kill comes from outside and may not come again.
FAULTS: Final = {signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP}


class ConvertConnector:
    """Converts documents to Markdown: in child processes, or by engines elsewhere.

    Args:
        slots: how many attempts it runs at once; more processes than processors do not help.
        timeout_s: for one document.
        memory_bytes: for one document, and again for the OCR program.
        id: that of the instance.
        section: the settings of its engines; the converter's own alone without.
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
        section: ConvertSection | None = None,
    ) -> None:
        section = section or ConvertSection(kind=self.kind, id=id, slots=slots)
        self.id = id
        self._slots = slots
        self._mistral = section.mistral if "mistral" in section.engines else None
        self._timeout_s = timeout_s
        self._split_over, self._part_pages = section.split_over, section.part_pages
        self._changed: Callable[[], None] = _nobody
        self._engines = Engines(
            [_engine(name, section) for name in section.engines],
            failures=section.engine_failures, pause_s=section.engine_pause_s, timeout_s=timeout_s,
            changed=self._has_changed,
        )  # fmt: skip
        # No document runs code of its own, so a child may convert for one tenant after another.
        self._pool = ProcessPool(
            size=min(slots, os.cpu_count() or 1), limits=Limits(memory_bytes, one_core=True), name="convert"
        )

    @classmethod
    def make(cls, section: ConvertSection, /) -> ConvertConnector:
        """An instance; one whose documents may go by a batch API leaves them to that."""
        can_batch = "mistral" in section.engines and section.mistral and section.mistral.batch != "never"
        made = BatchingConvertConnector if can_batch else cls
        return made(id=section.id, timeout_s=section.timeout_s, section=section, **section.limits())

    @property
    def slots(self) -> int:
        """Attempts at once; none while every engine is left alone."""
        return self._slots if self._engines.usable() else 0

    def capabilities(self) -> dict[str, Any]:
        """The formats, the engines that may be asked now, and what OCR there is."""
        ocr = installed()
        down = self._engines.down()
        return {
            "convert": {
                "formats": list(FORMATS),
                "engines": self._engines.usable(),
                **({"engines_down": down} if down else {}),
                "ocr": ocr is not None,
                "ocr_version": ocr.version if ocr else None,
                "ocr_languages": list(ocr.languages) if ocr else [],
            }
        }

    def watch(self, changed: Callable[[], None]) -> None:
        """Call `changed` when an engine is left alone, or may be asked again."""
        self._changed = changed

    def _has_changed(self) -> None:
        self._changed()

    async def run(self, attempt: Attempt) -> Outcome:
        """Fetch the file, have an engine convert it, and save what is too large for a result."""
        return await self._run(attempt, None)

    async def _run(self, attempt: Attempt, attached: str | None) -> Outcome:
        payload = parse(ConvertPayload, attempt.payload)
        source = attempt.scratch / "source"
        formats: list[str] = list(dict.fromkeys(payload.formats))
        if isinstance(attempt, parts.Spawning) and attempt.joins:
            here = self._engines.here()
            request = Request(attempt, payload, source, "", "", formats, self._isolated(attempt))
            made = await here.join(request, await parts.gathered(request, attempt.parts))
            return await self._outcome(attempt, formats, here.name, made)
        attempt.progress(0.0, stage="fetch", message="fetching the file")
        file = await attempt.fetch(payload.file, source)
        in_batch = self._mistral is not None and self._mistral.in_batch(asked=payload.batch)
        request = Request(
            attempt, payload, source, file["name"], file["type"], formats, self._isolated(attempt),
            in_batch=in_batch or attached is not None, attached=attached,
        )  # fmt: skip
        if attached is not None:
            engine, made = await self._engines.attached(BATCHES_AT, request)
            return await self._outcome(attempt, formats, engine, made, sizes=payload.sizes)
        if payload.part is not None:
            path = await self._engines.here().read_part(request, payload.part)
            pages = await attempt.save(path.name, path, media_type=parts.MEDIA_TYPE)
            return Outcome(payload.part.model_dump(), artifacts=(pages,))
        request.split_over = parts.split_over(attempt, payload, pages=self._part_pages, over=self._split_over)
        engine, made = await self._engines.convert(request)
        if made.said.get("split") and isinstance(attempt, parts.Spawning):
            return await parts.planned(attempt, payload, made.said["pages"], pages=self._part_pages)
        return await self._outcome(attempt, formats, engine, made, sizes=payload.sizes)

    async def _outcome(
        self, attempt: Attempt, formats: list[str], engine: str, made: Made, *, sizes: bool = False
    ) -> Outcome:
        said = made.said
        text = None
        saved: dict[str, dict[str, Any] | None] = dict.fromkeys(NAMES)
        for name in formats:
            target = made.directory / NAMES[name]
            if name == "markdown" and (await asyncio.to_thread(target.stat)).st_size <= INLINE_BYTES:
                text = await asyncio.to_thread(target.read_text, encoding="utf-8")
            else:
                saved[name] = await attempt.save(NAMES[name], target, media_type=MEDIA_TYPES[name])
        images = [
            await attempt.save(image["name"], made.directory / image["name"], media_type=image["type"])
            for image in said["images"]
        ]
        return Outcome(
            {
                "markdown": text,
                "artifact": saved["markdown"],
                "json": saved["json"],
                "text": saved["text"],
                "engine": engine,
                "pages": said["pages"],
                "ocr_pages": said["ocr_pages"],
                "running_lines": said["running_lines"],
                "confidence": said["confidence"],
                "format": said["format"],
                "images": [listed | image for listed, image in zip(said["images"], images, strict=True)],
                "warnings": said["warnings"],
                **({"page_sizes": said.get("page_sizes", [])} if sizes else {}),
            },
            artifacts=(*(artifact for artifact in saved.values() if artifact is not None), *images),
            usage=made.usage,
        )

    def _isolated(self, attempt: Attempt) -> Isolated:
        """Calls functions in child processes; a crash that the file causes would come again, and is fatal."""

        async def call(
            function: str, arguments: dict[str, Any], on_progress: Callable[[dict[str, Any]], None] = _unheard
        ) -> dict[str, Any]:
            try:
                made: dict[str, Any] = await run_isolated(
                    self._pool, function, arguments,
                    attempt=attempt, timeout_s=self._timeout_s, on_progress=on_progress,
                )  # fmt: skip
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

        return call

    async def close(self) -> None:
        """End the child processes, and all connections."""
        await self._pool.close()
        await self._engines.close()


class BatchingConvertConnector(ConvertConnector):
    """One that may leave documents to Mistral's batch API, whose batches any worker with the key sees."""

    def __init__(self, *, section: ConvertSection, **more: Any) -> None:
        super().__init__(section=section, **more)
        mistral = section.mistral
        if mistral is None:
            raise ValueError("mistral: missing, but required")
        place = hmac.digest(mistral.key(MISTRAL_KEY).encode(), mistral.url.encode(), "sha256").hex()[:16]
        self.backend = Backend("mistral", place)

    async def attach(self, attempt: Attempt, remote_id: str) -> Outcome:
        """Watch the batch of a document to its end."""
        return await self._run(attempt, remote_id)

    async def stop(self, attempt: Attempt, remote_id: str) -> None:
        """Cancel the batch of a document, and remove what it left there."""
        await self._engines.stop(BATCHES_AT, attempt, remote_id)


def _engine(name: str, section: ConvertSection) -> Engine:
    match name:
        case "mistral" if section.mistral is not None:
            return Mistral(section.mistral)
        case "docling" if section.docling is not None:
            return Docling(section.docling)
        case _:
            return Local()


def _nobody() -> None:
    """Nobody hears of changes yet."""


def _unheard(_done: dict[str, Any]) -> None:
    """Nobody hears of this progress."""
