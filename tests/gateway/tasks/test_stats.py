"""What became of the tasks of a day."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.gateway.rest import DEADLINE_S, Gateway
from tests.gateway.tasks.site import VIDEO, signed


async def stats(api: Gateway, path: str = "") -> Any:
    answer = await api.get(f"/api/stats{path}", token=signed("user"))
    assert answer.status == 200, answer
    return answer.json


async def make(api: Gateway, body: Any) -> str:
    made = (await api.call("POST", "/api/task", body, token=signed("user"))).json
    return str(made.get("taskId") or made["id"]).removeprefix("task-")


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("switchyard.services.gateway.doors.tasks.stats.FRESH_S", 0.0)


async def test_tasks_of_both_generations_are_counted_by_state_hour_and_server(api: Gateway) -> None:
    assert (await stats(api))["totalTasks"] == 0
    await api.complete(await api.lease(await make(api, VIDEO), worker="a"))
    await api.complete(await api.lease(await make(api, {"payload": {}}), worker="a"))
    await api.fail(await api.lease(await make(api, {"payload": {}}), worker="b"), "broken", retryable=False)
    again = await make(api, {"payload": {}})
    await api.fail(await api.lease(again, worker="b"), "broken", retryable=True)
    await make(api, VIDEO)
    await api.submit()  # no task
    found: dict[str, Any] = {}
    async with asyncio.timeout(DEADLINE_S):
        while found.get("totalTasks") != 5 or found["failedTasks"] != 1:
            found = await stats(api)
    assert (found["successfulTasks"], found["pendingTasks"], found["retriedTasks"]) == (2, 2, 0)
    assert found["serverCount"] == 2
    assert found["topServers"] == [
        {"serverId": "a", "tasksProcessed": 2, "successRate": 1.0},
        {"serverId": "b", "tasksProcessed": 1, "successRate": 0.0},
    ]
    assert sum(hour["tasks"] for hour in found["hourlyTrend"]) == 5
    hours = await stats(api, "/hourly")
    assert [hour["hour"] for hour in hours] == list(range(24))
    assert {name: sum(hour[name] for hour in hours) for name in ("tasks", "successful", "failed")} == {
        "tasks": 5, "successful": 2, "failed": 1,
    }  # fmt: skip
    server = await stats(api, "/server/a")
    assert (server["tasksProcessed"], server["successCount"], server["successRate"]) == (2, 2, 1.0)
    assert server["lastActiveTime"] > 1.7e12
    assert (await stats(api, "/server/nobody"))["tasksProcessed"] == 0


async def test_another_day_and_another_tenant_have_none_of_them(api: Gateway) -> None:
    await make(api, VIDEO)
    async with asyncio.timeout(DEADLINE_S):
        while (await stats(api))["totalTasks"] != 1:
            await asyncio.sleep(0.02)
    assert (await stats(api, "?date=2020-02-29"))["totalTasks"] == 0
    foreign = await api.get("/api/stats", token=api.token("viewer", tenant=api.stranger))
    assert foreign.json["totalTasks"] == 0


@pytest.mark.parametrize(
    "date", ["", "yesterday", "2026-02-30", "2026-1-1", "0000-00-00", "2026-01-01T00:00:00"]
)
async def test_what_is_no_day_is_refused(api: Gateway, date: str) -> None:
    answer = await api.get(f"/api/stats?date={date}", token=signed("user"))
    assert (answer.status, answer.json["details"][0]["path"]) == (400, ["date"])
