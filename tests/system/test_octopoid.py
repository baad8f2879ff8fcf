"""Octopoid's flow against real processes: by a script of its documented routes, and by its own Python SDK."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.system.deployment import Deployment

pytestmark = pytest.mark.system

SCRIPT = Path(__file__).with_name("octopoid_flow.py")


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Deployment]:
    async with Deployment(tmp_path / "site") as running:
        await running.start_all(workers=0)
        yield running


async def test_the_whole_flow_by_a_script_that_knows_the_documented_routes_alone(site: Deployment) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(SCRIPT),
        site.url,
        site.token,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await asyncio.wait_for(process.communicate(), 90)
    assert process.returncode == 0, errors.decode()
    assert output.decode().splitlines()[-1] == "no longer blocked"


async def test_a_lease_that_nobody_renews_ends_by_itself(site: Deployment) -> None:
    _, key = await register(site)
    headers = {"Authorization": f"Bearer {key}"}
    await site.request("POST", "/api/v1/tasks", json={"id": "t", "file_path": "t.md"}, headers=headers)
    body = {"orchestrator_id": "c-m", "agent_name": "a", "lease_duration_seconds": 1}
    assert (await site.request("POST", "/api/v1/tasks/claim", json=body, headers=headers))[0] == 200
    async with asyncio.timeout(60):
        while (await site.request("GET", "/api/v1/tasks/t", headers=headers))[1]["queue"] != "incoming":
            await asyncio.sleep(0.1)
    late = {"commits_count": 1, "turns_used": 1}
    status, task = await site.request("POST", "/api/v1/tasks/t/submit", json=late, headers=headers)
    assert (status, task["queue"]) == (200, "provisional"), "nobody else has taken it"


TASKS = 40
AGENTS = 6


async def test_a_gateway_that_is_killed_costs_no_task_and_gives_none_twice(site: Deployment) -> None:
    _, key = await register(site)
    doomed, first = site.parts["gateway"], site.url
    await site.start_gateway("gateway2")
    urls = [first, site.url]

    async def call(path: str, body: dict[str, Any], *wanted: int, **headers: str) -> tuple[int, Any]:
        """Ask one gateway and then the other, until one gives an answer that is expected."""
        headers["Authorization"] = f"Bearer {key}"
        async with asyncio.timeout(60):
            for number in itertools.count():
                url = f"{urls[number % 2]}/api/v1/tasks{path}"
                try:
                    async with site.session.post(url, json=body, headers=headers) as answer:
                        if answer.status in wanted:
                            return answer.status, await answer.json()
                        assert answer.status == 503, (path, await answer.text())
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.05)
        raise AssertionError("unreachable")

    for number in range(TASKS):
        await call("", {"id": f"t{number}", "file_path": "t.md"}, 200, 201)
    done: list[str] = []

    async def agent(name: str) -> None:
        for turn in itertools.count():
            body = {"orchestrator_id": "c-m", "agent_name": name}
            keyed = {"Idempotency-Key": f"{name}-{turn}"}
            status, task = await call("/claim", body, 200, 404, **keyed)
            if status == 404:
                return
            await call(f"/{task['id']}/submit", {"commits_count": 1, "turns_used": turn}, 200)
            await call(f"/{task['id']}/accept", {"accepted_by": name}, 200)
            done.append(task["id"])
            if len(done) == TASKS // 3:
                await doomed.kill()

    async with asyncio.TaskGroup() as agents:
        for number in range(AGENTS):
            agents.create_task(agent(f"a{number}"))
    assert sorted(done) == sorted(f"t{number}" for number in range(TASKS))
    _, listed = await site.request("GET", "/v1/jobs?kind=agent&limit=100&tenant=oct-sdk")
    histories = [
        await site.request("GET", f"/v1/jobs/{job['id']}/events?tenant=oct-sdk") for job in listed["jobs"]
    ]
    kinds = {tuple(event["type"] for event in body["events"]) for _, body in histories}
    assert (len(histories), kinds) == (TASKS, {("submitted", "claimed", "proposed", "accepted")})


async def test_the_flow_by_octopoids_own_sdk(site: Deployment) -> None:
    sdk_module = pytest.importorskip(
        "octopoid_sdk",
        reason="octopoid_sdk cannot be imported: packages/python-sdk of its repository, with requests",
    )
    scope, key = await register(site)
    await asyncio.to_thread(flow_of, sdk_module, site.url, key, scope)


async def register(site: Deployment) -> tuple[str, str]:
    body = {"cluster": "c", "machine_id": "m", "repo_url": "r", "scope": "sdk"}
    url = f"{site.url}/api/v1/orchestrators/register"
    headers = {"Authorization": f"Bearer {site.token}"}
    async with aiohttp.ClientSession(headers=headers) as session, session.post(url, json=body) as answer:
        assert answer.status == 201
        return "sdk", str((await answer.json())["api_key"])


def flow_of(module: Any, url: str, key: str, scope: str) -> None:
    """Everything that the SDK can do, in the order of a task's life."""
    with module.OctopoidSDK(server_url=url, api_key=key, scope=scope) as sdk:
        assert sdk.status.health()["status"] == "healthy"
        states = ["incoming", "claimed", "provisional", "testing", "done", "failed"]
        ways = [("claimed", "provisional"), ("provisional", "incoming"), ("provisional", "done")]
        transitions = [{"from": start, "to": end} for start, end in ways]
        assert sdk.flows.register("default", states, transitions)["states"] == states
        assert [flow["name"] for flow in sdk.flows.list()] == ["default"]
        sdk.projects.create(id="p1", title="Project", branch="feature/p")
        assert sdk.projects.update("p1", status="active")["status"] == "active"
        task = sdk.tasks.create(
            id="task-001", file_path="t.md", title="One", role="implement", priority="P1", branch="main",
            type="product", project_id="p1", content="# One", metadata={"a": 1},
        )  # fmt: skip
        assert (task["queue"], task["metadata"]) == ("incoming", {"a": 1})
        assert [task["id"] for task in sdk.projects.get_tasks("p1")] == ["task-001"]
        assert sdk.tasks.get("nobody") is None
        sdk.tasks.create(id="task-002", file_path="t2.md", blocked_by="task-001")
        claim = {"orchestrator_id": "c-m", "agent_name": "a", "role_filter": "implement"}
        assert sdk.tasks.claim(**claim, type_filter="hotfix") is None
        assert sdk.tasks.claim(**claim, type_filter="product", lease_duration_seconds=60)["id"] == "task-001"
        assert sdk.tasks.claim(**claim, max_claimed=1) is None
        assert sdk.poll("c-m")["queue_counts"]["claimed"] == 1
        assert sdk.tasks.submit("task-001", commits_count=1, turns_used=5)["queue"] == "provisional"
        sdk.messages.create("task-001", "gatekeeper", "comment", "look at the tests")
        assert len(sdk.messages.list(task_id="task-001")) == 1
        assert sdk.tasks.reject("task-001", "no tests", "gatekeeper")["rejection_count"] == 1
        assert sdk.tasks.claim(**claim)["id"] == "task-001"
        sdk.tasks.submit("task-001", commits_count=2, turns_used=9, execution_notes="with tests")
        gatekeeper = sdk.tasks.claim("c-m", "gatekeeper", queue="provisional")
        assert (gatekeeper["id"], gatekeeper["queue"]) == ("task-001", "provisional")
        assert sdk.tasks.accept("task-001", accepted_by="gatekeeper")["queue"] == "done"
        for _ in range(100):
            if (released := sdk.tasks.claim("c-m", "b")) is not None:
                break
        assert released["id"] == "task-002"
        assert sdk.tasks.update("task-002", queue="testing", claimed_by=None)["queue"] == "testing"
        assert sdk.tasks.fail("task-002", "it broke")["queue"] == "failed"
        assert sdk.tasks.update("task-002", queue="incoming")["queue"] == "incoming"
        assert [task["id"] for task in sdk.tasks.list(queue="incoming")] == ["task-002"]
        assert sdk.drafts.create("Idea", "ann")["id"] == len(sdk.drafts.list()) == 1
        action = sdk.actions.create("task", "task-002", "Retry", action_data={"buttons": []})
        assert sdk.actions.execute(action["id"])["status"] == "execute_requested"
        assert sdk.actions.complete(action["id"], {"ok": True})["status"] == "completed"
        assert len(sdk.actions.list(entity_type="task")) == 1
        assert sdk.tasks.delete("task-002")["task_id"] == "task-002"
        assert sdk.flows.delete("default")["name"] == "default"
