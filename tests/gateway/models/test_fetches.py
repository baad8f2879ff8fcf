"""A job that waits for a model file runs once a worker has fetched it, and says so all the while."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from switchyard.services.outbound.addresses import PRIVATE
from tests.broker.shared import SharedBroker
from tests.connectors.comfyui.graphs import node, scaled
from tests.connectors.comfyui.models.file_server import FileServer
from tests.gateway.models.fleet import DEADLINE_S, comfy, enter, explained, fetching, name_of, submit, until
from tests.gateway.rest import Gateway, gateway

DATA = bytes(range(256)) * 20_000


@pytest.fixture
async def api(shared_broker: SharedBroker, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway(shared_broker.url, tmp_path / "data", server_networks=PRIVATE) as running:
        yield running


@pytest.fixture
async def server() -> AsyncIterator[FileServer]:
    async with FileServer(DATA).running() as running:
        yield running


async def test_a_missing_model_is_fetched_and_the_job_runs(
    api: Gateway, server: FileServer, tmp_path: Path
) -> None:
    root = tmp_path / "models"
    await enter(api, server, credentials={"bearer": "hf-secret"})
    async with comfy(root) as (_, url), api.worker(fetching(url, root), name="w1", tenant=api.tenant):
        job = await submit(api)
        assert (await api.final(job)).name == "succeeded"
    assert (root / "checkpoints" / name_of(api)).read_bytes() == DATA
    assert server.asked[0]["Authorization"] == "Bearer hf-secret"
    assert not list(root.rglob("*-part"))


async def test_it_is_explained_and_shown_while_it_comes(
    api: Gateway, server: FileServer, tmp_path: Path
) -> None:
    root = tmp_path / "models"
    async with comfy(root) as (_, url), api.worker(fetching(url, root), name="w1", tenant=api.tenant):
        job = await submit(api)
        await explained(api, job, lambda said: f"checkpoints/{name_of(api)} is in no catalogue" in said)
        server.held.clear()
        await enter(api, server)
        said = await explained(api, job, lambda said: "is fetching" in said)
        assert said.startswith(
            f"no worker has checkpoints/{name_of(api)}; w1: it is fetching checkpoints/{name_of(api)}: "
        )
        worker = await until(api, "/v1/workers/w1", lambda found: found.get("fetching"))
        (fetch,) = worker["fetching"]
        assert (fetch["model"], fetch["connector"]) == (f"checkpoints/{name_of(api)}", "comfyui")
        assert fetch["size_bytes"] == len(DATA)
        found = await until(api, "/v1/demand?kind=comfyui", lambda found: found["demand"][0]["fetching"])
        (group,) = found["demand"]
        assert (group["fetchable_workers"], group["fetch_bytes"]) == (1, len(DATA))
        server.held.set()
        assert (await api.final(job)).name == "succeeded"
        await until(api, "/v1/workers/w1", lambda found: "fetching" not in found)


async def test_a_limit_that_is_too_small_is_explained(
    api: Gateway, server: FileServer, tmp_path: Path
) -> None:
    root = tmp_path / "models"
    await enter(api, server)
    async with comfy(root) as (_, url):
        small = fetching(url, root, models_limit_bytes=1_000_000)
        async with api.worker(small, name="w1", tenant=api.tenant):
            job = await submit(api)
            said = await explained(api, job, lambda said: "limit" in said)
            assert "w1: its limit of 1.0 MB for fetched models is too small for 5.1 MB" in said
    assert server.asked == []


async def test_wrong_bytes_are_explained_and_not_fetched_again_until_the_entry_changes(
    api: Gateway, server: FileServer, tmp_path: Path
) -> None:
    root = tmp_path / "models"
    await enter(api, server, sha256=hashlib.sha256(b"other").hexdigest())
    async with comfy(root) as (_, url), api.worker(fetching(url, root), name="w1", tenant=api.tenant):
        job = await submit(api)
        said = await explained(api, job, lambda said: "could not fetch" in said)
        assert "its SHA-256 is not the one of the catalogue" in said
        asked = len(server.asked)
        await until(api, "/v1/workers/w1", lambda found: "fetching" not in found)
        await explained(api, job, lambda said: "could not fetch" in said)
        assert len(server.asked) == asked
        await enter(api, server)
        assert (await api.final(job)).name == "succeeded"


async def test_an_entry_that_is_removed_ends_its_fetch(
    api: Gateway, server: FileServer, tmp_path: Path
) -> None:
    root = tmp_path / "models"
    await enter(api, server)
    server.held.clear()
    async with comfy(root) as (_, url), api.worker(fetching(url, root), name="w1", tenant=api.tenant):
        job = await submit(api)
        await explained(api, job, lambda said: "is fetching" in said)
        assert (
            await api.call("DELETE", f"/v1/models/checkpoints/{name_of(api)}", token=api.token("admin"))
        ).status == 204
        await explained(api, job, lambda said: "in no catalogue" in said)
        await until(api, "/v1/workers/w1", lambda found: "fetching" not in found)
        async with asyncio.timeout(DEADLINE_S):
            while list(root.rglob("*-part")):
                await asyncio.sleep(0.05)


async def test_of_several_workers_one_fetches(api: Gateway, server: FileServer, tmp_path: Path) -> None:
    roots = [tmp_path / name for name in ("m1", "m2")]
    await enter(api, server)
    async with (
        comfy(roots[0]) as (_, one),
        comfy(roots[1]) as (_, other),
        api.worker(fetching(one, roots[0], backend="one"), name="w1", tenant=api.tenant),
        api.worker(fetching(other, roots[1], backend="other"), name="w2", tenant=api.tenant),
    ):
        for _ in range(2):
            assert (await api.final(await submit(api))).name == "succeeded"
        assert len(server.asked) == 1
        assert sum((root / "checkpoints" / name_of(api)).exists() for root in roots) == 1


async def test_a_worker_takes_up_what_another_run_of_it_began(
    api: Gateway, server: FileServer, tmp_path: Path
) -> None:
    root = tmp_path / "models"
    await enter(api, server)
    server.held.clear()
    async with comfy(root) as (_, url):
        async with api.worker(fetching(url, root), name="w1", tenant=api.tenant):
            job = await submit(api)
            await until(
                api, "/v1/workers/w1", lambda _: any(one.stat().st_size for one in root.rglob("*-part"))
            )
        server.held.set()
        async with api.worker(fetching(url, root), name="w2", tenant=api.tenant):
            assert (await api.final(job)).name == "succeeded"
    assert "Range" in server.asked[1]
    assert (root / "checkpoints" / name_of(api)).read_bytes() == DATA


async def test_a_model_goes_for_another_that_a_job_needs(
    api: Gateway, server: FileServer, tmp_path: Path
) -> None:
    root = tmp_path / "models"
    await enter(api, server)
    other = f"other-{name_of(api)}"
    await enter(api, server, other)
    async with comfy(root) as (_, url):
        tight = fetching(url, root, models_limit_bytes=len(DATA) + 1)
        async with api.worker(tight, name="w1", tenant=api.tenant):
            for name in (name_of(api), other, name_of(api)):
                assert (await api.final(await submit(api, name))).name == "succeeded"
    assert [path.name for path in (root / "checkpoints").iterdir()] == [name_of(api)]


async def test_a_job_that_needs_two_keeps_the_first(api: Gateway, server: FileServer, tmp_path: Path) -> None:
    root = tmp_path / "models"
    await enter(api, server)
    other = f"other-{name_of(api)}"
    await enter(api, server, other)
    async with comfy(root) as (_, url), api.worker(fetching(url, root), name="w1", tenant=api.tenant):
        more = {
            "8": node("CheckpointLoaderSimple", ckpt_name=name_of(api)),
            "9": node("CheckpointLoaderSimple", ckpt_name=other),
        }
        job = await api.submit(kind="comfyui", payload={"prompt": scaled(more=more)}, isolation="strict")
        assert (await api.final(job["id"])).name == "succeeded"
    assert len(server.asked) == 2


async def test_a_model_of_one_tenant_is_not_fetched_for_another(
    api: Gateway, server: FileServer, tmp_path: Path
) -> None:
    root = tmp_path / "models"
    await enter(api, server, tenants=[api.stranger])
    async with comfy(root) as (_, url), api.worker(fetching(url, root), name="w1", tenant=api.tenant):
        job = await submit(api)
        await explained(api, job, lambda said: "in no catalogue" in said)
        assert server.asked == []
        await enter(api, server, tenants=[api.stranger, api.tenant])
        assert (await api.final(job)).name == "succeeded"
