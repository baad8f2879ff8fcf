"""What workers store counts against the quota of the job's tenant, as uploads through a gateway do."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from switchyard.events.errors import LimitError, UnavailableError
from switchyard.services.broker.connection import connect
from switchyard.services.connectors.protocol import Attempt, FatalError
from switchyard.services.files import quota, reservations
from switchyard.services.files.reservations import WorkerQuota
from switchyard.services.worker.worker import Worker
from tests.broker.shared import SharedBroker
from tests.gateway.rest import DEADLINE_S, Gateway, gateway
from tests.worker.site import TestConnector

MIB = 1024 * 1024


@contextlib.asynccontextmanager
async def working(api: Gateway, broker: SharedBroker, handler: Any) -> AsyncIterator[None]:
    """A worker beside a gateway, for a kind that has the tenant's name."""
    nc = await connect(broker.url, name="worker")
    worker = Worker(nc, [TestConnector(handler, api.tenant)], api.settings, worker_id=f"w-{api.tenant}")
    running = asyncio.create_task(worker.run())
    await worker.ready.wait()
    try:
        yield
    finally:
        worker.stop()
        await running
        await nc.close()


async def ended(api: Gateway) -> dict[str, Any]:
    job = (await api.call("POST", "/v1/jobs?wait=10", {"kind": api.tenant})).json
    while job["ended_at"] is None:
        job = (await api.get(f"/v1/jobs/{job['id']}?wait=10")).json
    found: dict[str, Any] = job
    return found


async def used(api: Gateway, what: str) -> int:
    return int((await api.get("/v1/usage")).json["usage"][what]["used"])


async def until_used(api: Gateway, file_bytes: int) -> None:
    """A worker's last word is on its way to the gateway for a moment after its upload has ended."""
    seen = -1
    try:
        async with asyncio.timeout(DEADLINE_S):
            while (seen := await used(api, "file_bytes")) != file_bytes:
                await asyncio.sleep(0.05)
    except TimeoutError:
        pytest.fail(f"{seen} bytes are used, not {file_bytes}")


