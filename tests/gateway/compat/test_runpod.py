"""Jobs of endpoints, as a client of RunPod's API runs them that knows its documented requests alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from switchyard.services.gateway.doors.compat.runpod import jobs as runpod_jobs
from tests.broker.shared import SharedBroker
from tests.gateway.compat.site import FILE, KIND, LARGE, Compat, compat
from tests.gateway.rest import DEADLINE_S

BASE = "/compat/runpod/v2"
NOBODY = "compat-nobody"


@pytest.fixture
async def site(shared_broker: SharedBroker, tmp_path: Path) -> AsyncIterator[Compat]:
    async with compat(shared_broker, tmp_path, BASE, compat_kinds={"4XkQ2": KIND}) as running:
        yield running


async def ran(site: Compat, body: dict[str, Any], endpoint: str = KIND, **fields: Any) -> str:
    answer = await site.post(f"/{endpoint}/run", {"input": body, **fields})
    assert answer.status == 200, answer
    assert set(answer.json) == {"id", "status"}
    assert answer.json["status"] in ("IN_QUEUE", "IN_PROGRESS", "COMPLETED")
    found: str = answer.json["id"]
    return found


@pytest.mark.parametrize("endpoint", [KIND, "4XkQ2"])
async def test_a_job_is_run_and_polled(site: Compat, endpoint: str) -> None:
    job_id = await ran(site, {"n": 1}, endpoint)
    found = await site.until(f"/{endpoint}/status/{job_id}", "COMPLETED")
    assert set(found) == {"id", "status", "delayTime", "executionTime", "output", "workerId"}
    assert found["output"] == {"n": 1}
    assert isinstance(found["delayTime"], int)
    assert isinstance(found["executionTime"], int)


async def test_a_job_is_waited_for(site: Compat) -> None:
    answer = await site.post(f"/{KIND}/runsync", {"input": {"n": 2}})
    assert (answer.status, answer.json["status"], answer.json["output"]) == (200, "COMPLETED", {"n": 2})
    failed = (await site.post(f"/{KIND}/runsync", {"input": {"mode": "fail"}})).json
    assert (failed["status"], failed["error"]) == ("FAILED", "it broke")
    assert "output" not in failed


async def test_a_wait_that_ends_first_is_answered_as_the_job_is(site: Compat) -> None:
    answer = await site.post(f"/{KIND}/runsync?wait=300", {"input": {"mode": "hold"}})
    assert answer.json["status"] in ("IN_QUEUE", "IN_PROGRESS")
    site.work.go.set()
    found = await site.until(f"/{KIND}/status/{answer.json['id']}", "COMPLETED")
    assert found["output"] == "released"


@pytest.mark.parametrize("wait", ["-1", "1e3", "x", "300001", "9" * 30, "1.5"])
async def test_a_wait_that_is_no_number_of_milliseconds_makes_no_job(site: Compat, wait: str) -> None:
    path = f"/{NOBODY}/runsync?wait="
    refused = await site.post(path + wait, {"input": {}}, Idempotency_Key="k")
    assert (refused.status, refused.json["field"]) == (400, "wait")
    first = await site.post(path + "0", {"input": {}}, Idempotency_Key="k")
    again = await site.post(path + "0", {"input": {}}, Idempotency_Key="k")
    assert (first.status, first.json["id"]) == (200, again.json["id"])


async def test_a_stream_gives_each_part_of_the_output_once(site: Compat) -> None:
    job_id = await ran(site, {"mode": "lines", "lines": 2})
    parts: list[Any] = []
    async with asyncio.timeout(DEADLINE_S):
        while True:
            found = (await site.get(f"/{KIND}/stream/{job_id}")).json
            parts += [one["output"] for one in found["stream"]]
            if found["status"] == "COMPLETED" and not found["stream"]:
                break
    assert parts == ["one\ntwo", {"three": 3}]


def test_readers_of_streams_are_forgotten_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runpod_jobs, "READERS", 2)
    sent = runpod_jobs.Sent()
    assert [sent.is_new(("t", "a", job), 1) for job in ("1", "2", "1", "3", "1", "2")] == [
        True, True, False, True, False, True,
    ]  # fmt: skip


async def test_a_job_is_cancelled_and_one_that_ended_stays(site: Compat) -> None:
    waiting = await ran(site, {}, NOBODY)
    answer = await site.post(f"/{NOBODY}/cancel/{waiting}")
    assert (answer.status, answer.json) == (200, {"id": waiting, "status": "CANCELLED"})
    running = await ran(site, {"mode": "hold"})
    await site.until(f"/{KIND}/status/{running}", "IN_PROGRESS")
    assert (await site.post(f"/{KIND}/cancel/{running}")).json["status"] in ("IN_PROGRESS", "CANCELLED")
    await site.until(f"/{KIND}/status/{running}", "CANCELLED")
    done = (await site.post(f"/{KIND}/runsync", {"input": {}})).json["id"]
    assert (await site.post(f"/{KIND}/cancel/{done}")).json["status"] == "COMPLETED"


async def test_a_failed_job_starts_again_under_its_id(site: Compat) -> None:
    failed = (await site.post(f"/{KIND}/runsync", {"input": {"mode": "fail"}})).json["id"]
    again = await site.post(f"/{KIND}/retry/{failed}")
    assert (again.status, again.json) == (200, {"id": failed, "status": "IN_QUEUE"})
    await site.until(f"/{KIND}/status/{failed}", "FAILED")
    done = (await site.post(f"/{KIND}/runsync", {"input": {}})).json["id"]
    assert (await site.post(f"/{KIND}/retry/{done}")).status == 409


async def test_the_health_of_an_endpoint_counts_jobs_and_workers(site: Compat) -> None:
    await site.post(f"/{KIND}/runsync", {"input": {}})
    await site.post(f"/{KIND}/runsync", {"input": {"mode": "fail"}})
    held = await ran(site, {"mode": "hold"})
    await site.until(f"/{KIND}/status/{held}", "IN_PROGRESS")
    wanted = {"completed": 1, "failed": 1, "inProgress": 1, "inQueue": 0, "retried": 0}
    async with asyncio.timeout(DEADLINE_S):
        while True:
            found = (await site.get(f"/{KIND}/health")).json
            if found["jobs"] == wanted and found["workers"]["running"] == 1:
                break
            await asyncio.sleep(0.02)
    assert set(found["workers"]) == {"idle", "initializing", "ready", "running", "throttled", "unhealthy"}
    empty = (await site.get(f"/{NOBODY}/health")).json
    assert set(empty["workers"].values()) | set(empty["jobs"].values()) == {0}


async def test_a_purge_cancels_what_waits_and_came_by_this_door(site: Compat) -> None:
    mine = [await ran(site, {"n": n}, NOBODY) for n in range(120)]
    other = await site.api.submit(kind=NOBODY)
    elsewhere = await ran(site, {}, f"{NOBODY}-2")
    answer = await site.post(f"/{NOBODY}/purge-queue")
    assert (answer.status, answer.json) == (200, {"removed": 120, "status": "completed"})
    assert (await site.get(f"/{NOBODY}/status/{mine[0]}")).json["status"] == "CANCELLED"
    assert (await site.get(f"/{NOBODY}-2/status/{elsewhere}")).json["status"] == "IN_QUEUE"
    assert (await site.api.get(f"/v1/jobs/{other['id']}")).json["state"] == "queued"
    assert (await site.post(f"/{NOBODY}/purge-queue")).json["removed"] == 0


async def test_a_policy_limits_an_attempt_and_the_job(site: Compat) -> None:
    policy = {"executionTimeout": 250, "ttl": 86_400_000, "lowPriority": True}
    job_id = await ran(site, {}, NOBODY, policy=policy)
    job = (await site.api.get(f"/v1/jobs/{job_id}/events")).json["events"][0]["data"]["job"]
    assert (job["attempt_timeout_s"], job["priority"]) == (0.25, 25)
    assert job["deadline_at"]
    values: tuple[Any, ...] = (-1, 0, 1.5, "5", 10**12, [], True)
    for field in ("executionTimeout", "ttl"):
        for value in values:
            refused = await site.post(f"/{NOBODY}/run", {"input": {}, "policy": {field: value}})
            assert (refused.status, refused.json["field"]) == (400, f"policy.{field}"), value
    plain = {"policy": None}
    assert await ran(site, {}, NOBODY, **plain)
    assert await ran(site, {}, NOBODY, policy={"lowPriority": None, "ttl": None, "other": 1})


async def test_what_an_attempt_takes_too_long_for_is_timed_out(site: Compat) -> None:
    kinds = {"kind": KIND, "payload": {"mode": "hold"}, "max_attempts": 1, "attempt_timeout_s": 0.2}
    job = await site.api.submit(**kinds)
    found = await site.until(f"/{KIND}/status/{job['id']}", "TIMED_OUT", "FAILED")
    assert found["status"] == "TIMED_OUT"
    assert found["error"]


async def test_files_that_a_job_leaves_are_its_output(site: Compat) -> None:
    found = (await site.post(f"/{KIND}/runsync", {"input": {"mode": "save"}})).json
    assert (await site.api.get(found["output"].removeprefix(site.api.url))).raw == FILE
    assert found["artifacts"][0]["url"] == found["output"]


async def test_what_would_not_be_done_is_refused_by_name(site: Compat) -> None:
    for field, value in (("webhook", "https://example.com"), ("s3Config", {"bucketName": "b"})):
        refused = await site.post(f"/{NOBODY}/run", {"input": {}, field: value})
        assert (refused.status, refused.json["field"]) == (400, field)
        assert field in refused.json["error"]
    assert await ran(site, {}, NOBODY, webhook=None, s3Config=None, other=1)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"[]", 400), (b"{}", 400), (b'{"input": []}', 400), (b'{"input": "x"}', 400), (b"{", 400),
        (b'{"input": {"x": NaN}}', 400), (b'{"input": {}, "policy": []}', 400),
        *LARGE,
    ],
)  # fmt: skip
async def test_bodies_that_are_none_are_refused(site: Compat, body: bytes, status: int) -> None:
    for verb in ("run", "runsync"):
        answer = await site.post(f"/{NOBODY}/{verb}", body)
        assert answer.status == status, answer
        assert answer.json["error"]


async def test_refusals_are_in_the_words_of_the_api(site: Compat) -> None:
    nobody = await site.get(f"/{KIND}/health", token="nonsense")
    assert nobody.status == 401
    assert set(nobody.json) == {"error", "code"}
    viewer = site.api.token("viewer")
    assert (await site.post(f"/{KIND}/run", {"input": {}}, token=viewer)).status == 403
    assert (await site.get(f"/{KIND}/health", token=viewer)).status == 200
    for path in (f"/{KIND}/status/none", "/No%20Kind/health", f"/{KIND}/nowhere", f"/{KIND}"):
        answer = await site.get(path)
        assert (answer.status, bool(answer.json["error"])) == (404, True), path


async def test_other_tenants_and_other_endpoints_see_nothing(site: Compat) -> None:
    job_id = (await site.post(f"/{KIND}/runsync", {"input": {}})).json["id"]
    stranger = site.api.token("submitter", tenant=site.api.stranger)
    for method, verb in (("GET", "status"), ("GET", "stream"), ("POST", "cancel"), ("POST", "retry")):
        assert (await site.call(method, f"/{KIND}/{verb}/{job_id}", token=stranger)).status == 404
        assert (await site.call(method, f"/{NOBODY}/{verb}/{job_id}")).status == 404
    waiting = await ran(site, {}, NOBODY)
    assert (await site.post(f"/{NOBODY}/purge-queue", token=stranger)).json["removed"] == 0
    assert (await site.get(f"/{NOBODY}/status/{waiting}")).json["status"] == "IN_QUEUE"
    assert (await site.get(f"/{NOBODY}/health", token=stranger)).json["jobs"]["inQueue"] == 0
