"""What a graph needs is required of its worker, and explained; beyond the tenant's share at the lease."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from switchyard.events import subjects
from switchyard.events.vocabulary.ids import JobId
from switchyard.services.broker.jetstream import api as broker_api
from switchyard.services.dispatch import leasing
from tests.broker.shared import SharedBroker
from tests.gateway.leases.test_leases import Worker
from tests.gateway.rest import DEADLINE_S, Answer, Gateway, gateway

LACKS = "it lacks the model loras/a.safetensors"


def graph(*loras: str, nodes: tuple[str, ...] = (), checkpoint: str = "") -> dict[str, Any]:
    made: dict[str, Any] = {"out": {"class_type": "SaveImage", "inputs": {}}}
    for name in loras:
        made[f"lora-{len(made)}"] = {
            "class_type": "LoraLoader",
            "inputs": {"lora_name": f"{name}.safetensors"},
        }
    for name in nodes:
        made[f"node-{name}"] = {"class_type": name, "inputs": {}}
    if checkpoint:
        made["c"] = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": checkpoint}}
    return {"prompt": made}


def able(*loras: str, nodes: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    models = {"loras": [f"{name}.safetensors" for name in loras], **more.pop("models", {})}
    return {"comfyui": {"nodes": list(nodes), "models": models, **more}}


async def submit(api: Gateway, payload: Any, **fields: Any) -> str:
    return str((await api.submit(kind="comfyui", payload=payload, **fields))["id"])


def worker(api: Gateway) -> Worker:
    return Worker(api, kinds=["comfyui"])


async def test_a_graph_goes_to_a_worker_that_has_its_nodes_and_models(api: Gateway) -> None:
    job_id = await submit(api, graph("a", "b", nodes=("Zoom",)))
    one = worker(api)
    for lacking in ({}, able("a"), able("a", "b"), able("a", nodes=("Zoom",)), able("a", "b", nodes=("Z",))):
        assert (await one.claim(capabilities=lacking)).status == 204, lacking
    claimed = await one.claim(capabilities=able("a", "b", "c", nodes=("Zoom", "Other")))
    assert claimed.json["job"]["id"] == job_id
    await one.say(claimed, "succeed", {})


async def test_requirements_of_ones_own_stay_beside_what_is_derived(api: Gateway) -> None:
    own = {"comfyui": {"nodes": {"$has": "Mine"}}, "gpu": "big"}
    job_id = await submit(api, graph("a", nodes=("Zoom",)), requires=own, prefers={"warm": True})
    spec = await api.store.spec(JobId(job_id))
    assert spec.prefers == {"warm": {"$eq": True}}
    one = worker(api)
    for lacking in (
        {"gpu": "big", **able("a", nodes=("Zoom",))},
        {"gpu": "big", **able("a", nodes=("Mine",))},
        able("a", nodes=("Zoom", "Mine")),
    ):
        assert (await one.claim(capabilities=lacking)).status == 204, lacking
    claimed = await one.claim(capabilities={"gpu": "big", **able("a", nodes=("Zoom", "Mine"))})
    assert claimed.json["job"]["id"] == job_id
    await one.say(claimed, "succeed", {})


async def test_its_checkpoint_is_preferred(api: Gateway) -> None:
    job_id = await submit(api, graph(checkpoint="x.safetensors"))
    spec = await api.store.spec(JobId(job_id))
    assert spec.prefers == {"comfyui.loaded": {"$has": "x.safetensors"}}
    assert spec.requires == {"comfyui.models.checkpoints": {"$has": "x.safetensors"}}
    await api.call("POST", f"/v1/jobs/{job_id}/cancel", {})


async def test_derivation_can_be_switched_off(api: Gateway) -> None:
    job_id = await submit(api, graph("a", nodes=("Zoom",)), derive=False)
    spec = await api.store.spec(JobId(job_id))
    assert (spec.requires, spec.prefers, spec.needs) == ({}, {}, {})
    claimed = await worker(api).claim()
    assert claimed.json["job"]["id"] == job_id
    await worker(api).say(claimed, "succeed", {})


async def test_what_is_missing_is_explained_by_name(api: Gateway) -> None:
    one = worker(api)
    assert (await one.claim(capabilities=able("b", "c", nodes=("Zoom",)))).status == 204
    job_id = await submit(api, graph("a", "b", nodes=("Zoom",)))
    found = (await api.get(f"/v1/jobs/{job_id}/explain")).json
    (said,) = [entry for entry in found["workers"] if entry["id"].endswith("curl-1")]
    assert said["message"] == f"{LACKS}; loras/a.safetensors is in no catalogue"
    assert said["failed"][0].get("found") is None
    assert found["reason"] == "no_worker_fits"
    assert "1 worker would fit with the model loras/a.safetensors" in found["summary"]
    await api.call("POST", f"/v1/jobs/{job_id}/cancel", {})


async def test_a_back_end_that_is_down_is_explained_and_nobody_is_counted_on_it(api: Gateway) -> None:
    one = worker(api)
    requires = {"mine": api.tenant}
    down = {"state": "down", "backend": "comfyui-1", "since": "2026-11-29T12:00:00Z", "why": "it is silent"}
    found = {"mine": api.tenant, **able(nodes=("Zoom",), **down)}
    assert (await one.claim(capabilities=found)).status == 204
    job_id = await submit(api, graph(nodes=("Zoom",)), requires=requires)
    said = (await api.get(f"/v1/jobs/{job_id}/explain")).json
    assert said["reason"] == "back_end_down"
    assert said["summary"].endswith(
        "it fits, but its back end comfyui-1 has been down since 2026-11-29T12:00:00Z (it is silent)"
    )
    assert said["would_help"][0] == "start the back end again"
    await api.caught_up()
    (demand,) = [
        each
        for each in (await api.get("/v1/demand?kind=comfyui")).json["demand"]
        if each["requires"].get("mine")
    ]
    assert (demand["fitting_workers"], demand["missing_slots"]) == (0, 1)
    await api.call("POST", f"/v1/jobs/{job_id}/cancel", {})


async def test_beyond_its_part_of_the_share_nothing_is_refused_and_nothing_misplaced(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with gateway(shared_broker.url, tmp_path, tenant_lanes=8) as api:
        jobs = {await submit(api, graph(f"l{number}", nodes=("Zoom",))): number for number in range(20)}
        specs = {job: await api.store.spec(JobId(job)) for job in jobs}
        assert 0 < sum(not spec.needs for spec in specs.values()) < 20
        assert len({spec.lane for spec in specs.values()}) <= 6
        own = await api.call(
            "POST", "/v1/jobs", {"kind": "comfyui", "payload": graph(), "requires": {"mine": 1}}
        )
        assert own.status == 201, "what is derived leaves room for what is asked for"
        await api.call("POST", f"/v1/jobs/{own.json['id']}/cancel", {})
        one = worker(api)
        last = next(job for job, number in jobs.items() if number == 19)
        assert (await one.claim(capabilities=able("other", nodes=("Zoom",)))).status == 204
        said = (await api.get(f"/v1/jobs/{last}/explain")).json
        assert "it lacks the model loras/l19.safetensors" in str(said["workers"]), said
        while jobs:
            number = min(jobs.values())
            claimed = await one.claim(capabilities=able(f"l{number}", nodes=("Zoom",)), wait_s=2)
            if claimed.status == 204:
                continue
            assert jobs.pop(claimed.json["job"]["id"]) == number
            assert claimed.json["job"]["failures"] == 0
            assert claimed.json["job"]["attempt"] == 1
            await one.say(claimed, "succeed", {})


async def test_a_requirement_that_would_be_too_large_is_looked_at_when_the_job_starts(api: Gateway) -> None:
    names = [f"{number}-{'x' * 60}" for number in range(200)]
    job_id = await submit(api, graph(*names))
    spec = await api.store.spec(JobId(job_id))
    assert spec.requires == {}
    assert spec.needs
    one = worker(api)
    assert (await one.claim(capabilities=able(*names[1:]))).status == 204
    claimed = await one.claim(capabilities=able(*names), wait_s=10)
    assert claimed.json["job"]["id"] == job_id
    await one.say(claimed, "succeed", {})


async def test_a_job_goes_to_the_claim_that_fits_though_another_has_waited_longer(
    api: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Claims asked for in step are always in the same order: the second would never have its turn."""
    monkeypatch.setattr(leasing, "needs_delay_s", lambda _: 3600.0)
    names = [f"{number}-{'x' * 60}" for number in range(200)]
    requires = {"mine": api.tenant}
    first = await submit(api, graph(*names), requires=requires)
    lane = (await api.store.spec(JobId(first))).lane
    await api.call("POST", f"/v1/jobs/{first}/cancel", {})

    async def claiming(name: str, waiting: int, *loras: str) -> asyncio.Task[Answer]:
        able_to = {"mine": api.tenant, **able(*loras)}
        one = Worker(api, name, kinds=["comfyui"])
        task = asyncio.create_task(one.claim(capabilities=able_to, wait_s=15))
        call = f"CONSUMER.INFO.WORK.{subjects.lane_consumer(lane, 50)}"
        async with asyncio.timeout(DEADLINE_S):
            while (await broker_api(api.nc, call, timeout_s=20))["num_waiting"] != waiting:
                await asyncio.sleep(0.01)
        return task

    unfit = await claiming("unfit", 1, *names[1:])
    fit = await claiming("fit", 2, *names)
    job_id = await submit(api, graph(*names), requires=requires)
    claimed = await fit
    assert claimed.json["job"]["id"] == job_id
    assert (claimed.json["job"]["failures"], claimed.json["lease"]["attempt"]) == (0, 1)
    unfit.cancel()


async def test_a_bad_requirement_of_ones_own_is_refused_as_ever(api: Gateway) -> None:
    body = {"kind": "comfyui", "payload": graph("a"), "requires": {"x": {"$bogus": 1}}}
    refused = await api.call("POST", "/v1/jobs", body)
    assert (refused.status, refused.json["field"]) == (422, "requires.x.$bogus")
    bad: tuple[Any, ...] = (1, [], "x", {"1": 2}, {"1": {"class_type": 3}}, {"1": {"inputs": {}}})
    for prompt in bad:
        refused = await api.call("POST", "/v1/jobs", {"kind": "comfyui", "payload": {"prompt": prompt}})
        assert refused.status == 422, prompt
        assert refused.json["field"].startswith("payload.prompt"), refused
    odd: tuple[dict[str, Any], ...] = (
        {"ckpt_name": []}, {"ckpt_name": ["2", 0]}, {"lora_name": None}, {"vae_name": "none"},
    )  # fmt: skip
    for inputs in odd:
        job_id = await submit(api, {"prompt": {"1": {"class_type": "LoraLoader", "inputs": inputs}}})
        assert (await api.store.spec(JobId(job_id))).requires == {}, inputs
        await api.call("POST", f"/v1/jobs/{job_id}/cancel", {})
