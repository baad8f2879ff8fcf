"""Two versions side by side in the order of `docs/upgrade.md`: nothing is damaged, and nothing is lost."""

from __future__ import annotations

import asyncio
import shlex
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.services.broker import connection
from switchyard.services.broker.jetstream import api
from switchyard.services.broker.reader import read_range
from tests.operate.blocks import command
from tests.system.deployment import Deployment

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

DONE_S = 60.0
NEXT = "tests.system.next_version"
OURS = {subjects.H_TENANT: "acme", subjects.H_KIND: "simulate"}
PRAISED = b'{"v":1,"at":"2026-01-02T03:04:05Z","mood":"good"}'


async def praise(nc: Client, job_id: str) -> None:
    """What only the next version writes, and reads."""
    await nc.request(f"job.{job_id}.praised", PRAISED, timeout=5, headers=OURS)


async def until(site: Deployment, job_id: str, state: str) -> dict[str, Any]:
    async with asyncio.timeout(DONE_S):
        while True:
            _, job = await site.request("GET", f"/v1/jobs/{job_id}")
            if job["state"] == state:
                found: dict[str, Any] = job
                return found
            await asyncio.sleep(0.1)


async def said(site: Deployment, part: str, word: str) -> None:
    async with asyncio.timeout(DONE_S):
        while word not in site.parts[part].log.read_text():
            assert site.parts[part].process.returncode is None
            await asyncio.sleep(0.05)


async def log_of(nc: Client, job_id: str) -> list[str]:
    found = await read_range(nc, subjects.JOBS, subjects.job_filter(job_id), timeout_s=20)  # type: ignore[arg-type]
    return [message.subject.rpartition(".")[2] for message in found]


async def test_what_a_newer_version_wrote_waits_for_it_and_everything_else_goes_on(tmp_path: Path) -> None:
    async with Deployment(tmp_path, lease_s=2.0, drain_grace_s=1.0) as site:
        nc = await connection.connect(site.broker.url, name="test")
        await site.start("projector", "projector")
        await site.start_gateway()
        await site.start("keeper", "keeper")
        await site.start_worker("old", slots=1)
        running = await site.submit(payload={"duration_s": 1.5})
        await until(site, running, "running")
        queued = await site.submit(payload={"duration_s": 0})
        for job_id in (running, queued):
            await praise(nc, job_id)

        # The old ones do nothing to these jobs, and everything for the others.
        for job_id in (running, queued):
            _, shown = await site.request("GET", f"/v1/jobs/{job_id}")
            assert shown["damage"]["newer_version"] is True
            for verb in ("cancel", "repair", "discard"):
                status, refused = await site.request("POST", f"/v1/jobs/{job_id}/{verb}", json={})
                assert (status, refused["code"]) == (503, "unavailable"), refused
        await said(site, "old", "outcome_waits")
        other = await site.submit(payload={"duration_s": 0}, labels={"n": "1"})
        assert (await site.request("GET", "/readyz"))[0] == 200

        # Keepers, then workers: one of each version.
        await site.start("keeper2", "keeper", module=NEXT)
        assert await site.parts["keeper"].stop() == 0
        await site.start("new", "worker", "--kinds", "simulate", "--slots", "2", "--name", "new", module=NEXT)
        await until(site, other, "succeeded")
        async with asyncio.timeout(DONE_S):
            while "succeeded" not in await log_of(nc, queued):
                await asyncio.sleep(0.1)
        await site.parts["old"].stop()
        async with asyncio.timeout(DONE_S):
            while "succeeded" not in await log_of(nc, running):
                await asyncio.sleep(0.1)

        # Projector and gateway last: what was marked is read again.
        await site.parts["projector"].stop()
        await site.start("projector2", "projector", module=NEXT)
        await site.parts["gateway"].stop()
        port = int(site.url.rpartition(":")[2])
        await site._serving(await site.start("gateway2", "gateway", "--port", str(port), module=NEXT), port)
        for job_id in (running, queued, other):
            job = await until(site, job_id, "succeeded")
            assert job["damage"] is None, job
            names = await log_of(nc, job_id)
            assert names.count("succeeded") == 1, names
            assert not {"dead", "cancelled", "repaired", "failed"} & set(names), names

        # Back again: the version before reads the log as far as it knows it.
        await site.parts["projector2"].stop()
        await site.start("projector3", "projector")
        await site.parts["gateway2"].stop()
        await site.start_gateway("gateway3", port)
        await site.parts["new"].stop()
        await site.start_worker("old2")
        await until(site, await site.submit(payload={"duration_s": 0}), "succeeded")
        for job_id in (running, queued, other):
            _, again = await site.request("GET", f"/v1/jobs/{job_id}")
            assert (again["state"], again["damage"]) == ("succeeded", None)
            _, history = await site.request("GET", f"/v1/jobs/{job_id}/events")
            assert "succeeded" in [event["type"] for event in history["events"]]
        await nc.close()


async def test_the_commands_of_the_page_show_and_lay_out_what_is_new(tmp_path: Path) -> None:
    async with Deployment(tmp_path) as site:
        nc = await connection.connect(site.broker.url, name="test")
        await api(nc, "STREAM.DELETE.KV_batch_refusals", timeout_s=20)  # as a version before it has left it
        lines = [shlex.split(line) for line in command("upgrade", "topology").text.splitlines()]
        assert [line[:2] for line in lines] == [["switchyard", "topology"]] * 2
        (_, *diff), (_, *apply) = lines
        with pytest.raises(AssertionError):  # it ends with a status that says so
            await site.command(*diff)
        assert "KV_batch_refusals" in await site.command(*apply)
        assert await site.command(*diff) == ""
        await nc.close()
