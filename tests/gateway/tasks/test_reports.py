"""Reports on tasks with a user's token: they count for the attempt that a server has."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any, Final

import jwt
import pytest

from switchyard.events.commands import Delegate
from switchyard.events.job import Job
from switchyard.events.values import Backend
from switchyard.events.vocabulary.ids import JobId
from switchyard.services.access.ticket_claims import OutcomeClaims
from switchyard.services.dispatch.backends.index import Index
from tests.gateway.leases.test_leases import Worker
from tests.gateway.rest import DEADLINE_S, Answer, Gateway, now
from tests.gateway.tasks.site import VIDEO, signed
from tests.gateway.tasks.test_tasks import ODD

SERVER: Final = Backend("server", "t.0123456789abcdef01234567")
METADATA: Final[dict[str, Any]] = {
    "server_id": "mock-1", "status": "FINISHED", "processing_time": 1000, "model_time": 800,
    "queue_time": 200, "progress": 100, "message": "done",
}  # fmt: skip
FIRST: Final[dict[str, Any]] = {
    "task_id": "said again", "backend_task_id": "b1", "data": {"prediction": "positive"},
    "metadata": METADATA,
}  # fmt: skip


def first(status: str, **metadata: Any) -> dict[str, Any]:
    """A report of the first generation."""
    return {**FIRST, "metadata": {**METADATA, "status": status, **metadata}}


async def make(api: Gateway, body: Any) -> str:
    made = (await api.call("POST", "/api/task", body, token=signed("user"))).json
    return str(made.get("taskId") or made["id"])


async def pushed(api: Gateway, body: Any) -> str:
    """A task that a server has."""
    task_id = await make(api, body)
    job = await api.lease(task_id.removeprefix("task-"), worker=f"server.{api.tenant}.s1")
    assert job.lease is not None
    command = Delegate(
        now=now(), fence=job.lease.fence, backend=SERVER, expires_at=now() + timedelta(seconds=60)
    )
    await api.store.transition(job, command, actor="pusher:p")
    return task_id


async def put(api: Gateway, task_id: str, body: Any) -> Answer:
    return await api.call("PUT", f"/api/task/{task_id}", body, token=signed("user"))


async def read(api: Gateway, task_id: str) -> Any:
    answer = await api.get(f"/api/task/{task_id}", token=signed("user"))
    assert answer.status == 200, answer
    return answer.json


async def loaded(api: Gateway, task_id: str) -> Job:
    return await api.store.load(JobId(task_id.removeprefix("task-")))


async def test_a_user_with_the_name_of_a_back_end_reports_as_a_user(api: Gateway) -> None:
    task_id = await pushed(api, VIDEO)
    name = f"backend:{SERVER.kind}.{SERVER.id}"
    token = signed("user", sub=name)
    assert (await api.call("PUT", f"/api/task/{task_id}", FIRST, token=token)).status == 200
    history = await api.store.history(JobId(task_id.removeprefix("task-")))
    assert (history[-1].name, history[-1].actor) == ("succeeded", f"user:{name}")


async def test_report_of_the_first_generation_is_the_result(api: Gateway) -> None:
    task_id = await pushed(api, VIDEO)
    assert (await read(api, task_id))["taskDetails"]["serverId"] == "s1"
    heard = await put(api, task_id, first("PROCESSING", progress=40, message="half way"))
    assert heard.json["taskDetails"]["status"] == "PROCESSING"
    done = await put(api, task_id, FIRST)
    assert (done.status, done.json["taskId"]) == (200, task_id)
    details = done.json["taskDetails"]
    assert details["status"] == "FINISHED"
    assert details["result"] == {**FIRST, "task_id": task_id}
    assert details == (await read(api, task_id))["taskDetails"]
    history = await api.store.history(JobId(task_id.removeprefix("task-")))
    assert (history[-1].name, history[-1].actor) == ("succeeded", "user:ann")


async def test_report_of_the_second_generation_is_the_result(api: Gateway) -> None:
    task_id = await pushed(api, {"payload": {}})
    heard = await put(api, task_id, {"status": "PROCESSING", "progress": 40})
    assert (heard.json["id"], heard.json["status"]) == (task_id, "PROCESSING")
    async with asyncio.timeout(DEADLINE_S):
        while (await read(api, task_id))["progress"] != 40:
            await asyncio.sleep(0.02)
    done = await put(api, task_id, {"status": "COMPLETED", "result": [1, {"a": None}], "progress": 100})
    assert (set(done.json), done.json["status"]) == ({"id", "status", "updatedAt"}, "COMPLETED")
    task = await read(api, task_id)
    assert (task["status"], task["result"], task["progress"]) == ("COMPLETED", [1, {"a": None}], 100)


LATE: Final = (
    *(first(status) for status in ("WAITING", "PROCESSING", "FINISHED", "FAILED")),
    *({"status": status, "result": "other"} for status in ("PENDING", "COMPLETED", "FAILED", "CANCELLED")),
)


@pytest.mark.parametrize("body", [VIDEO, {"payload": {}}])
async def test_report_that_comes_twice_or_late_changes_nothing(api: Gateway, body: Any) -> None:
    task_id = await pushed(api, body)
    assert (await put(api, task_id, {"status": "COMPLETED", "result": {"n": 1}})).status == 200
    before = (await loaded(api, task_id)).seq
    for late in LATE:
        again = await put(api, task_id, late)
        said = again.json.get("status") or again.json["taskDetails"]["status"]
        assert (again.status, said) == (200, "COMPLETED" if "status" in late else "FINISHED")
    assert (await loaded(api, task_id)).seq == before


async def test_reports_at_once_land_once(api: Gateway) -> None:
    task_id = await pushed(api, {"payload": {}})
    bodies = [{"status": "COMPLETED", "result": n} for n in range(8)]
    answers = await asyncio.gather(*(put(api, task_id, body) for body in bodies))
    assert {answer.status for answer in answers} == {200}
    history = await api.store.history(JobId(task_id.removeprefix("task-")))
    assert [entry.name for entry in history].count("succeeded") == 1


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (first("FAILED", message="no GPU"), "server_failed", "no GPU"),
        (first("FAILED", message=None), "server_failed", "the server did not say why"),
        ({"status": "FAILED", "error": "broken"}, "server_failed", "broken"),
        ({"status": "TIMEOUT"}, "timeout", "the server did not say why"),
    ],
)
async def test_failure_counts_and_the_retries_of_the_job_decide(
    api: Gateway, body: Any, code: str, message: str
) -> None:
    task_id = await pushed(api, {"payload": {}})
    assert (await put(api, task_id, body)).status == 200
    job = await loaded(api, task_id)
    assert job.error is not None
    assert (job.status.value, job.error.code, job.error.message) == ("retrying", code, message)
    waits = await put(api, task_id, body)
    assert (waits.status, waits.json["code"]) == (409, "no_attempt")


async def test_task_that_its_server_cancelled_is_cancelled(api: Gateway) -> None:
    for asked in (False, True):
        task_id = await pushed(api, {"payload": {}})
        if asked:
            assert (await api.call("DELETE", f"/api/task/{task_id}", token=signed("user"))).status == 200
            assert (await read(api, task_id))["status"] == "PROCESSING"
        done = await put(api, task_id, {"status": "CANCELLED", "error": "e" * 5000})
        assert (done.status, done.json["status"]) == (200, "CANCELLED"), done


async def test_task_that_no_server_has_cannot_be_reported_on(api: Gateway) -> None:
    waiting = await make(api, VIDEO)
    held = await make(api, {"payload": {}})
    await api.lease(held.removeprefix("task-"), worker="w1")
    for task_id, code in ((waiting, "no_attempt"), (held, "not_delegated")):
        for body in (FIRST, {"status": "COMPLETED"}, {"status": "CANCELLED"}):
            answer = await put(api, task_id, body)
            assert (answer.status, answer.json["code"]) == (409, code)
            assert answer.json["error"].startswith(task_id)
    assert (await put(api, "task-7b1e2f4c-0d3a-4e55-9c1b-2f6a8d9e0b1c", FIRST)).status == 404


async def test_job_that_is_no_task_cannot_be_reported_on(api: Gateway) -> None:
    job = await api.lease((await api.submit())["id"])
    assert job.lease is not None
    command = Delegate(now=now(), fence=job.lease.fence, backend=SERVER, expires_at=now())
    await api.store.transition(job, command, actor="worker:w1")
    answer = await put(api, f"task-{job.id}", {"status": "COMPLETED"})
    assert (answer.status, answer.json["code"]) == (409, "not_delegated")


async def test_task_of_another_tenant_cannot_be_reported_on(api: Gateway) -> None:
    task_id = await pushed(api, VIDEO)
    foreign = api.token("submitter", tenant=api.stranger)
    assert (await api.call("PUT", f"/api/task/{task_id}", FIRST, token=foreign)).status == 404


@pytest.mark.parametrize("noted", [True, False])
async def test_end_frees_the_place_under_a_limit(api: Gateway, noted: bool) -> None:  # noqa: FBT001 - a parameter
    limit = await api.call("PUT", "/v1/limits/gpu", {"concurrency": 1}, token=api.token("admin"))
    assert limit.status in (200, 201), limit
    made = [await api.submit(kind=api.settings.task_kind, limits=["gpu"]) for _ in range(2)]
    lease_s = 300 if noted else 3
    worker = Worker(api, kinds=[api.settings.task_kind], lease_s=lease_s)
    claimed = await worker.claim(wait_s=10)
    assert claimed.status == 201, claimed
    assert (await worker.claim(wait_s=0)).status == 204
    said = jwt.decode(claimed.json["lease"]["token"], options={"verify_signature": False})
    assert said["places"]
    if noted:
        index = Index(api.nc, api.publisher, timeout_s=20)
        claims = OutcomeClaims(
            job=said["job"], fence=said["fence"], attempt=1, worker=said["worker"], tenant=api.tenant,
            lease_s=lease_s, places=tuple(said["places"]), backend=SERVER,
        )  # fmt: skip
        await index.note(claims, said["worker"], 60)
    left = await worker.say(claimed, "delegate", {"backend": {"kind": SERVER.kind, "id": SERVER.id}})
    assert left.status == 200, left
    assert claimed.json["job"]["id"] == made[0]["id"]
    assert (await put(api, f"task-{made[0]['id']}", FIRST)).status == 200
    again = await worker.claim(
        wait_s=20
    )  # where nothing was noted, the place comes back when its time is over
    assert again.status == 201


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "status"),
        ({"status": "DONE"}, "status"),
        ({"status": "FINISHED"}, "status"),
        ({**FIRST, "data": None}, "data"),
        ({name: value for name, value in FIRST.items() if name != "data"}, "data"),
        ({name: value for name, value in FIRST.items() if name != "backend_task_id"}, "backend_task_id"),
        (first("COMPLETED"), "metadata.status"),
        ({**FIRST, "metadata": {"status": "FINISHED"}}, "metadata.server_id"),
        ({**FIRST, "metadata": {"server_id": "s"}}, "metadata.status"),
        (first("FINISHED", progress="x"), "metadata.progress"),
    ],
)
async def test_report_that_breaks_a_rule_is_refused_by_name(api: Gateway, body: Any, path: str) -> None:
    task_id = await pushed(api, VIDEO)
    answer = await put(api, task_id, body)
    assert (answer.status, answer.json["error"]) == (400, "Invalid request data"), answer
    assert ".".join(answer.json["details"][0]["path"]) == path
    assert (await loaded(api, task_id)).status.value == "running"


async def test_odd_values_are_refused_or_taken_and_never_an_error(api: Gateway) -> None:
    task_id = await pushed(api, VIDEO)
    running = first("PROCESSING")
    for name in METADATA:
        for value in ODD:
            if value != 1e400:
                body = {**running, "metadata": {**running["metadata"], name: value}}
                assert (await put(api, task_id, body)).status in (200, 400), (name, value)
    for name in ("progress", "error", "result", "data", "metadata", "backend_task_id"):
        for value in ODD:
            if value != 1e400:
                answer = await put(api, task_id, {"status": "PROCESSING", name: value})
                assert answer.status in (200, 400), (name, value, answer)
    for progress in (-1, 101, 1e300, -1e300):
        assert (await put(api, task_id, {"status": "PROCESSING", "progress": progress})).status == 200
