from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_type_hints

import pytest

from switchyard import models
from switchyard.client import (
    ApiError,
    AsyncClient,
    AuthenticationError,
    Client,
    ConfigurationError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    JobFailedError,
    NotEndedError,
    NotFoundError,
    ServerError,
    Submission,
    UnreachableError,
)
from switchyard.events.vocabulary.ids import JobId
from switchyard.services.intake.request import BulkLine
from tests.gateway.rest import Gateway
from tests.switchyard.cable import cable, refusal


def test_a_submission_has_all_fields_of_the_api() -> None:
    assert set(get_type_hints(models.Submission)) == set(BulkLine.__struct_fields__)


async def test_a_job_is_submitted_with_all_that_it_says(api: Gateway, client: AsyncClient) -> None:
    first = await client.submit("noop")
    await api.call("PUT", "/v1/limits/scarce", {"concurrency": 1}, token=api.token("admin"))
    job = await client.submit(
        "noop", {"n": 1},
        priority=90, labels={"team": "red"}, max_attempts=2, retry={"base_s": 1}, attempt_timeout_s=9,
        queue_timeout_s=900, ageing={"every_s": 60, "step": 5},
        start_at=datetime.now(UTC) + timedelta(hours=1), deadline_s=9000,
        requires={"gpu.memory_gb": {"$gte": 8}}, prefers={"warm": True}, isolation="loose",
        limits=["scarce"], depends_on=[first.id], on_dependency_failure="run",
    )  # fmt: skip
    assert (job.kind, job.priority, job.labels, job.max_attempts) == ("noop", 90, {"team": "red"}, 2)
    assert (job.state, job.depends_on, job.tenant) == ("blocked", [first.id], api.tenant)
    assert (await client.get(job.id)).id == job.id
    assert (await client.get(job.id, at=job.seq)).state == "blocked"
    spec = await api.store.spec(JobId(job.id))
    assert spec.isolation.startswith("loose")
    assert spec.limits == (f"{api.tenant}.scarce",)
    assert spec.requires
    assert spec.deadline_at


async def test_a_submission_whose_answer_was_lost_is_not_made_twice(
    api: Gateway, client: AsyncClient
) -> None:
    async with cable(api.url) as wire, AsyncClient(wire.url, api.token()) as shaky:
        wire.swallow = 2
        job = await shaky.submit("noop", {"n": 1})
    assert wire.connections == 3
    assert [one.id async for one in client.list(min_seq=job.seq)] == [job.id]


@pytest.mark.parametrize("status", [429, 503])
async def test_a_gateway_that_is_busy_is_asked_again(api: Gateway, status: int) -> None:
    async with cable(api.url) as wire, AsyncClient(wire.url, api.token()) as shaky:
        wire.answers = [refusal(status, retry_after="1"), refusal(status)]
        assert (await shaky.submit("noop")).state == "queued"
    assert wire.connections == 3


async def test_what_is_not_safe_to_repeat_is_sent_once(api: Gateway) -> None:
    async with cable(api.url) as wire, AsyncClient(wire.url, api.token()) as shaky:
        wire.answers = [refusal(503)]
        with pytest.raises(ServerError) as raised:
            await shaky.upload(_blocks(b"a"))
        assert (raised.value.status, raised.value.code) == (503, "unavailable")
    assert wire.connections == 1


async def test_tries_come_to_an_end(api: Gateway) -> None:
    async with cable(api.url) as wire, AsyncClient(wire.url, api.token(), retries=2) as shaky:
        wire.swallow = 99
        with pytest.raises(UnreachableError):
            await shaky.submit("noop")
    assert wire.connections == 3


async def test_a_job_is_waited_for_and_its_result_read(api: Gateway, client: AsyncClient) -> None:
    job = await client.submit("noop")
    with pytest.raises(NotEndedError):
        await client.wait(job.id, timeout_s=0.05)
    waiting = asyncio.create_task(client.result(job.id, timeout_s=20))
    await api.complete(await api.lease(job.id), {"made": [1, 2]})
    assert await waiting == {"made": [1, 2]}


async def test_a_result_that_is_a_file_is_read(api: Gateway, client: AsyncClient) -> None:
    file = await client.upload(b'{"large": true}', name="result.json")
    job = await client.submit("noop")
    artifact = {"file": file.id, "name": "result.json", "type": "application/json", "size_bytes": 15}
    await api.complete(await api.lease(job.id), artifacts=(artifact,))
    assert await client.result(job.id) == {"large": True}


async def test_a_job_without_a_result_says_why(api: Gateway, client: AsyncClient) -> None:
    job = await client.submit("noop")
    await api.fail(await api.lease(job.id), "no_disk", retryable=False)
    with pytest.raises(JobFailedError, match="no_disk: it broke") as raised:
        await client.result(job.id)
    assert raised.value.job.state == "dead"
    assert (await client.explain(job.id))["state"] == "dead"


