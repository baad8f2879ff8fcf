"""Files, OCR and batch jobs, as a client of Mistral's API asks for them; and Mistral's own client."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.broker.shared import SharedBroker
from tests.gateway.batches.site import keeper
from tests.gateway.compat.site import FILE, OPENAI_KINDS, Compat, compat
from tests.gateway.rest import DEADLINE_S

BASE = "/mistral/v1"
OCR = "/v1/ocr"
END = ("SUCCESS", "FAILED", "TIMEOUT_EXCEEDED", "CANCELLED")
TEXT = "# One\n\na ![x](image-1.png)\fé\n\n\ftwo\n\nthree\f"


@contextlib.asynccontextmanager
async def mistral(broker: SharedBroker, data_dir: Path, **settings: Any) -> AsyncIterator[Compat]:
    async with (
        compat(broker, data_dir, BASE, compat_kinds=OPENAI_KINDS, **settings) as running,
        keeper(running.api),
    ):
        yield running


@pytest.fixture
async def site(shared_broker: SharedBroker, tmp_path: Path) -> AsyncIterator[Compat]:
    async with mistral(shared_broker, tmp_path) as running:
        yield running


def form(body: bytes, name: str = "in.jsonl", **fields: str) -> bytes:
    parts = [
        f'--b\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'
        for field, value in fields.items()
    ]
    head = f'--b\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
    return (
        "".join(parts).encode()
        + head.encode()
        + b"Content-Type: text/plain\r\n\r\n"
        + body
        + b"\r\n--b--\r\n"
    )


async def upload(site: Compat, body: bytes, **fields: str) -> Any:
    fields = {"purpose": "batch", **fields}
    answer = await site.post("/files", form(body, **fields), Content_Type="multipart/form-data; boundary=b")
    assert answer.status == 200, answer
    return answer.json


def uri(text: str) -> str:
    return f"data:text/plain;base64,{base64.b64encode(text.encode()).decode()}"


def line(name: str | None, text: str = TEXT, **body: Any) -> bytes:
    document = {"type": "document_url", "document_url": uri(text)}
    return json.dumps({"custom_id": name, "body": {"document": document, **body}}).encode() + b"\n"


async def lines(site: Compat, file_id: str | None) -> list[Any]:
    if file_id is None:
        return []
    answer = await site.get(f"/files/{file_id}/content")
    assert answer.status == 200, answer
    return [json.loads(one) for one in answer.raw.splitlines()]


async def ended(site: Compat, answer: Any) -> tuple[Any, list[Any], list[Any]]:
    assert answer.status == 200, answer
    found = await site.until(f"/batch/jobs/{answer.json['id']}", *END)
    return found, await lines(site, found["output_file"]), await lines(site, found["error_file"])


def fault(answer: Any) -> str:
    """Where a refused request is at fault."""
    assert answer.status == 422, answer
    assert answer.json["object"] == "error"
    (one,) = answer.json["detail"]
    assert set(one) == {"loc", "msg", "type"}
    return ".".join(map(str, one["loc"]))


async def test_a_document_is_answered_page_by_page(site: Compat) -> None:
    document = {"type": "document_url", "document_url": uri(TEXT)}
    answer = await site.post("/ocr", {"model": "m", "document": document, "include_image_base64": True})
    assert answer.status == 200, answer
    pages = answer.json["pages"]
    assert [page["markdown"] for page in pages] == ["# One\n\na ![x](image-1.png)", "é", "two\n\nthree", ""]
    assert [page["index"] for page in pages] == [0, 1, 2, 3]
    assert pages[0]["dimensions"] == {"dpi": 72, "height": 200, "width": 100}
    (image,) = pages[0]["images"]
    assert (image["id"], image["top_left_x"], image["bottom_right_y"]) == ("image-1.png", 10, 200)
    assert base64.b64decode(image["image_base64"].removeprefix("data:image/png;base64,")) == FILE
    assert (answer.json["model"], answer.json["usage_info"]["pages_processed"]) == ("m", 4)
    some = {"document": {"image_url": {"url": uri("\f\fx" * 3000)}}, "pages": "6000,0,2-3", "model": None}
    answer = await site.post("/ocr", some)
    assert [(page["index"], page["markdown"], page["images"]) for page in answer.json["pages"]] == [
        (0, "", []), (2, "x", []), (3, "", []), (6000, "x", []),
    ]  # fmt: skip
    await site.api.caught_up()
    (job,) = (await site.api.get("/v1/jobs?label=compat:mistral&limit=1")).json["jobs"]
    assert job["state"] == "succeeded"


async def test_files_have_addresses_that_need_no_key_and_can_be_read(site: Compat) -> None:
    file = await upload(site, b"one\ftwo", purpose="ocr")
    assert (file["bytes"], file["purpose"], file["source"]) == (7, "ocr", "upload")
    url = (await site.get(f"/files/{file['id']}/url?expiry=1")).json["url"]
    async with site.api.http.get(url) as response:
        assert await response.read() == b"one\ftwo"
    async with site.api.http.get(url[:-3]) as response:
        assert response.status == 403
    for document in ({"type": "file", "file_id": file["id"]}, {"document_url": url}):
        answer = await site.post("/ocr", {"document": document, "model": "m"})
        assert [page["markdown"] for page in answer.json["pages"]] == ["one", "two"]
    async with asyncio.timeout(DEADLINE_S):
        while (await site.get("/files?purpose=ocr&search=IN.json&page_size=1")).json["total"] != 1:
            await asyncio.sleep(0.02)
    assert (await site.get("/files?page=1")).json["data"] == []
    assert (await site.call("DELETE", f"/files/{file['id']}")).json["deleted"]
    stranger = site.api.token(tenant="stranger")
    mine = (await upload(site, b"x"))["id"]
    for path in (f"/files/{mine}", f"/files/{mine}/content", f"/files/{mine}/url", f"/files/{file['id']}"):
        assert (await site.get(path, token=stranger)).status == 404, path
    answer = await site.post("/ocr", {"document": {"file_id": mine}, "model": "m"}, token=stranger)
    assert fault(answer) == "body.document"
    wish = {"endpoint": OCR, "input_files": [mine, mine]}
    assert fault(await site.post("/batch/jobs", wish, token=stranger)) == "body.input_files.0"
    answer = await site.get("/models", token="nonsense")
    assert (answer.status, answer.json["code"]) == (401, "token_invalid")


@pytest.mark.timeout(120)
async def test_what_is_no_request_is_refused_by_name(site: Compat) -> None:
    document = {"document_url": uri("x")}
    for body, place in (
        ({"document": document, "pages": [0, -1]}, "pages.1"),
        ({"document": document, "pages": "-1"}, "pages"),
        ({"document": document, "pages": "4-2"}, "pages"),
        ({"document": document, "pages": "0," * 100_000}, "pages"),
        ({"document": document, "pages": [2**60]}, "pages.0"),
        ({"document": document, "image_limit": -1}, "image_limit"),
        ({"document": document, "table_format": "html"}, "table_format"),
        ({"document": document, "document_annotation_format": {}}, "document_annotation_format"),
        ({"document": {"document_url": "data:;base64,%%%"}}, "document.document_url"),
        ({"document": {"document_url": "data:x/y;base64,"}}, "document.document_url"),
        ({"document": {"document_url": "data:x/y,abc"}}, "document.document_url"),
        ({"document": {"document_url": f"data:{'x' * 100_000}"}}, "document.document_url"),
        ({"document": {"document_url": "http://169.254.169.254/latest"}}, "document.document_url"),
        ({"document": {"document_url": "http://[::1"}}, "document.document_url"),
        ({"document": {"image_url": {"url": "file:///etc/passwd"}}}, "document.image_url.url"),
        ({"document": {"file_id": "x" * 100_000}}, "document.file_id"),
        ({"document": {"file_id": "no such"}}, "document"),
        ({"document": {"file_id": "a", "image_url": "b"}}, "document"),
        ({"document": {}}, "document"),
        ({}, "document"),
    ):
        assert fault(await site.post("/ocr", {"model": "m", **body})) == f"body.{place}", place
    for wish, place in (
        ({"endpoint": "/v1/fim/completions", "input_files": ["x"]}, "endpoint"),
        ({"endpoint": OCR}, "input_files"),
        ({"endpoint": OCR, "input_files": ["x" * 300]}, "input_files.0"),
        ({"endpoint": OCR, "input_files": ["no"]}, "input_files"),
        ({"endpoint": OCR, "input_files": ["no"], "timeout_hours": 0}, "timeout_hours"),
        ({"endpoint": OCR, "input_files": ["no"], "agent_id": "a"}, "agent_id"),
        ({"endpoint": OCR, "requests": [{"custom_id": "a"}]}, "requests.0.body"),
    ):
        assert fault(await site.post("/batch/jobs", wish)) == f"body.{place}", place
    for path, place in (("files?page=-1", "page"), ("batch/jobs?order_by=x", "order_by")):
        assert fault(await site.get(f"/{path}")) == f"query.{place}"
    answer = await site.post("/ocr", {"document": {"document_url": uri("x" * 13_000_000)}, "model": "m"})
    assert (answer.status, answer.json["code"]) == (413, "body_too_large")
    answer = await site.post(
        "/files", form(b"x", purpose="fine-tune"), Content_Type="multipart/form-data; boundary=b"
    )
    assert fault(answer) == "body.purpose"
    answer = await site.post("/ocr", {"document": {"document_url": uri("fail")}, "model": "m"})
    assert (answer.status, answer.json["code"], answer.json["detail"]) == (500, "corrupt_file", [])


async def test_each_line_of_a_batch_job_is_in_one_of_two_files(site: Compat) -> None:
    stored = await upload(site, b"stored", purpose="ocr")
    bodies: dict[str, Any] = {
        "d": {"document": "x"}, "e": {"document": {"file_id": stored["id"]}},
        "f": {"document": {"file_id": "of another"}},
    }  # fmt: skip
    others = [json.dumps({"custom_id": name, "body": body}).encode() for name, body in bodies.items()]
    body = b"".join((
        line("a", include_image_base64=True), line("b", "fail"), line(None, "x", pages=[0]), b"{\n",
        line("c", pages=[-1]), line("a"), b"\n".join(others),
    ))  # fmt: skip
    first, second = await upload(site, body), await upload(site, line("g", "second"))
    wish = {
        "input_files": [first["id"], second["id"]], "endpoint": OCR, "model": "mm", "metadata": {"k": "v"},
        "timeout_hours": 2,
    }  # fmt: skip
    job, good, bad = await ended(site, await site.post("/batch/jobs", wish))
    assert (job["status"], job["model"], job["metadata"]) == ("SUCCESS", "mm", {"k": "v"})
    assert job["input_files"] == wish["input_files"]
    assert (job["total_requests"], job["succeeded_requests"], job["failed_requests"]) == (10, 4, 6)
    assert [one["custom_id"] for one in good] == ["a", None, "e", "g"]
    read = good[0]["response"]["body"]
    assert [page["markdown"] for page in read["pages"]][2:] == ["two\n\nthree", ""]
    assert (read["model"], len(read["pages"][0]["images"])) == ("mm", 1)
    assert good[2]["response"]["body"]["pages"][0]["markdown"] == "stored"
    assert [one["custom_id"] for one in bad] == ["b", None, "c", "a", "d", "f"]
    assert [one["response"]["status_code"] for one in bad] == [500, 422, 422, 422, 422, 500]
    assert bad[2]["response"]["body"]["param"] == "body.pages[0]"
    page = (await site.get("/batch/jobs?page_size=1&status=SUCCESS&k=v")).json
    assert ([one["id"] for one in page["data"]], page["total"]) == ([job["id"]], 1)
    assert (await site.get("/batch/jobs?k=w")).json["data"] == []
    assert (await site.get("/batch/jobs?model=other")).json == {"object": "list", "data": [], "total": 0}
    assert (await site.get(f"/files/{job['output_file']}")).json["sample_type"] == "batch_result"
    stranger = site.api.token(tenant="stranger")
    assert (await site.get(f"/batch/jobs/{job['id']}", token=stranger)).status == 404
    assert (await site.call("DELETE", f"/batch/jobs/{job['id']}")).json["deleted"]
    assert (await site.get(f"/batch/jobs/{job['id']}")).status == 404


async def test_requests_in_the_body_make_a_batch_job_that_can_be_cancelled(site: Compat) -> None:
    said = {"messages": [{"role": "user", "content": "hi"}]}
    wish = {"endpoint": "/v1/chat/completions", "model": "m1", "requests": [{"custom_id": "a", "body": said}]}
    job, (one,), _ = await ended(site, await site.post("/batch/jobs", wish))
    assert one["response"]["body"]["choices"][0]["message"]["content"] == "you said hi"
    answer = await site.get(f"/batch/jobs/{job['id']}?inline=true")
    assert [each["custom_id"] for each in answer.json["outputs"]] == ["a"]
    held = {**said, "mode": "hold", "model": "m1"}
    wish["requests"] = [{"custom_id": f"c{number}", "body": held} for number in range(10)]
    answer = await site.post("/batch/jobs", wish)
    await site.until(f"/batch/jobs/{answer.json['id']}", "RUNNING")
    cancelled = await site.post(f"/batch/jobs/{answer.json['id']}/cancel")
    assert cancelled.json["status"] == "CANCELLATION_REQUESTED"
    job, good, bad = await ended(site, answer)
    assert (job["status"], good, len(bad)) == ("CANCELLED", [], 10)


@pytest.mark.timeout(180)
async def test_mistrals_own_client_works(site: Compat) -> None:
    client = pytest.importorskip("mistralai.client", reason="the client mistralai is not installed")
    key, url = site.api.token(), f"{site.api.url}/mistral"
    async with client.Mistral(api_key=key, server_url=url) as api, asyncio.timeout(2 * DEADLINE_S):
        content = {"file_name": "a.txt", "content": TEXT.encode()}
        file = await api.files.upload_async(file=content, purpose="ocr")
        assert (file.purpose, file.size_bytes) == ("ocr", len(TEXT.encode()))
        assert (await api.files.retrieve_async(file_id=file.id)).filename == "a.txt"
        assert await (await api.files.download_async(file_id=file.id)).aread() == TEXT.encode()
        address = (await api.files.get_signed_url_async(file_id=file.id, expiry=1)).url
        for document in (
            {"type": "document_url", "document_url": address},
            {"type": "file", "file_id": file.id},
            {"type": "image_url", "image_url": uri(TEXT)},
        ):
            read = await api.ocr.process_async(model="m", document=document, include_image_base64=True)
            assert [page.markdown for page in read.pages][1:] == ["é", "two\n\nthree", ""]
            assert (read.pages[0].images[0].id, read.pages[0].dimensions.width) == ("image-1.png", 100)
            assert read.usage_info.pages_processed == 4
        requests = {"file_name": "in.jsonl", "content": line("a") + line("b", "fail")}
        stored = await api.files.upload_async(file=requests, purpose="batch")
        job = await api.batch.jobs.create_async(
            input_files=[stored.id], endpoint=OCR, model="m", metadata={"k": "v"}, timeout_hours=24
        )
        while job.status in ("QUEUED", "RUNNING"):
            await asyncio.sleep(0.05)
            job = await api.batch.jobs.get_async(job_id=job.id)
        assert (job.status, job.succeeded_requests, job.failed_requests) == ("SUCCESS", 1, 1)
        output = await (await api.files.download_async(file_id=job.output_file)).aread()
        assert json.loads(output)["custom_id"] == "a"
        assert [one.id for one in (await api.batch.jobs.list_async(metadata={"k": "v"})).data] == [job.id]
        inline = await api.batch.jobs.create_async(
            endpoint=OCR, model="m", requests=[{"custom_id": "x", "body": {"document": {"file_id": file.id}}}]
        )
        await api.batch.jobs.cancel_async(job_id=inline.id)
        listed = (await api.files.list_async(purpose="ocr", page_size=10)).data
        assert all(one.purpose == "ocr" for one in listed)
        assert [model.id for model in (await api.models.list_async()).data] == ["mistral-ocr-latest"]
        chat = await api.chat.complete_async(model="m1", messages=[{"role": "user", "content": "hi"}])
        assert chat.choices[0].message.content == "you said hi"
        stream = await api.chat.stream_async(model="m1", messages=[{"role": "user", "content": "hi"}])
        said = [event.data.choices[0].delta.content async for event in stream if event.data.choices]
        assert "you said hi" in said
        assert (await api.embeddings.create_async(model="e1", inputs=["x"])).data[0].embedding == [0.5, -1.0]
        assert (await api.files.delete_async(file_id=file.id)).deleted
        errors = client.errors
        with pytest.raises(errors.HTTPValidationError) as refused:
            await api.ocr.process_async(model="m", document={"type": "file", "file_id": file.id})
        assert refused.value.data.detail[0].loc == ["body", "document"]
        with pytest.raises(errors.SDKError) as gone:
            await api.files.retrieve_async(file_id=file.id)
        assert gone.value.status_code == 404
    async with client.Mistral(api_key="nonsense", server_url=url) as api:
        with pytest.raises(errors.SDKError) as unknown:
            await api.models.list_async()
        assert unknown.value.status_code == 401
