"""Only a worker that fits is given a job, the best one first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from switchyard.events import subjects
from switchyard.events.commands import Submit
from switchyard.events.job import Job
from switchyard.events.lane import isolated, keys_of, lane_id
from switchyard.events.requirements.matching import canonical, canonical_prefers
from switchyard.events.retry import RetryPolicy
from switchyard.events.values import JobSpec, Status
from switchyard.events.vocabulary.ids import JobId, LaneId
from switchyard.services.broker.jetstream import api
from switchyard.services.broker.publisher import Publisher
from switchyard.services.broker.puller import WAIT_S
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.connectors.protocol import Attempt, BusyError, RetryableError
from switchyard.services.ids import new_id
from switchyard.services.records.limits import Limit, Limits
from tests.worker.site import DEADLINE_S, Site, TestConnector, open_site


@pytest.fixture
async def site(broker: NatsServer) -> AsyncIterator[Site]:
    async with open_site(broker.url) as site:
        yield site


async def submit(site: Site, n: Any = None, **fields: Any) -> str:
    """Append `submitted` of a job with conditions; the job's id."""
    fields["requires"] = canonical(fields.get("requires", {}))
    fields["prefers"] = canonical_prefers(fields.get("prefers", {}))
    tenant = fields.pop("tenant", "acme")
    fields["isolation"] = isolated(fields.get("isolation", "none"), tenant)
    spec = JobSpec(kind="simulate", tenant=tenant, lane=LaneId(""), payload={"n": n}, **fields)
    keys = keys_of(spec)
    lanes = [*map(lane_id, keys), ""]
    spec = msgspec.structs.replace(spec, lane=lanes[0], shared_lane=lanes[1])
    await site.lanes.ensure(keys[0], spec.lane, spec.priority)
    job, _ = await site.store.transition(
        Job(id=new_id()), Submit(now=datetime.now(UTC), job=spec), actor="user:ann"
    )
    return job.id


async def done(_: Attempt) -> None:
    return


async def worker_of(site: Site, job_id: str) -> str:
    """Who runs or ran the job."""
    leased = await site.until(job_id, "leased")
    return str(leased.event.worker)  # type: ignore[union-attr]


async def test_a_job_waits_for_the_worker_that_fits_and_no_other_gets_it(site: Site) -> None:
    small, large = TestConnector(done), TestConnector(done)
    large.extra = {"gpu": {"memory_gb": 24}}
    small.extra = {"gpu": {"memory_gb": 8}}
    job_id = await submit(site, requires={"gpu.memory_gb": {"$gte": 16}})
    plain = await submit(site)
    async with site.worker(small, name="small"):
        assert await worker_of(site, plain) == "small"
        async with site.worker(large, name="large"):
            assert await worker_of(site, job_id) == "large"
            await site.final(job_id)


async def test_a_capability_gained_while_running_takes_effect(site: Site) -> None:
    connector = TestConnector(done)
    job_id = await submit(site, requires={"model": "sdxl"})
    plain = await submit(site)
    async with site.worker(connector, name="w1"):
        await site.final(plain)
        connector.extra = {"model": "sdxl"}
        connector.changed()
        leased = await site.until(job_id, "leased")
        assert leased.event.revision == 2  # type: ignore[union-attr]


async def test_a_capability_lost_while_running_takes_effect_before_the_next_lease(site: Site) -> None:
    connector = TestConnector(done)
    connector.extra = {"model": "sdxl"}
    async with site.worker(connector, name="w1") as worker:
        first = await submit(site, requires={"model": "sdxl"})
        await site.final(first)
        worker.declare({"model": None})
        while worker._registration.record.revision < 2:
            await asyncio.sleep(0.01)
        second = await submit(site, requires={"model": "sdxl"})
        plain = await submit(site)
        await site.final(plain)
        assert await site.names(second) == ["submitted"]
        worker.declare({})
        await site.final(second)


async def until_waiting(site: Site, job_id: str, pulls: int) -> None:
    """Returns when that many idle workers wait on the lane of a job."""
    job = await site.store.load(JobId(job_id))
    call = f"CONSUMER.INFO.WORK.{subjects.lane_consumer(job.lane, job.priority)}"
    async with asyncio.timeout(DEADLINE_S):
        while (await api(site.nc, call, timeout_s=20))["num_waiting"] != pulls:
            await asyncio.sleep(0.01)


