"""Tenants that all wait get the shares of a kind's workers that their weights say."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator

import pytest

from switchyard.services.broker.publisher import Publisher
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.dispatch.fair_share import FairShare
from switchyard.services.records.kinds import KindDefaults, Kinds
from tests.dispatch.crowd import seen, starts, submit_to, until_seen, work_has_all, workers
from tests.sizes import in_drill
from tests.worker.site import Site, open_site

WEIGHTS = {"a": 3, "b": 2, "c": 1}
JOBS_EACH = 1000
COUNTED = 1500
WITHIN = 0.05


@pytest.fixture
async def site(broker: NatsServer) -> AsyncIterator[Site]:
    async with open_site(broker.url, lease_s=30) as site:
        yield site


@pytest.mark.parametrize(("count", "slots"), [(1, 8), in_drill(8, 1)])
async def test_starts_are_shared_by_weight_while_all_tenants_wait(site: Site, count: int, slots: int) -> None:
    async with Publisher(site.nc) as publisher:
        defaults = KindDefaults(fair_share=True, weights=WEIGHTS)
        await Kinds(site.nc, publisher, site.settings).put("simulate", defaults)
    job_ids = [
        await submit_to(site, {}, tenant=tenant, fair_share=True)
        for tenant in WEIGHTS
        for _ in range(JOBS_EACH)
    ]
    await work_has_all(site)
    async with seen(site, "succeeded") as ended, workers(site, count, slots=slots):
        await until_seen(ended, job_ids)
    found = await starts(site)
    assert len(found) == len(job_ids)
    first = Counter(start.spec.tenant for start in found[:COUNTED])
    for tenant, weight in WEIGHTS.items():
        assert abs(first[tenant] / COUNTED - weight / sum(WEIGHTS.values())) <= WITHIN, first


def test_passes_of_tenants_that_left_are_forgotten_and_the_others_keep_their_shares() -> None:
    shares = FairShare(lambda _: WEIGHTS, passes=10)
    counts: Counter[str] = Counter()
    for turn in range(COUNTED):
        order = shares.order("simulate", [*WEIGHTS, f"once-{turn}"])
        tenant = next(name for name in order if name in WEIGHTS)
        counts[tenant] += 1
        shares.started("simulate", tenant)
        assert len(shares._passes) <= 10
    for tenant, weight in WEIGHTS.items():
        assert abs(counts[tenant] / COUNTED - weight / sum(WEIGHTS.values())) <= WITHIN, counts
