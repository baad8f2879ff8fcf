"""The converter as every connector, when engines elsewhere do the work."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from switchyard.services.connectors.convert.connector import ConvertConnector
from tests.connectors.attempts import LocalAttempt
from tests.connectors.conformance import ConnectorConformance, Subject
from tests.connectors.convert.bench import Bench, open_bench, pdf

ENDLESS = 7


def attempt(directory: Path, pages: int) -> LocalAttempt:
    made = LocalAttempt(directory)
    made.payload = {"file": made.offer(pdf(directory / "a.pdf", pages))}
    return made


def long_attempt(directory: Path, engine: str) -> LocalAttempt:
    made = attempt(directory, ENDLESS)
    made.awaited_stage = engine
    return made


def converter(bench: Bench, engine: str) -> ConvertConnector:
    """Without processes that stay warm for the next document, which look as if they were left behind."""
    made = bench.converter(engine)
    made._pool._most_idle = 0
    return made


def subject_of(bench: Bench, engine: str) -> Subject:
    return Subject(
        make=lambda: converter(bench, engine),
        work=lambda path: attempt(path, 3),
        long_work=lambda path: long_attempt(path, engine),
        bad_payloads=(
            {}, {"file": "x", "engine": "other"}, {"file": "x", "engine": engine, "formats": ["json"]},
            {"file": "none"},
        ),
    )  # fmt: skip


class TestMistral(ConnectorConformance):
    @pytest.fixture
    async def subject(self, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Subject]:
        async with open_bench(tmp_path_factory.mktemp("bench")) as bench:
            bench.mistral.endless_pages = ENDLESS
            yield subject_of(bench, "mistral")


class TestDocling(ConnectorConformance):
    @pytest.fixture
    async def subject(self, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Subject]:
        directory = tmp_path_factory.mktemp("bench")
        async with open_bench(directory) as bench:
            bench.docling.endless_bytes = pdf(directory / "endless.pdf", ENDLESS).stat().st_size
            yield subject_of(bench, "docling")
