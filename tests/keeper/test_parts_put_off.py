"""Parts for which there is no room, and parts and jobs that have lost each other."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from switchyard.events.vocabulary.ids import JobId
from switchyard.projections.reader import ReadModel
from switchyard.services.broker.consume import PutOffError
from switchyard.services.broker.jetstream import api as broker_api
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.intake.submitter import Submitter
from switchyard.services.keeper.fan_out import put_off
from switchyard.services.keeper.fan_out.put_off import FullError, PutOff
from switchyard.services.keeper.waits import WAITS
from tests.keeper.test_parts import Planner, cancel, parted, parts
from tests.keeper.test_sweep import projected, sweep, until, until_repaired
from tests.worker.site import DEADLINE_S, Site, open_site


@pytest.fixture
async def site(broker: NatsServer, tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(broker.url, data_dir=tmp_path, lease_s=1.0, tenant_jobs=3) as site:
        yield site


async def start_of(site: Site, model: ReadModel, planner: Planner, count: int) -> str:
    """A job that has ended in parts of which no keeper knows; the read model does not have it as running."""
    async with site.worker(planner):
        job = await site.submit(
            kind="plan", payload={"do": "part", "n": "plan", "parts": parts(*range(count))}
        )
        await parted(site, job)
    await until(site, model, (await site.store.load(JobId(job))).seq)
    return job


async def test_parts_that_are_over_a_limit_come_when_those_before_them_have_ended(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The end of a job is a reason to try again; without one it is long until there is another.
    monkeypatch.setattr(put_off, "FIRST_S", 5.0)
    begun = Counter[str]()
    real = Submitter.begin

    async def begin(self: Submitter, request: Any, *rest: Any) -> Any:
        begun[request.payload["n"]] += 1
        return await real(self, request, *rest)

    monkeypatch.setattr(Submitter, "begin", begin)
    async with projected(site) as model, site.keeper(model), site.worker(Planner()):
        payload = {"do": "part", "n": "plan", "parts": parts(*range(9))}
        job = await site.submit(kind="plan", payload=payload)
        assert (await site.final(job)).name == "succeeded"
    # Each is begun once, and once more for each time that there was no room for it.
    assert begun.keys() == set(range(9))
    assert max(begun.values()) < 8


async def test_a_job_without_room_for_its_parts_is_tried_ever_more_seldom() -> None:
    loop = asyncio.get_running_loop()
    pauses = list[float]()
    tried = asyncio.Event()
    message: Any = type("Message", (), {"seq": 7})()

    async def submit(_: Any, at: int) -> None:
        tried.set()
        raise FullError("full", at=at, tenant="acme")

    waiting = PutOff(submit)
    job = JobId("0190d3f1-6f55-7b0e-9a6b-3f7c3d1f0a11")
    waiting.add(job, message, FullError("full", at=0, tenant="acme"))
    async with asyncio.TaskGroup() as group:
        running = group.create_task(waiting.run())
        for _ in range(8):
            waiting._entries[job].due = loop.time()
            waiting._wake.set()
            await tried.wait()
            tried.clear()
            await asyncio.sleep(0)
            pauses.append(waiting._entries[job].pause_s)
        running.cancel()
    assert pauses == [2, 4, 8, 16, 30, 30, 30, 30]
    with pytest.raises(PutOffError):
        waiting.is_done(job, 7)  # type: ignore[arg-type]
    waiting.forget(job)
    assert (waiting._of_tenant, waiting._tried_at) == ({}, {})


async def test_a_job_that_did_not_hear_of_the_end_of_its_parts_is_joined_by_the_sweep(site: Site) -> None:
    planner = Planner()
    async with projected(site) as model:
        job = await start_of(site, model, planner, 2)
        async with site.keeper(model):
            async with asyncio.timeout(DEADLINE_S):
                while len(model.states([part.id for part in (await parted(site, job)).parts])) < 2:
                    await asyncio.sleep(0.02)
        await broker_api(site.nc, f"STREAM.PURGE.{WAITS.stream}", timeout_s=20)
        async with site.worker(planner):
            for part in (await parted(site, job)).parts:
                last = await site.final(part.id)
                assert last.name == "succeeded"
                await until(site, model, last.seq)
        # Without a worker: a keeper that only sweeps sees no heartbeats, and would wait for one that runs.
        assert "blocked_without_cause" in await until_repaired(site, model)
        async with site.worker(planner):
            assert (await site.final(job)).name == "succeeded"


async def test_parts_that_no_keeper_has_heard_of_are_submitted_by_the_sweep(site: Site) -> None:
    planner = Planner()
    async with projected(site) as model:
        job = await start_of(site, model, planner, 2)
        assert await until_repaired(site, model) == {"parts_not_submitted": 1}
        await until(site, model, (await site.store.load((await parted(site, job)).parts[1].id)).seq)
        assert await sweep(site, model) == {}


async def test_parts_that_go_on_after_the_end_of_their_job_are_cancelled_by_the_sweep(site: Site) -> None:
    planner = Planner()
    async with projected(site) as model:
        job = await start_of(site, model, planner, 2)
        assert await until_repaired(site, model) == {"parts_not_submitted": 1}
        await until(site, model, (await site.store.load((await parted(site, job)).parts[1].id)).seq)
        await broker_api(site.nc, f"STREAM.PURGE.{WAITS.stream}", timeout_s=20)
        await cancel(site, job)
        assert await until_repaired(site, model) == {"part_without_job": 1}
        for part in (await parted(site, job)).parts:
            assert (await site.final(part.id)).name == "cancelled"


async def test_a_part_that_is_refused_again_and_again_does_not_stop_other_jobs(site: Site) -> None:
    async with projected(site) as model, site.keeper(model), site.worker(Planner(), slots=2):
        # Three of the tenant wait for room for a part each, and only the end of one of them makes any.
        full = [
            await site.submit(
                kind="plan", payload={"do": "part", "n": "full", "parts": parts(0)}, max_attempts=1
            )
            for _ in range(3)
        ]
        for job in full:
            await parted(site, job)
        await cancel(site, full[0])
        for job in full[1:]:
            assert (await site.final(job)).name == "succeeded"
