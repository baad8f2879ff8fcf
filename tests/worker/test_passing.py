"""A job that a worker does not fit goes to another process's worker that it fits, at once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from switchyard.events import subjects
from switchyard.events.lane import LaneKey, lane_id
from switchyard.events.requirements.matching import canonical
from switchyard.events.vocabulary.ids import JobId
from switchyard.services.broker.jetstream import api as broker_api
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.dispatch import leasing
from tests.worker.site import DEADLINE_S, Site, TestConnector, open_site

NEEDS = canonical({"model": "a"})
LANE = lane_id(LaneKey("simulate"))


async def waiting(site: Site, count: int) -> None:
    """Wait until so many pulls wait in the lane."""
    call = f"CONSUMER.INFO.WORK.{subjects.lane_consumer(LANE, 50)}"
    async with asyncio.timeout(DEADLINE_S):
        while (await broker_api(site.nc, call, timeout_s=20))["num_waiting"] != count:
            await asyncio.sleep(0.01)


async def hold(attempt: Any) -> str:
    return str(attempt.worker)


async def test_the_worker_that_fits_has_it_though_another_has_waited_longer(
    broker: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leasing, "needs_delay_s", lambda _: 3600.0)
    async with open_site(
        broker.url, lease_s=3600.0
    ) as site:  # a job that is lost on its way is never seen again
        await site.final(await _first(site))
        unfit, fit = TestConnector(hold), TestConnector(hold)
        fit.extra = {"model": "a"}
        async with site.worker(unfit, name="unfit"):
            await waiting(site, 1)
            async with site.worker(fit, name="fit"):
                await waiting(site, 2)
                job = await site.submit(7, needs=NEEDS)
                assert (await site.final(job)).name == "succeeded"
                assert (unfit.started, fit.started) == ([], [7])
                assert await site.names(job) == ["submitted", "leased", "succeeded"]


async def test_an_offer_that_names_no_event_of_the_log_is_refused(broker: NatsServer) -> None:
    async with open_site(broker.url) as site:
        done = await _first(site)
        [submitted, *_] = await site.store.history(JobId(done))
        connector = TestConnector(hold)
        async with site.worker(connector, name="w"):
            answer = f"$JS.ACK.{subjects.WORK}.{subjects.lane_consumer(LANE, 50)}.1.1.1.1.0"
            real = f"JOBS {submitted.seq} > > job.{done}.submitted.{LANE}.50"
            for source, where in (
                (f"JOBS {submitted.seq + 10**6} > > job.{done}.submitted.{LANE}.50", answer),  # not there
                (f"JOBS {submitted.seq} > > job.{done}.queued.{LANE}.50", answer),  # another event
                (real, "$KV.keys.x"),  # answered elsewhere
                (real, "$JS.ACK.JOBS.keeper-events.1.1.1.1.0"),
                (real, f"{answer}.>\u0000"),
                ("", answer),
                (real, ""),
            ):
                headers = {subjects.H_SOURCE: source, subjects.H_ANSWER: where}
                await site.nc.publish(subjects.offer("w", 50), b'{"forged": 1}', headers=headers)
            await site.nc.publish(subjects.offer("w", 50), b"", reply="x")
            job = await site.submit(8)
            assert (await site.final(job)).name == "succeeded"
            assert connector.started == [8]


async def test_a_job_that_nobody_fits_is_put_off_by_how_often_it_was_refused(
    broker: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []

    def delay_s(times: int) -> float:
        counted.append(times)
        return 0.05

    monkeypatch.setattr(leasing, "needs_delay_s", delay_s)
    async with open_site(broker.url) as site, site.worker(TestConnector(hold), name="unfit"):
        await site.submit(1, needs=NEEDS)
        async with asyncio.timeout(DEADLINE_S):
            while len(counted) < 5:
                await asyncio.sleep(0.01)
        assert counted[:5] == [1, 2, 3, 4, 5]


async def _first(site: Site) -> str:
    """A job that makes the lane, run to its end."""
    async with site.worker(TestConnector(hold), name="first"):
        job = await site.submit(0)
        await site.final(job)
    return job