async def blocks(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield bytes(1000)


async def test_an_artifact_over_the_quota_ends_the_job_and_says_why(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    kept: list[str] = []

    async def handler(attempt: Attempt) -> Any:
        await attempt.save("fits.bin", bytes(3000), media_type="a/b")
        for data in (bytes(3000), blocks(3), _file(tmp_path / "large", 3000)):
            with pytest.raises(FatalError) as refused:
                await attempt.save("large.bin", data, media_type="a/b")
            kept.append(refused.value.code)
        return "x" * 3000  # does not fit into its event, nor into the quota

    limits: dict[str, Any] = {"tenant_bytes": 10_000, "inline_result_bytes": 1000, "lease_s": 3.0}
    async with gateway(shared_broker.url, tmp_path, **limits) as api, working(api, shared_broker, handler):
        stored = await api.call("POST", "/v1/files", bytes(5000), Content_Type="a/b")
        assert stored.status == 201
        job = await ended(api)
        assert (job["state"], job["reason"], job["failures"]) == ("dead", "not_retryable", 1), job
        assert job["error"]["code"] == "quota_exceeded"
        assert "10000 bytes" in job["error"]["message"]
        assert kept == ["quota_exceeded"] * 3
        # What the worker stored counts for the gateway too, and what it was refused does not.
        assert (await used(api, "file_bytes"), await used(api, "files")) == (8000, 2)
        assert (await api.call("POST", "/v1/files", bytes(3000), Content_Type="a/b")).status == 413


def _file(path: Path, size_bytes: int) -> Path:
    path.write_bytes(bytes(size_bytes))
    return path


async def test_an_artifact_that_is_one_file_too_many_ends_the_job(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async def handler(attempt: Attempt) -> Any:
        for number in range(5):
            await attempt.save(f"{number}.bin", b"x", media_type="a/b")

    async with (
        gateway(shared_broker.url, tmp_path, tenant_files=3, lease_s=3.0) as api,
        working(api, shared_broker, handler),
    ):
        job = await ended(api)
        assert (job["state"], job["error"]["code"]) == ("dead", "quota_exceeded")
        assert await used(api, "files") == 3


async def test_many_workers_at_once_do_not_pass_the_limit(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with gateway(shared_broker.url, tmp_path, tenant_bytes=5 * MIB + 10) as api:
        workers = [WorkerQuota(api.nc, timeout_s=20) for _ in range(4)]
        everybody = asyncio.Barrier(40)

        async def store(number: int) -> bool:
            size = MIB if number % 2 else None
            try:
                async with workers[number % 4].upload(api.tenant, size) as room:
                    for _ in range(16):
                        await room.take(MIB // 16)
                        await asyncio.sleep(0)
                    room.stored(2**50)
                    return True
            except LimitError:
                return False
            finally:
                await everybody.wait()

        async with asyncio.timeout(DEADLINE_S):
            stored = sum(await asyncio.gather(*map(store, range(40))))
        assert 0 < stored <= 5
        await until_used(api, stored * MIB)


async def test_every_gateway_knows_what_another_granted(shared_broker: SharedBroker, tmp_path: Path) -> None:
    limit: dict[str, Any] = {"tenant_bytes": 5000}
    async with (
        gateway(shared_broker.url, tmp_path / "a", **limit) as one,
        gateway(shared_broker.url, tmp_path / "b", **limit) as two,
        contextlib.AsyncExitStack() as uploads,
    ):
        workers = WorkerQuota(one.nc, timeout_s=20), WorkerQuota(two.nc, timeout_s=20)
        for number in range(5):
            room = await uploads.enter_async_context(workers[number % 2].upload(one.tenant, 1000))
            await room.take(1000)
            room.stored(2**50)
        for worker in workers:
            with pytest.raises(LimitError, match="5000 bytes"):
                await uploads.enter_async_context(worker.upload(one.tenant, 1))
        two.tenant = one.tenant
        for api in (one, two):
            await until_used(api, 5000)
        await uploads.aclose()
        stored = await two.call("POST", "/v1/files", b"x", Content_Type="a/b")
        assert stored.status == 413, "what was stored counts until it is known otherwise"


async def test_a_gateway_counts_what_it_refused_and_another_granted(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    limit: dict[str, Any] = {"tenant_bytes": 5000}
    async with gateway(shared_broker.url, tmp_path, **limit) as api, asyncio.timeout(DEADLINE_S):
        await api.nc.publish(f"quota.files.{api.tenant}", b'{"upload": "x", "held": 5001}')
        with pytest.raises(LimitError):
            async with WorkerQuota(api.nc, timeout_s=20).upload(api.tenant, 1):
                pass
        await api.nc.publish(f"quota.files.{api.tenant}", b'{"upload": "x"}')
        async with WorkerQuota(api.nc, timeout_s=20).upload(api.tenant, 5000):
            pass


async def test_an_upload_that_broke_off_leaves_its_room(shared_broker: SharedBroker, tmp_path: Path) -> None:
    async with gateway(shared_broker.url, tmp_path, tenant_bytes=1000) as api:
        worker = WorkerQuota(api.nc, timeout_s=20)
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                async with worker.upload(api.tenant, 1000):
                    raise ZeroDivisionError
        async with worker.upload(api.tenant, 1000):
            pass


async def test_the_room_of_a_worker_that_died_is_free_again(
    shared_broker: SharedBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quota, "RESERVED_S", 0.3)
    async with gateway(shared_broker.url, tmp_path, tenant_bytes=1000) as api:
        worker = WorkerQuota(api.nc, timeout_s=20)
        await worker._room(api.tenant, "dead", 1000, 1000, None)
        async with asyncio.timeout(DEADLINE_S):
            while True:
                try:
                    async with worker.upload(api.tenant, 1000):
                        return
                except LimitError:
                    await asyncio.sleep(0.05)


async def test_a_request_that_is_none_disturbs_no_other(shared_broker: SharedBroker, tmp_path: Path) -> None:
    async with gateway(shared_broker.url, tmp_path, tenant_bytes=1000) as api:
        for body in (
            b"",
            b"\xff",
            b"[]",
            b'{"upload": "", "least": 1}',
            b'{"upload": "x", "least": -1}',
            b"[" * 9000,
        ):
            await api.nc.publish(f"quota.files.{api.tenant}", body, reply="nobody")
        await api.nc.publish("quota.files.*", b'{"upload": "x", "least": 1}', reply="nobody")
        async with WorkerQuota(api.nc, timeout_s=20).upload(api.tenant, 1000):
            pass


async def test_without_a_gateway_a_worker_stores_a_little_and_then_waits(
    shared_broker: SharedBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reservations, "UNANSWERED_BYTES", 100 * reservations.LEAST_FILE_BYTES)
    nc = await connect(shared_broker.url, name="worker")
    try:
        worker = WorkerQuota(nc, timeout_s=20)
        for _ in range(100):
            async with worker.upload("acme") as room:
                await room.take(10)
        with pytest.raises(UnavailableError, match="no gateway"):
            async with worker.upload("acme"):
                pass
        with pytest.raises(UnavailableError):
            async with worker.upload("umbrella", reservations.UNANSWERED_BYTES + 1):
                pass
        async with worker.upload("initech", 10):
            pass
        async with gateway(shared_broker.url, tmp_path), worker.upload("acme", 10) as room:
            await room.take(10)
        assert "acme" not in worker._unanswered
    finally:
        await nc.close()


async def test_no_read_model_is_like_no_gateway(shared_broker: SharedBroker, tmp_path: Path) -> None:
    async with gateway(shared_broker.url, tmp_path) as api:

        def away(tenant: str) -> tuple[int, int, int]:
            raise UnavailableError(f"there is no read model for {tenant}")

        answered = reservations.Reservations(
            api.nc, quota.Quota(away, limit_files=1, limit_bytes=1), timeout_s=20
        )
        assert answered._judged("acme", "x", 1, 1) == reservations._Answer()
