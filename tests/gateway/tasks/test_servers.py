"""Servers at the task door: both generations, beside each other and beside `/v1/servers`."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import pytest

from switchyard.services.records.servers.condition import Check, Outcome, Rhythm, after_check, first
from tests.gateway.rest import DEADLINE_S, Answer, Gateway, now
from tests.gateway.tasks.site import signed
from tests.gateway.tasks.test_tasks import ODD

SERVERS: Final = "/api/servers"
PREDICT: Final = "http://192.0.1.1/predict"
HEALTH: Final = "http://192.0.1.1/health"
FIRST: Final[dict[str, Any]] = {
    "id": "test-server-1", "endpoints": {"predict": PREDICT, "health": HEALTH}, "provider": "p",
    "name": "Test Server", "async": True, "callback": True,
}  # fmt: skip
SECOND: Final[dict[str, Any]] = {
    "id": "s2", "name": "Second", "maxConcurrent": 3, "priority": 5, "apiKey": "sk-not-for-you-0123456789",
    "capabilities": ["gpu", "codec.h264"], "groups": ["eu", "big, slow"], "async": False,
    "endpoints": {"predict": PREDICT, "health": HEALTH, "metrics": "http://192.0.1.1/metrics"},
}  # fmt: skip


async def ask(api: Gateway, method: str, path: str = "", body: Any = None, *roles: str) -> Answer:
    return await api.call(method, SERVERS + path, body, token=signed(*(roles or ("admin",))))


async def v1(api: Gateway, server_id: str) -> Any:
    answer = await api.get(f"/v1/servers/{server_id}", token=api.token("tenant-admin"))
    assert answer.status == 200, answer
    return answer.json


async def checked(api: Gateway, server_id: str, outcome: Outcome) -> None:
    """What a pusher's check of a server comes to."""
    server = (await api.registry().get(api.tenant, server_id)).server
    await api.registry().change_state(
        server,
        lambda known: after_check(known or first(server, now()), Check(now(), outcome), Rhythm(), 0.5),
    )


async def status(api: Gateway, server_id: str) -> str:
    return str((await ask(api, "GET", f"/{server_id}")).json["status"])


async def test_server_of_the_first_generation(api: Gateway) -> None:
    made = await ask(api, "POST", "", FIRST)
    assert (made.status, made.json) == (200, {"id": "test-server-1", "success": True})
    server = (await ask(api, "GET", "/test-server-1")).json
    for name in ("id", "name", "provider", "endpoints", "async", "callback"):
        assert server[name] == FIRST[name]
    assert server["status"] == "offline"
    assert server["lastHeartbeat"].endswith("Z")
    found = await v1(api, "test-server-1")
    assert (found["kinds"], found["slots"], found["profile"], found["credentials"]) == (
        [api.settings.task_kind],
        10,
        "task",
        None,
    )
    beat = (await ask(api, "POST", "/test-server-1/heartbeat", {})).json
    assert (beat["id"], beat["success"]) == ("test-server-1", True)
    assert beat["lastHeartbeat"] >= server["lastHeartbeat"]
    again = await ask(api, "POST", "", {**FIRST, "name": "Other"})
    assert again.json["success"]
    assert [one["name"] for one in (await ask(api, "GET")).json["servers"]] == ["Other"]
    gone = await ask(api, "DELETE", "/test-server-1")
    assert (gone.status, gone.json["success"]) == (200, True)
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/heartbeat"), ("GET", "/metrics")):
        answer = await ask(api, method, f"/test-server-1{path}")
        assert (answer.status, answer.json["error"]) == (404, "Service test-server-1 not found")


async def test_server_of_the_second_generation(api: Gateway) -> None:
    made = await ask(api, "POST", "", SECOND)
    assert made.json == {"serverId": "s2", "message": "Server registered successfully"}
    (server,) = (await ask(api, "GET")).json["servers"]
    assert (server["id"], server["name"], server["status"]) == ("s2", "Second", "offline")
    assert (server["groups"], server["priority"]) == (["eu", "big, slow"], 5)
    assert server["config"] == {
        "id": "s2", "name": "Second", "endpoints": SECOND["endpoints"], "async": False, "maxConcurrent": 3,
        "capabilities": ["gpu", "codec.h264"], "groups": ["eu", "big, slow"], "priority": 5,
    }  # fmt: skip
    assert isinstance(server["lastHeartbeat"], int)
    assert 0 <= server["timeSinceLastHeartbeat"] <= server["uptime"]
    found = await v1(api, "s2")
    assert (found["slots"], found["capabilities"]) == (3, {"gpu": True, "codec": {"h264": True}})
    assert found["credentials"] == {"headers": ["Authorization"], "readable": True}
    for answer in (made, await ask(api, "GET"), await ask(api, "GET", "/s2")):
        assert SECOND["apiKey"].encode() not in answer.raw
    nameless = {name: value for name, value in SECOND.items() if name in ("name", "endpoints")}
    other = (await ask(api, "POST", "", nameless)).json["serverId"]
    assert (await v1(api, other))["slots"] == 10
    assert len((await ask(api, "GET")).json["servers"]) == 2


