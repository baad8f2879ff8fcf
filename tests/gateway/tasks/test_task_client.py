"""What a client of the task system's first generation does, case by case, with the base URL changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from switchyard.services.outbound.addresses import PRIVATE
from tests.broker.shared import SharedBroker
from tests.gateway.rest import DEADLINE_S, Gateway
from tests.gateway.tasks.site import VIDEO, door, signed
from tests.gateway.tasks.task_client import TaskClient, TaskServer, hand_over, server


@pytest.fixture
async def api(shared_broker: SharedBroker, tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway whose servers may stand on this host."""
    async with door(shared_broker, tmp_path, server_networks=PRIVATE) as running:
        yield running


@pytest.fixture
async def mock() -> AsyncIterator[TaskServer]:
    async with server() as running:
        yield running


@pytest.fixture
def admin(api: Gateway) -> TaskClient:
    return TaskClient(api.url, signed("admin", sub="admin-user"))


@pytest.fixture
def user(api: Gateway) -> TaskClient:
    return TaskClient(api.url, signed("user", sub="regular-user"))


def described(mock: TaskServer, server_id: str = "s1", **fields: Any) -> dict[str, Any]:
    endpoints = {"predict": f"{mock.url}/predict", "health": f"{mock.url}/health"}
    return {
        "id": server_id, "endpoints": endpoints, "provider": "test", "name": "Test Server", "async": True,
        "callback": True, **fields,
    }  # fmt: skip


@pytest.fixture
async def registered(admin: TaskClient, mock: TaskServer) -> TaskServer:
    made = await admin("POST", "/api/servers", described(mock))
    assert (made.status, made.body) == (200, {"id": "s1", "success": True})
    return mock


async def made(user: TaskClient, **fields: Any) -> dict[str, Any]:
    answer = await user("POST", "/api/task", {**VIDEO, **fields})
    assert answer.status == 200, answer
    assert answer.body["taskId"] == answer.body["taskDetails"]["id"]
    details: dict[str, Any] = answer.body["taskDetails"]
    return details


# --- Who may


@pytest.mark.parametrize("token", [None, "invalid-token", signed("admin", secret="y" * 32)])
async def test_without_a_token_that_counts_nothing_is_answered(api: Gateway, token: str | None) -> None:
    answer = await TaskClient(api.url, token)("GET", "/api/servers")
    assert (answer.status, answer.body) == (401, "Unauthorized")


async def test_a_token_that_counts_is_let_in(admin: TaskClient) -> None:
    assert (await admin("GET", "/api/servers")).status == 200


# --- Servers


async def test_a_server_is_registered_listed_and_read(admin: TaskClient, registered: TaskServer) -> None:
    listed = await admin("GET", "/api/servers")
    (found,) = [one for one in listed.body["servers"] if one["id"] == "s1"]
    assert found["name"] == "Test Server"
    one = await admin("GET", "/api/servers/s1")
    assert (one.status, one.body["id"]) == (200, "s1")
    assert one.body["endpoints"]["predict"] == f"{registered.url}/predict"
    assert one.body["status"] in ("online", "offline")


async def test_a_user_registers_no_server(user: TaskClient, mock: TaskServer) -> None:
    answer = await user("POST", "/api/servers", described(mock, "theirs"))
    assert (answer.status, answer.body["error"]) == (403, "Unauthorized: Admin role required")


async def test_a_server_says_that_it_lives(admin: TaskClient, registered: TaskServer) -> None:
    answer = await admin("POST", "/api/servers/s1/heartbeat", {})
    assert (answer.status, answer.body["success"]) == (200, True)
    assert answer.body["lastHeartbeat"]


async def test_a_server_that_cannot_be_reached_is_offline_and_is_removed(
    admin: TaskClient, mock: TaskServer
) -> None:
    nowhere = {"predict": f"{mock.url}/predict", "health": "http://nonexistent-server:9999/health"}
    assert (await admin("POST", "/api/servers", described(mock, "temp", endpoints=nowhere))).status == 200
    assert (await admin("GET", "/api/servers/temp")).body["status"] == "offline"
    assert (await admin("DELETE", "/api/servers/temp")).status == 200


