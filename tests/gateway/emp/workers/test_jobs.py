"""A worker of emp-redis takes jobs of ours, and its reports are ours."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.broker.shared import SharedBroker
from tests.gateway.emp.site import door
from tests.gateway.emp.worker import FailedError, Worker
from tests.gateway.rest import DEADLINE_S, Gateway


async def job_is(api: Gateway, job_id: str, *states: str) -> dict[str, Any]:
    """The job once it is in one of these states."""
    async with asyncio.timeout(2 * DEADLINE_S):
        while True:
            job: dict[str, Any] = (await api.get(f"/v1/jobs/{job_id}")).json
            if job["state"] in states:
                return job
            await asyncio.sleep(0.05)


async def test_worker_claims_a_job_and_completes_it(shared_broker: SharedBroker, tmp_path: Path) -> None:
    async with door(shared_broker, tmp_path) as api, Worker(api).running() as worker:
        job = await api.submit(kind="simulation", payload={"steps": 3}, priority=70)
        offered = await worker.until("job_available", job_id=job["id"])
        assigned = await worker.until("job_assigned", job_id=job["id"])
        await worker.until("job_completed_ack", job_id=job["id"])
        found = await job_is(api, job["id"], "succeeded")

        assert (offered["job_type"], offered["priority"]) == ("simulation", 70)
        assert offered["job_request_payload"] == assigned["params"] == {"steps": 3}
        assert assigned["worker_id"] == worker.id
        assert found["result"] == {"echo": {"steps": 3}}
        assert found["worker"] == f"emp.{api.tenant}.{worker.id}"
        types = [message["type"] for message in worker.seen]
        assert types[:3] == ["connection_established", "worker_registered", "job_notifications_subscribed"]


async def test_worker_is_shown_with_its_capabilities(shared_broker: SharedBroker, tmp_path: Path) -> None:
    async with door(shared_broker, tmp_path) as api, Worker(api).running() as worker:
        await worker.until("worker_heartbeat_ack")
        path = f"/v1/workers/emp.{api.tenant}.{worker.id}"
        async with asyncio.timeout(DEADLINE_S):
            while (answer := await api.get(path, token=api.token("viewer"))).status != 200:
                await asyncio.sleep(0.05)
        shown = answer.json
        assert (shown["door"], shown["kinds"], shown["slots"]) == ("emp", ["simulation"], 1)
        found = shown["capabilities"]
        assert (found["memory"], found["ram"], found["hardware"]) == (
            "16GB",
            {"total_gb": 16},
            {"ram_gb": 16},
        )
        assert found["simulation_version"] == "1.0.0"

        fitting = await api.submit(kind="simulation", requires={"ram.total_gb": {"$gte": 16}, "cpu": True})
        large = await api.submit(kind="simulation", requires={"ram.total_gb": {"$gte": 17}})
        await worker.until("job_completed_ack", job_id=fitting["id"])
        assert worker.count("job_available", job_id=large["id"]) == 0
        assert (await api.get(f"/v1/jobs/{large['id']}")).json["state"] == "queued"


async def test_failed_job_goes_to_another_worker_that_fits(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async def fails(_worker: Worker, _assigned: dict[str, Any]) -> Any:
        raise FailedError("out of memory")

    async with door(shared_broker, tmp_path) as api, Worker(api, "bad", doing=fails).running() as bad:
        job = await api.submit(kind="simulation", max_attempts=5, retry={"base_s": 0.5, "max_s": 0.5})
        await bad.until("job_failed_ack", job_id=job["id"])
        async with api.keeper(), Worker(api, "good").running() as good:
            await good.until("job_completed_ack", job_id=job["id"])
            found = await job_is(api, job["id"], "succeeded")
        assert (found["attempt"], found["worker"]) == (2, f"emp.{api.tenant}.good")


async def test_progress_is_shown_as_a_fraction(shared_broker: SharedBroker, tmp_path: Path) -> None:
    seen = asyncio.Event()

    async def reports(worker: Worker, assigned: dict[str, Any]) -> Any:
        await worker.report(assigned["job_id"], 40, "processing", "step 2 of 5")
        await worker.report(assigned["job_id"], -1, "heartbeat")
        await seen.wait()
        return {}

    async with door(shared_broker, tmp_path) as api, Worker(api, doing=reports).running() as worker:
        job = await api.submit(kind="simulation")
        await worker.until("job_assigned")
        async with asyncio.timeout(DEADLINE_S):
            while True:
                shown = (await api.get(f"/v1/jobs/{job['id']}")).json.get("progress") or {}
                if shown.get("fraction") == pytest.approx(0.4):
                    break
                await asyncio.sleep(0.05)
        assert (shown["stage"], shown["message"]) == ("processing", "step 2 of 5")
        seen.set()
        await worker.until("job_completed_ack")


async def test_each_job_is_offered_to_one_idle_worker(shared_broker: SharedBroker, tmp_path: Path) -> None:
    done = asyncio.Event()

    async def waits(_worker: Worker, _assigned: dict[str, Any]) -> Any:
        await done.wait()
        return {}

    async with (
        door(shared_broker, tmp_path) as api,
        Worker(api, doing=waits).running() as one,
        Worker(api, doing=waits).running() as two,
        Worker(api, doing=waits).running() as three,
    ):
        crowd = (one, two, three)
        for worker in crowd:
            await worker.until("worker_heartbeat_ack")
        jobs = [await api.submit(kind="simulation") for _ in range(2)]
        for job in jobs:
            await job_is(api, job["id"], "running")
        done.set()
        for job in jobs:
            await job_is(api, job["id"], "succeeded")
        seen = [message for worker in crowd for message in worker.seen]
        offered = [each["job_id"] for each in seen if each["type"] == "job_available"]
        assert sorted(offered) == sorted(job["id"] for job in jobs)


async def test_large_result_comes_in_chunks_and_is_an_artifact(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async def large(_worker: Worker, _assigned: dict[str, Any]) -> Any:
        return {"images": ["ü" * 1_000_000 for _ in range(10)]}

    async with door(shared_broker, tmp_path) as api, Worker(api, doing=large).running() as worker:
        job = await api.submit(kind="simulation")
        await worker.until("job_completed_ack", job_id=job["id"])
        found = await job_is(api, job["id"], "succeeded")
        (artifact,) = found["artifacts"]
        assert (artifact["name"], artifact["size_bytes"] > 20_000_000) == ("result.json", True)


async def test_large_result_comes_in_one_frame_as_real_workers_send_it(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async def large(_worker: Worker, _assigned: dict[str, Any]) -> Any:
        return {"image": "i" * 10_000_000}

    async with (
        door(shared_broker, tmp_path) as api,
        Worker(api, doing=large, splits=False, path="/ws/compat").running() as worker,
    ):
        job = await api.submit(kind="simulation")
        await worker.until("job_completed_ack", job_id=job["id"])
        found = await job_is(api, job["id"], "succeeded")
        (artifact,) = found["artifacts"]
        assert (artifact["name"], artifact["size_bytes"] > 10_000_000) == ("result.json", True)


async def test_large_payload_is_sent_in_frames_that_the_worker_takes(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    text = "x" * 60_000

    async def writes(_worker: Worker, assigned: dict[str, Any]) -> Any:
        return {"text": text} if assigned["params"].get("writes") else {"n": len(assigned["params"]["texts"])}

    async with (
        door(shared_broker, tmp_path) as api,
        api.keeper(),
        Worker(api, doing=writes).running() as worker,
    ):
        parts = [(await api.submit(kind="simulation", payload={"writes": True}))["id"] for _ in range(20)]
        for part in parts:
            await worker.until("job_completed_ack", job_id=part)
        texts = [{"$result": {"job": part, "path": "text"}} for part in parts]
        job = await api.submit(kind="simulation", payload={"texts": texts}, depends_on=parts)
        offered = await worker.until("job_available", job_id=job["id"])
        assert offered["job_request_payload"]["texts"] == [text] * 20
        await worker.until("job_completed_ack", job_id=job["id"])