@pytest.mark.parametrize("said", [True, False, None])
async def test_whether_a_server_calls_back_is_kept(api: Gateway, *, said: bool | None) -> None:
    """Where it does not say, one of the first generation answers with the result, as it always did."""
    for form, is_first in ((FIRST, True), (SECOND, False)):
        body = {name: value for name, value in form.items() if name != "async"}
        assert (await ask(api, "POST", "", body | ({} if said is None else {"async": said}))).status == 200
        wanted = not is_first if said is None else said
        found = (await ask(api, "GET", f"/{body['id']}")).json
        assert (found["async"], found["config"]["async"]) == (wanted, wanted)
        assert (await v1(api, body["id"]))["options"] == ({} if wanted else {"calls_back": False})


async def test_registering_again_puts_all_of_it_in_the_place_of_the_old(api: Gateway) -> None:
    await ask(api, "POST", "", SECOND)
    elsewhere = {"name": "n", "id": "s2", "endpoints": {"predict": "http://192.0.1.2/p"}}
    assert (await ask(api, "POST", "", elsewhere)).status == 200
    found = await v1(api, "s2")
    assert (found["credentials"], found["endpoints"]["health"], found["capabilities"]) == (None, None, {})
    assert (await ask(api, "POST", "", {**FIRST, "id": "s2"})).json["id"] == "s2"
    assert (await ask(api, "GET", "/s2")).json["provider"] == "p"
    many = await asyncio.gather(*(ask(api, "POST", "", {**FIRST, "id": "many"}) for _ in range(6)))
    assert {answer.status for answer in many} == {200}


async def test_both_generations_and_v1_see_each_others_servers(api: Gateway) -> None:
    await ask(api, "POST", "", FIRST)
    await ask(api, "POST", "", SECOND)
    wish = {"endpoints": {"predict": PREDICT}, "kinds": ["task"], "slots": 2}
    put = await api.call("PUT", "/v1/servers/v1", wish, token=api.token("tenant-admin"))
    assert put.status == 201
    by_id = {one["id"]: one for one in (await ask(api, "GET")).json["servers"]}
    assert set(by_id) == {"test-server-1", "s2", "v1"}
    assert len({frozenset(one) for one in by_id.values()} | {frozenset(by_id["s2"]) - {"x"}}) == 1
    assert (by_id["v1"]["provider"], by_id["v1"]["config"]["maxConcurrent"]) == ("", 2)
    only = await ask(api, "GET", "?group=eu&status=offline&unknown=1")
    assert [one["id"] for one in only.json["servers"]] == ["s2"]
    assert (await ask(api, "GET", "?status=online")).json["servers"] == []


async def test_server_without_health_is_online_once_it_is_registered(api: Gateway) -> None:
    await ask(api, "POST", "", {**FIRST, "endpoints": {"predict": PREDICT}})
    assert await status(api, "test-server-1") == "online"
    assert (await v1(api, "test-server-1"))["takes_jobs"]


async def test_words_for_how_a_server_is(api: Gateway) -> None:
    await ask(api, "POST", "", FIRST)
    await ask(api, "POST", "", SECOND)
    for name, generation in (("test-server-1", 1), ("s2", 2)):
        await checked(api, name, Outcome.PASSED)
        assert await status(api, name) == "online"
        await checked(api, name, Outcome.TIMEOUT)
        assert await status(api, name) == ("online" if generation == 1 else "degraded")
        on = await api.call("PUT", f"{SERVERS}/{name}/maintenance", {"enabled": True}, token=signed("admin"))
        assert on.json == {"success": True, "message": f"Maintenance mode enabled for server {name}"}
        assert await status(api, name) == ("offline" if generation == 1 else "maintenance")
        await api.call("PUT", f"{SERVERS}/{name}/maintenance", {"enabled": False}, token=signed("admin"))
        metrics = (await ask(api, "GET", f"/{name}/metrics")).json
        assert (metrics["healthScore"], metrics["healthy"], metrics["tasksProcessed"]) == (50, True, 0)
        for _ in range(2):
            await checked(api, name, Outcome.REFUSED)
        assert await status(api, name) == "offline"


async def test_cleanup_removes_who_was_silent_and_no_other(api: Gateway) -> None:
    await ask(api, "POST", "", {**FIRST, "endpoints": {"predict": PREDICT}})
    kept = await ask(api, "POST", "/cleanup", {"maxAgeMins": 60})
    assert kept.json == {"success": True, "removedServers": []}
    assert (await ask(api, "POST", "/cleanup")).json["removedServers"] == []
    removed: list[str] = []
    async with asyncio.timeout(DEADLINE_S):
        while not removed:
            removed = (await ask(api, "POST", "/cleanup", {"maxAgeMins": 1e-6})).json["removedServers"]
    assert removed == ["test-server-1"]
    assert (await ask(api, "GET")).json == {"servers": []}