async def test_a_warm_worker_is_served_before_a_cold_one(site: Site) -> None:
    warm, cold = TestConnector(done), TestConnector(done)
    warm.extra, cold.extra = {"models": ["sdxl"]}, {"models": []}
    job_id = await submit(site, prefers={"models": "sdxl"})
    async with site.worker(cold, name="cold"):
        await site.final(job_id)
        async with site.worker(warm, name="warm"):
            for _ in range(5):
                await until_waiting(site, job_id, 2)
                job_id = await submit(site, prefers={"models": "sdxl"})
                assert await worker_of(site, job_id) == "warm"


async def test_a_worker_that_has_become_warm_is_served_first(site: Site) -> None:
    one, two = TestConnector(done), TestConnector(done)
    two.extra = {"models": ["sdxl"]}
    job_id = await submit(site, prefers={"models": "sdxl"})
    async with site.worker(one, name="one") as worker, site.worker(two, name="two") as other:
        await site.final(job_id)
        worker.declare({"models": ["sdxl"]})
        other.declare({"models": []})
        for changed in (worker, other):
            while changed._registration.record.revision < 2:
                await asyncio.sleep(0.01)
        for _ in range(5):
            await until_waiting(site, job_id, 2)
            job_id = await submit(site, prefers={"models": "sdxl"})
            assert await worker_of(site, job_id) == "one"


async def test_a_strictly_isolated_job_runs_on_its_tenants_worker_alone(site: Site) -> None:
    job_id = await submit(site, isolation="strict")
    other = await submit(site, isolation="strict", tenant="other")
    plain = await submit(site)
    async with site.worker(TestConnector(done), name="shared"):
        await site.final(plain)
        async with site.worker(TestConnector(done), name="own", tenant="acme"):
            assert await worker_of(site, job_id) == "own"
            await site.final(job_id)
            assert await site.names(other) == ["submitted"]


async def test_a_loosely_isolated_job_goes_to_shared_workers_after_its_time(site: Site) -> None:
    async with site.keeper(), site.worker(TestConnector(done), name="shared"):
        kept = await submit(site, isolation="loose", shared_after_s=3600)
        job_id = await submit(site, isolation="loose", shared_after_s=0.2)
        assert await worker_of(site, job_id) == "shared"
        await site.final(job_id)
        assert await site.names(job_id) == ["submitted", "queued", "leased", "succeeded"]
        async with site.worker(TestConnector(done), name="own", tenant="acme"):
            assert await worker_of(site, kept) == "own"
            await site.final(kept)


async def test_the_worker_that_failed_the_last_attempt_leaves_the_next_to_another(site: Site) -> None:
    async def fails_on(attempt: Attempt) -> None:
        if attempt.worker == "bad":
            raise RetryableError("bad", "this machine is broken")

    retry = RetryPolicy(base_s=0.05, factor=1, max_s=0.05, jitter=0)
    async with site.keeper(), site.worker(TestConnector(fails_on), name="bad"):
        job_id = await submit(site, retry=retry, max_attempts=2)
        await site.until(job_id, "failed")
        await site.until(job_id, "queued", "dead")
        async with site.worker(TestConnector(fails_on), name="good"):
            assert (await site.final(job_id)).name in ("succeeded", "dead")
        job_ids = []
        async with site.worker(TestConnector(fails_on), name="good"):
            job_ids = [await submit(site, retry=retry, max_attempts=2) for _ in range(5)]
            for job_id in job_ids:
                assert (await site.final(job_id)).name == "succeeded"


async def test_the_worker_that_failed_the_last_attempt_takes_the_next_when_it_is_alone(site: Site) -> None:
    async def fails_once(attempt: Attempt) -> None:
        if attempt.number == 1:
            raise RetryableError("bad", "once")

    async with site.keeper(), site.worker(TestConnector(fails_once), name="only"):
        job_id = await submit(site, retry=RetryPolicy(base_s=0.05, factor=1, max_s=0.05, jitter=0))
        assert (await site.final(job_id)).name == "succeeded"


async def test_the_worker_that_failed_a_job_takes_it_again_while_all_others_that_fit_are_full(
    site: Site,
) -> None:
    async def fails_once(attempt: Attempt) -> None:
        if attempt.payload["n"] == "long":
            await asyncio.Event().wait()
        if attempt.number == 1:
            raise RetryableError("bad", "once")

    retry = RetryPolicy(base_s=0.05, factor=1, max_s=0.05, jitter=0)
    async with site.keeper(), site.worker(TestConnector(fails_once), name="full"):
        await site.until(await site.submit("long"), "leased")
        async with site.worker(TestConnector(fails_once), name="idle"):
            job_id = await site.submit("quick", retry=retry)
            assert (await site.final(job_id)).name == "succeeded"  # sooner than the minute that it might wait
            history = await site.store.history(JobId(job_id))
            assert [entry.actor for entry in history if entry.name == "leased"] == [
                "worker:idle", "worker:idle",
            ]  # fmt: skip


