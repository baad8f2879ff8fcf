"""Jobs behind those of others: takers of several tenants share one reader of the lanes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest

from switchyard.events.lane import LaneKey, lane_id
from switchyard.events.vocabulary.ids import WorkerId
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.dispatch.choice import Source
from switchyard.services.dispatch.picker.behind import BehindOthers
from switchyard.services.records.lane_entries import LanePlace
from switchyard.services.records.tenancy import tenancy_of
from switchyard.services.records.workers import REST, WorkerRecord, new_record
from tests.dispatch.crowd import submit_to, work_has_all
from tests.worker.site import Site, open_site


@pytest.fixture
async def site(broker: NatsServer) -> AsyncIterator[Site]:
    async with open_site(broker.url) as site:
        yield site


def taker(tenant: str) -> WorkerRecord:
    record = new_record(
        worker_id=WorkerId(f"server.{tenant}.s1"), kinds=("simulate",), capabilities={}, slots=1, lease_s=1.0,
        tenancy=tenancy_of([tenant], []),
    )  # fmt: skip
    return msgspec.structs.replace(record, door=REST)


async def test_takers_of_two_tenants_do_not_make_each_other_read_again(site: Site) -> None:
    wanted = {tenant: [await submit_to(site, {}, tenant=tenant) for _ in range(2)] for tenant in ("a", "b")}
    await work_has_all(site)
    key = LaneKey("simulate")
    place = LanePlace(lane_id(key), 50)
    source = Source(place.consumer, *place, key, None)
    behind = BehindOthers(site.nc, timeout_s=10)
    found: dict[str, list[str]] = {"a": [], "b": []}
    for _ in range(2):
        for tenant, jobs in found.items():
            work = await behind.next(taker(tenant), source)
            assert work is not None
            assert work.tenant == tenant
            jobs.append(work.subject.split(".")[1])
    assert found == wanted  # each once
    for tenant in found:
        assert await behind.next(taker(tenant), source) is None
