"""What an autoscaler reads: what waits by what it needs, and who could run it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.gateway.jobs.test_explain import KIND, Plant, connector, plant
from tests.gateway.rest import DEADLINE_S

__all__ = ["plant"]

LARGE = {"gpu.memory_gb": {"$gte": 24}}


async def demand(plant: Plant, query: str = "", **headers: str) -> dict[str, Any]:
    found = await plant.api.get(f"/v1/demand{query}", **headers)
    assert found.status == 200, found.json
    return dict(found.json)


async def until(plant: Plant, query: str = "", **wanted: Any) -> dict[str, Any]:
    async with asyncio.timeout(DEADLINE_S):
        found = await demand(plant, query)
        while wanted != {name: found[name] for name in wanted}:
            found = await demand(plant, query)
    return found


async def test_jobs_of_all_priorities_are_added_up_by_what_they_need(plant: Plant) -> None:
    nothing = await demand(plant)
    assert (nothing["waiting"], nothing["demand"], nothing["oldest_waiting_s"]) == (0, [], None)
    for priority in (50, 60):
        await plant.api.submit(kind=KIND, requires=LARGE, priority=priority)
    await plant.api.submit(kind=KIND, delay_s=3600)
    last = await plant.api.submit(kind="other")
    found = await demand(plant, Switchyard_Min_Seq=str(last["seq"]))
    assert (found["waiting"], found["unserved"], found["missing_slots"]) == (3, 3, 3)
    first, second = found["demand"]
    assert (first["kind"], first["requires"], first["waiting"]) == (KIND, LARGE, 2)
    assert (second["kind"], second["waiting"], second["fitting_workers"]) == ("other", 1, 0)
    assert found["oldest_waiting_s"] >= first["oldest_waiting_s"] >= 0
    stranger = await plant.api.get("/v1/demand", token=plant.api.token(tenant=plant.api.stranger))
    assert stranger.json["waiting"] == 0


async def test_slots_that_are_free_are_not_missing(plant: Plant) -> None:
    async with plant.api.worker(connector(32), name="a", slots=2), plant.api.worker(connector(8), name="b"):
        jobs = [await plant.api.submit(kind=KIND, requires=LARGE) for _ in range(5)]
        found = await until(plant, running=2, waiting=3, missing_slots=3)
        (group,) = found["demand"]
        assert (group["fitting_workers"], group["fitting_slots"], group["free_slots"]) == (1, 2, 0)
        assert found["unserved"] == 0
        for job in jobs[:4]:
            await plant.api.call("POST", f"/v1/jobs/{job['id']}/cancel", {})
        await until(plant, running=1, waiting=0, missing_slots=0)


async def test_it_says_what_one_more_worker_of_a_sort_could_run(plant: Plant) -> None:
    await plant.api.submit(kind=KIND, requires=LARGE)
    last = await plant.api.submit(kind=KIND, requires={"gpu.memory_gb": {"$gte": 80}})
    seq = {"Switchyard_Min_Seq": str(last["seq"])}
    small, large = '{"gpu":{"memory_gb":24}}', '{"gpu":{"memory_gb":96}}'
    assert (await demand(plant, f"?capabilities={small}", **seq))["waiting"] == 1
    assert (await demand(plant, f"?capabilities={large}", **seq))["waiting"] == 2
    assert (await demand(plant, "?capabilities={}", **seq))["waiting"] == 0
    assert (await demand(plant, "?kind=nothing", **seq))["waiting"] == 0


async def test_what_no_worker_would_start_is_held_and_misses_no_slot(plant: Plant) -> None:
    await plant.put_limit("api", {"concurrency": 1})
    async with plant.api.worker(connector(), name="a", slots=1):
        first = await plant.api.submit(kind=KIND, limits=["api"])
        await plant.api.until(first["id"], "leased")
        await plant.api.submit(kind=KIND, limits=["api"])
        found = await until(plant, waiting=1, held=1, missing_slots=0)
        assert found["unserved"] == 0
        await plant.api.submit(kind=KIND)
        await until(plant, waiting=2, held=1, missing_slots=1)
        await plant.api.call("POST", f"/v1/kinds/{KIND}/pause", token=plant.api.token("admin"))
        await until(plant, waiting=2, held=2, missing_slots=0)


@pytest.mark.parametrize("value", ["", "[]", "{", "1", '{"a":NaN}', "x" * 3000, '{"a":"\\ud800"}'])
async def test_capabilities_that_are_none_are_refused(plant: Plant, value: str) -> None:
    found = await plant.api.get(f"/v1/demand?capabilities={value}")
    assert (found.status, found.json["field"]) == (400, "capabilities")
    assert (await plant.api.get("/v1/demand?kind=A%20b")).json["field"] == "kind"