async def test_metrics_and_balance_count_what_a_server_has(api: Gateway) -> None:
    await ask(api, "POST", "", {**FIRST, "id": "gpu.1", "endpoints": {"predict": PREDICT}})
    for ends in (True, False):
        made = await api.call("POST", "/api/task", {"payload": {}}, token=signed("user"))
        leased = await api.lease(made.json["id"].removeprefix("task-"), worker=f"server.{api.tenant}.gpu%2E1")
        task = await api.get(f"/api/task/{made.json['id']}", token=signed("user"))
        assert task.json["serverId"] == "gpu.1"
        if ends:
            await api.complete(leased)
    metrics: dict[str, Any] = {"activeTasks": 0, "successCount": 0}
    async with asyncio.timeout(DEADLINE_S):
        while (metrics["activeTasks"], metrics["successCount"]) != (1, 1):
            await asyncio.sleep(0.02)
            metrics = (await ask(api, "GET", "/gpu.1/metrics")).json
    assert (metrics["tasksProcessed"], metrics["failureCount"], metrics["successRate"]) == (1, 0, 1.0)
    assert (metrics["maxCapacity"], metrics["status"]) == (10, "online")
    balance = await api.get("/api/loadbalancer/status", token=signed("admin"))
    assert balance.json == {
        "algorithm": "least-of-two", "healthyServers": 1, "serverLoads": {"gpu.1": 1},
    }  # fmt: skip
    chosen = await api.call(
        "PUT", "/api/loadbalancer/algorithm", {"algorithm": "random"}, token=signed("admin")
    )
    assert (chosen.status, chosen.json["success"]) == (200, False)


ROUTES: Final[tuple[tuple[str, str, Any], ...]] = (
    ("POST", "", FIRST), ("GET", "", None), ("GET", "/x", None), ("DELETE", "/x", None),
    ("POST", "/x/heartbeat", {}), ("PUT", "/x/maintenance", {"enabled": True}), ("GET", "/x/metrics", None),
    ("POST", "/cleanup", {}),
)  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
async def test_only_admins_may_do_anything_about_servers(
    api: Gateway, method: str, path: str, body: Any
) -> None:
    answer = await ask(api, method, path, body, "user", "service")
    assert (answer.status, answer.json["error"]) == (403, "Unauthorized: Admin role required")
    nobody = await api.call(method, SERVERS + path, body, token="invalid-token")
    assert (nobody.status, nobody.raw) == (401, b"Unauthorized")


async def test_servers_of_another_tenant_are_not_there(api: Gateway) -> None:
    await ask(api, "POST", "", FIRST)
    foreign = api.token("tenant-admin", tenant=api.stranger)
    for method, path, body in ROUTES[2:-1]:
        answer = await api.call(method, SERVERS + path.replace("/x", "/test-server-1"), body, token=foreign)
        assert answer.status == 404, (method, path)
    listed = await api.get(SERVERS, token=foreign)
    assert listed.json == {"servers": []}


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({**FIRST, "provider": None}, "provider"),
        ({name: value for name, value in FIRST.items() if name != "provider"}, "provider"),
        ({name: value for name, value in FIRST.items() if name != "id"}, "id"),
        ({**FIRST, "id": "a b"}, "id"),
        ({**FIRST, "name": "n" * 300}, "name"),
        ({**FIRST, "endpoints": {}}, "endpoints.predict"),
        ({**FIRST, "endpoints": {"predict": "ftp://h/"}}, "endpoints.predict"),
        ({**FIRST, "endpoints": {"predict": "http://169.254.169.254/"}}, "endpoints.predict"),
        ({**SECOND, "maxConcurrent": 0}, "maxConcurrent"),
        ({**SECOND, "maxConcurrent": 101}, "maxConcurrent"),
        ({**SECOND, "priority": 11}, "priority"),
        ({**SECOND, "groups": ["g" * 200]}, "groups[0]"),
        ({**SECOND, "capabilities": ["a", "a.b"]}, "capabilities"),
        ({**SECOND, "capabilities": ["a.b", "a"]}, "capabilities"),
        ({**SECOND, "apiKey": "a\nb"}, "credentials"),
    ],
)
async def test_body_that_breaks_a_rule_is_refused_by_name(api: Gateway, body: Any, path: str) -> None:
    answer = await ask(api, "POST", "", body)
    assert (answer.status, answer.json["error"]) == (400, "Invalid request data"), answer
    assert ".".join(answer.json["details"][0]["path"]) == path, answer


@pytest.mark.parametrize("base", [FIRST, SECOND])
async def test_odd_values_are_refused_or_taken_and_never_an_error(api: Gateway, base: dict[str, Any]) -> None:
    for name in base:
        for value in ODD:
            if value == 1e400:
                continue
            answer = await ask(api, "POST", "", {**base, name: value})
            assert answer.status in (200, 400), (name, value, answer)
    for path, field in (("/cleanup", "maxAgeMins"), ("/x/maintenance", "enabled")):
        for value in ODD:
            if value != 1e400:
                method = "PUT" if "x" in path else "POST"
                assert (await ask(api, method, path, {field: value})).status in (200, 400, 404)
    for name in ("%00", "a" * 3000, "..%2f", "a%20b"):
        assert (await ask(api, "GET", f"/{name}")).status == 404
