"""Every part is killed, and the broker, each in the middle of two hundred running jobs."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.encoding.codec import FINAL_EVENTS
from switchyard.events.values import FINAL, Status
from switchyard.projections import database
from switchyard.services.broker import connection as broker
from switchyard.services.broker.inbox import Inbox
from tests.projections.rows import dump
from tests.system.deployment import Deployment
from tests.system.log_check import LogReport, check_log

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

JOBS = 200
JOB_S = 0.15
LEASE_S = 3.0
ALL_DONE_S = 120.0


async def kill_worker(site: Deployment) -> None:
    await site.parts["worker0"].kill()
    await site.start_worker("worker2", slots=8)


async def stop_worker_past_its_lease(site: Deployment) -> None:
    site.parts["worker0"].signal(signal.SIGSTOP)
    await asyncio.sleep(LEASE_S * 3)
    site.parts["worker0"].signal(signal.SIGCONT)


async def drain_worker(site: Deployment) -> None:
    assert await site.parts["worker0"].stop() == 0
    await site.start_worker("worker2", slots=8)


async def kill_gateway(site: Deployment) -> None:
    port = int(site.url.rpartition(":")[2])
    await site.parts["gateway"].kill()
    await site.start_gateway("gateway", port)


async def kill_projector(site: Deployment) -> None:
    await site.parts["projector"].kill()
    await site.start("projector", "projector")


async def kill_keeper(site: Deployment) -> None:
    await site.parts["keeper"].kill()
    await site.start("keeper", "keeper")


async def kill_broker(site: Deployment) -> None:
    await site.broker.kill()
    await site.broker.restart()


async def kill_broker_for_longer_than_a_lease(site: Deployment) -> None:
    await site.broker.kill()
    await asyncio.sleep(LEASE_S * 2)
    await site.broker.restart()


async def run_through(
    site: Deployment, fault: Callable[[Deployment], Awaitable[None]]
) -> tuple[int, LogReport]:
    """Submit, do harm in the middle, wait for the end; how many were submitted and what the log says."""
    await site.start_all(workers=2, slots=8)
    nc = await broker.connect(site.broker.url, name="test")
    ended: set[str] = set()
    async with Inbox(nc, subjects.ALL_JOBS) as events:
        await nc.flush()

        async def submit_all() -> list[str]:
            return [await site.submit(payload={"duration_s": JOB_S, "steps": 3}) for _ in range(JOBS)]

        async def until_ended(count: int) -> None:
            while len(ended) < count:
                message = await events.next(ALL_DONE_S)
                _, job_id, name, *_ = message.subject.split(".")
                if name in FINAL_EVENTS:
                    ended.add(job_id)

        submitting = asyncio.ensure_future(submit_all())
        await until_ended(JOBS // 4)
        await fault(site)
        ids = await submitting
        await settled(site, nc, ids)
    report = await check_log(nc)
    await nc.close()
    return len(ids), report


async def settled(site: Deployment, nc: Client, ids: list[str]) -> None:
    """Wait until every job is final in the log; the plain subscription may have missed some in an outage."""
    async with asyncio.timeout(ALL_DONE_S):
        while True:
            report = await check_log(nc)
            if all(report.jobs[job_id].status in FINAL for job_id in ids):
                return
            await asyncio.sleep(0.5)


async def read_model_equals_a_rebuilt_one(site: Deployment) -> None:
    tables = ("jobs", "labels", "attempts", "counts", "workers")
    path = database.path_in(site.data_dir)

    def rows() -> dict[str, list[tuple[object, ...]]]:
        connection = database.open_reader(path)
        try:
            return dump(connection, tables)
        finally:
            connection.close()

    async with asyncio.timeout(60):
        while True:
            status, body = await site.request("GET", "/readyz")
            if status == 200 and body["checks"]["read_model"]["lag_events"] == 0:
                break
            await asyncio.sleep(0.1)
    before = rows()
    await site.command("rebuild", "--data-dir", str(site.data_dir))
    assert rows() == before


LOSES_LEASES = {kill_worker, stop_worker_past_its_lease}
FAULTS = [
    kill_worker,
    stop_worker_past_its_lease,
    drain_worker,
    kill_gateway,
    kill_projector,
    kill_keeper,
    kill_broker,
    kill_broker_for_longer_than_a_lease,
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
async def test_nothing_is_lost_or_done_twice(
    fault: Callable[[Deployment], Awaitable[None]], tmp_path: Path
) -> None:
    async with Deployment(tmp_path, lease_s=LEASE_S, worker_stall_s=1) as site:
        submitted, report = await run_through(site, fault)
        assert report.faults == []
        assert submitted == JOBS == len(report.jobs)
        assert all(job.status is Status.SUCCEEDED for job in report.jobs.values())
        if fault not in LOSES_LEASES:
            assert sum(job.failures for job in report.jobs.values()) == 0
        await read_model_equals_a_rebuilt_one(site)
