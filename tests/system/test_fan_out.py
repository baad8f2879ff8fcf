"""The worker of one slot is killed while it plans, works and joins, and the keeper while it submits parts."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from switchyard.events.events import Leased, Parted, Succeeded
from switchyard.events.vocabulary.ids import JobId
from switchyard.projections.ledger.lines import lines
from switchyard.services import clock
from switchyard.services.broker import connection
from switchyard.services.broker.publisher import Publisher
from switchyard.services.event_store import EventStore
from switchyard.services.settings import Settings
from tests.system.deployment import Deployment
from tests.system.fan_out import PARTS

pytestmark = [pytest.mark.system, pytest.mark.drill, pytest.mark.timeout(600)]
DONE_S = 120.0


async def start_worker(site: Deployment, name: str) -> None:
    await site.start(
        name, "worker", "--handlers", "tests.system.fan_out:handlers", "--slots", "1", "--name", name
    )


async def until(site: Deployment, job: str, **wanted: Any) -> dict[str, Any]:
    """The job, when the fields are as wanted."""
    async with asyncio.timeout(DONE_S):
        while True:
            _, found = await site.request("GET", f"/v1/jobs/{job}")
            if all(found[name] == value for name, value in wanted.items()):
                shown: dict[str, Any] = found
                return shown
            await asyncio.sleep(0.05)


async def running(site: Deployment, parts: list[dict[str, Any]]) -> None:
    """Return when one of the parts runs."""
    async with asyncio.timeout(DONE_S):
        while True:
            for part in parts:
                _, found = await site.request("GET", f"/v1/jobs/{part['id']}")
                if found.get("state") == "running":
                    return
            await asyncio.sleep(0.05)


async def test_whatever_dies_each_part_is_done_once_and_joined(tmp_path: Path) -> None:
    gates = tmp_path / "gates"
    gates.mkdir()
    async with Deployment(tmp_path / "site") as site:
        await site.start_all(workers=0)
        await start_worker(site, "first")
        job = await site.submit(kind="drill-plan", payload={"gates": str(gates)})
        await until(site, job, state="running")
        await site.parts["first"].kill()
        await start_worker(site, "second")
        (gates / "plan").touch()
        waiting = await until(site, job, state="blocked")
        await site.parts["keeper"].kill()
        await site.start("keeper", "keeper")
        await running(site, waiting["parts"])
        await site.parts["second"].kill()
        (gates / "part").touch()
        await start_worker(site, "third")
        await until(site, job, state="running")
        await site.parts["third"].kill()
        await start_worker(site, "fourth")
        (gates / "join").touch()
        done = await until(site, job, state="succeeded")
        assert done["result"] == list(range(PARTS))
        assert done["parts"] == waiting["parts"]
        nc = await connection.connect(site.broker.url, name="test")
        settings = Settings()
        publisher = Publisher(nc, window=settings.publish_window, timeout_s=20)
        store = EventStore(nc, publisher, settings)
        units: Counter[str] = Counter()
        for each in (job, *(part["id"] for part in done["parts"])):
            history = await store.history(JobId(each))
            events = [type(entry.event) for entry in history]
            assert events.count(Succeeded) == 1
            assert events.count(Parted) == (each == job)
            billed = list(lines(JobId(each), [(entry, clock.now()) for entry in history]))
            assert len(billed) == events.count(Leased)
            for line in billed:
                units.update(line.units)
        assert (units["plans"], units["parts"]) == (1_000_000, PARTS * 1_000_000)
        await nc.close()
