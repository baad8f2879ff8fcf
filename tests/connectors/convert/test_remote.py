"""Documents that go by Mistral's batch API, whoever dies, and whatever the API does meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiohttp import web

from switchyard.connectors import BackendConnector, BackendLostError, FatalError, Outcome, RetryableError
from switchyard.services.connectors.convert.connector import ConvertConnector
from tests.connectors.attempts import LocalAttempt
from tests.connectors.convert.bench import DEADLINE_S, Bench, pdf
from tests.connectors.convert.double.serving import answering, cut

JOBS = "/v1/batch/jobs"
FOR_EVER = 10**9


def converter(bench: Bench, **more: object) -> ConvertConnector:
    return bench.converter(mistral={"batch_poll_s": 0.01, "max_pages": 2, **more})


def left_to(made: ConvertConnector) -> BackendConnector:
    assert isinstance(made, BackendConnector)
    return made


async def run(made: ConvertConnector, attempt: LocalAttempt) -> Outcome:
    async with asyncio.timeout(DEADLINE_S):
        return await made.run(attempt)


async def attach(made: ConvertConnector, attempt: LocalAttempt, remote_id: str) -> Outcome:
    async with asyncio.timeout(DEADLINE_S):
        return await left_to(made).attach(attempt, remote_id)


async def killed(bench: Bench, made: ConvertConnector, attempt: LocalAttempt) -> str:
    """What the batch is called of an attempt whose worker dies while it is read."""
    bench.mistral.polls_left = FOR_EVER
    task = asyncio.create_task(made.run(attempt))
    async with asyncio.timeout(DEADLINE_S):
        while not attempt.delegated or not attempt.delegated[-1][0]:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
    bench.mistral.polls_left = 1
    return attempt.delegated[-1][0]


async def test_a_long_document_is_one_batch_of_its_parts(bench: Bench, tmp_path: Path) -> None:
    made = converter(bench)
    attempt = bench.attempt(pdf(tmp_path / "a.pdf", 5), batch=True, page_breaks=True)
    bench.mistral.polls_left = 3
    outcome = await run(made, attempt)
    assert (outcome.result["engine"], outcome.result["pages"]) == ("mistral", 5)
    assert [f"# Page {101 + number}" in outcome.result["markdown"] for number in range(5)] == [True] * 5
    assert outcome.usage["pages"] == 5
    assert [remote_id for remote_id, _ in attempt.delegated] == ["", "job-1"]
    assert bench.mistral.asked.count(f"POST {JOBS}") == 1
    assert bench.mistral.jobs["job-1"]["metadata"]["switchyard_job"] == attempt.job_id
    assert bench.mistral.files != {}  # until the end is recorded
    await made.close()
    assert bench.mistral.files == {}
    assert "POST /v1/ocr" not in bench.mistral.asked


async def test_settings_and_jobs_say_what_goes_in_a_batch(bench: Bench, tmp_path: Path) -> None:
    source = pdf(tmp_path / "a.pdf", 1)
    for setting, asked, goes in (
        ("asked", None, False), ("always", None, True), ("always", False, False), ("never", True, False),
    ):  # fmt: skip
        made = converter(bench, batch=setting)
        assert isinstance(made, BackendConnector) is (setting != "never")
        before = len(bench.mistral.jobs)
        await run(made, bench.attempt(source, batch=asked))
        assert (len(bench.mistral.jobs) > before) is goes, (setting, asked)
    with pytest.raises(FatalError, match="does not take documents in batches"):
        await run(converter(bench), bench.attempt(source, batch=True, engine="local"))


async def test_whoever_goes_on_finds_the_batch_and_pays_for_nothing_twice(
    bench: Bench, tmp_path: Path
) -> None:
    source, made = pdf(tmp_path / "a.pdf", 3), converter(bench)
    remote_id = await killed(bench, made, bench.attempt(source, batch=True))
    other = converter(bench)
    assert left_to(made).backend == left_to(other).backend
    for noted in (remote_id, ""):  # the worker died before it noted the second
        assert (await attach(other, bench.attempt(source, batch=True), noted)).usage["pages"] == 3
    later = bench.attempt(source, batch=True)  # and where the lease was lost
    later.number = 2
    assert (await run(other, later)).usage["pages"] == 3
    assert later.delegated[0][0] == remote_id
    assert bench.mistral.read == [2, 1]
    attempt = bench.attempt(source, batch=True)
    attempt.job_id = "0190d3f1-6f55-7b0e-9a6b-3f7c3d1f0a12"
    for noted in ("", "nobody"):
        with pytest.raises(BackendLostError):
            await attach(other, attempt, noted)


async def test_only_what_has_failed_of_half_a_batch_is_ordered_again(bench: Bench, tmp_path: Path) -> None:
    source, made = pdf(tmp_path / "a.pdf", 4), converter(bench)
    bench.mistral.forgets = lambda custom_id: custom_id.startswith("2-")
    bench.mistral.ends_as = "TIMEOUT_EXCEEDED"
    with pytest.raises(RetryableError, match="1 of 2 parts are not read") as failed:
        await run(made, bench.attempt(source, batch=True))
    assert failed.value.code == "engine_failed"
    assert bench.mistral.read == [2]
    bench.mistral.forgets, bench.mistral.ends_as = lambda _: False, "SUCCESS"
    again = bench.attempt(source, batch=True)
    again.number = 2
    assert (await run(made, again)).usage["pages"] == 4
    assert bench.mistral.read == [2, 2]
    assert [job["total_requests"] for job in bench.mistral.jobs.values()] == [2, 1]
    bench.mistral.fails = lambda custom_id: custom_id.startswith("2-")
    other = bench.attempt(source, batch=True)
    other.job_id = "0190d3f1-6f55-7b0e-9a6b-3f7c3d1f0a12"
    with pytest.raises(FatalError, match="it cannot be read") as refused:
        await run(made, other)
    assert refused.value.code == "document_refused"


async def test_faults_of_the_api_are_waited_out(bench: Bench, tmp_path: Path) -> None:
    source, made = pdf(tmp_path / "a.pdf", 1), converter(bench, wait_s=10.0)
    held = answering({"message": "slow down"}, 429, {"Retry-After": "1"})

    async def made_and_cut(request: web.Request) -> web.StreamResponse:
        await bench.mistral._create(request)
        return await cut(request)

    bench.mistral.instead(JOBS, held, made_and_cut)
    bench.mistral.instead(f"{JOBS}/job-1", answering({}, 500), cut, answering([]), held)
    bench.mistral.polls_left = 2
    bench.mistral.instead("/v1/files/file-2/content", cut, answering({}, 503))
    assert (await run(made, bench.attempt(source, batch=True))).usage["pages"] == 1
    assert (len(bench.mistral.jobs), bench.mistral.read) == (1, [1])
    bench.mistral.instead(JOBS, answering({}, 402))
    with pytest.raises(RetryableError) as failed:
        await run(made, bench.attempt(source, batch=True))
    assert failed.value.code == "engine_failed"


async def test_a_cancel_reaches_the_batch_and_removes_what_is_there(bench: Bench, tmp_path: Path) -> None:
    source, made = pdf(tmp_path / "a.pdf", 3), converter(bench)
    attempt = bench.attempt(source, batch=True)
    remote_id = await killed(bench, made, attempt)
    bench.mistral.polls_left = FOR_EVER
    for noted in (remote_id, "", "nobody"):  # the second and third time there is nothing to do
        async with asyncio.timeout(DEADLINE_S):
            await left_to(converter(bench)).stop(attempt, noted)
        assert bench.mistral.jobs[remote_id]["status"] == "CANCELLED"
        assert bench.mistral.files == {}
    bench.mistral.instead(JOBS, answering({}, 500))
    with pytest.raises(RetryableError):
        await left_to(made).stop(attempt, "")