async def test_a_job_that_is_always_given_back_does_not_starve_those_behind_it(site: Site) -> None:
    async def refuses(attempt: Attempt) -> None:
        if attempt.payload["n"] == "never":
            raise BusyError("full", "not now")

    connector = TestConnector(refuses)
    async with site.keeper(), site.worker(connector, name="only"):
        never = await site.submit("never", priority=90)
        await site.until(never, "scheduled")
        for job_id in [await site.submit(n) for n in range(20)]:
            assert (await site.final(job_id)).name == "succeeded"
        job = await site.store.load(JobId(never))
        assert (job.failures, job.releases) == (0, job.attempt - (job.status is Status.RUNNING))


class Crowd:
    """A handler that notes how many run at once."""

    def __init__(self) -> None:
        self.now = 0
        self.most = 0

    async def __call__(self, _: Attempt) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.01)
        self.now -= 1


@pytest.fixture
async def limits(site: Site) -> AsyncIterator[Limits]:
    async with Publisher(site.nc) as publisher:
        yield Limits(site.nc, publisher, site.settings)


async def test_no_more_jobs_of_a_limit_run_at_once_over_workers_lanes_and_priorities(
    site: Site, limits: Limits
) -> None:
    await limits.put("acme.api", Limit(2, None, datetime.now(UTC)))
    limited, free = Crowd(), Crowd()

    async def both(attempt: Attempt) -> None:
        await (free if attempt.payload["n"] == "free" else limited)(attempt)

    job_ids = [
        await submit(
            site, n, limits=("acme.api",), priority=20 + n % 3 * 10,
            requires={"simulate": True} if n % 2 else {},
        )
        for n in range(40)
    ]  # fmt: skip
    job_ids += [await submit(site, "free") for _ in range(20)]
    async with (
        site.worker(TestConnector(both), name="w1", slots=4),
        site.worker(TestConnector(both), name="w2", slots=4),
    ):
        for job_id in job_ids:
            assert (await site.final(job_id)).name == "succeeded"
    assert limited.most == 2
    assert free.most > 2


async def test_a_place_of_a_dead_worker_comes_back_and_one_handed_back_is_taken_at_once(
    site: Site, limits: Limits
) -> None:
    await limits.put("acme.api", Limit(1, None, datetime.now(UTC)))
    release = asyncio.Event()

    async def waits(_: Attempt) -> None:
        await release.wait()

    first = await submit(site, limits=("acme.api",))
    second = await submit(site, limits=("acme.api",))
    async with site.worker(TestConnector(waits), name="w1"):
        await site.until(first, "leased")
        async with site.worker(TestConnector(waits), name="w2"):
            plain = await submit(site)
            assert await worker_of(site, plain) == "w2"
            assert await site.names(second) == ["submitted"]
            release.set()
            await site.final(second)


async def test_no_more_jobs_start_than_a_minute_allows(site: Site, limits: Limits) -> None:
    await limits.put("acme.api", Limit(None, 3, datetime.now(UTC)))
    job_ids = [await submit(site, limits=("acme.api",)) for _ in range(5)]
    async with site.worker(TestConnector(done), name="w1", slots=8):
        plain = await submit(site)
        for job_id in [*job_ids[:3], plain]:
            await site.final(job_id)
        plain = await submit(site, priority=1)
        await site.final(plain)
        assert [await site.names(job_id) for job_id in job_ids[3:]] == [["submitted"]] * 2
        await limits.delete("acme.api")
        async with asyncio.timeout(WAIT_S / 2):  # no pull that waits for a token has to run out first
            for job_id in job_ids[3:]:
                await site.final(job_id)


async def test_a_limit_may_be_raised_and_lowered_while_jobs_run(site: Site, limits: Limits) -> None:
    await limits.put("acme.api", Limit(1, None, datetime.now(UTC)))
    await limits.put("acme.api", Limit(5, None, datetime.now(UTC)))
    await limits.put("acme.api", Limit(3, None, datetime.now(UTC)))
    crowd = Crowd()
    job_ids = [await submit(site, limits=("acme.api",)) for _ in range(30)]
    async with site.worker(TestConnector(crowd), name="w1", slots=8):
        for job_id in job_ids:
            await site.final(job_id)
    assert crowd.most == 3
