"""What goes wrong with workers of emp-redis: deaf, killed, back elsewhere, lying, talking nonsense."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from switchyard.events.vocabulary.ids import JobId
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.gateway.doors.emp.workers import offers
from tests.broker.shared import SharedBroker
from tests.gateway.emp.site import TOKEN, Line, door, line
from tests.gateway.emp.worker import QUEUE, Worker
from tests.gateway.emp.workers.test_jobs import job_is
from tests.gateway.rest import DEADLINE_S, Gateway

BEATS = 2 * QUEUE
REGISTERED: dict[str, Any] = {"capabilities": {"supported_job_types": ["simulation"]}, "status": "idle"}


async def events(api: Gateway, job_id: str) -> list[str]:
    return [entry.name for entry in await api.store.history(JobId(job_id))]


async def has(api: Gateway, job_id: str, name: str, times: int = 1) -> list[str]:
    """The job's events once one of them is there so often."""
    async with asyncio.timeout(2 * DEADLINE_S):
        while (found := await events(api, job_id)).count(name) < times:
            await asyncio.sleep(0.05)
    return found


async def is_closed(worker: Line) -> None:
    """Read until the gateway has closed the connection."""
    while await worker.next() is not None:
        pass


@contextlib.asynccontextmanager
async def at_work(api: Gateway, id_: str, **fields: Any) -> AsyncIterator[Line]:
    """A worker that does nothing by itself, registered."""
    async with line(api, f"/ws/worker/{id_}") as worker:
        await worker.send("register_worker", worker_id=id_, **{**REGISTERED, **fields})
        await worker.until("job_notifications_subscribed")
        yield worker


async def takes(worker: Line, job_id: str) -> dict[str, Any]:
    """Claim a job and be given it."""
    await worker.until("job_available", job_id=job_id)
    await worker.send("claim_job", job_id=job_id, claim_timeout=30)
    return await worker.until("job_assigned", job_id=job_id)


