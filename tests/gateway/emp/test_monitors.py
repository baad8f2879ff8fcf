"""Monitors of both generations, written from what is known of the real ones, against the door."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from switchyard.services.gateway.doors.emp import wire
from switchyard.services.gateway.live.messages import Item
from tests.broker.shared import SharedBroker
from tests.gateway.emp.site import Line, door, line
from tests.gateway.emp.test_clients import lease, report, submit
from tests.gateway.rest import DEADLINE_S, Gateway


@pytest.fixture
async def quick(shared_broker: SharedBroker, tmp_path: Path) -> Any:
    """A door whose snapshots come quickly."""
    async with door(shared_broker, tmp_path, emp_snapshot_s=0.05) as api:
        yield api


async def shown(peer: Line, **wanted: Any) -> dict[str, Any]:
    """The next snapshot whose job counts are these."""
    while True:
        found = await peer.until("stats_broadcast")
        status = found["system"]["jobs"]["status"]
        if all(status.get(name, 0) == count for name, count in wanted.items()):
            return found


async def test_a_python_monitor_sees_everything_of_its_tenant(quick: Gateway) -> None:
    api = quick
    async with line(api, "/ws/monitor/m") as monitor, line(api, "/ws/client/one") as peer:
        assert (await monitor.next() or {})["type"] == "connection_established"
        first = await monitor.until("stats_broadcast")
        assert set(first["system"]) == {"queues", "jobs", "workers"}
        await monitor.send("subscribe", channels=["jobs"])
        bare = await monitor.until("subscription_confirmed")
        assert (bare["channels"], bare["job_id"]) == (["jobs"], None)
        assert (await monitor.until("subscription_confirmed"))["monitor_id"] == "m"
        await submit(peer, api.tenant, message_id="j", priority=3)
        accepted = await monitor.until("job_accepted")
        assert (accepted["job_id"], accepted["client_id"], accepted["job_type"]) == ("j", "one", api.tenant)
        found = await shown(monitor, pending=1)
        assert found["connections"]["clients"] == ["one"]
        assert found["connections"]["monitors"] == ["m"]
        assert found["system"]["queues"] == {"priority": 1, "standard": 0, "total": 1}
        job = found["system"]["jobs"]["active_jobs"][0]
        assert (job["id"], job["status"], job["client_id"]) == ("j", "pending", "one")
        held = await lease(api, worker="w", gpu=1)
        found = await shown(monitor, processing=1)
        while found["workers"].get("w", {}).get("status") != "busy":  # its record comes a moment later
            found = await monitor.until("stats_broadcast")
        worker = found["workers"]["w"]
        assert (worker["status"], worker["supported_job_types"], worker["capabilities"]["gpu"]) == (
            "busy", [api.tenant], 1,
        )  # fmt: skip
        assert "w" in found["connections"]["workers"]
        await report(api, held, "progress", {"fraction": 0.5})
        assert (await monitor.until("update_job_progress"))["progress"] == 50
        await report(api, held, "succeed", {"result": {"x": 1}})
        done = await monitor.until("complete_job")
        assert (done["job_id"], done["client_id"], done["result"]) == ("j", "one", {"x": 1})
        await shown(monitor, completed=1, processing=0)
        assert (await monitor.ask("stay_alive", "stay_alive_response"))["timestamp"]
        await monitor.ask("get_system_status", "stats_broadcast")
        assert (await monitor.ask("request_stats", "response_stats"))["stats"]["jobs"]["total"] == 1
        assert (await monitor.ask("nothing", "x"))["error"] == "Unsupported message type: nothing"


async def test_a_typescript_monitor_gets_the_whole_state_and_what_changes(quick: Gateway) -> None:
    api = quick
    async with line(api, "/ws/monitor/m") as monitor, line(api, "/ws/client/one") as peer:
        assert (await monitor.ask("monitor_connect", "monitor_connected"))["monitor_id"] == "m"
        topics = ["workers", "jobs", "system_stats", "heartbeat"]
        assert (await monitor.ask("subscribe", "subscribed", topics=topics))["topics"] == topics
        state = (await monitor.ask("request_full_state", "full_state_snapshot"))["data"]
        assert {name: len(jobs) for name, jobs in state["jobs"].items()} == {
            "pending": 0, "active": 0, "completed": 0, "failed": 0,
        }  # fmt: skip
        await submit(peer, api.tenant, message_id="j")
        made = await monitor.until("job_submitted")
        assert (made["job_id"], made["job_data"]["job_type"], type(made["timestamp"])) == (
            "j",
            api.tenant,
            int,
        )
        held = await lease(api, worker="box-worker-0", hardware={"gpu_memory_gb": 24})
        assert (await monitor.has("job_assigned"))["worker_id"] == "box-worker-0"
        worker = await monitor.has("worker_connected")
        assert (worker["machine_id"], worker["worker_data"]["capabilities"]["gpu_memory_gb"]) == ("box", 24)
        await report(api, held, "progress", {"fraction": 0.5})
        assert (await monitor.until("update_job_progress"))["progress"] == 50
        await report(api, held, "succeed", {"result": {"x": 1}})
        assert (await monitor.until("complete_job"))["result"] == {"x": 1}
        async with asyncio.timeout(DEADLINE_S):
            while True:  # the read model may be a moment behind
                asked = {"finishedJobsPagination": {"page": 1, "pageSize": 5}}
                state = (await monitor.ask("request_full_state", "full_state_snapshot", **asked))["data"]
                if state["jobs"]["completed"]:
                    break
        assert state["jobs"]["completed"][0]["id"] == "j"
        assert state["pagination"]["finishedJobs"]["totalCount"] == 1
        assert (await monitor.ask("heartbeat", "heartbeat_ack"))["monitor_id"] == "m"
        assert "stats_broadcast" not in {one["type"] for one in monitor.seen[-5:]}


async def test_messages_of_every_length_arrive_whole() -> None:
    """What is written at once is read as a message each; the frames say their lengths in three ways."""
    sizes = [0, 1, 125, 126, 65_535, 65_536, 300_000, 3]
    together = wire.together(Item("x", b"x" * size) for size in sizes)

    async def answer(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        assert request.transport is not None
        request.transport.write(together.body)
        await socket.close()
        return socket

    app = web.Application()
    app.router.add_get("/", answer)
    async with (
        TestServer(app) as server,
        aiohttp.ClientSession() as http,
        http.ws_connect(server.make_url("/")) as socket,
    ):
        assert [len(frame.data) async for frame in socket] == sizes


async def test_topics_narrow_what_comes(quick: Gateway) -> None:
    api = quick
    async with line(api, "/ws/monitor/m") as monitor, line(api, "/ws/client/one") as peer:
        await monitor.ask("subscribe", "subscribed", topics=["workers"])
        await submit(peer, api.tenant)
        held = await lease(api)
        await monitor.has("worker_connected")
        await report(api, held, "succeed", {"result": {}})
        await monitor.ask("heartbeat", "heartbeat_ack")
        assert not {"job_submitted", "complete_job"} & {one["type"] for one in monitor.seen}


async def test_another_tenants_jobs_and_peers_are_not_shown(quick: Gateway) -> None:
    api = quick
    stranger = api.token(tenant=api.stranger)
    async with line(api, "/ws/monitor/m", token=stranger) as monitor, line(api, "/ws/client/one") as peer:
        await monitor.until("stats_broadcast")
        await submit(peer, api.tenant, message_id="j")
        held = await lease(api)
        await report(api, held, "succeed", {"result": {}})
        await peer.until("complete_job")
        async with line(api, "/ws/client/two", token=stranger) as other:
            await submit(other, api.tenant, message_id="k")
            assert (await monitor.until("job_accepted"))["job_id"] == "k"
        said = str(monitor.seen)
        assert "'one'" not in said
        assert "'j'" not in said


async def test_an_admins_monitor_sees_its_own_tenant_alone(quick: Gateway) -> None:
    api = quick
    async with line(api, "/ws/monitor/m", token=api.token("admin")) as monitor:
        await monitor.until("stats_broadcast")
        async with line(api, "/ws/client/x", token=api.token(tenant=api.stranger)) as other:
            await submit(other, api.tenant, message_id="k")
        async with line(api, "/ws/client/one") as peer:
            await submit(peer, api.tenant, message_id="j")
        assert (await monitor.until("job_accepted"))["job_id"] == "j"


async def test_a_client_may_watch_the_counts_too(quick: Gateway) -> None:
    async with line(quick, "/ws/client/one") as peer:
        assert (await peer.ask("subscribe_stats", "subscription_confirmed"))["channels"] == ["stats"]
        await peer.until("stats_broadcast")
        await submit(peer, quick.tenant)
        await shown(peer, pending=1)
        await peer.ask("subscribe_stats", "subscription_confirmed", enabled=False)
        assert (await peer.ask("request_stats", "response_stats"))["stats"]["jobs"]["total"] == 1


@pytest.mark.parametrize(
    "message",
    [{"channels": 5}, {"channels": [1]}, {"channels": ["x"] * 65}, {"topics": {}}, {"topics": [None]}],
)
async def test_what_a_monitor_may_not_say_is_refused(api: Gateway, message: dict[str, Any]) -> None:
    async with line(api, "/ws/monitor/m") as monitor:
        await monitor.send("subscribe", **message)
        answer = await monitor.until("error", "subscribed")
        assert answer["type"] == "error" or message == {"topics": {}}


async def test_a_monitor_that_does_not_read_holds_nobody_up(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with door(shared_broker, tmp_path, emp_snapshot_s=0.02) as api:
        deaf = line(api, "/ws/monitor/deaf")
        async with deaf, line(api, "/ws/monitor/m") as monitor:
            async with line(api, "/ws/client/one") as peer:
                for number in range(200):
                    await submit(peer, api.tenant, message_id=f"j{number}")
            found = await shown(monitor, pending=200)
            assert len(found["system"]["jobs"]["active_jobs"]) == 100
