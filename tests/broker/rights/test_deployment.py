"""A whole deployment whose parts each have credentials of their own does everything, and misses no right."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.broker.rights.deployment import Guarded
from tests.broker.rights.site import Site, running
from tests.gateway.push.task_server import TaskServer
from tests.system.test_push import register, until_online

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

DEADLINE_S = 240.0
HANDLERS = "tests.broker.rights.worked:handlers"


async def ended(site: Guarded, job: str) -> dict[str, Any]:
    """A job once it has ended."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            status, body = await site.request("GET", f"/v1/jobs/{job}", params={"wait": "20"})
            assert status == 200, body
            if body["state"] in ("succeeded", "dead", "cancelled", "expired"):
                return dict(body)


async def running_job(site: Guarded, job: str) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while (await site.request("GET", f"/v1/jobs/{job}"))[1]["state"] != "running":
            await asyncio.sleep(0.05)


async def heard(site: Guarded, until: str) -> list[str]:
    """The names of live messages about all jobs, up to one."""
    names = []
    headers = {"Authorization": f"Bearer {site.token}"}
    query = {"all": "true", "progress": "true", "logs": "true"}
    url = f"{site.url}/v1/events/stream"
    async with asyncio.timeout(DEADLINE_S), site.session.get(url, headers=headers, params=query) as answer:
        assert answer.status == 200, await answer.text()
        async for line in answer.content:
            if line.startswith(b"event:"):
                names.append(line.partition(b":")[2].strip().decode())
            if until.encode() in line:
                return names
    raise AssertionError(names)


async def batch_of(site: Guarded) -> dict[str, Any]:
    """A batch that has ended."""
    lines = b"\n".join(
        orjson.dumps({"custom_id": f"c{n}", "payload": {"duration_s": 0, "echo": n}}) for n in range(3)
    )
    headers = {"Content-Type": "application/octet-stream"}
    status, stored = await site.request("POST", "/v1/files?name=lines.jsonl", data=lines, headers=headers)
    assert status == 201, stored
    wish = {"input": stored["id"], "kind": "simulate"}
    status, made = await site.request("POST", "/v1/batches", json=wish)
    assert status in (200, 201, 202), made
    async with asyncio.timeout(DEADLINE_S):
        while True:
            _, batch = await site.request("GET", f"/v1/batches/{made['id']}")
            if batch["state"] in ("completed", "failed", "cancelled", "expired"):
                return dict(batch)
            await asyncio.sleep(0.1)


async def claimed_over_rest(site: Guarded) -> None:
    """A worker over REST leases a job, renews it, reports, stores a file and completes it."""
    job = await site.submit(kind="by_rest", payload={})
    wish = {"worker": "rest1", "kinds": ["by_rest"], "wait_s": 20, "lease_s": 30}
    async with asyncio.timeout(DEADLINE_S):
        while True:
            status, body = await site.request("POST", "/v1/leases", json=wish)
            if status in (200, 201) and body:
                break
            assert status == 204, body
    lease = body["lease"]
    headers = {"Switchyard-Lease-Token": lease["token"]}
    path = f"/v1/leases/{lease['id']}"
    for call, json in (
        ("renew", {}),
        ("progress", {"fraction": 0.5}),
        ("logs", {"lines": ["over REST"]}),
        ("succeed", {"result": 1}),
    ):
        status, said = await site.request("POST", f"{path}/{call}", json=json, headers=headers)
        assert status < 300, (call, said)
    assert (await ended(site, job))["state"] == "succeeded"


async def pushed(site: Guarded) -> None:
    """A task that a pusher sends to a server."""
    async with TaskServer("task1") as server:
        await register(site, server)
        await until_online(site, server)
        job = await site.submit(kind="upscale", payload={"number": 1}, max_attempts=20)
        assert (await ended(site, job))["state"] == "succeeded"
        status, _ = await site.request("DELETE", f"/v1/servers/{server.name}")
        assert status in (200, 204)


async def everything_works(directory: Path, broker: Site, **settings: Any) -> None:
    """Parts with keys of their own do all that they are for, and none misses a right."""
    async with Guarded(directory, broker, lease_s=6.0, server_networks="127.0.0.0/8", **settings) as site:
        await site.start("projector", "projector")
        await site.start_gateway()
        await site.start("keeper", "keeper")
        await site.start("pusher", "pusher")
        await site.start(
            "w1", "worker", "--slots", "4", "--kinds", "simulate", "--handlers", HANDLERS, "--name", "w1"
        )
        listening = asyncio.create_task(heard(site, "the last"))

        headers = {"Content-Type": "application/octet-stream"}
        status, stored = await site.request("POST", "/v1/files?name=in.txt", data=b"hello", headers=headers)
        assert status == 201, stored
        fine = await ended(site, await site.submit(kind="everything", payload={"file": stored["id"]}))
        assert (fine["state"], fine["result"]["said"]) == ("succeeded", "hello")
        again = await ended(site, await site.submit(kind="everything", payload={"fail": True}))
        assert (again["state"], again["attempt"]) == ("succeeded", 2)
        secret = await ended(site, await site.submit(kind="everything", payload={}, erasable=True))
        assert secret["state"] == "succeeded"
        stuck = await site.submit(kind="everything", payload={"wait": True})
        await running_job(site, stuck)
        await site.request("POST", f"/v1/jobs/{stuck}/cancel")
        assert (await ended(site, stuck))["state"] == "cancelled"
        child = await site.submit(payload={"duration_s": 0}, depends_on=[fine["id"]])
        assert (await ended(site, child))["state"] == "succeeded"
        status, lines = await site.request("GET", f"/v1/jobs/{fine['id']}/logs")
        assert status == 200
        assert "a line" in str(lines)

        assert (await batch_of(site))["state"] == "completed"
        await claimed_over_rest(site)
        await pushed(site)

        status, _ = await site.request("PUT", "/v1/limits/gpu", json={"concurrency": 1})
        assert status in (200, 201)
        limited = await site.submit(payload={"duration_s": 0}, limits=["gpu"])
        assert (await ended(site, limited))["state"] == "succeeded"
        await site.request("POST", "/v1/kinds/simulate/pause", json={})
        await site.request("POST", "/v1/kinds/simulate/resume", json={})
        status, erased = await site.request("POST", "/v1/erasures", json={"jobs": [secret["id"]]})
        assert (status, erased["erased"]) == (200, [secret["id"]])
        await ended(site, await site.submit(payload={"duration_s": 0}, labels={"name": "the last"}))
        names = await listening
        assert {"progress", "log"} <= {name.rpartition(".")[2] for name in names}, names

        assert "rebuilt" in await site.command("rebuild")
        assert await site.parts["w1"].stop() == 0
        for name in ("pusher", "keeper", "gateway", "projector"):
            await site.parts[name].stop()
        assert broker.violations() == []
        missing = [
            name for name, part in site.parts.items() if "broker_right_missing" in part.log.read_text()
        ]
        assert missing == []


async def test_a_deployment_with_credentials_of_its_own_misses_no_right(tmp_path: Path) -> None:
    (tmp_path / "broker").mkdir()
    async with running(tmp_path / "broker", "w1") as broker:
        await everything_works(tmp_path / "site", broker)
