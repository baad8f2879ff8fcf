"""A job that a server does not fit goes to a worker that it fits, at once; refusals count, not looks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from switchyard.events.requirements.matching import canonical
from switchyard.services.broker import connection
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.dispatch import leasing
from switchyard.services.ids import new_id
from switchyard.services.outbound.addresses import PRIVATE
from switchyard.services.pusher.pusher import Pusher
from switchyard.services.records.servers.condition import Rhythm
from switchyard.services.records.servers.record import Endpoints, Server
from switchyard.services.records.servers.store import Servers
from tests.gateway.push.task_server import TaskServer
from tests.site import now
from tests.worker.site import DEADLINE_S, Site, TestConnector, open_site

NEEDS = canonical({"model": "a"})


@contextlib.asynccontextmanager
async def pusher(site: Site, server: TaskServer) -> AsyncIterator[None]:
    """One that has a server of kind `simulate`, which fits no job that needs anything."""
    registry = Servers(site.nc, site.publisher, site.settings)
    one = Server(
        tenant="acme", id="s1", generation=new_id(), name="s1", kinds=("simulate",), slots=4,
        endpoints=Endpoints(f"{server.url}/predict", f"{server.url}/health"), profile="task",
        created_at=now(), created_by="user:a", updated_at=now(),
    )  # fmt: skip
    await registry.put(one, 0)
    nc = await connection.connect(site.nats_url, name="pusher")
    settings = site.settings.model_copy(update={"server_networks": PRIVATE})
    running = Pusher(nc, settings, rhythm=Rhythm(shortest_s=0.3, longest_s=1.0, check_s=1.0))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(running.run())
        await running.ready.wait()
        yield
        running.stop()
        async with asyncio.timeout(DEADLINE_S):
            await task
    await nc.close()


async def worker_of(attempt: Any) -> str:
    return str(attempt.worker)


async def refused(counted: list[int], times: int) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while len(counted) < times:
            await asyncio.sleep(0.01)


async def test_a_worker_that_fits_has_a_job_that_a_server_was_given(
    broker: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its delay would be an hour if it was handed back; only one that is sent on ends."""
    monkeypatch.setattr(leasing, "needs_delay_s", lambda _: 3600.0)
    async with open_site(broker.url) as site, TaskServer("s1") as server, pusher(site, server):
        first = await site.submit(0)
        assert (await site.final(first)).name == "succeeded"  # by the server: it is well, and waits
        fit = TestConnector(worker_of)
        fit.extra = {"model": "a"}
        async with site.worker(fit, name="fit", slots=8):
            jobs = [await site.submit(number, needs=NEEDS) for number in range(8)]
            for job in jobs:
                assert (await site.final(job)).name == "succeeded"
                assert await site.names(job) == ["submitted", "leased", "succeeded"]
            assert sorted(fit.started) == list(range(8))
        assert server.took.total() == 1


async def test_a_job_that_nobody_fits_is_put_off_by_how_often_it_was_refused(
    broker: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []

    def delay_s(times: int) -> float:
        counted.append(times)
        return 0.05

    monkeypatch.setattr(leasing, "needs_delay_s", delay_s)
    async with open_site(broker.url) as site, TaskServer("s1") as server, pusher(site, server):
        await site.submit(1, needs=NEEDS)
        await refused(counted, 5)
        assert counted[:5] == [1, 2, 3, 4, 5]
        assert not server.took
