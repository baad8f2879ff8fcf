"""The reserve of the log and of the disk: what may use it, and what is refused so that jobs can end."""

from __future__ import annotations

import asyncio
import io
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from switchyard.events.commands import Submit
from switchyard.events.job import Job
from switchyard.events.values import JobSpec
from switchyard.services.broker.jetstream import api as ask
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.connectors.protocol import Attempt
from switchyard.services.files import Files
from switchyard.services.ids import new_id
from switchyard.services.keeper.loop import Keeper
from switchyard.services.records import room
from switchyard.services.records.lanes import lane_for
from tests.gateway.leases.test_leases import Worker
from tests.gateway.rest import DEADLINE_S, Answer, Gateway, gateway, now
from tests.gateway.shares.test_storage import PAYLOAD, SMALL, fill, on_disk, resize
from tests.worker.site import TestConnector

MIB = 1024 * 1024


@pytest.fixture
async def small(
    broker: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Gateway]:
    monkeypatch.setattr(
        "switchyard.services.intake.shares.EVENTS_BYTES", 0
    )  # or the tenant's share may be spent first
    sizes = {"JOBS": SMALL, "OBJ_files": SMALL}
    async with gateway(broker.url, tmp_path, max_bytes=sizes, tenant_log_share=1.0, lease_s=1.5) as api:
        yield api


async def share(api: Gateway) -> float:
    return room.fill_of(await ask(api.nc, "STREAM.INFO.JOBS", timeout_s=20)).share


async def use_the_reserve(api: Gateway) -> None:
    """As running jobs do that end with large results: half of it is gone then."""
    spec = JobSpec(kind="other", tenant=api.tenant, lane=lane_for("other"), payload=PAYLOAD)
    while await share(api) < 1 - room.RESERVE * room.FOR_ENDS:
        command = Submit(now=now(), job=spec)
        await api.store.transition(Job(id=new_id()), command, actor="user:ann")


def connector() -> TestConnector:
    async def ends(_: Attempt) -> None:
        return None

    return TestConnector(ends, "noop")


async def test_jobs_that_wait_start_until_half_of_the_reserve_is_used(small: Gateway) -> None:
    rest = Worker(small)
    waiting = await small.submit()
    await fill(small)
    assert (await small.get("/readyz")).json["checks"]["storage"]["starts"]
    claimed = await rest.claim()
    assert claimed.status == 201
    await use_the_reserve(small)
    async with asyncio.timeout(DEADLINE_S):
        while (refused := await rest.claim()).status == 201:
            pass
    assert (refused.status, refused.json["code"]) == (503, "unavailable")
    assert "no job starts" in refused.json["detail"]
    assert "kept for the ends of jobs" in refused.json["detail"]
    assert int(refused.headers["Retry-After"]) > 0
    assert not (await small.get("/readyz")).json["checks"]["storage"]["starts"]
    # What runs ends, and what has ended goes.
    assert (await rest.say(claimed, "succeed", {"result": "x" * 1000})).status == 200
    assert (await small.call("DELETE", f"/v1/jobs/{waiting['id']}")).status == 200


async def test_a_worker_takes_no_job_while_half_of_the_reserve_is_used_and_goes_on_afterwards(
    small: Gateway, broker: NatsServer
) -> None:
    jobs = await fill(small)
    await use_the_reserve(small)
    runs = connector()
    async with small.worker(runs) as _, asyncio.TaskGroup() as group:
        async with asyncio.timeout(DEADLINE_S):
            while not (await small.get("/v1/workers")).json["workers"]:
                await asyncio.sleep(0.05)
        explained = (await small.get(f"/v1/jobs/{jobs[0]['id']}/explain")).json
        assert explained["reason"] == "storage_full"
        assert "no job starts: the event log is" in explained["summary"]
        assert "SWITCHYARD_JOBS_BYTES" in explained["would_help"][0]
        assert not runs.started
        changed = await small.call("PATCH", f"/v1/jobs/{jobs[0]['id']}", {"priority": 7})
        assert (changed.status, changed.json["code"]) == (503, "unavailable")
        keeper = group.create_task(Keeper(small.nc, small.settings).run())
        for job in jobs[-60:]:
            assert (await small.call("POST", f"/v1/jobs/{job['id']}/cancel")).status == 200
            assert (await small.call("DELETE", f"/v1/jobs/{job['id']}")).status == 200
        await small.final(jobs[0]["id"])
        keeper.cancel()
    assert runs.started


