"""Batches of Mistral, and the double as Mistral's own client sees it."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from switchyard.services.connectors.convert.engines.mistral import batch
from switchyard.services.connectors.convert.engines.mistral.api import Api
from switchyard.services.connectors.convert.engines.protocol import AwayError
from switchyard.services.connectors.convert.section import MistralSection
from tests.connectors.convert.bench import DEADLINE_S, Bench, pdf
from tests.connectors.convert.double.mistral import KEY
from tests.connectors.convert.double.serving import answering, saying

MODEL = "mistral-ocr-latest"


@pytest.fixture
async def api(bench: Bench) -> AsyncIterator[Api]:
    api = Api(MistralSection(url=bench.mistral_url), KEY)
    yield api
    await api.close()


def document(directory: Path, pages: int = 1) -> dict[str, Any]:
    data = base64.b64encode(pdf(directory / "a.pdf", pages).read_bytes()).decode()
    return {"type": "document_url", "document_url": f"data:application/pdf;base64,{data}"}


async def sent(api: Api, directory: Path, count: int) -> tuple[list[str], batch.Job]:
    asked = batch.request(document(directory))
    requests = directory / "requests.jsonl"
    ids = batch.write_requests(requests, ((f"d{number}", asked) for number in range(count)))
    job = await batch.create(api, requests, model=MODEL, metadata={"batch": "b1"})
    async with asyncio.timeout(DEADLINE_S):
        return ids, await batch.ended(api, job.id, poll_s=0.01)


async def results(api: Api, job: batch.Job, ids: list[str], directory: Path) -> dict[str, batch.Result]:
    return {custom_id: result async for custom_id, result in batch.results(api, job, ids, directory)}


async def test_a_batch_is_read(bench: Bench, api: Api, tmp_path: Path) -> None:
    bench.mistral.polls_left = 3
    ids, job = await sent(api, tmp_path, 5)
    assert job.status == "SUCCESS"
    found = await results(api, job, ids, tmp_path)
    assert [one.body is not None and one.error is None for one in found.values()] == [True] * 5
    assert bench.mistral.jobs["job-1"]["metadata"] == {"batch": "b1"}
    assert bench.mistral.asked.count("GET /v1/batch/jobs/job-1") == 3


async def test_half_of_a_batch_fails(bench: Bench, api: Api, tmp_path: Path) -> None:
    bench.mistral.fails = lambda custom_id: int(custom_id[1:]) % 2 == 1
    ids, job = await sent(api, tmp_path, 10)
    found = await results(api, job, ids, tmp_path)
    assert set(found) == set(ids)
    assert sorted(one for one in ids if found[one].body is None) == ["d1", "d3", "d5", "d7", "d9"]
    assert found["d1"].error == "it was answered 422: it cannot be read"


async def test_what_a_batch_does_not_answer_is_named(bench: Bench, api: Api, tmp_path: Path) -> None:
    bench.mistral.forgets = lambda custom_id: custom_id == "d2"
    ids, job = await sent(api, tmp_path, 3)
    assert job.output_file is not None
    bench.mistral.files[job.output_file] += b"{\n[]\n" + bench.mistral.files[job.output_file]
    pairs = [pair async for pair in batch.results(api, job, ids, tmp_path)]
    assert [custom_id for custom_id, _ in pairs] == ids
    assert pairs[-1][1].error == "the job has ended as SUCCESS, without an answer to it"


async def test_a_batch_can_be_stopped(bench: Bench, api: Api, tmp_path: Path) -> None:
    bench.mistral.polls_left = 10**6
    requests = tmp_path / "requests.jsonl"
    ids = batch.write_requests(requests, [("d0", batch.request(document(tmp_path)))])
    job = await batch.create(api, requests, model=MODEL, metadata={})
    assert not job.has_ended
    job = await batch.cancel(api, job.id)
    assert (job.status, job.has_ended) == ("CANCELLED", True)
    assert (await results(api, job._replace(output_file=None), ids, tmp_path))["d0"].body is None


async def test_a_job_that_is_none_is_refused(bench: Bench, api: Api) -> None:
    bench.mistral.instead("/v1/batch/jobs/x", answering({"id": "x"}), saying(b"{"), saying(b"[]"))
    for _ in range(3):
        with pytest.raises(AwayError):
            await batch.look(api, "x")
    bench.mistral.instead("/v1/batch/jobs/x", answering({"id": "x", "status": "SOMETHING_NEW", "errors": 1}))
    assert not (await batch.look(api, "x")).has_ended


def test_requests_that_cannot_be_sent_are_refused(tmp_path: Path) -> None:
    doubled: list[tuple[str, dict[str, Any]]] = [("a", {}), ("a", {})]
    for requests in ([], doubled):
        with pytest.raises(ValueError, match=r"two documents|at least one"):
            batch.write_requests(tmp_path / "requests.jsonl", requests)


async def test_the_double_is_taken_by_mistrals_own_client(bench: Bench, tmp_path: Path) -> None:
    from mistralai.client import Mistral  # noqa: PLC0415 - it takes a second

    bench.mistral.fails = lambda custom_id: custom_id == "d1"
    data = pdf(tmp_path / "a.pdf", 2).read_bytes()
    async with Mistral(api_key=KEY, server_url=bench.mistral_url) as client, asyncio.timeout(DEADLINE_S):
        file = await client.files.upload_async(file={"file_name": "a.pdf", "content": data}, purpose="ocr")
        assert (await client.files.retrieve_async(file_id=file.id)).size_bytes == len(data)
        address = (await client.files.get_signed_url_async(file_id=file.id)).url
        read = await client.ocr.process_async(
            model=MODEL, document={"type": "document_url", "document_url": address},
            include_image_base64=True,
        )  # fmt: skip
        assert [page.index for page in read.pages] == [0, 1]
        assert read.pages[0].images[0].image_base64
        assert read.usage_info.pages_processed == 2
        assert (await client.files.delete_async(file_id=file.id)).deleted
        requests = tmp_path / "requests.jsonl"
        asked = batch.request(document(tmp_path))
        batch.write_requests(requests, [("d0", asked), ("d1", asked)])
        lines = await client.files.upload_async(
            file={"file_name": "requests.jsonl", "content": requests.read_bytes()}, purpose="batch"
        )
        job = await client.batch.jobs.create_async(
            input_files=[lines.id], endpoint="/v1/ocr", model=MODEL, timeout_hours=24
        )
        while job.status == "QUEUED":
            job = await client.batch.jobs.get_async(job_id=job.id)
        assert (job.status, job.succeeded_requests, job.failed_requests) == ("SUCCESS", 1, 1)
        assert job.output_file is not None
        answers = await client.files.download_async(file_id=job.output_file)
        assert b'"d0"' in await answers.aread()
        assert (await client.batch.jobs.cancel_async(job_id=job.id)).status == "CANCELLED"
