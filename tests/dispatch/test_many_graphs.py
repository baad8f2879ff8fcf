"""Thousands of graphs, each with a set of LoRAs of its own: none is refused, and none is misplaced."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from tests.broker.shared import SharedBroker
from tests.gateway.leases.test_leases import Worker
from tests.gateway.rest import DEADLINE_S, Gateway, gateway
from tests.sizes import sizes

LORAS = 60
PER_WORKER = 40
PER_GRAPH = 3


def graph(names: tuple[str, ...]) -> dict[str, Any]:
    return {
        "prompt": {
            str(at): {"class_type": "LoraLoader", "inputs": {"lora_name": name}}
            for at, name in enumerate(names)
        }
    }


async def work(api: Gateway, name: str, models: frozenset[str], done: set[str], all_: int) -> None:
    """Claim and end jobs until all are done; each is to need only what is there."""
    one = Worker(api, name, kinds=["comfyui"])
    capabilities = {"comfyui": {"models": {"loras": sorted(models)}}}
    while len(done) < all_:
        claimed = await one.claim(capabilities=capabilities, wait_s=1)
        if claimed.status == 204:
            continue
        assert claimed.status == 201, claimed
        job = claimed.json["job"]
        wanted = {node["inputs"]["lora_name"] for node in job["payload"]["prompt"].values()}
        assert wanted <= models, (name, wanted)
        assert (job["failures"], claimed.json["lease"]["attempt"]) == (0, 1)
        done.add(job["id"])
        assert (await one.say(claimed, "succeed", {})).status == 200


@pytest.mark.parametrize("size", sizes((60, 4), (10_000, 20), timeout_s=3600))
async def test_graphs_with_sets_of_their_own_all_run_where_they_fit(
    shared_broker: SharedBroker, tmp_path: Path, size: tuple[int, int]
) -> None:
    graphs, workers = size
    draw = random.Random(7)
    names = [f"l{number}.safetensors" for number in range(LORAS)]
    has = [frozenset(draw.sample(names, PER_WORKER)) for _ in range(workers)]
    wanted: set[tuple[str, ...]] = set()
    while len(wanted) < graphs:
        wanted.add(tuple(draw.sample(sorted(has[len(wanted) % workers]), PER_GRAPH)))
    limits: dict[str, Any] = {"tenant_lanes": 20} if graphs < 1000 else {"tenant_jobs": 2 * graphs}
    async with gateway(shared_broker.url, tmp_path, **limits) as api:
        lines = [{"kind": "comfyui", "payload": graph(one)} for one in sorted(wanted)]
        answers: list[dict[str, Any]] = []
        for start in range(0, len(lines), 200):
            answers += await api.bulk(*lines[start : start + 200])
        assert [one for one in answers if one["status"] != 201] == []
        done: set[str] = set()
        async with asyncio.timeout(DEADLINE_S * (3 if graphs < 1000 else 150)):
            async with asyncio.TaskGroup() as group:
                for number in range(workers):
                    group.create_task(work(api, f"w{number}", has[number], done, graphs))
        assert {one["id"] for one in answers} == done
