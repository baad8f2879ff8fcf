"""`POST /v1/convert`: the text in the same request, or the document to ask for."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

import pytest

from switchyard.services.gateway.doors.ilios.ids import uuid_of
from tests.broker.shared import SharedBroker
from tests.gateway.ilios.client import ID, Answer, Sent, form
from tests.gateway.ilios.site import KEYS, House, house
from tests.gateway.rest import DEADLINE_S


async def job_of(here: House, answer: Answer) -> dict[str, object]:
    document = answer.headers["X-Document-Id"]
    found = await here.api.get(f"/v1/jobs/{uuid_of(document)}", token=here.api.token("admin"))
    assert found.status == 200, found
    job: dict[str, object] = found.json
    return job


async def test_a_document_is_answered_as_text_with_its_headers(here: House) -> None:
    answer = await here.client().convert("a.pdf", b"one\ftwo\fthree")
    assert answer.status == 200, answer
    assert answer.text == "one\n\n---\n\ntwo\n\n---\n\nthree\n"
    assert answer.headers["Content-Type"].lower() == "text/plain; charset=utf-8"
    assert answer.headers["Content-Disposition"] == 'inline; filename="a.pdf.md"'
    assert answer.headers["X-Extracted-Pages"] == "3"
    assert int(answer.headers["X-Processing-Time-Ms"]) >= 0
    assert ID.fullmatch(answer.headers["X-Document-Id"])
    assert "X-Stored-Result" not in answer.headers
    job = await job_of(here, answer)
    assert (job["priority"], job["state"], job["usage"]) == (100, "succeeded", {"pages": 3})
    assert job["labels"]["ilios"] == "convert-immediate"  # type: ignore[index]


@pytest.mark.parametrize("order", ["before", "behind"])
async def test_json_has_content_metadata_and_usage(here: House, order: str) -> None:
    file, asked = Sent("file", b"one\ftwo", "a b.pdf", "application/pdf"), Sent("format", b"json")
    answer = await here.client().send("/v1/convert", *((asked, file) if order == "before" else (file, asked)))
    assert answer.status == 200, answer
    found = answer.json
    assert found["content"] == "one\n\n---\n\ntwo\n"
    assert found["id"] == answer.headers["X-Document-Id"]
    assert found["downloadUrl"] == f"/api/documents/{found['id']}"
    said = found["metadata"]
    assert (said["fileName"], said["fileSize"], said["mimeType"]) == ("a b.pdf", 7, "application/pdf")
    assert (said["extractedPages"], said["engine"], said["model"]) == (2, "local", "switchyard-local")
    assert isinstance(said["processingTimeMs"], int)
    tokens = -(-len(found["content"]) // 4)
    assert found["usage"] == {"prompt_tokens": tokens, "completion_tokens": 0, "total_tokens": tokens}
    assert list(found)[:2] == ["id", "content"]


async def test_a_long_text_is_streamed_from_its_file(here: House) -> None:
    line = f'{secrets.token_hex(8)} äöü 中文 \U0001f600 "quoted" \\ <!-- page 7 -->'
    pages = [f"{number} {line}\n" * 300 for number in range(1, 30)]
    data = "\f".join(pages).encode()
    answer = await here.client().convert("long.pdf", data)
    assert answer.status == 200, answer
    expected = "\n\n---\n\n".join(pages) + "\n"
    assert answer.text == expected
    again = await here.client().get(f"/api/documents/{answer.headers['X-Document-Id']}?format=json")
    assert again.json["content"] == expected


async def test_when_the_wait_runs_out_the_document_is_named_and_goes_on(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with house(shared_broker, tmp_path, ilios_wait_s=0.2) as here:
        here.worker.go.clear()
        client = here.client()
        answer = await client.convert("a.pdf", b"one")
        assert answer.status == 202, answer
        found = answer.json
        assert found["status"] in ("pending", "processing")
        assert (found["fileName"], found["fileSize"]) == ("a.pdf", 3)
        assert answer.headers["Location"] == found["statusUrl"] == f"/api/documents/status/{found['id']}"
        early = await client.get(f"/api/documents/{found['id']}")
        assert (early.status, early.json["error"]) == (400, "Document not ready")
        assert early.json["status"] in ("pending", "processing")
        here.worker.go.set()
        assert (await client.ended(found["id"]))["status"] == "completed"
        assert (await client.get(f"/api/documents/{found['id']}")).text == "one\n"


async def test_a_client_that_goes_away_leaves_its_job_behind(here: House) -> None:
    here.worker.go.clear()
    client = here.client()
    body, kind = form(Sent("file", b"one", "gone.pdf"))
    waiting = asyncio.create_task(client.call("POST", "/v1/convert", body, Content_Type=kind))
    async with asyncio.timeout(DEADLINE_S):
        while not here.worker.seen:
            await asyncio.sleep(0.02)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    here.worker.go.set()
    answer = await client.convert("again.pdf", b"one")
    assert (answer.status, answer.text, answer.headers["X-Stored-Result"]) == (200, "one\n", "true")
    assert len(here.worker.seen) == 1


async def test_a_document_that_cannot_be_converted_is_an_error_with_its_id(here: House) -> None:
    answer = await here.client().convert("secret-name.pdf", b"broken")
    assert answer.status == 500, answer
    assert answer.json["error"] == "Failed to convert document"
    assert answer.json["details"] == "damaged_file"  # the message would be content
    status = await here.client().status(answer.json["id"])
    assert (status["status"], status["error"]) == ("failed", "damaged_file")
    again = await here.client().convert("secret-name.pdf", b"broken")
    assert again.status == 500
    assert again.json["id"] != answer.json["id"]  # a failure is no result


async def pdfs(house: House) -> list[str]:
    files = await house.api.get("/v1/files", token=house.api.token("submitter"))
    return [one["name"] for one in files.json["files"] if one["name"].endswith(".pdf")]


async def test_the_same_bytes_are_converted_once_and_marked(here: House) -> None:
    client = here.client()
    first = await client.convert("a.pdf", b"same bytes")
    second = await client.convert("b.pdf", b"same bytes", format="json")
    assert second.status == 200, second
    assert second.headers["X-Stored-Result"] == "true"
    assert second.json["stored"] is True
    assert second.json["id"] == first.headers["X-Document-Id"]
    assert second.json["metadata"]["fileName"] == "b.pdf"
    assert len(here.worker.seen) == 1
    async with asyncio.timeout(DEADLINE_S):  # the list is the read model's
        while not (names := await pdfs(here)):
            await asyncio.sleep(0.02)
    assert names == ["a.pdf"]
    for other in (await client.convert("a.pdf", b"other bytes"),
                  await client.convert("a.pdf", b"same bytes", retentionDays=7)):  # fmt: skip
        assert "X-Stored-Result" not in other.headers
    assert len(here.worker.seen) == 3


async def test_requests_with_the_same_bytes_at_once_make_one_job(here: House) -> None:
    here.worker.go.clear()
    client = here.client()
    async with asyncio.timeout(DEADLINE_S):
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(client.convert(f"{n}.pdf", b"all at once")) for n in range(6)]
            while not here.worker.seen:
                await asyncio.sleep(0.02)
            here.worker.go.set()
    answers = [one.result() for one in asked]
    assert {answer.status for answer in answers} == {200}
    assert len({answer.headers["X-Document-Id"] for answer in answers}) == 1
    assert sum("X-Stored-Result" not in answer.headers for answer in answers) == 1
    assert len(here.worker.seen) == 1


async def test_the_switch_has_the_same_bytes_converted_again(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with house(shared_broker, tmp_path, ilios_stored_s=0) as here:
        answers = [await here.client().convert("a.pdf", b"twice") for _ in range(2)]
        assert len({answer.headers["X-Document-Id"] for answer in answers}) == 2
        assert len(here.worker.seen) == 2


async def test_other_tenants_do_not_share_results_and_keys_only_if_they_see_each_other(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with house(shared_broker, tmp_path / "a") as here:
        first = await here.client(KEYS[0]).convert("a.pdf", b"shared")
        second = await here.client(KEYS[1]).convert("a.pdf", b"shared")
        assert first.headers["X-Document-Id"] == second.headers["X-Document-Id"]
    async with house(shared_broker, tmp_path / "b", ilios_own_only=True) as here:
        apart = [await here.client(key).convert("a.pdf", b"shared") for key in KEYS]
        assert len({answer.headers["X-Document-Id"] for answer in (first, *apart)}) == 3
        assert all("X-Stored-Result" not in answer.headers for answer in apart)
