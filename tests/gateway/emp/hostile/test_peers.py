"""Peers with odd names, wrong clocks and stolen ids, and those that read nothing."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Final
from urllib.parse import quote

import orjson
import pytest
from aiohttp import WSMsgType

from tests.broker.shared import SharedBroker
from tests.gateway.emp.site import TOKEN, Line, door, line
from tests.gateway.emp.workers.test_faults import REGISTERED, at_work, events, takes
from tests.gateway.emp.workers.test_jobs import job_is
from tests.gateway.rest import DEADLINE_S, Gateway

ODD_IDS: Final = (
    "a b", "a/b", "a.b.c", "*", ">", "$SYS", "a?token=b#c", "ü-Ω-文", "%2e%2e", "..", "'\"<b>", "{}", "\\",
    "0", "-", "x" * 200, "emp.acme.w", "🙂",
)  # fmt: skip
DAY_S: Final = 86_400.0


@pytest.mark.parametrize("id_", ODD_IDS)
async def test_peers_and_jobs_may_be_called_anything_that_can_be_shown(
    shared_broker: SharedBroker, tmp_path: Path, id_: str
) -> None:
    async with (
        door(shared_broker, tmp_path) as api,
        line(api, "/ws/compat") as client,
        line(api, "/ws/compat") as worker,
    ):
        await client.send(
            "submit_job", client_id=id_, job_type="simulation", payload={"n": 1}, message_id=id_
        )
        assert (await client.until("job_accepted", "error"))["job_id"] == id_
        await worker.send("register_worker", worker_id=id_, **REGISTERED)
        await takes(worker, id_)
        await worker.send("update_job_progress", worker_id=id_, job_id=id_, progress=50, status="processing")
        shown = await client.until("update_job_progress")
        assert (shown["job_id"], shown["progress"]) == (id_, 50)
        await worker.send("complete_job", worker_id=id_, job_id=id_, result={"n": 1})
        assert (await client.until("complete_job"))["job_id"] == id_
        if id_ not in ("..", "{}"):  # a path has no such segments
            path = f"{api.url}/api/jobs/{quote(id_, safe='')}"
            async with api.http.get(path, params={"token": TOKEN}) as answer:
                assert answer.status == 200, await answer.text()
                assert (await answer.json())["job_id"] == id_


async def test_a_worker_that_comes_twice_is_one_worker(api: Gateway) -> None:
    async with at_work(api, "w") as first:
        held = await api.submit(kind="simulation")
        await takes(first, held["id"])
        async with at_work(api, "w") as second:
            async with asyncio.timeout(DEADLINE_S):
                while (frame := await first.socket.receive()).type is WSMsgType.TEXT:
                    pass
            assert (frame.type, frame.data) == (WSMsgType.CLOSE, 1000)
            await second.send("complete_job", worker_id="w", job_id=held["id"], result={"by": 2})
            await second.until("job_completed_ack", job_id=held["id"])
            more = await api.submit(kind="simulation")
            await takes(second, more["id"])
            workers = (await api.get("/v1/workers", token=api.token("viewer"))).json["workers"]
            assert [each["id"] for each in workers] == [f"emp.{api.tenant}.w"]
        assert (await events(api, held["id"])).count("claimed") == 1


@pytest.mark.parametrize("off_s", [-DAY_S, DAY_S, 1e18, -1e18])
async def test_the_clock_of_a_worker_does_not_count(api: Gateway, off_s: float) -> None:
    at = {"timestamp": time.time() + off_s}
    async with line(api, "/ws/worker/w") as worker:
        await worker.send("register_worker", worker_id="w", **REGISTERED, **at)
        job = await api.submit(kind="simulation")
        await takes(worker, job["id"])
        for _ in range(5):
            await worker.send("worker_heartbeat", worker_id="w", status="busy", **at)
        await worker.send("update_job_progress", worker_id="w", job_id=job["id"], progress=50, **at)
        await worker.send("complete_job", worker_id="w", job_id=job["id"], result={"n": 1}, **at)
        await worker.until("job_completed_ack", job_id=job["id"])
        found = await job_is(api, job["id"], "succeeded")
        assert found["attempt"] == 1
        assert found["created_at"] <= found["started_at"] <= found["ended_at"]
        assert "claim_renewed" not in await events(api, job["id"])


async def test_a_worker_that_reads_nothing_holds_nobody_up(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    """It asks for answers that it never reads: it is no longer read either, and the others work on."""
    wrong = orjson.dumps({"type": "what", "pad": "x" * 1000}).decode()

    async def spam(bad: Line) -> None:
        try:
            while True:
                await bad.raw(wrong)
        except ConnectionError:
            return

    async with (
        door(shared_broker, tmp_path, socket_buffer=100) as api,
        at_work(api, "bad") as bad,
        at_work(api, "good") as good,
        asyncio.timeout(3 * DEADLINE_S),
        asyncio.TaskGroup() as tasks,
    ):
        task = tasks.create_task(spam(bad))
        for _ in range(5):
            job = await api.submit(kind="simulation")
            while True:  # the other may be offered it first, and says nothing
                offered = await good.until("job_available")
                await good.send("claim_job", worker_id="good", job_id=offered["job_id"])
                if (await good.until("job_assigned", "error"))["type"] == "job_assigned":
                    break
            await good.send("complete_job", worker_id="good", job_id=job["id"], result={})
            await good.until("job_completed_ack", job_id=job["id"])
        task.cancel()