async def test_deaf_worker_keeps_its_job_and_its_connection(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    done = asyncio.Event()

    async def waits(_worker: Worker, _assigned: dict[str, Any]) -> Any:
        await done.wait()
        return {"ok": True}

    async with (
        door(shared_broker, tmp_path, emp_lease_s=2.0, socket_ping_s=0.2) as api,
        api.keeper(),
        Worker(api, doing=waits, beat_s=0.05).running() as worker,
    ):
        job = await api.submit(kind="simulation")
        await worker.until("job_assigned")
        others = [await api.submit(kind="simulation") for _ in range(QUEUE)]
        await has(api, job["id"], "claim_renewed", 4)  # of each at least half a lease, of twenty heartbeats
        assert (worker.unread, worker.died) == (0, None)
        done.set()
        await worker.until("job_completed_ack", job_id=job["id"])
        found = await job_is(api, job["id"], "succeeded")
        assert found["attempt"] == 1
        for other in others:
            await worker.until("job_completed_ack", job_id=other["id"])


async def test_cancelled_job_of_a_deaf_worker_ends_with_it(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    done = asyncio.Event()

    async def waits(_worker: Worker, _assigned: dict[str, Any]) -> Any:
        await done.wait()
        return {"late": True}

    async with (
        door(shared_broker, tmp_path, emp_lease_s=1.0, cancel_grace_s=0.1) as api,
        api.keeper(),
        Worker(api, doing=waits, beat_s=0.05).running() as worker,
    ):
        job = await api.submit(kind="simulation")
        await worker.until("job_assigned")
        await api.call("POST", f"/v1/jobs/{job['id']}/cancel")
        await has(api, job["id"], "claim_renewed", 3)
        assert (await api.get(f"/v1/jobs/{job['id']}")).json["state"] == "cancelling"
        done.set()
        await worker.until("job_completed_ack", job_id=job["id"])
        assert (await job_is(api, job["id"], "cancelled", "succeeded"))["state"] == "cancelled"
        assert "succeeded" not in await events(api, job["id"])


async def test_job_of_a_killed_worker_goes_to_another(shared_broker: SharedBroker, tmp_path: Path) -> None:
    async def never(_worker: Worker, _assigned: dict[str, Any]) -> Any:
        await asyncio.Event().wait()

    async with door(shared_broker, tmp_path, emp_lease_s=3.0) as api, api.keeper():
        async with Worker(api, doing=never, beat_s=0.1).running() as worker:
            job = await api.submit(kind="simulation")
            await worker.until("job_assigned")
        async with Worker(api, beat_s=0.1).running() as other:
            await other.until("job_completed_ack", job_id=job["id"])
        found = await events(api, job["id"])
        assert found.count("claimed") == 2


async def test_job_whose_gateway_restarts_again_and_again_is_not_to_blame(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with door(shared_broker, tmp_path / "0", emp_lease_s=1.0) as first, first.keeper():
        tenant = first.tenant
        job = await first.submit(kind="simulation")
        for n in (1, 2, 3):
            async with door(shared_broker, tmp_path / str(n), emp_tenant=tenant, emp_lease_s=1.0) as api:
                address = f"{api.url}/ws/worker/w-{n}"
                one = Line(await first.http.ws_connect(address, params={"token": TOKEN}))
                await one.send("register_worker", worker_id=f"w-{n}", **REGISTERED)
                await takes(one, job["id"])
                closed = asyncio.create_task(is_closed(one))
            await closed
            await has(first, job["id"], "queued", n)  # the gateway stopped first, and the worker with it
        async with at_work(first, "w") as one:
            await takes(one, job["id"])
            await one.send("complete_job", job_id=job["id"], result={})
            await one.until("job_completed_ack")
        found = await job_is(first, job["id"], "succeeded", "dead")
    assert (found["state"], found["attempt"]) == ("succeeded", 4)


@pytest.mark.parametrize("status", ["busy", None])
async def test_result_is_taken_by_another_gateway(
    shared_broker: SharedBroker, tmp_path: Path, status: str | None
) -> None:
    async with (
        door(shared_broker, tmp_path / "one", emp_lease_s=3.0) as one,
        door(shared_broker, tmp_path / "two", emp_tenant=one.tenant, emp_lease_s=3.0) as two,
    ):
        job = await one.submit(kind="simulation")
        async with at_work(one, "w") as worker:
            await takes(worker, job["id"])
        async with line(two, "/ws/worker/w") as again:
            if status is not None:
                await again.send("register_worker", **{**REGISTERED, "status": status})
                for _ in range(4):
                    await again.send("worker_heartbeat", status=status)
                await has(two, job["id"], "claimed")
            for _ in range(2):
                await again.send("complete_job", job_id=job["id"], worker_id="w", result={"n": 1})
                await again.until("job_completed_ack", job_id=job["id"])
        assert (await job_is(two, job["id"], "succeeded"))["result"] == {"n": 1}
        assert (await events(two, job["id"])).count("succeeded") == 1


async def test_lease_is_prolonged_by_heartbeats_at_another_gateway(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with (
        door(shared_broker, tmp_path / "one", emp_lease_s=4.0) as one,
        door(shared_broker, tmp_path / "two", emp_tenant=one.tenant, emp_lease_s=4.0) as two,
        one.keeper(),
    ):
        job = await one.submit(kind="simulation")
        async with at_work(one, "w") as worker:
            await takes(worker, job["id"])
        async with Worker(two, "w", beat_s=0.2).connected() as again:
            again.status = "busy"

            async def beats() -> None:
                while True:
                    await again.send("worker_heartbeat", status="busy", load=0.0)
                    await asyncio.sleep(0.2)

            beating = asyncio.create_task(beats())
            await has(two, job["id"], "claim_renewed", 3)
            beating.cancel()
            await again.send("complete_job", job_id=job["id"], result={})
            found = await job_is(two, job["id"], "succeeded", "queued")
        assert (found["state"], found["attempt"]) == ("succeeded", 1)


async def test_one_of_two_workers_is_given_a_job(shared_broker: SharedBroker, tmp_path: Path) -> None:
    async with door(shared_broker, tmp_path) as api, at_work(api, "a") as one:
        job = await api.submit(kind="simulation")
        await one.until("job_available", job_id=job["id"])
        async with at_work(api, "b") as two:
            await two.send("claim_job", job_id=job["id"])
            refused = await two.until("error", "job_assigned")
            assert "claim job" in refused.get("error", "").lower()
            await one.send("claim_job", job_id=job["id"])
            await one.until("job_assigned", job_id=job["id"])
            await one.send(
                "claim_job", job_id=job["id"]
            )  # again; it is deaf, and not sent an error it must read
            await one.send("complete_job", job_id=job["id"], result=None)
            await one.until("job_completed_ack")
        assert (await events(api, job["id"])).count("claimed") == 1


async def test_job_that_was_cancelled_after_its_offer_is_refused(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with door(shared_broker, tmp_path) as api, at_work(api, "a") as worker:
        job = await api.submit(kind="simulation")
        await worker.until("job_available", job_id=job["id"])
        await api.call("POST", f"/v1/jobs/{job['id']}/cancel")
        await worker.send("claim_job", job_id=job["id"])
        other = await api.submit(kind="simulation")
        assert "claim job" in (await worker.until("error"))["error"].lower()
        await takes(worker, other["id"])


async def test_worker_that_answers_no_pings_is_kept(shared_broker: SharedBroker, tmp_path: Path) -> None:
    async with door(shared_broker, tmp_path, socket_ping_s=0.05) as api, api.http.ws_connect(
        f"{api.url}/ws/worker/w", params={"token": TOKEN}, autoping=False
    ) as socket:  # fmt: skip
        pings = 0
        while pings < 10:
            frame = await socket.receive(DEADLINE_S)
            assert frame.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.PING)
            pings += frame.type is aiohttp.WSMsgType.PING
        await socket.send_json({"type": "register_worker", **REGISTERED})
        assert not socket.closed


async def test_silent_worker_is_let_go(shared_broker: SharedBroker, tmp_path: Path) -> None:
    async with door(shared_broker, tmp_path, emp_lease_s=1.0) as api, at_work(api, "a") as worker:
        for _ in range(3):
            await worker.send("worker_heartbeat", status="idle")
        while await worker.next() is not None:
            pass
        assert worker.socket.close_code == 1000


async def test_worker_beyond_the_limit_is_sent_why(shared_broker: SharedBroker, tmp_path: Path) -> None:
    async with (
        door(shared_broker, tmp_path, workers=1) as api,
        at_work(api, "a") as one,
    ):
        job = await api.submit(kind="simulation")
        await takes(one, job["id"])
        async with at_work(api, "b") as two:
            assert (await two.until("error"))["details"]["code"] == "too_many_workers"


async def test_offer_that_nobody_answers_goes_to_another(shared_broker: SharedBroker, tmp_path: Path) -> None:
    async with door(shared_broker, tmp_path, lease_s=2.0) as api, at_work(api, "silent") as silent:
        job = await api.submit(kind="simulation")
        await silent.until("job_available", job_id=job["id"])
        async with at_work(api, "other") as other:
            await takes(other, job["id"])


async def test_offer_to_a_worker_that_is_gone_goes_to_another_at_once(
    shared_broker: SharedBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offers, "OFFER_S", 1e6)
    async with door(shared_broker, tmp_path, lease_s=600.0) as api:
        async with at_work(api, "gone") as gone:
            job = await api.submit(kind="simulation")
            await gone.until("job_available", job_id=job["id"])
        async with at_work(api, "other") as other:
            await takes(other, job["id"])


async def test_forged_outcomes_change_nothing(shared_broker: SharedBroker, tmp_path: Path) -> None:
    async with door(shared_broker, tmp_path) as api, at_work(api, "a") as one:
        job = await api.submit(kind="simulation")
        await takes(one, job["id"])
        stranger = api.token("worker", "submitter", tenant=api.stranger)
        before = await events(api, job["id"])
        async with at_work(api, "b") as two, line(api, "/ws/worker/a", token=stranger) as three:
            for forger in (two, three):
                for type_ in ("complete_job", "fail_job"):
                    await forger.send(type_, job_id=job["id"], result={}, error="x")
                    assert "not found" in (await forger.until("error", f"{type_}_ack"))["error"]
            await two.send("complete_job", job_id=job["id"], worker_id="a", result={})
            assert "another worker" in (await two.until("error"))["error"]
            ids: list[Any] = [None, 7, "", [], {"a": 1}, "x" * 300, "\x00"]
            for id_ in ids:
                await two.send("complete_job", job_id=id_, result={})
                await two.until("error")
        assert await events(api, job["id"]) == before
        await one.send("complete_job", job_id=job["id"], result={"real": True})
        await one.until("job_completed_ack")
        assert (await job_is(api, job["id"], "succeeded"))["result"] == {"real": True}


async def test_worker_whose_lease_has_lapsed_changes_nothing(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with door(shared_broker, tmp_path, emp_lease_s=1.0) as api, api.keeper(), at_work(api, "a") as one:
        job = await api.submit(kind="simulation")
        await takes(one, job["id"])
        await has(api, job["id"], "queued")
        async with at_work(api, "b") as two:
            await takes(two, job["id"])
            await one.send("complete_job", job_id=job["id"], result={"late": True})
            await one.until("error")
            await two.send("complete_job", job_id=job["id"], result={"late": False})
            await two.until("job_completed_ack")
        assert (await job_is(api, job["id"], "succeeded"))["result"] == {"late": False}


async def test_nonsense_is_refused_and_the_worker_goes_on(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    half = {"type": "chunked_message", "chunk_id": 0, "total_chunks": 2, "message_id": "m", "content": "{"}
    odd: list[Any] = [
        "no JSON", "[]", "7", "{}", '{"type": 7}', '{"type": "what"}', "[" * 5000,
        orjson.dumps(half).decode(), '{"type": "register_worker"}',
        '{"type": "register_worker", "capabilities": []}',
        '{"type": "register_worker", "capabilities": {"supported_job_types": "all"}}',
        '{"type": "register_worker", "capabilities": {"supported_job_types": [7]}}',
        '{"type": "register_worker", "capabilities": {"supported_job_types": ["ok"], "n": NaN}}',
        '{"type": "worker_heartbeat", "status": {"a": []}, "worker_id": 7}',
        '{"type": "update_job_progress", "job_id": {}, "progress": "much"}',
        '{"type": "chunked_message", "chunk_id": -1}',
    ]  # fmt: skip
    async with door(shared_broker, tmp_path) as api, at_work(api, "a") as worker:
        for text in odd:
            await worker.raw(text)
        job = await api.submit(kind="simulation")
        await takes(worker, job["id"])
        for progress in (None, "x", True, 1e308, -7, 200, {"a": 1}):
            await worker.send("update_job_progress", job_id=job["id"], progress=progress, status=None)
        await worker.send("complete_job", job_id=job["id"], result={"n": 1})
        await worker.until("job_completed_ack")
        assert (await job_is(api, job["id"], "succeeded"))["result"] == {"n": 1}


async def test_outcome_waits_while_no_broker_answers(broker: NatsServer, tmp_path: Path) -> None:
    async with door(broker, tmp_path, request_timeout_s=1.0) as api, at_work(api, "a") as worker:  # type: ignore[arg-type]
        job = await api.submit(kind="simulation")
        await takes(worker, job["id"])
        os.kill(broker.pid, signal.SIGSTOP)
        try:
            await worker.send("complete_job", job_id=job["id"], result={"n": 1})
            # Is read after the outcome, so that this has been tried in vain.
            await worker.send("worker_heartbeat", status="idle")
            await worker.until("worker_heartbeat_ack")
        finally:
            os.kill(broker.pid, signal.SIGCONT)
        await worker.until("job_completed_ack", job_id=job["id"])
        assert (await job_is(api, job["id"], "succeeded"))["result"] == {"n": 1}


async def test_monitors_see_what_workers_say_of_services(shared_broker: SharedBroker, tmp_path: Path) -> None:
    async with (
        door(shared_broker, tmp_path) as api,
        line(api, "/ws/monitor/m") as monitor,
        at_work(api, "a") as worker,
    ):
        news = {"job_id": "j", "worker_id": "a", "service": "comfyui", "request_type": "POST"}
        await worker.send("service_request", **news, content={"prompt": 1})
        await worker.send("connector_ws_status", worker_id="a", connector_type="comfyui", connected=True)
        assert (await monitor.until("service_request"))["content"] == {"prompt": 1}
        assert (await monitor.until("connector_ws_status"))["connected"] is True