# --- Files


async def upload(api: Gateway, body: Any) -> Answer:
    headers = {"Authorization": f"Bearer {api.token()}"}
    data = io.BytesIO(body) if isinstance(body, bytes) else body
    async with asyncio.timeout(DEADLINE_S):
        async with api.http.post(f"{api.url}/v1/files", data=data, headers=headers) as response:
            return Answer(response.status, response.headers, await response.read())


async def blocks(count: int, sent: list[int] | None = None) -> AsyncIterator[bytes]:
    for number in range(count):
        if sent is not None:
            sent.append(number)
        yield bytes(MIB // 8)


def is_full(answer: Answer) -> bool:
    if answer.status != 507:
        return False
    assert answer.json["code"] == "storage_full"
    assert answer.json["title"] == "Insufficient Storage"
    assert int(answer.headers["Retry-After"]) > 0
    return True


async def test_a_file_for_which_there_is_no_room_is_refused_before_its_body_is_read(small: Gateway) -> None:
    sent: list[int] = []

    async def body() -> AsyncIterator[bytes]:
        async for block in blocks(40, sent):
            yield block

    headers = {
        "Authorization": f"Bearer {small.token()}", "Content-Length": str(5 * MIB), "Expect": "100-continue",
    }  # fmt: skip
    async with small.http.post(f"{small.url}/v1/files", data=body(), headers=headers) as response:
        answer = Answer(response.status, response.headers, await response.read())
    assert is_full(answer)
    assert "SWITCHYARD_OBJ_FILES_BYTES" in answer.json["detail"]
    assert not sent
    assert (await upload(small, bytes(MIB))).status == 201


async def test_a_long_upload_is_broken_off_when_the_store_of_files_is_full_and_files_can_be_deleted(
    small: Gateway,
) -> None:
    kept = await upload(small, bytes(MIB))
    assert kept.status == 201
    assert is_full(await upload(small, blocks(80)))
    # Nothing of it stays, and what is there can go.
    assert (await upload(small, bytes(2 * MIB))).status == 201
    async with asyncio.timeout(DEADLINE_S):
        while (await upload(small, bytes(MIB // 16))).status == 201:
            pass
    assert not (await small.get("/readyz")).json["checks"]["storage"]["uploads"]
    assert (await small.call("DELETE", f"/v1/files/{kept.json['id']}")).status == 204
    assert (await upload(small, bytes(MIB // 2))).status == 201


async def test_what_the_broker_refuses_itself_is_507_too(small: Gateway) -> None:
    await resize(small.nc, "OBJ_files", MIB // 2)
    unaware = Files(small.nc, timeout_s=20)
    with pytest.raises(Exception, match="is full") as refused:
        await unaware.put(
            tenant=small.tenant, file_id="x", name="x", type="text/plain", body=blocks(8),
            max_bytes=2 * MIB, ttl_s=60,
        )  # fmt: skip
    assert type(refused.value).__name__ == "StorageFullError"


async def test_uploads_leave_the_reserve_of_the_disk_to_jobs(disk: Path) -> None:
    async with on_disk(disk) as (_, api):
        job = await api.submit()
        held = await api.lease(job["id"])
        assert is_full(await upload(api, blocks(800)))  # 100 MiB on a disk of 64
        assert (await api.get("/readyz")).json["checks"]["storage"]["ok"]
        with (disk / "ballast").open("wb", buffering=0) as ballast:
            while shutil.disk_usage(disk).free > 2 * MIB:
                ballast.write(bytes(64 * 1024))
        answer = await upload(api, b"x")
        assert is_full(answer)
        assert "are kept for the ends of jobs" in answer.json["detail"]
        assert (await api.complete(held, {"n": 1})).status.value == "succeeded"
        (disk / "ballast").unlink()
        assert (await upload(api, bytes(MIB))).status == 201