async def test_a_job_is_cancelled(client: AsyncClient) -> None:
    job = await client.submit("noop")
    assert (await client.cancel(job.id, "changed my mind")).state == "cancelled"
    events = [event async for event in client.events(job.id)]
    assert [event.type for event in events] == ["submitted", "cancelled"]
    assert [event.type async for event in client.events(job.id, after=events[0].seq)] == ["cancelled"]


async def test_a_job_that_has_ended_is_archived(api: Gateway, client: AsyncClient) -> None:
    job = await client.submit("noop")
    with pytest.raises(ConflictError) as early:
        await client.archive(job.id)
    assert early.value.code == "illegal_transition"
    await api.complete(await api.lease(job.id), {"n": 1})
    async with AsyncClient(api.url, api.token("viewer")) as viewer:
        with pytest.raises(ForbiddenError):
            await viewer.archive(job.id)
    async with AsyncClient(api.url, api.token(tenant=api.stranger)) as stranger:
        with pytest.raises(NotFoundError):
            await stranger.archive(job.id)
    for unknown in ("0198c0de-0000-7000-8000-000000000000", "no-job"):
        with pytest.raises(NotFoundError):
            await client.archive(unknown)
    for _ in range(2):
        archived = await client.archive(job.id)
        assert (archived.state, archived.archived_as, archived.succeeded) == ("archived", "succeeded", True)


async def test_lists_run_over_all_pages_and_obey_their_filters(client: AsyncClient) -> None:
    made = [await client.submit("noop", labels={"n": str(n % 2)}) for n in range(5)]
    everything = [job.id async for job in client.list(page_size=2, min_seq=made[-1].seq)]
    assert everything == [job.id for job in reversed(made)]
    odd = [job.id async for job in client.list(kind="noop", state=["queued"], labels={"n": "1"})]
    assert odd == [made[3].id, made[1].id]
    later = client.list(created_after=datetime.now(UTC) + timedelta(hours=1))
    assert [job async for job in later] == []


@pytest.mark.parametrize(
    ("kind", "fields", "error", "field"),
    [("No Name", {}, InvalidError, "kind"), ("noop", {"priority": 101}, InvalidError, "priority")],
)
async def test_a_refusal_names_code_and_field(
    client: AsyncClient, kind: str, fields: models.Options, error: type[ApiError], field: str
) -> None:
    with pytest.raises(error) as raised:
        await client.submit(kind, **fields)
    assert (raised.value.status, raised.value.code, raised.value.field) == (422, "invalid", field)


async def test_each_status_is_an_exception_of_its_own(api: Gateway, client: AsyncClient) -> None:
    with pytest.raises(NotFoundError):
        await client.get("01a206cb-14b3-7f30-904f-7f2a9444f80b")
    await client.submit("noop", {"n": 1}, idempotency_key="k")
    with pytest.raises(ConflictError, match="key") as raised:
        await client.submit("noop", {"n": 2}, idempotency_key="k")
    assert raised.value.code == "idempotency_conflict"
    async with AsyncClient(api.url, "nonsense") as stranger:
        with pytest.raises(AuthenticationError):
            await stranger.get("x")
        with pytest.raises(AuthenticationError):
            await anext(stranger.stream())


# --- Bulk


async def _lines(count: int) -> AsyncIterator[Submission]:
    for n in range(count):
        yield {"kind": "noop", "payload": {"n": n}}


async def test_a_bulk_submission_answers_line_by_line(client: AsyncClient) -> None:
    lines: list[Submission] = [
        {"kind": "noop", "idempotency_key": "k1"},
        {"kind": "noop", "priority": 101},
        {"kind": "noop", "idempotency_key": "k1"},
    ]
    answers = [answer async for answer in client.submit_many(lines)]
    assert [(answer.index, answer.status) for answer in answers] == [(0, 201), (1, 422), (2, 200)]
    assert answers[0].id == answers[2].id
    assert answers[1].error is not None
    assert answers[1].error["field"] == "priority"


async def test_answers_come_before_the_last_line_is_sent(client: AsyncClient) -> None:
    answered = asyncio.Event()

    async def lines() -> AsyncIterator[Submission]:
        yield {"kind": "noop"}
        await answered.wait()
        yield {"kind": "noop"}

    seen = []
    async with asyncio.timeout(60):
        async for answer in client.submit_many(lines()):
            seen.append(answer.index)
            answered.set()
    assert seen == [0, 1]


async def test_a_broken_bulk_submission_loses_and_doubles_nothing(api: Gateway, client: AsyncClient) -> None:
    async with cable(api.url) as wire, AsyncClient(wire.url, api.token()) as shaky:
        wire.cut_after = [0, 5_000, 20_000]
        answers = [answer async for answer in shaky.submit_many(_lines(2_500))]
    assert wire.connections == 4
    assert [answer.index for answer in answers] == list(range(2_500))
    assert {answer.status for answer in answers} <= {200, 201}
    last = max(answer.seq or 0 for answer in answers)
    listed = [job.id async for job in client.list(page_size=500, min_seq=last)]
    assert sorted(listed) == sorted({str(answer.id) for answer in answers})


