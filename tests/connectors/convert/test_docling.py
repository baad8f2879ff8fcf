"""Documents converted by a docling-serve, judged by what their results say."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from switchyard.services.connectors.protocol import BusyError, FatalError, RetryableError
from tests.connectors.convert.bench import DEADLINE_S, Bench, pdf
from tests.connectors.convert.double import docling
from tests.connectors.convert.double.serving import answering, endless, saying
from tests.documents.corpus import DOCUMENTS

BEGIN, POLL, RESULT = "/v1/convert/file/async", "/v1/status/poll/task-1", "/v1/result/task-1"


async def converted(bench: Bench, document: Path, **payload: Any) -> Any:
    return (await bench.run(bench.converter("docling"), document, **payload)).result


async def test_a_document_is_converted(bench: Bench, tmp_path: Path) -> None:
    outcome = await bench.run(bench.converter("docling"), pdf(tmp_path / "secret name.pdf", 3))
    assert outcome.result["markdown"].count("# Page") == 3
    assert "page break" not in outcome.result["markdown"]
    assert (outcome.result["engine"], outcome.result["pages"]) == ("docling", 3)
    assert outcome.result["ocr_pages"] is None
    assert outcome.result["warnings"] == []
    assert outcome.usage == {"pages": 3}
    assert bench.docling.names == ["document.pdf"]
    assert bench.docling.asked == [f"POST {BEGIN}", f"GET {POLL}", f"GET {POLL}", f"GET {RESULT}"]


async def test_a_payload_becomes_options(bench: Bench, tmp_path: Path) -> None:
    converter = bench.converter("docling", docling={"options": {"table_mode": "fast", "do_ocr": False}})
    source = pdf(tmp_path / "a.pdf", 3)
    attempt = bench.attempt(source, ocr="always", languages=["deu", "eng"], formats=["text"])
    result = (await converter.run(attempt)).result
    form = bench.docling.forms[-1]
    assert form["to_formats"] == ["md", "text"]
    assert form["ocr_lang"] == ["deu", "eng"]
    assert [form[name][0] for name in ("target_type", "table_mode", "do_ocr", "force_ocr")] == [
        "inbody", "fast", "true", "true",
    ]  # fmt: skip
    assert result["markdown"] is None
    assert attempt.saved["document.txt"] == b"Page 1"
    assert result["ocr_pages"] == 3


async def test_images_become_artifacts_and_pages_are_numbered(bench: Bench, tmp_path: Path) -> None:
    result = await converted(bench, pdf(tmp_path / "a.pdf", 3), images="save", page_breaks=True)
    assert result["markdown"].count("![Image](image-1.jpg)") == 3
    assert "data:" not in result["markdown"]
    assert [image["name"] for image in result["images"]] == ["image-1.jpg"]
    assert "<!-- page 3 -->" in result["markdown"]
    bench.docling.pages = 2
    result = await converted(bench, pdf(tmp_path / "b.pdf", 3), page_breaks=True)
    assert result["markdown"].count("# Page") == 2
    assert result["pages"] == 3
    assert result["warnings"] == ["the engine has marked 2 pages of 3: none is numbered"]


async def test_a_server_without_asynchronous_routes_is_asked_otherwise(bench: Bench, tmp_path: Path) -> None:
    bench.docling.waits = False
    converter = bench.converter("docling")
    for _ in range(2):
        assert (await bench.run(converter, pdf(tmp_path / "a.pdf", 3))).result["pages"] == 3
    assert bench.docling.asked == [f"POST {BEGIN}", "POST /v1/convert/file", "POST /v1/convert/file"]


async def test_a_page_of_html_is_converted(bench: Bench) -> None:
    bench.docling.pages = 1
    assert (await converted(bench, DOCUMENTS / "example_03.html"))["format"] == "html"


async def test_errors_of_a_part_are_warnings(bench: Bench, tmp_path: Path) -> None:
    bench.docling.status = "partial_success"
    bench.docling.errors = [{"error_message": "bad\nfont", "page_no": 2}, "plain", 7]
    assert (await converted(bench, pdf(tmp_path / "a.pdf", 3)))["warnings"] == [
        "page 2: bad font",
        "plain",
        "7",
    ]
    bench.docling.errors = []
    (warning,) = (await converted(bench, pdf(tmp_path / "a.pdf", 3)))["warnings"]
    assert "only a part" in warning


async def test_a_result_that_has_failed_is_the_documents_end(bench: Bench, tmp_path: Path) -> None:
    bench.docling.status, bench.docling.errors = "failure", [{"error_message": "not a valid PDF"}]
    with pytest.raises(FatalError) as refused:
        await bench.run(bench.converter("docling", "local"), pdf(tmp_path / "a.pdf", 3))
    assert refused.value.code == "document_refused"
    assert "not a valid PDF" in refused.value.message


async def test_a_server_without_models_is_named(bench: Bench, tmp_path: Path) -> None:
    bench.docling.status, bench.docling.errors = "failure", [docling.NO_LAYOUT]
    converter = bench.converter("docling", engine_failures=1)
    with pytest.raises(RetryableError) as failed:
        await bench.run(converter, pdf(tmp_path / "a.pdf", 3))
    assert "has no layout model" in failed.value.message
    assert "no layout model" in converter.capabilities()["convert"]["engines_down"]["docling"]
    with pytest.raises(BusyError):
        await bench.run(converter, pdf(tmp_path / "a.pdf", 3))
    result = (await bench.run(bench.converter("docling", "local"), pdf(tmp_path / "a.pdf", 3))).result
    assert result["engine"] == "local"
    assert "no layout model" in result["warnings"][-1]


async def test_a_task_that_has_failed_or_is_lost_is_tried_again(bench: Bench, tmp_path: Path) -> None:
    bench.docling.task_status = "failure"
    with pytest.raises(RetryableError) as failed:
        await bench.run(bench.converter("docling"), pdf(tmp_path / "a.pdf", 3))
    assert "the worker died" in failed.value.message
    bench.docling.task_status = "success"
    bench.docling.instead(POLL, answering({"detail": "Task not found."}, 404))
    bench.docling.instead(RESULT, answering({"detail": "Task not found."}, 404))
    assert (await converted(bench, pdf(tmp_path / "a.pdf", 3)))["pages"] == 3


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b'{"status": "success", "document": null}', b'{"status": "done", "document": {}}', b"null"],
)
async def test_an_answer_that_is_none_is_a_failure_of_the_engine(
    bench: Bench, tmp_path: Path, body: bytes
) -> None:
    bench.docling.instead(RESULT, saying(body))
    with pytest.raises(RetryableError) as failed:
        await bench.run(bench.converter("docling"), pdf(tmp_path / "a.pdf", 3))
    assert failed.value.code == "engine_failed"


@pytest.mark.parametrize("task", [{}, {"task_id": 1}, {"task_id": "a/../b", "task_status": None}])
async def test_a_task_that_is_none_is_a_failure_of_the_engine(
    bench: Bench, tmp_path: Path, task: dict[str, Any]
) -> None:
    bench.docling.instead(BEGIN, *[answering(task)] * 3)
    with pytest.raises(RetryableError) as failed:
        await bench.run(bench.converter("docling"), pdf(tmp_path / "a.pdf", 3))
    assert failed.value.code == "engine_failed"


async def test_an_answer_of_a_gigabyte_is_not_taken(bench: Bench, tmp_path: Path) -> None:
    bench.docling.instead(RESULT, endless(1024))
    with pytest.raises(FatalError) as refused:
        await bench.run(
            bench.converter("docling", docling={"answer_bytes": 10**6}), pdf(tmp_path / "a.pdf", 3)
        )
    assert refused.value.code == "output_too_large"


async def test_a_look_that_fails_does_not_begin_again(bench: Bench, tmp_path: Path) -> None:
    bench.docling.instead(POLL, answering({}, 502), answering({}, 429, {"Retry-After": "1"}))
    bench.docling.instead(RESULT, answering({}, 500))
    assert (await converted(bench, pdf(tmp_path / "a.pdf", 3)))["pages"] == 3
    assert len(bench.docling.forms) == 1


async def test_a_key_that_is_not_taken_is_named(bench: Bench, tmp_path: Path) -> None:
    converter = bench.converter("docling", docling={"api_key": "wrong"})
    with pytest.raises(RetryableError) as failed:
        await bench.run(converter, pdf(tmp_path / "a.pdf", 3))
    assert "does not take the key" in failed.value.message
    assert bench.docling.asked == [f"POST {BEGIN}"]


async def test_a_cancelled_call_ends(bench: Bench, tmp_path: Path) -> None:
    bench.docling.instead(POLL, bench.docling.hold)
    converter = bench.converter("docling")
    async with asyncio.timeout(DEADLINE_S):
        task = asyncio.create_task(converter.run(bench.attempt(pdf(tmp_path / "a.pdf", 3))))
        await bench.docling.held.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert (await bench.run(converter, pdf(tmp_path / "a.pdf", 3))).result["pages"] == 3
