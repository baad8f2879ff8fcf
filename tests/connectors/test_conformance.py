from __future__ import annotations

import asyncio
import contextlib
import itertools
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pypdfium2 as pdfium
import pytest

from switchyard.services.connectors.a1111.connector import A1111Connector
from switchyard.services.connectors.comfyui.connector import ComfyConnector
from switchyard.services.connectors.convert.connector import ConvertConnector
from switchyard.services.connectors.protocol import Attempt, FatalError, Outcome, RetryableError
from switchyard.services.connectors.registry import CONNECTORS, payload_model
from switchyard.services.connectors.simulate import SimulateConnector
from tests.connectors.a1111.double.server import A1111Double
from tests.connectors.a1111.payloads import drawn
from tests.connectors.a1111.payloads import section as a1111_section
from tests.connectors.a1111.payloads import slow as drawn_slowly
from tests.connectors.attempts import LocalAttempt
from tests.connectors.comfyui.double.server import ComfyDouble
from tests.connectors.comfyui.graphs import node, scaled, section, slow, through
from tests.connectors.conformance import ConnectorConformance, Subject
from tests.documents.corpus import DOCUMENTS


def convert_attempt(directory: Path, document: Path, **options: object) -> LocalAttempt:
    attempt = LocalAttempt(directory)
    attempt.payload = {"file": attempt.offer(document), "ocr": "never", **options}
    return attempt


def many_pages(directory: Path) -> LocalAttempt:
    """A document whose pages take far longer than a test has."""
    book = directory / "book.pdf"
    with pdfium.PdfDocument(DOCUMENTS / "invoice.pdf") as page, pdfium.PdfDocument.new() as pages:
        for _ in range(5000):
            pages.import_pages(page)
        pages.save(book)
    attempt = convert_attempt(directory, book, parts=False)
    attempt.awaited_stage = "pages"
    return attempt


class TestSimulate(ConnectorConformance):
    @pytest.fixture
    def subject(self) -> Subject:
        return Subject(
            make=lambda: SimulateConnector(slots=1),
            work=lambda path: LocalAttempt(path, {"duration_s": 0.01, "steps": 3}),
            long_work=lambda path: LocalAttempt(path, {"duration_s": 0, "fail": "hang"}),
            bad_payloads=({"duration_s": -1}, {"unknown": 1}, {"fail": "often"}),
            failures=(
                ({"duration_s": 0, "fail": "retryable"}, RetryableError, "simulated"),
                ({"duration_s": 0, "fail": "fatal"}, FatalError, "simulated"),
                ({"duration_s": 0, "fail": "crash"}, RetryableError, "handler_crashed"),
            ),
        )


class TestConvert(ConnectorConformance):
    @pytest.fixture
    def subject(self) -> Subject:
        return Subject(
            make=lambda: ConvertConnector(slots=1),
            work=lambda path: convert_attempt(path, DOCUMENTS / "invoice.pdf"),
            long_work=many_pages,
            bad_payloads=(
                {},
                {"file": "x", "unknown": 1},
                {"file": "x", "languages": ["-c"]},
                {"file": "none"},
            ),
        )


class StoppingComfy(ComfyConnector):
    """As under a worker over REST: what is cancelled is stopped at its server, too."""

    async def run(self, attempt: Attempt) -> Outcome:
        try:
            return await super().run(attempt)
        except asyncio.CancelledError:
            with contextlib.suppress(RetryableError):
                await self.stop(attempt, "")
            raise


class TestComfyui(ConnectorConformance):
    @pytest.fixture
    async def subject(self) -> AsyncIterator[Subject]:
        """Each instance has a server of its own: one does one prompt after the other."""
        async with contextlib.AsyncExitStack() as stack:
            urls = itertools.cycle(
                [await stack.enter_async_context(ComfyDouble().running()) for _ in range(2)]
            )
            numbers = itertools.count()

            def long_work(path: Path) -> LocalAttempt:
                job = f"job-{next(numbers)}"
                return LocalAttempt(path, {"prompt": slow()}, job_id=job, awaited_stage="SwitchyardSlow")

            yield Subject(
                make=lambda: StoppingComfy(section(next(urls))),
                work=lambda path: LocalAttempt(path, {"prompt": scaled(5)}),
                long_work=long_work,
                bad_payloads=(
                    {},
                    {"prompt": {}},
                    {"prompt": {"1": {"class_type": "A"}}},
                    {"prompt": scaled(), "files": {"photo.png": "x"}},
                    {"prompt": scaled(), "outputs": ["9"]},
                    {"prompt": {"1": node("LoadImage", image="a.png")}, "files": {"a.png": "none"}},
                ),
                failures=(
                    ({"prompt": {"1": node("NoSuchNode")}}, FatalError, "invalid_graph"),
                    ({"prompt": through("SwitchyardError", message="m")}, RetryableError, "node_failed"),
                ),
            )


class TestA1111(ConnectorConformance):
    @pytest.fixture
    async def subject(self) -> AsyncIterator[Subject]:
        """Each instance has a server of its own: one does one after the other."""
        async with contextlib.AsyncExitStack() as stack:
            doubles = [A1111Double() for _ in range(2)]
            for double in doubles:
                double.execution.step_s = 0.02
            urls = itertools.cycle([await stack.enter_async_context(each.running()) for each in doubles])
            numbers = itertools.count()

            def long_work(path: Path) -> LocalAttempt:
                job = f"job-{next(numbers)}"
                return LocalAttempt(path, drawn_slowly(), job_id=job, awaited_stage="generating")

            yield Subject(
                make=lambda: A1111Connector(a1111_section(next(urls))),
                work=lambda path: LocalAttempt(path, drawn()),
                long_work=long_work,
                bad_payloads=(
                    {"task": "draw"},
                    {"task": "upscale"},
                    {"prompt": 1},
                    {"unknown": 1},
                    {"task": "img2img", "init_images": ["none"]},
                    {"task": "interrogate", "image": "none"},
                ),
                failures=(
                    (drawn(sampler_name="none"), FatalError, "invalid_parameters"),
                    (drawn(script_name="none"), FatalError, "invalid_parameters"),
                    (
                        drawn(override_settings={"sd_model_checkpoint": "none"}),
                        RetryableError,
                        "model_not_found",
                    ),
                ),
            )


def test_every_kind_is_covered_here() -> None:
    assert set(CONNECTORS) == {"simulate", "convert", "comfyui", "a1111"}


def test_unknown_kind_has_no_payload_model() -> None:
    assert payload_model("of-a-user") is None


def test_payload_models_are_had_without_the_parsers() -> None:
    code = (
        "import sys\n"
        "from switchyard.services.connectors.registry import CONNECTORS, NEED_SETTINGS, payload_model\n"
        "assert all(payload_model(kind) for kind in CONNECTORS)\n"
        "made = [make for kind, make in CONNECTORS.items() if kind not in NEED_SETTINGS]\n"
        "assert all(make(slots=1).capabilities() is not None for make in made)\n"
        "heavy = {'pypdfium2', 'openpyxl', 'lxml', 'PIL'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
