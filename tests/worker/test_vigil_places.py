"""A place under a limit is kept as long as its job's lease is, also while a handler blocks the worker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from switchyard.events.commands import Submit
from switchyard.events.events import Succeeded
from switchyard.events.job import Job
from switchyard.events.lane import LaneKey
from switchyard.events.values import JobSpec
from switchyard.events.vocabulary.ids import LaneId
from switchyard.services.broker.publisher import Publisher
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.connectors.protocol import Attempt
from switchyard.services.ids import new_id
from switchyard.services.records.limits import LEASES_OF_A_PLACE, Limit, Limits
from tests.worker.own_process import own_process
from tests.worker.site import Site, TestConnector, open_site

KIND = "block"
LIMIT = "acme.gpu"


@pytest.fixture
async def site(broker: NatsServer) -> AsyncIterator[Site]:
    async with open_site(broker.url) as opened:
        yield opened


async def submit(site: Site, seconds: float) -> str:
    key = LaneKey(KIND, limits=(LIMIT,))
    payload = {"seconds": seconds}
    spec = JobSpec(kind=KIND, tenant="acme", lane=LaneId(f"{KIND}-limited"), limits=(LIMIT,), payload=payload)
    await site.lanes.ensure(key, spec.lane, spec.priority)
    command = Submit(now=datetime.now(UTC), job=spec)
    return (await site.store.transition(Job(id=new_id()), command, actor="user:ann")).job.id


async def other(_: Attempt) -> str:
    return "another"


@pytest.mark.parametrize("blocks", [KIND, "hold"])
async def test_a_place_stays_taken_while_a_handler_blocks_its_worker(
    site: Site, tmp_path: Path, blocks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.KIND", blocks)
    lasts_s = (LEASES_OF_A_PLACE + 2) * site.settings.lease_s  # what is not renewed is free long before
    async with Publisher(site.nc) as publisher:
        limit = Limit(1, None, datetime.now(UTC))
        await Limits(site.nc, publisher, site.settings).put(LIMIT, limit)
    async with site.keeper(), own_process(site, tmp_path / "log") as worker:
        await worker.vigil()
        first = await submit(site, int(lasts_s) + 1)
        await site.until(first, "leased")
        second = await submit(site, 0)
        async with site.worker(TestConnector(other, blocks), name="w2"):
            ended = await site.final(first)
            began = await site.until(second, "leased")
            assert isinstance(ended.event, Succeeded)
            assert ended.event.result == "own"
            assert began.seq > ended.seq
            await site.final(second)
    assert await site.names(first) == ["submitted", "leased", "succeeded"]
