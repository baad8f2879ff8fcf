"""Tasks of both generations: made, read, retried, cancelled."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from switchyard.events.commands import Fail
from switchyard.events.values import JobError
from tests.gateway.rest import Answer, Gateway
from tests.gateway.tasks.site import VIDEO, signed

TASKS = "/api/task"
ODD: tuple[Any, ...] = (
    None,
    0,
    -1,
    1.5,
    True,
    "",
    "x",
    [],
    {},
    [None],
    {"a": None},
    "\x00",
    "a" * 5000,
    1e400,
)


async def make(api: Gateway, body: Any, **headers: str) -> Answer:
    return await api.call("POST", TASKS, body, token=signed("user"), **headers)


async def read(api: Gateway, task_id: str) -> Any:
    answer = await api.get(f"{TASKS}/{task_id}", token=signed("user"))
    assert answer.status == 200, answer
    return answer.json


def job_of(task_id: str) -> str:
    return task_id.removeprefix("task-")


async def test_task_of_the_first_generation(api: Gateway) -> None:
    made = (await make(api, {**VIDEO, "unknown": 1})).json
    task_id = made["taskId"]
    assert uuid.UUID(job_of(task_id)).version in (4, 5, 7)
    details = made["taskDetails"]
    assert details == {
        "id": task_id, "status": "WAITING", "request": VIDEO, "serverId": "", "result": None,
        "createdAt": details["createdAt"], "updatedAt": details["createdAt"],
        "callbackUrl": f"{api.url}/api/task/{task_id}",
    }  # fmt: skip
    assert abs(details["createdAt"] / 1000 - datetime.now(UTC).timestamp()) < 60
    assert await read(api, task_id) == made
    leased = await api.lease(job_of(task_id), worker="w1")
    running = (await read(api, task_id))["taskDetails"]
    assert (running["status"], running["serverId"]) == ("PROCESSING", "w1")
    await api.complete(leased, {"label": "cat"})
    ended = (await read(api, task_id))["taskDetails"]
    assert ended["status"] == "FINISHED"
    assert ended["result"]["data"] == {"label": "cat"}
    assert ended["result"]["task_id"] == task_id
    assert ended["result"]["metadata"]["status"] == "FINISHED"
    assert ended["updatedAt"] >= details["createdAt"]


async def test_result_as_a_server_reported_it_is_shown_as_it_was(api: Gateway) -> None:
    task_id = (await make(api, VIDEO)).json["taskId"]
    report = {
        "backend_task_id": "b1",
        "data": {"x": 1},
        "metadata": {"server_id": "s1", "status": "FINISHED"},
    }
    await api.complete(await api.lease(job_of(task_id)), report)
    result = (await read(api, task_id))["taskDetails"]["result"]
    assert result == {**report, "task_id": task_id}


async def test_task_of_the_second_generation(api: Gateway) -> None:
    body = {"type": "image", "payload": {"a": 1}, "capabilities": ["gpu", "video"], "priority": 7}
    made = (await make(api, body)).json
    assert set(made) == {"id", "status", "createdAt", "updatedAt"}
    assert made["status"] == "PENDING"
    job_id = job_of(made["id"])
    job = await api.get(f"/v1/jobs/{job_id}")
    assert (job.json["priority"], job.json["labels"]) == (57, {"task-api": "2", "task-type": "image"})
    spec = await api.store.spec(job_id)  # type: ignore[arg-type]
    assert spec.payload == {**body, "async": True}
    assert spec.requires == {"gpu": {"$eq": True}, "video": {"$eq": True}}
    task = await read(api, made["id"])
    assert task == {
        "id": made["id"], "status": "PENDING", "progress": 0.0, "result": None, "attempts": 0,
        "createdAt": made["createdAt"], "updatedAt": made["createdAt"],
    }  # fmt: skip
    leased = await api.lease(job_id)
    assert (await read(api, made["id"]))["status"] == "PROCESSING"
    await api.complete(leased, [1, 2])
    task = await read(api, made["id"])
    assert (task["status"], task["result"], task["progress"], task["attempts"]) == (
        "COMPLETED",
        [1, 2],
        100,
        1,
    )


async def test_task_that_is_not_async_is_answered_with_its_result(api: Gateway) -> None:
    async def work() -> None:
        while True:
            jobs = (await api.get("/v1/jobs?state=queued")).json["jobs"]
            if jobs:
                await api.complete(await api.lease(jobs[0]["id"]), {"done": True})
                return
            await asyncio.sleep(0.02)

    working = asyncio.create_task(work())
    made = await make(api, {"payload": {}, "async": False})
    await working
    assert (made.json["status"], made.json["result"]) == ("COMPLETED", {"done": True})


async def test_failed_task_is_retried_and_one_that_is_not_is_not(api: Gateway) -> None:
    task_id = (await make(api, {"payload": {}})).json["id"]
    path = f"{TASKS}/{task_id}/retry"
    assert (await api.call("POST", path, token=signed("user"))).json["success"] is False
    await api.fail(await api.lease(job_of(task_id)), "broken", retryable=False)
    task = await read(api, task_id)
    assert (task["status"], task["error"]) == ("FAILED", "it broke")
    assert (await api.call("POST", path, token=signed("user"))).json == {
        "success": True, "message": "Task retry initiated",
    }  # fmt: skip
    assert (await read(api, task_id))["status"] == "PENDING"


async def test_task_that_took_too_long_says_so(api: Gateway) -> None:
    task_id = (await make(api, {"payload": {}})).json["id"]
    leased = await api.lease(job_of(task_id))
    assert leased.lease is not None
    error = JobError("timeout", "the attempt took longer than 1 s", retryable=False)
    command = Fail(now=datetime.now(UTC), fence=leased.lease.fence, error=error)
    await api.store.transition(leased, command, actor="worker:w1")
    assert (await read(api, task_id))["status"] == "TIMEOUT"


async def test_task_is_cancelled_once(api: Gateway) -> None:
    task_id = (await make(api, {"payload": {}})).json["id"]
    path = f"{TASKS}/{task_id}"
    answer = await api.call("DELETE", path, token=signed("user"))
    assert answer.json == {"success": True, "message": "Task cancelled successfully"}
    assert (await read(api, task_id))["status"] == "CANCELLED"
    again = await api.call("DELETE", path, token=signed("user"))
    assert (again.status, again.json["error"]) == (409, "Cannot cancel completed task")


async def test_same_request_with_an_idempotency_key_is_one_task(api: Gateway) -> None:
    first = await make(api, VIDEO, Idempotency_Key="k1")
    again = await make(api, VIDEO, Idempotency_Key="k1")
    assert first.json["taskId"] == again.json["taskId"]
    for key in ("k k", "k" * 256):
        answer = await make(api, VIDEO, Idempotency_Key=key)
        assert (answer.status, answer.json["details"][0]["path"]) == (400, ["Idempotency-Key"])


async def test_batch_answers_each_task_in_order(api: Gateway) -> None:
    keyed = {**VIDEO, "idempotencyKey": "k1"}
    tasks = [VIDEO, {"payload": {"n": 1}, "async": False}, {"mimeType": "x"}, keyed, 7, keyed]
    answer = await api.call("POST", f"{TASKS}/batch", {"tasks": tasks}, token=signed("user"))
    entries = answer.json["tasks"]
    assert answer.status == 200
    assert [entry["status"] for entry in entries[:3]] == [201, 201, 400]
    assert sorted(entry["status"] for entry in (entries[3], entries[5])) == [200, 201]
    assert entries[0]["answer"]["taskDetails"]["request"] == VIDEO
    assert entries[1]["answer"]["status"] == "PENDING"
    assert entries[2]["answer"]["details"][0]["path"] == ["model"]
    assert entries[3]["answer"]["taskId"] == entries[5]["answer"]["taskId"]
    assert entries[3]["answer"]["taskDetails"]["request"] == VIDEO
    assert (entries[4]["status"], entries[4]["answer"]["error"]) == (400, "Invalid request data")
    for wrong in list[Any](([], [VIDEO] * 101, {}, None)):
        answer = await api.call("POST", f"{TASKS}/batch", {"tasks": wrong}, token=signed("user"))
        assert (answer.status, answer.json["details"][0]["path"]) == (400, ["tasks"])


@pytest.mark.parametrize("missing", list(VIDEO))
async def test_missing_field_is_named(api: Gateway, missing: str) -> None:
    answer = await make(api, {name: value for name, value in VIDEO.items() if name != missing})
    assert (answer.status, answer.json["error"]) == (400, "Invalid request data")
    assert answer.json["details"][0]["path"] == [missing]


@pytest.mark.parametrize(
    "path",
    [
        "nonexistent-task-id",
        "task-",
        "task-x",
        "task-7b1e2f4c-0d3a-4e55-9c1b-2f6a8d9e0b1c",
        "task-" + "a" * 3000,
        "%00",
    ],
)
async def test_task_that_is_not_there_is_not_found(api: Gateway, path: str) -> None:
    answer = await api.get(f"{TASKS}/{path}", token=signed("user"))
    assert answer.status == 404
    assert "not found" in answer.json["error"] or "there is no" in answer.json["error"]


@pytest.mark.parametrize("base", [VIDEO, {"payload": {}, "type": "t", "capabilities": ["a"], "priority": 1}])
async def test_odd_values_of_every_field_are_refused_or_taken_and_never_an_error(
    api: Gateway, base: dict[str, Any]
) -> None:
    for name in [*base, "async", "payload", "priority", "capabilities"]:
        for value in ODD:
            answer = await make(api, {**base, name: value} if value != 1e400 else b'{"payload": 1e400}')
            assert answer.status in (200, 400), (name, value, answer)
            assert answer.status == 200 or answer.json["details"][0]["message"], (name, value)
    for body in ODD:
        if body != 1e400:
            assert (await make(api, body if body is not None else b"null")).status == 400