async def test_stale_servers_are_cleaned_up(admin: TaskClient, registered: TaskServer) -> None:
    answer = await admin("POST", "/api/servers/cleanup", {"maxAgeMins": 60})
    assert (answer.status, answer.body) == (200, {"success": True, "removedServers": []})


async def test_a_server_that_was_removed_is_not_there(admin: TaskClient, registered: TaskServer) -> None:
    gone = await admin("DELETE", "/api/servers/s1")
    assert (gone.status, gone.body["success"]) == (200, True)
    assert (await admin("GET", "/api/servers/s1")).status == 404


async def test_servers_are_asked_about_in_many_ways_at_once(
    admin: TaskClient, registered: TaskServer
) -> None:
    answers = await asyncio.gather(
        admin("GET", "/api/servers"),
        admin("GET", "/api/servers/s1"),
        admin("POST", "/api/servers/s1/heartbeat", {}),
    )
    assert {answer.status for answer in answers} == {200}


# --- Tasks


async def test_a_task_is_made_and_read(user: TaskClient) -> None:
    details = await made(user)
    assert details["status"] in ("WAITING", "PROCESSING")
    read = await user("GET", f"/api/task/{details['id']}")
    assert (read.status, read.body["taskId"]) == (200, details["id"])
    assert read.body["taskDetails"]["request"] == VIDEO


async def test_a_task_that_lacks_fields_is_refused(user: TaskClient) -> None:
    assert (await user("POST", "/api/task", {"mimeType": "application/json"})).status == 400


async def test_a_task_is_worked_on_and_its_server_calls_back(
    api: Gateway, user: TaskClient, registered: TaskServer
) -> None:
    details = await made(user)
    await hand_over(api, registered, details)
    async with asyncio.timeout(DEADLINE_S):
        while details["status"] != "FINISHED":
            details = (await user("GET", f"/api/task/{details['id']}")).body["taskDetails"]
            assert details["status"] in ("PROCESSING", "FINISHED")
    assert details["result"]["data"] == {"prediction": "positive"}
    assert details["serverId"] == "s1"
    async with asyncio.timeout(DEADLINE_S):
        while registered.answers != [200]:
            await asyncio.sleep(0.02)


async def test_a_report_after_the_end_is_answered_with_the_end(
    api: Gateway, user: TaskClient, registered: TaskServer
) -> None:
    details = await made(user)
    await hand_over(api, registered, details)
    async with asyncio.timeout(DEADLINE_S):
        while not registered.answers:
            await asyncio.sleep(0.02)
    report = {
        "backend_task_id": "b2", "data": {"prediction": "negative", "confidence": 0.95},
        "metadata": {"server_id": "s1", "processing_time": 1000, "progress": 100, "status": "FINISHED"},
    }  # fmt: skip
    answer = await user("PUT", f"/api/task/{details['id']}", report)
    assert (answer.status, answer.body["taskDetails"]["status"]) == (200, "FINISHED")
    assert answer.body["taskDetails"]["result"]["data"] == {"prediction": "positive"}


async def test_a_task_that_is_not_there_is_not_found(user: TaskClient) -> None:
    assert (await user("GET", "/api/task/nonexistent-task-id")).status == 404


async def test_tasks_made_at_once_have_ids_of_their_own(user: TaskClient) -> None:
    tasks = await asyncio.gather(*(made(user, video_url=f"https://example.com/{n}.mp4") for n in range(10)))
    assert len({task["id"] for task in tasks}) == 10


# --- The rest


async def test_the_root_and_the_documents_are_answered(api: Gateway) -> None:
    nobody = TaskClient(api.url, None)
    assert (await nobody("GET", "/")).body == "OK!"
    page = await nobody("GET", "/docs")
    assert (page.status, page.type) == (200, "text/html")
