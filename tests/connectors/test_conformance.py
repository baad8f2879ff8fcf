from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pypdfium2 as pdfium
import pytest

from switchyard.services.connectors.convert.connector import ConvertConnector
from switchyard.services.connectors.protocol import FatalError, RetryableError
from switchyard.services.connectors.registry import CONNECTORS, payload_model
from switchyard.services.connectors.simulate import SimulateConnector
from tests.connectors.attempts import LocalAttempt
from tests.connectors.conformance import ConnectorConformance, Subject
from tests.documents.corpus import DOCUMENTS


def convert_attempt(directory: Path, document: Path) -> LocalAttempt:
    attempt = LocalAttempt(directory)
    attempt.payload = {"file": attempt.offer(document), "ocr": "never"}
    return attempt


def many_pages(directory: Path) -> LocalAttempt:
    """A document whose pages take far longer than a test has."""
    book = directory / "book.pdf"
    with pdfium.PdfDocument(DOCUMENTS / "invoice.pdf") as page, pdfium.PdfDocument.new() as pages:
        for _ in range(5000):
            pages.import_pages(page)
        pages.save(book)
    attempt = convert_attempt(directory, book)
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


def test_every_kind_is_covered_here() -> None:
    assert set(CONNECTORS) == {"simulate", "convert"}


def test_unknown_kind_has_no_payload_model() -> None:
    assert payload_model("of-a-user") is None


def test_payload_models_are_had_without_the_parsers() -> None:
    code = (
        "import sys\n"
        "from switchyard.services.connectors.registry import CONNECTORS, payload_model\n"
        "assert all(payload_model(kind) for kind in CONNECTORS)\n"
        "assert all(make(slots=1).capabilities() is not None for make in CONNECTORS.values())\n"
        "heavy = {'pypdfium2', 'openpyxl', 'lxml', 'PIL'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
