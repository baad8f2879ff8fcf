"""Every field of every message with what nobody should send: each is refused or taken, and nothing breaks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import aiohttp
import orjson
import pytest

from tests.broker.shared import SharedBroker
from tests.gateway.emp.site import Line, door, line
from tests.gateway.emp.workers.test_faults import REGISTERED, at_work, takes
from tests.gateway.emp.workers.test_jobs import job_is
from tests.gateway.rest import DEADLINE_S, Gateway

ODD: Final = (
    "null", "true", "-1", "0.5", "1e308", "-1e400", "123456789012345678901234567890", "NaN", '""',
    '"' + "x" * 5000 + '"', '"\\u0000"', '"\\ud800"', '"\\u202eodd"', '"a.*.>"', "[]", "{}",
    '[{"a": [null]}]', '{"": {"$gte": 1}, "a.b": []}', "[" * 1000 + "]" * 1000,
    '{"a":' * 1000 + "1" + "}" * 1000, '["' + '","'.join("x" * 9 for _ in range(2000)) + '"]',
)  # fmt: skip
JOB: Final = {"job_type": '"odd"', "payload": "{}"}
CLIENT: Final = {
    "submit_job": (
        "job_type", "payload", "priority", "message_id", "id", "data", "service_required", "requirements",
        "customer_id", "max_retries", "workflow_id", "workflow_priority", "type",
    ),
    "request_job_status": ("job_id",), "get_job_status": ("job_id", "id"), "subscribe_job": ("job_id",),
    "subscribe_progress": ("job_id", "id"), "unsubscribe_progress": ("job_id", "id"),
    "cancel_job": ("job_id", "reason", "id"), "force_retry_job": ("job_id",), "subscribe_stats": ("enabled",),
    "request_stats": ("message_id",), "stay_alive": ("timestamp",), "heartbeat": ("id",),
}  # fmt: skip
MONITOR: Final = {
    "subscribe": ("channels", "topics"), "get_system_status": ("x",), "request_stats": ("message_id",),
    "subscribe_stats": ("enabled",), "stay_alive": ("x",), "monitor_connect": ("request_full_state",),
    "request_full_state": ("finishedJobsPagination",), "heartbeat": ("timestamp",),
}  # fmt: skip
WORKER: Final = {
    "register_worker": ("capabilities", "subscribe_to_jobs", "status", "worker_id"),
    "worker_heartbeat": ("status", "load", "worker_id"),
    "worker_status": ("capabilities", "status", "connector_statuses", "message_id"),
    "claim_job": ("job_id", "claim_timeout"),
    "update_job_progress": ("job_id", "progress", "status", "message", "connector_details"),
    "complete_job": ("job_id", "result"), "fail_job": ("job_id", "error"), "service_request": ("x", "type"),
    "connector_ws_status": ("connector_type", "connected"),
}  # fmt: skip
FLOOD: Final = 2000
CHUNK: Final = (
    "chunk_id",
    "total_chunks",
    "message_id",
    "message_hash",
    "original_type",
    "job_id",
    "content",
)


def messages(types: dict[str, tuple[str, ...]], **known: str) -> Iterator[str]:
    """A message of each type with each odd value in each field, as text.

    Args:
        types: by type, its fields.
        known: what other fields hold, as JSON.
    """
    for type_, fields in types.items():
        for field in fields:
            for odd in ODD:
                said = {**(JOB if type_ == "submit_job" else known), "type": f'"{type_}"', field: odd}
                yield "{" + ",".join(f'"{name}":{value}' for name, value in said.items()) + "}"
    whole = {
        "type": '"chunked_message"', "chunk_id": "0", "total_chunks": "1", "message_id": '"m"',
        "content": '"{}"',
    }  # fmt: skip
    for field in CHUNK:
        for odd in ODD:
            yield "{" + ",".join(f'"{name}":{value}' for name, value in {**whole, field: odd}.items()) + "}"


async def said(peer: Line, texts: Iterator[str], probe: str, answer: str) -> None:
    """Send them all, reading what comes, and see that the connection is still there."""
    for number, text in enumerate(texts):
        await peer.raw(text)
        if number % 50 == 0:
            await peer.ask(probe, answer)
        peer.seen.clear()
    await peer.ask(probe, answer)


async def test_a_client_that_says_anything_is_answered(api: Gateway) -> None:
    async with line(api, "/ws/client/one") as peer, line(api, "/ws/client/two") as other:
        await peer.ask("submit_job", "job_accepted", job_type="odd", payload={}, message_id="j")
        await said(peer, messages(CLIENT, job_id='"j"'), "stay_alive", "response_job_status")
        found = await other.ask("submit_job", "job_accepted", job_type="odd", payload={}, message_id="k")
        assert found["job_id"] == "k"


async def test_a_monitor_that_says_anything_is_answered(api: Gateway) -> None:
    async with line(api, "/ws/monitor/one") as peer:
        await said(peer, messages(MONITOR), "stay_alive", "stay_alive_response")


async def test_a_worker_that_says_anything_gets_its_next_job(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with door(shared_broker, tmp_path) as api, at_work(api, "w") as worker:
        held = await api.submit(kind="simulation")
        await takes(worker, held["id"])
        for text in messages(WORKER, job_id=orjson.dumps(held["id"]).decode()):
            if '"job_id"' not in text or ('"complete_job"' not in text and '"fail_job"' not in text):
                await worker.raw(text)
        await worker.send("complete_job", worker_id="w", job_id=held["id"], result={"n": 1})
        await worker.until("job_completed_ack", job_id=held["id"])
        assert (await job_is(api, held["id"], "succeeded"))["result"] == {"n": 1}
        for text in messages(WORKER, job_id='"none"'):
            await worker.raw(text)
            worker.seen.clear()
        await worker.send("register_worker", worker_id="w", **REGISTERED)
        another = await api.submit(kind="simulation")
        await takes(worker, another["id"])


async def test_what_a_job_ends_with_may_be_anything(shared_broker: SharedBroker, tmp_path: Path) -> None:
    """Whatever result or error comes, the attempt ends: it is kept, or the job fails with what is wrong."""
    async with door(shared_broker, tmp_path) as api, at_work(api, "w") as worker:
        for type_, field in (("complete_job", "result"), ("fail_job", "error")):
            for odd in ("null", "true", "1e308", '"\\u0000"', "[]", '{"a":' * 1000 + "1" + "}" * 1000):
                job = await api.submit(kind="simulation", max_attempts=1)
                await takes(worker, job["id"])
                await worker.raw(
                    f'{{"type":"{type_}","worker_id":"w","job_id":"{job["id"]}","{field}":{odd}}}'
                )
                await worker.send(type_, worker_id="w", job_id=job["id"], **{field: "the end"})
                await job_is(api, job["id"], "succeeded", "dead")
                await worker.send("worker_heartbeat", worker_id="w", status="idle")


async def test_a_worker_may_not_send_frames_without_end(api: Gateway) -> None:
    async with at_work(api, "w") as worker:
        for _ in range(3):
            await worker.raw('{"type":"fail_job","job_id":"' + "x" * 15_000_000 + '"}')
            await worker.until("error")
        with pytest.raises((ConnectionError, AssertionError)):  # noqa: PT012 - either may see it first
            await worker.raw("x" * 17_000_000)
            while True:
                await worker.until("error")
        assert worker.socket.close_code in (1009, 1006, None)


@pytest.mark.parametrize("role", ["client", "worker", "monitor"])
async def test_binary_frames_end_the_connection(api: Gateway, role: str) -> None:
    async with line(api, f"/ws/{role}/one") as peer:
        await peer.socket.send_bytes(b'{"type":"stay_alive"}')
        while await peer.next() is not None:
            pass
        assert peer.socket.close_code == 1003


async def test_chunks_of_one_sender_are_no_others(api: Gateway) -> None:
    """Half of a message from one connection, and the other half from another with the same ids."""
    text = orjson.dumps({"type": "stay_alive", "pad": "x" * 100}).decode()
    halves = [
        {"chunk_id": number, "total_chunks": 2, "message_id": "m", "content": part}
        for number, part in enumerate((text[:50], text[50:]))
    ]
    async with line(api, "/ws/client/one") as one, line(api, "/ws/client/one") as two:
        await one.send("chunked_message", **halves[0])
        await two.send("chunked_message", **halves[1])
        for peer in (one, two):
            assert "Unsupported" in (await peer.ask("nothing", "error"))["error"]
            assert "response_job_status" not in {each["type"] for each in peer.seen}
        await one.send("chunked_message", **halves[1])
        await one.until("response_job_status")


async def test_a_flood_of_one_connection_stops_no_other(api: Gateway) -> None:
    """One sends all the time and reads nothing; the others are answered."""

    async def flood(peer: Line) -> None:
        message = orjson.dumps({"type": "request_job_status", "job_id": "x" * 150}).decode()
        try:
            for _ in range(FLOOD):
                await peer.raw(message)
                await asyncio.sleep(0)  # the gateway of this test runs in the same loop
        except (ConnectionError, aiohttp.ClientError):
            return

    async with (
        line(api, "/ws/client/flood") as bad,
        line(api, "/ws/client/good") as good,
        asyncio.timeout(3 * DEADLINE_S),
        asyncio.TaskGroup() as tasks,
    ):
        task = tasks.create_task(flood(bad))
        for number in range(20):
            found = await good.ask(
                "submit_job", "job_accepted", job_type="odd", payload={}, message_id=str(number)
            )
            assert found["job_id"] == str(number)
        task.cancel()
