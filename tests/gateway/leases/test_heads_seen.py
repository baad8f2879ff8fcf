"""A claim over REST sees what it chooses between, and takes one job."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from switchyard.events import subjects
from switchyard.events.vocabulary.ids import JobId
from switchyard.services.broker.jetstream import api as broker_api
from tests.gateway.leases.test_leases import Worker, submit
from tests.gateway.rest import DEADLINE_S, Gateway

LANES = 5


async def consumers_of(api: Gateway, jobs: Iterable[str]) -> list[dict[str, Any]]:
    """What the broker says of the lanes of these jobs."""
    found = []
    for job_id in jobs:
        job = await api.store.load(JobId(job_id))
        call = f"CONSUMER.INFO.WORK.{subjects.lane_consumer(job.lane, job.priority)}"
        found.append(await broker_api(api.nc, call, timeout_s=20))
    return found


async def until_in_lanes(api: Gateway, jobs: Iterable[str]) -> None:
    """Return when each of the jobs waits in a lane of its own."""
    async with asyncio.timeout(DEADLINE_S):
        while not all(info["num_pending"] for info in await consumers_of(api, jobs)):
            await asyncio.sleep(0.02)


async def test_a_claim_takes_the_oldest_of_several_lanes_and_touches_no_other(api: Gateway) -> None:
    jobs = [await submit(api, requires={"size": {"$gte": number}}) for number in range(LANES)]
    await until_in_lanes(api, jobs)
    worker = Worker(api, kinds=[api.tenant], capabilities={"size": LANES})
    claimed = await worker.claim(wait_s=5)
    assert claimed.json["job"]["id"] == jobs[0]
    deliveries = [info["delivered"]["consumer_seq"] for info in await consumers_of(api, jobs)]
    assert deliveries == [1] + [0] * (LANES - 1)


async def test_claims_at_once_get_different_jobs_each_delivered_once(api: Gateway) -> None:
    jobs = [await submit(api, requires={"size": {"$gte": number}}) for number in range(LANES)]
    await until_in_lanes(api, jobs)
    workers = [
        Worker(api, f"curl-{number}", kinds=[api.tenant], capabilities={"size": LANES})
        for number in range(LANES)
    ]
    claimed = await asyncio.gather(*(worker.claim(wait_s=10) for worker in workers))
    assert sorted(answer.json["job"]["id"] for answer in claimed) == sorted(jobs)
    deliveries = [info["delivered"]["consumer_seq"] for info in await consumers_of(api, jobs)]
    assert deliveries == [1] * LANES


async def test_another_tenants_job_at_the_head_stays_where_it_is(api: Gateway) -> None:
    kinds, token = [api.tenant], api.token(tenant=api.stranger)
    # With a lane beside it, there is something to choose between.
    beside = await submit(api, requires={"size": {"$gte": 1}}, priority=50)
    other = await api.call("POST", "/v1/jobs", {"kind": api.tenant}, token=token)
    own = await submit(api)
    await until_in_lanes(api, [beside, own])
    worker = Worker(api, kinds=kinds, capabilities={"size": LANES})
    assert (await worker.claim(wait_s=10)).json["job"]["id"] == beside
    async with asyncio.timeout(DEADLINE_S):  # the read model may be a moment behind
        while (claimed := await worker.claim(wait_s=2)).status != 201:
            pass
    assert claimed.json["job"]["id"] == own
    (lane,) = await consumers_of(api, [other.json["id"]])
    assert lane["num_ack_pending"] == 0
