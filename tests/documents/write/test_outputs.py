"""The forms that a converted document comes in."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from switchyard.services.connectors.convert.connector import ConvertConnector
from switchyard.services.connectors.protocol import FatalError
from switchyard.services.documents.write import markdown
from tests.connectors.attempts import LocalAttempt
from tests.documents.corpus import DOCUMENTS, needs_ocr


@pytest.fixture
async def connector() -> AsyncIterator[ConvertConnector]:
    connector = ConvertConnector(slots=1)
    yield connector
    await connector.close()


async def forms(
    connector: ConvertConnector, tmp_path: Path, name: str, **payload: Any
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The result of a conversion, and its artifacts by name."""
    attempt = LocalAttempt(tmp_path)
    attempt.payload = {"file": attempt.offer(DOCUMENTS / name), **payload}
    outcome = await connector.run(attempt)
    return outcome.result, attempt.saved


@pytest.mark.parametrize(
    "name", ["invoice.pdf", "docx_lists.docx", "pptx_chart.pptx", "xlsx_01.xlsx", "example_08.html"]
)
async def test_the_blocks_are_what_the_markdown_and_the_text_are_made_of(
    connector: ConvertConnector, tmp_path: Path, name: str
) -> None:
    result, saved = await forms(
        connector, tmp_path, name, formats=["json", "markdown", "text"], page_breaks=True
    )
    document = orjson.loads(saved["document.json"])
    assert document["format"] == result["format"]
    assert [page["page"] for page in document["pages"]] == list(range(1, result["pages"] + 1))
    written = result["markdown"] or saved["document.md"].decode()
    of_pages = re.split(r"^<!-- page \d+ -->$", written, flags=re.MULTILINE)
    texts = saved["document.txt"].decode().split("\f")
    assert len(of_pages) == len(texts) == result["pages"]
    for page, made, text in zip(document["pages"], of_pages, texts, strict=True):
        assert markdown.join(block["markdown"] for block in page["blocks"]) == made.strip("\n")
        for block in page["blocks"]:
            assert block["text"] in text
            assert "**" not in block["text"]
    assert result["json"]["name"] == "document.json"
    assert result["confidence"] is None


async def test_blocks_of_a_pdf_lie_on_the_page_from_top_to_bottom(
    connector: ConvertConnector, tmp_path: Path
) -> None:
    _, saved = await forms(connector, tmp_path, "invoice.pdf", formats=["json"])
    (page,) = orjson.loads(saved["document.json"])["pages"]
    boxes = [block["box"] for block in page["blocks"]]
    assert len(boxes) > 3
    for left, top, right, bottom in boxes:
        assert 0 <= left < right <= 1
        assert 0 <= top < bottom <= 1
    assert boxes[0][1] < boxes[-1][1]
    assert {"heading", "table"} <= {block["kind"] for block in page["blocks"]}


@needs_ocr
async def test_a_scan_reports_how_sure_its_reading_is(connector: ConvertConnector, tmp_path: Path) -> None:
    result, saved = await forms(connector, tmp_path, "phototest.tif", formats=["markdown", "json"])
    (page,) = orjson.loads(saved["document.json"])["pages"]
    assert page["ocr"]
    assert 60 < result["confidence"] <= 100
    assert result["confidence"] == pytest.approx(page["confidence"], abs=0.1)


async def test_only_what_is_asked_for_is_made(connector: ConvertConnector, tmp_path: Path) -> None:
    result, saved = await forms(connector, tmp_path, "docx_lists.docx", formats=["text"])
    assert set(saved) == {"document.txt"}
    assert (result["markdown"], result["artifact"], result["json"]) == (None, None, None)


@pytest.mark.parametrize("formats", [[], ["pdf"], "text"])
async def test_formats_that_are_none_are_refused_by_name(
    connector: ConvertConnector, tmp_path: Path, formats: Any
) -> None:
    with pytest.raises(FatalError, match="formats"):
        await forms(connector, tmp_path, "docx_lists.docx", formats=formats)


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("**bold** and *thin*", "bold and thin"),
        ("***both*** ~~gone~~", "both gone"),
        ("[a link](https://example.org/x_y) here", "a link here"),
        ("2*3*4 and snake_case", "2*3*4 and snake_case"),
        (r"1 \< 2 and \*no mark\*", "1 < 2 and *no mark*"),
        ("run `a * b` now", "run a * b now"),
    ],
)
def test_plain_text_has_no_marks(written: str, plain: str) -> None:
    assert markdown.plain(written) == plain
