"""The connectors of a worker as others see them: slots, what each runs and can do, also after changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from switchyard.services.broker.server.server import NatsServer
from tests.gateway.leases.test_leases import Worker, until_in_registry
from tests.gateway.rest import DEADLINE_S, Gateway, gateway
from tests.worker.test_instances import Finding


@pytest.fixture
async def api(broker: NatsServer, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway(broker.url, tmp_path, lease_s=1.5, drain_grace_s=0.2) as api:
        yield api


async def shown(api: Gateway, worker: str = "w1") -> dict[str, Any]:
    async with asyncio.timeout(DEADLINE_S):
        while (found := await api.get(f"/v1/workers/{worker}")).status != 200:
            await asyncio.sleep(0.02)
    return {one["id"]: one for one in found.json["connectors"]}


async def until(api: Gateway, wanted: Any) -> dict[str, Any]:
    """The connectors, once they are so."""
    async with asyncio.timeout(DEADLINE_S):
        while not wanted(found := await shown(api)):
            await asyncio.sleep(0.02)
    return found


async def test_each_connector_says_its_slots_what_it_runs_and_what_it_can_do(api: Gateway) -> None:
    one, two = Finding("one", {"models": ["cat"]}, slots=2), Finding("two", {"models": ["dog"]}, slots=None)
    press = Finding("press", {"ink": "black"}, kind="press", slots=9)
    async with api.worker(one, two, press, slots=4):
        found = await shown(api)
        assert {name: (each["kind"], each["slots"], each["running"]) for name, each in found.items()} == {
            "one": ("paint", 2, 0), "two": ("paint", 4, 0), "press": ("press", 4, 0),
        }  # fmt: skip
        assert found["one"]["capabilities"] == {"models": ["cat"], "ink": "black"}
        assert found["two"]["capabilities"] == {"models": ["dog"], "ink": "black"}
        for model in ("cat", "dog", "dog"):
            await api.submit(kind="paint", requires={"models": model})
        found = await until(api, lambda found: found["two"]["running"] == 2 and found["one"]["running"] == 1)
        listed = (await api.get("/v1/workers")).json["workers"][0]["connectors"]
        assert [(each["id"], each["running"]) for each in listed] == [("one", 1), ("two", 2), ("press", 0)]
        assert all("capabilities" not in each for each in listed)
        whole = (await api.get("/v1/workers?capabilities=true")).json["workers"][0]["connectors"]
        assert whole[0]["capabilities"] == {"models": ["cat"], "ink": "black"}
        one.go.set()
        two.go.set()
        await until(api, lambda found: not any(each["running"] for each in found.values()))


async def test_an_instance_that_changes_is_seen_in_the_registry_and_in_explain(api: Gateway) -> None:
    one, two = Finding("one", {"models": ["cat"]}), Finding("two", {"models": ["dog"]})
    async with api.worker(one, two, slots=4):
        await shown(api)
        job = await api.submit(kind="paint", requires={"models": "eel"})

        async def explained() -> Any:
            return (await api.get(f"/v1/jobs/{job['id']}/explain")).json

        before = await explained()
        assert before["reason"] == "no_worker_fits"
        assert before["workers"][0]["verdict"] == "does_not_fit"
        two.find({"models": ["dog", "eel"]})
        found = await until(api, lambda found: "eel" in found["two"]["capabilities"]["models"])
        assert found["one"]["capabilities"] == {"models": ["cat"]}
        await api.until(job["id"], "leased")
        assert (await explained())["summary"] == "attempt 1 runs on w1"
        two.find({"models": ["dog"]})
        await until(api, lambda found: "eel" not in found["two"]["capabilities"]["models"])
        second = await api.submit(kind="paint", requires={"models": "eel"})
        job = second
        assert (await explained())["reason"] == "no_worker_fits"
        two.go.set()


async def test_a_worker_over_rest_names_no_connectors(api: Gateway) -> None:
    worker = Worker(api, kinds=["noop"])
    await worker.claim()
    assert "connectors" not in await until_in_registry(api, worker)
