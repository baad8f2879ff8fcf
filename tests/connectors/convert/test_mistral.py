"""Documents read by Mistral's OCR: what comes out, what is billed, and what is wrong with answers."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from switchyard.services.connectors.protocol import BusyError, FatalError, RetryableError
from tests.connectors.convert.bench import DEADLINE_S, Bench, pdf
from tests.connectors.convert.double import mistral
from tests.connectors.convert.double.serving import answering, cut, endless, saying
from tests.documents.corpus import DOCUMENTS
from tests.documents.test_hostile_files import encrypted_pdf

OCR = "/v1/ocr"


async def test_a_pdf_is_read(bench: Bench, tmp_path: Path) -> None:
    source = pdf(tmp_path / "a.pdf", 2)
    outcome = await bench.run(bench.converter(), source)
    assert outcome.result["markdown"].split() == ["#", "Page", "101", "#", "Page", "102"]
    assert outcome.result["engine"] == "mistral"
    assert (outcome.result["pages"], outcome.result["ocr_pages"]) == (2, 2)
    assert outcome.result["warnings"] == []
    assert outcome.usage == {"pages": 2, "bytes": source.stat().st_size}
    assert bench.mistral.asked == ["POST /v1/ocr"]


async def test_images_are_artifacts_that_the_markdown_refers_to(bench: Bench, tmp_path: Path) -> None:
    attempt = bench.attempt(pdf(tmp_path / "a.pdf", 2), images="save", page_breaks=True)
    result = (await bench.converter().run(attempt)).result
    assert "![](image-1.jpg)" in result["markdown"]
    assert "\n<!-- page 2 -->\n" in result["markdown"]
    (image,) = result["images"]  # both pages have the same
    assert image["box"] == [0.1, 0.1, 0.3, 0.2]
    assert (image["name"], image["page"], image["width"], image["height"]) == ("image-1.jpg", 1, 64, 48)
    assert attempt.saved["image-1.jpg"] == base64.b64decode(mistral.picture().partition(",")[2])


async def test_a_large_document_is_stored_there_and_removed(bench: Bench, tmp_path: Path) -> None:
    converter = bench.converter(mistral={"inline_bytes": 0})
    await bench.run(converter, pdf(tmp_path / "secret name.pdf", 1))
    assert bench.mistral.asked == [
        "POST /v1/files", "GET /v1/files/file-1/url", "POST /v1/ocr", "DELETE /v1/files/file-1",
    ]  # fmt: skip
    assert bench.mistral.files == {}
    assert bench.mistral.names == ["document.pdf"]


async def test_a_picture_is_read(bench: Bench, tmp_path: Path) -> None:
    Image.new("RGB", (64, 48), "red").save(tmp_path / "a.png")
    result = (await bench.run(bench.converter(), tmp_path / "a.png")).result
    assert (result["format"], result["pages"]) == ("png", 1)


async def test_a_pdf_of_1200_pages_is_read_in_parts(bench: Bench, tmp_path: Path) -> None:
    outcome = await bench.run(bench.converter(), pdf(tmp_path / "a.pdf", 1_200))
    assert bench.mistral.read == [1_000, 200]
    assert outcome.usage["pages"] == outcome.result["pages"] == 1_200
    assert outcome.result["markdown"].split()[2::3] == [str(101 + at) for at in range(1_200)]


async def test_a_pdf_of_too_many_bytes_is_read_in_parts(bench: Bench, tmp_path: Path) -> None:
    source = pdf(tmp_path / "a.pdf", 40)
    most = source.stat().st_size // 3
    outcome = await bench.run(bench.converter(mistral={"max_bytes": most}), source)
    assert len(bench.mistral.read) > 1
    assert max(bench.mistral.sizes) <= most
    assert outcome.result["markdown"].split()[2::3] == [str(101 + at) for at in range(40)]
    with pytest.raises(FatalError) as refused:
        await bench.run(bench.converter(mistral={"max_bytes": 100}), source)
    assert refused.value.code == "page_too_large"


async def test_a_document_that_cannot_be_read_is_never_sent(bench: Bench, tmp_path: Path) -> None:
    converter = bench.converter()
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n%%EOF")
    (tmp_path / "locked.pdf").write_bytes(encrypted_pdf())
    for document, payload, code in (
        (tmp_path / "locked.pdf", {}, "encrypted_file"),
        (tmp_path / "a.pdf", {}, "corrupt_file"),
        (pdf(tmp_path / "b.pdf", 3), {"max_pages": 2}, "too_many_pages"),
        (DOCUMENTS / "example_03.html", {}, "unsupported_format"),
    ):  # fmt: skip
        with pytest.raises(FatalError) as refused:
            await bench.run(converter, document, **payload)
        assert refused.value.code == code
    assert bench.mistral.asked == []


# --- Pages


async def converted(bench: Bench, tmp_path: Path, pages: list[dict[str, Any]], count: int = 3) -> Any:
    bench.mistral.rewrite = lambda body: {**body, "pages": pages}
    return (await bench.run(bench.converter(), pdf(tmp_path / "a.pdf", count))).result


async def test_pages_come_in_their_order(bench: Bench, tmp_path: Path) -> None:
    result = await converted(bench, tmp_path, [mistral.page(at, f"p{at}") for at in (2, 0, 1)])
    assert result["markdown"].split()[2::3] == ["p0", "p1", "p2"]
    assert result["warnings"] == []


async def test_pages_that_are_counted_from_1_are_the_same(bench: Bench, tmp_path: Path) -> None:
    result = await converted(bench, tmp_path, [mistral.page(at, f"p{at}") for at in (1, 2, 3)])
    assert result["markdown"].split()[2::3] == ["p1", "p2", "p3"]
    assert result["warnings"] == []


async def test_pages_that_are_missing_doubled_or_too_many_are_named(bench: Bench, tmp_path: Path) -> None:
    pages = [mistral.page(0, "p0"), mistral.page(0, "other"), mistral.page(2, "p2"), mistral.page(7, "p7")]
    result = await converted(bench, tmp_path, pages)
    assert result["markdown"].split()[2::3] == ["p0", "other", "p2"]
    assert result["pages"] == 3
    assert result["warnings"] == [
        "page 1: the engine has answered it twice",
        "the engine has answered a page 8 that the document does not have",
        "page 2: the engine has not answered it",
    ]


@pytest.mark.parametrize(
    "body",
    [
        b"{", b"[]", b'{"pages": [{"index": NaN, "markdown": ""}]}', b'{"pages": []}', b'{"pages": [1]}',
        b'{"pages": [{"index": "0", "markdown": ""}]}', b'{"pages": [{"index": 0, "markdown": null}]}',
        b'{"pages": [{"index": 9, "markdown": "x"}]}', b'{"pages": [{"index": -4, "markdown": "x"}]}',
        b'{"object": "error", "message": "Service is out of capacity", "type": "x", "code": "3505"}',
        b"<html>502</html>", b'{"pages": [{"index": 1e400, "markdown": ""}]}', b"\xff\xfe", b"",
    ],
)  # fmt: skip
async def test_an_answer_that_is_none_is_a_failure_of_the_engine(
    bench: Bench, tmp_path: Path, body: bytes
) -> None:
    bench.mistral.instead(OCR, *[saying(body)] * 3)
    with pytest.raises(RetryableError) as failed:
        await bench.run(bench.converter(), pdf(tmp_path / "a.pdf", 1))
    assert failed.value.code == "engine_failed"
    assert bench.mistral.asked == ["POST /v1/ocr"] * 3
    if b"capacity" in body:
        assert "out of capacity" in failed.value.message


async def test_usage_that_is_none_is_counted_here(bench: Bench, tmp_path: Path) -> None:
    source = pdf(tmp_path / "a.pdf", 2)
    for usage in (None, {}, {"pages_processed": -1, "doc_size_bytes": "x"}, {"pages_processed": 1e300}):
        bench.mistral.rewrite = lambda body, usage=usage: {**body, "usage_info": usage}  # type: ignore[misc]
        outcome = await bench.run(bench.converter(), source)
        assert outcome.usage == {"pages": 2, "bytes": source.stat().st_size}


async def test_images_that_are_damaged_or_missing_are_named(bench: Bench, tmp_path: Path) -> None:
    def damaged(body: dict[str, Any]) -> dict[str, Any]:
        first, second, third = body["pages"]
        first["images"][0]["image_base64"] = "data:image/jpeg;base64,AAAA"
        second["images"][0]["image_base64"] = None
        third["images"] = [{"id": "other.jpeg", "image_base64": mistral.picture("blue")}, {"id": 7}, "x"]
        third["dimensions"] = {"width": 0, "height": -1}
        return body

    bench.mistral.rewrite = damaged
    result = (await bench.run(bench.converter(), pdf(tmp_path / "a.pdf", 3), images="save")).result
    assert [image["name"] for image in result["images"]] == ["image-1.jpg"]
    assert "![](image-1.jpg)" in result["markdown"]
    assert "![img-0.jpeg](img-0.jpeg)" in result["markdown"]
    assert result["warnings"] == [
        "page 2: the engine has not sent the image img-0.jpeg",
        "images left out: 1 (damaged, or of a format that is not known)",
    ]


async def test_an_answer_of_a_gigabyte_is_not_taken(bench: Bench, tmp_path: Path) -> None:
    bench.mistral.instead(OCR, endless(1024))
    converter = bench.converter(mistral={"answer_bytes": 8 * 1024**2})
    attempt = bench.attempt(pdf(tmp_path / "a.pdf", 1))
    with pytest.raises(FatalError) as refused:
        await converter.run(attempt)
    assert refused.value.code == "output_too_large"
    written = sum(path.stat().st_size for path in attempt.scratch.rglob("*") if path.is_file())
    assert written < 16 * 1024**2


# --- Statuses


async def test_a_limit_is_obeyed_and_nothing_is_counted(bench: Bench, tmp_path: Path) -> None:
    source = pdf(tmp_path / "a.pdf", 1)
    bench.mistral.instead(OCR, answering({"message": "slow down"}, 429, {"Retry-After": "1"}))
    converter = bench.converter()
    with pytest.raises(BusyError) as busy:
        await bench.run(converter, source)
    assert "limit" in busy.value.message
    assert converter.slots == 0
    assert converter.capabilities()["convert"]["engines"] == []
    assert converter.capabilities()["convert"]["engines_down"] == {"mistral": "its limit is reached"}
    assert bench.mistral.asked == ["POST /v1/ocr"]
    async with asyncio.timeout(DEADLINE_S):
        while not converter.slots:
            await asyncio.sleep(0.01)
    assert (await bench.run(converter, source)).result["pages"] == 1


async def test_a_later_part_waits_for_the_limit(bench: Bench, tmp_path: Path) -> None:
    async def first(request: Any) -> Any:
        return await bench.mistral._ocr(request)

    bench.mistral.instead(OCR, first, answering({}, 429, {"Retry-After": "1"}))
    converter = bench.converter(mistral={"max_pages": 2})
    assert (await bench.run(converter, pdf(tmp_path / "a.pdf", 4))).result["pages"] == 4
    assert bench.mistral.read == [2, 2]


async def test_what_fails_there_is_tried_again(bench: Bench, tmp_path: Path) -> None:
    bench.mistral.instead(OCR, answering({"message": "oh"}, 500), cut)
    assert (await bench.run(bench.converter(), pdf(tmp_path / "a.pdf", 1))).result["pages"] == 1
    assert bench.mistral.asked == ["POST /v1/ocr"] * 3


async def test_a_document_that_is_refused_is_dead(bench: Bench, tmp_path: Path) -> None:
    bench.mistral.instead(OCR, answering({"message": "Invalid PDF", "code": "3001"}, 422))
    with pytest.raises(FatalError) as refused:
        await bench.run(bench.converter("mistral", "local"), pdf(tmp_path / "a.pdf", 1))
    assert refused.value.code == "document_refused"
    assert "Invalid PDF" in refused.value.message


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (202, {}), (204, {}), (302, {}), (404, {"detail": "Not Found"}), (402, {}),
        (400, {"object": "error", "message": "Invalid model: x", "type": "invalid_model", "code": "1500"}),
    ],
)  # fmt: skip
async def test_what_is_no_answer_is_no_fault_of_the_document(
    bench: Bench, tmp_path: Path, status: int, body: dict[str, Any]
) -> None:
    bench.mistral.instead(OCR, *[answering(body, status)] * 3)
    with pytest.raises(RetryableError) as failed:
        await bench.run(bench.converter(), pdf(tmp_path / "a.pdf", 1))
    assert failed.value.code == "engine_failed"


async def test_a_document_that_takes_too_long_is_given_up(bench: Bench, tmp_path: Path) -> None:
    bench.mistral.instead(OCR, bench.mistral.hold)
    with pytest.raises(RetryableError) as failed:
        await bench.run(bench.converter(timeout_s=3), pdf(tmp_path / "a.pdf", 1))
    assert failed.value.code == "timeout"


async def test_a_call_that_is_not_answered_ends(bench: Bench, tmp_path: Path) -> None:
    bench.mistral.instead(OCR, *[bench.mistral.hold] * 3)
    with pytest.raises(RetryableError) as failed:
        await bench.run(bench.converter(mistral={"answer_s": 0.2}), pdf(tmp_path / "a.pdf", 1))
    assert "0.2 s" in failed.value.message


async def test_a_key_is_in_nothing_that_is_said(
    bench: Bench, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = pdf(tmp_path / "a.pdf", 1)
    bench.mistral.instead(OCR, *[answering({"message": f"no: Bearer {mistral.KEY}"}, 500)] * 3)
    converter = bench.converter()
    with pytest.raises(RetryableError) as failed:
        await bench.run(converter, source)
    said = repr((failed.value.message, converter.capabilities(), capfd.readouterr()))
    assert "Bearer ***" in said
    assert mistral.KEY not in said
    wrong = bench.converter(mistral={"api_key": "another-key-of-tests"})
    with pytest.raises(RetryableError) as failed:
        await bench.run(wrong, source)
    assert "does not take the key" in failed.value.message
    assert wrong.slots == 0


@pytest.mark.parametrize("inline_bytes", [0, 10**6])
async def test_a_cancelled_call_ends_and_leaves_no_file(
    bench: Bench, tmp_path: Path, inline_bytes: int
) -> None:
    bench.mistral.instead(OCR, bench.mistral.hold)
    converter = bench.converter(mistral={"inline_bytes": inline_bytes})
    attempt = bench.attempt(pdf(tmp_path / "a.pdf", 1))
    attempt.grace_s = 10.0
    async with asyncio.timeout(DEADLINE_S):
        task = asyncio.create_task(converter.run(attempt))
        await bench.mistral.held.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert bench.mistral.files == {}
        assert (await converter.run(bench.attempt(pdf(tmp_path / "b.pdf", 1)))).result["pages"] == 1


async def test_a_worker_that_ends_ends_calls(bench: Bench, tmp_path: Path) -> None:
    bench.mistral.instead(OCR, bench.mistral.hold)
    converter = bench.converter()
    async with asyncio.timeout(DEADLINE_S):
        task = asyncio.create_task(converter.run(bench.attempt(pdf(tmp_path / "a.pdf", 1))))
        await bench.mistral.held.wait()
        await converter.close()
        task.cancel()
        await asyncio.wait([task])
