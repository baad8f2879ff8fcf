"""A converter with engines that are doubles, and documents for it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pypdfium2 as pdfium

from switchyard.connectors import Outcome
from switchyard.services.connectors.convert.connector import ConvertConnector
from switchyard.services.connectors.convert.section import ConvertSection
from tests.connectors.attempts import LocalAttempt
from tests.connectors.convert.double import docling, mistral
from tests.connectors.convert.double.docling import DoclingDouble
from tests.connectors.convert.double.mistral import MistralDouble

DEADLINE_S = 60


def pdf(path: Path, pages: int, *, empty_bytes: int = 0) -> Path:
    """A PDF whose pages are as wide as their number says, from 101."""
    with pdfium.PdfDocument.new() as document:
        for number in range(pages):
            document.new_page(101 + number, 200)
        document.save(path)
    if empty_bytes:
        with path.open("ab") as file:
            file.write(b"%" * empty_bytes)
    return path


class Bench:
    """The doubles, and converters that ask them."""

    def __init__(self, directory: Path, mistral_url: str, docling_url: str) -> None:
        self.mistral = MistralDouble()
        self.docling = DoclingDouble()
        self.directory = directory
        self.mistral_url = mistral_url
        self.docling_url = docling_url
        self.changes = 0
        self._made: list[ConvertConnector] = []
        self._numbers = itertools.count()

    def converter(self, *engines: str, **more: Any) -> ConvertConnector:
        patient = {"retry_s": 0.01, "answer_s": 20.0}
        said = {
            "kind": "convert", "id": "convert", "slots": 2, "engines": engines or ("mistral",), **more,
            "mistral": {
                "url": self.mistral_url, "api_key": mistral.KEY, **patient, **more.get("mistral", {}),
            },
            "docling": {
                "url": self.docling_url, "api_key": docling.KEY, "poll_s": 0.01, **patient,
                **more.get("docling", {}),
            },
        }  # fmt: skip
        made = ConvertConnector.make(ConvertSection.model_validate(said))
        made.watch(self._changed)
        self._made.append(made)
        return made

    def _changed(self) -> None:
        self.changes += 1

    def attempt(self, document: Path, **payload: Any) -> LocalAttempt:
        directory = self.directory / f"attempt-{next(self._numbers)}"
        directory.mkdir()
        attempt = LocalAttempt(directory)
        attempt.payload = {"file": attempt.offer(document), **payload}
        return attempt

    async def run(self, converter: ConvertConnector, document: Path, **payload: Any) -> Outcome:
        async with asyncio.timeout(DEADLINE_S):
            return await converter.run(self.attempt(document, **payload))

    async def close(self) -> None:
        for each in self._made:
            await each.close()


@contextlib.asynccontextmanager
async def open_bench(directory: Path) -> AsyncIterator[Bench]:
    bench = Bench(directory, "", "")
    async with bench.mistral.running() as bench.mistral_url, bench.docling.running() as bench.docling_url:
        try:
            yield bench
        finally:
            await bench.close()
