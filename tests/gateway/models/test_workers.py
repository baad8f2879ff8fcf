"""Fetches of workers over REST, of jobs whose lane does not say what they need, and of workers that die."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from switchyard.events.vocabulary.ids import JobId
from switchyard.services.outbound.addresses import PRIVATE
from switchyard.services.run.rest_worker import _Worker
from switchyard.services.worker.hardware.machine import Machine
from tests.broker.shared import SharedBroker
from tests.connectors.comfyui.graphs import node, scaled
from tests.connectors.comfyui.models.file_server import FileServer
from tests.gateway.models.fleet import comfy, enter, explained, fetching, name_of, submit, until
from tests.gateway.rest import Gateway, gateway

DATA = bytes(range(256)) * 20_000


@pytest.fixture
async def server() -> AsyncIterator[FileServer]:
    async with FileServer(DATA).running() as running:
        yield running


@contextlib.asynccontextmanager
async def opened(broker: SharedBroker, data_dir: Path, **settings: Any) -> AsyncIterator[Gateway]:
    async with gateway(broker.url, data_dir / "data", server_networks=PRIVATE, **settings) as api:
        yield api


@contextlib.asynccontextmanager
async def over_rest(api: Gateway, connector: Any) -> AsyncIterator[None]:
    """A worker that claims over REST."""
    worker = _Worker(
        Machine({}, looks=False), None, connectors=[connector], name="far", url=api.url,
        token=api.token("worker"), slots=1, vigil=False,
    )  # fmt: skip
    working = asyncio.create_task(worker.serve())
    try:
        yield
    finally:
        worker.stop()
        await working


async def test_a_worker_over_rest_fetches_too(
    shared_broker: SharedBroker, tmp_path: Path, server: FileServer
) -> None:
    root = tmp_path / "models"
    async with opened(shared_broker, tmp_path) as api, comfy(root) as (_, url):
        await enter(api, server, credentials={"headers": {"X-Key": "s"}}, tenants=[api.tenant])
        async with over_rest(api, fetching(url, root)):
            job = (await api.submit(kind="comfyui", payload=graph_of(name_of(api))))["id"]
            assert (await api.final(job)).name == "succeeded"
    assert (root / "checkpoints" / name_of(api)).read_bytes() == DATA
    assert server.asked[0]["X-Key"] == "s"


def graph_of(*names: str) -> dict[str, Any]:
    loaders = {
        f"c{number}": node("CheckpointLoaderSimple", ckpt_name=name) for number, name in enumerate(names)
    }
    return {"prompt": scaled(more=loaders)}


@pytest.mark.parametrize("rest", [True, False])
async def test_what_no_lane_says_is_fetched_once_a_worker_was_seen_to_lack_it(
    shared_broker: SharedBroker, tmp_path: Path, server: FileServer, *, rest: bool
) -> None:
    root = tmp_path / "models"
    async with opened(shared_broker, tmp_path, tenant_lanes=2) as api, comfy(root) as (_, url):
        await enter(api, server)
        other = await submit(api, "other.safetensors")  # has the one lane that may say what it needs
        job = await submit(api)
        assert (await api.store.spec(JobId(job))).needs
        connector = fetching(url, root)
        there = over_rest(api, connector) if rest else api.worker(connector, name="w1", tenant=api.tenant)
        async with there:
            assert (await api.final(job)).name == "succeeded"
        await api.call("POST", f"/v1/jobs/{other}/cancel", {})


async def test_two_instances_that_share_a_folder_fetch_once(
    shared_broker: SharedBroker, tmp_path: Path, server: FileServer
) -> None:
    root = tmp_path / "models"
    async with opened(shared_broker, tmp_path) as api, comfy(root) as (_, one), comfy(root) as (_, other):
        await enter(api, server)
        both = [
            fetching(url, root, id=name, backend=name, refresh_s=0.2)
            for name, url in (("a", one), ("b", other))
        ]
        async with api.worker(*both, name="w1", tenant=api.tenant, slots=2):
            for _ in range(2):
                assert (await api.final(await submit(api))).name == "succeeded"
    assert len(server.asked) == 1
    assert [path.name for path in (root / "checkpoints").iterdir()] == [name_of(api)]


@pytest.mark.system
async def test_a_killed_worker_goes_on_where_it_was(
    shared_broker: SharedBroker, tmp_path: Path, server: FileServer
) -> None:
    root, config = tmp_path / "models", tmp_path / "switchyard.toml"
    async with opened(shared_broker, tmp_path) as api, comfy(root) as (_, url):
        await enter(api, server)
        config.write_text(
            f'[connectors.comfyui]\nkind = "comfyui"\nurl = "{url}"\nmodels_dir = "{root}"\n'
            "fetch_models = true\nmodels_limit_bytes = 1000000000\nmodels_margin_bytes = 0\n"
            'models_poll_s = 0.2\nhealth_s = 0.2\nfetch_networks = ["127.0.0.0/8"]\n'
        )
        server.held.clear()
        job = await submit(api)
        first = await started(api, config, tmp_path)
        await explained(api, job, lambda said: "is fetching" in said)
        await until(api, "/v1/workers", lambda _: any(one.stat().st_size for one in root.rglob("*-part")))
        os.kill(first.pid, signal.SIGKILL)
        await first.wait()
        server.held.set()
        second = await started(api, config, tmp_path)
        try:
            await until(api, f"/v1/jobs/{job}", lambda found: found["state"] == "succeeded")
        finally:
            second.terminate()
            await second.wait()
    assert "Range" in server.asked[-1]
    assert (root / "checkpoints" / name_of(api)).read_bytes() == DATA
    assert not list(root.rglob("*-part"))


async def started(api: Gateway, config: Path, directory: Path) -> asyncio.subprocess.Process:
    """A worker as a process of its own."""
    arguments = ("worker", "--nats", api.nats_url, "--connector", "comfyui", "--tenant", api.tenant)
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "switchyard.services.cli", *arguments, "--data-dir", str(directory / "own"),
        env={**os.environ, "SWITCHYARD_CONFIG": str(config)}, stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