async def test_an_error_in_making_the_lines_reaches_the_caller(client: AsyncClient) -> None:
    async def lines() -> AsyncIterator[Submission]:
        yield {"kind": "noop"}
        raise ValueError("no more")

    answers = client.submit_many(lines())
    assert (await anext(answers)).status == 201
    with pytest.raises(ValueError, match="no more"):
        await anext(answers)


# --- Files


async def _blocks(*blocks: bytes) -> AsyncIterator[bytes]:
    for block in blocks:
        yield block


async def test_files_go_up_and_down(client: AsyncClient, tmp_path: Path) -> None:
    source = tmp_path / "in.txt"
    source.write_bytes(b"abc")
    stored = [
        await client.upload(source, media_type="text/plain", idempotency_key="k"),
        await client.upload(str(source), media_type="text/plain", idempotency_key="k"),
        await client.upload(b"", name="empty"),
        await client.upload(_blocks(b"a", b"bc"), ttl_s=60),
    ]
    assert stored[0] == stored[1]
    assert [(file.name, file.type, file.size_bytes) for file in stored[1:]] == [
        ("in.txt", "text/plain", 3),
        ("empty", "application/octet-stream", 0),
        ("file", "application/octet-stream", 3),
    ]
    for number, (file, data) in enumerate(zip(stored[1:], (b"abc", b"", b"abc"), strict=True)):
        assert (await client.download(file.id, tmp_path / f"out-{number}")).read_bytes() == data
    await client.delete_file(stored[0].id)
    with pytest.raises(NotFoundError):
        await client.download(stored[0].id, tmp_path / "gone")
    assert not await asyncio.to_thread(lambda: list(tmp_path.glob("*gone*")))


async def test_a_broken_download_goes_on_where_it_was(
    api: Gateway, client: AsyncClient, tmp_path: Path
) -> None:
    data = bytes(range(256)) * 8192
    file = await client.upload(data)
    async with cable(api.url) as wire, AsyncClient(wire.url, api.token()) as shaky:
        wire.cut_after = [1_000_000, 600_000]
        assert (await shaky.download(file.id, tmp_path / "out")).read_bytes() == data
    assert wire.connections == 3


async def test_a_broken_upload_is_sent_again(api: Gateway, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.write_bytes(b"x" * 1_000_000)
    async with cable(api.url) as wire, AsyncClient(wire.url, api.token()) as shaky:
        wire.swallow = 1
        file = await shaky.upload(source)
        assert file.size_bytes == 1_000_000
    assert wire.connections == 2


# --- Where the gateway is


async def test_the_gateway_is_found_by_argument_environment_or_data_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SWITCHYARD_URL", "SWITCHYARD_TOKEN", "SWITCHYARD_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigurationError, match="switchyard up"):
        AsyncClient(data_dir=tmp_path)
    (tmp_path / "connection.json").write_text(json.dumps({"url": "http://file:1/", "token": "t"}))
    assert AsyncClient(data_dir=tmp_path).url == "http://file:1"
    monkeypatch.setenv("SWITCHYARD_DATA_DIR", str(tmp_path))
    assert AsyncClient().url == "http://file:1"
    monkeypatch.setenv("SWITCHYARD_URL", "http://environment:2")
    assert AsyncClient().url == "http://environment:2"
    assert AsyncClient("https://argument").url == "https://argument"
    with pytest.raises(ConfigurationError, match="http://"):
        AsyncClient("ftp://x")


# --- Without asyncio


async def test_the_plain_client_does_the_same(api: Gateway, tmp_path: Path) -> None:
    def program() -> list[str]:
        with Client(api.url, api.token()) as plain:
            job = plain.submit("noop", {"n": 1}, labels={"a": "b"})
            file = plain.upload(b"abc", name="a.txt")
            assert plain.download(file.id, tmp_path / "a").read_bytes() == b"abc"
            plain.delete_file(file.id)
            more = list(plain.submit_many({"kind": "noop"} for _ in range(3)))
            assert [answer.status for answer in more] == [201] * 3
            assert job.id in [one.id for one in plain.list(min_seq=more[-1].seq)]
            assert plain.get(job.id).id == job.id
            assert plain.explain(job.id)["state"] == "queued"
            assert plain.cancel(job.id).state == "cancelled"
            assert plain.wait(job.id, timeout_s=20).ended
            assert plain.archive(plain.cancel(plain.submit("noop").id).id).state == "archived"
            with pytest.raises(JobFailedError):
                plain.result(job.id)
            stream = plain.stream(jobs=[job.id], after=job.seq)
            assert type(next(stream)).__name__ == "Transition"
            assert [type(message).__name__ for message in plain.follow(job.id)] == ["Transition"] * 2
            assert file.id not in [one.id for one in plain.files()]
            found = [event.type for event in plain.events(job.id)]
        plain.close()
        return found

    assert await asyncio.to_thread(program) == ["submitted", "cancelled"]
