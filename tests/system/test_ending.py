"""Every part ends when it is asked to while the broker is frozen."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.ports import free_port
from tests.sizes import in_drill
from tests.system.deployment import Deployment, Part
from tests.worker.own_process import until_dead

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
BLOCKS = """\
import asyncio, pathlib, time
from switchyard.handlers import Handlers
handlers = Handlers()

@handlers.kind("blocks")
async def blocks(payload):
    pathlib.Path(payload["began"]).touch()
    time.sleep(3600)

@handlers.kind("waits")
async def waits(payload):
    pathlib.Path(payload["began"]).touch()
    await asyncio.sleep(3600)
"""
RUNS = """
from switchyard.worker import Worker
Worker(handlers, drain_s=0.5, lease_s=3.0, poll_s=1.0).run()
"""
ENDS_S = 60.0  # far more than the grace and ten seconds, for a busy machine
READY_S = 60.0


@pytest.fixture
def name() -> str:
    """The part that is asked to end: started, since one that is forked ends in another way."""
    return "worker"


@pytest.fixture
async def site(tmp_path: Path, name: str) -> AsyncIterator[Deployment]:
    async with Deployment(tmp_path, started={name}) as opened:
        await opened.start("projector", "projector")
        await opened.start_gateway()
        await opened.start("keeper", "keeper")
        await opened.start_worker("worker")
        yield opened
        os.kill(opened.broker.pid, signal.SIGCONT)


async def until_running(site: Deployment, job: str) -> None:
    async with asyncio.timeout(READY_S):
        while (await site.request("GET", f"/v1/jobs/{job}"))[1]["state"] != "running":
            await asyncio.sleep(0.1)


async def until_there(path: Path) -> None:
    async with asyncio.timeout(READY_S):
        while not await asyncio.to_thread(path.exists):
            await asyncio.sleep(0.05)


async def ends(part: Part) -> None:
    part.signal(signal.SIGTERM)
    async with asyncio.timeout(ENDS_S):
        await part.process.wait()


async def test_a_busy_worker_ends(site: Deployment) -> None:
    job = await site.submit(payload={"duration_s": 600})
    await until_running(site, job)
    os.kill(site.broker.pid, signal.SIGSTOP)
    await ends(site.parts["worker"])


@pytest.mark.drill
async def test_a_worker_ends_whose_outcome_waits_for_the_broker(site: Deployment) -> None:
    job = await site.submit(payload={"duration_s": 2})
    await until_running(site, job)
    os.kill(site.broker.pid, signal.SIGSTOP)
    async with asyncio.timeout(ENDS_S):
        while b"outcome_waits" not in site.parts["worker"].log.read_bytes():
            await asyncio.sleep(0.1)
    await ends(site.parts["worker"])


@pytest.mark.parametrize("name", ["gateway"])
async def test_a_gateway_ends_with_requests_and_streams_open(site: Deployment, name: str) -> None:
    job = await site.submit(payload={"duration_s": 600})
    await until_running(site, job)
    waiting = asyncio.ensure_future(site.request("GET", f"/v1/jobs/{job}?wait=300"))
    headers = {"Authorization": f"Bearer {site.token}"}
    async with site.session.get(f"{site.url}/v1/events/stream", headers=headers) as stream:
        await stream.content.readany()
        os.kill(site.broker.pid, signal.SIGSTOP)
        submitting = asyncio.ensure_future(site.request("POST", "/v1/jobs", json={"kind": "simulate"}))
        await ends(site.parts[name])
    await asyncio.gather(waiting, submitting, return_exceptions=True)


@pytest.mark.parametrize("name", ["keeper", "projector"])
async def test_a_part_without_clients_ends(site: Deployment, name: str) -> None:
    job = await site.submit(payload={"duration_s": 600})
    await until_running(site, job)
    os.kill(site.broker.pid, signal.SIGSTOP)
    await ends(site.parts[name])


async def test_all_in_one_ends_with_its_broker(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "switchyard.services.cli", "up", "--port", str(free_port()),
        *("--data-dir", str(tmp_path), "--kinds", "simulate"),
        env=os.environ | {"SWITCHYARD_LEASE_S": "3"},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None
    async with asyncio.timeout(READY_S):
        while b"ready" not in (await process.stdout.readline()):
            assert process.returncode is None
    info = json.loads((tmp_path / "connection.json").read_text())
    headers = {"Authorization": f"Bearer {info['token']}"}
    body = {"kind": "simulate", "payload": {"duration_s": 600}}
    async with aiohttp.ClientSession(headers=headers) as session:
        async with session.post(f"{info['url']}/v1/jobs", json=body) as answer:
            job = (await answer.json())["id"]
        async with asyncio.timeout(READY_S):
            while True:
                async with session.get(f"{info['url']}/v1/jobs/{job}") as answer:
                    if (await answer.json())["state"] == "running":
                        break
                await asyncio.sleep(0.1)
    broker = info["pids"]["nats-server"]
    os.kill(broker, signal.SIGSTOP)
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(ENDS_S):
        await process.wait()
    await until_dead(broker)


@pytest.mark.parametrize("name", ["blocked"])
@pytest.mark.parametrize("options", [(), in_drill(("--reload",))], ids=["plain", "reload"])
@pytest.mark.parametrize("frozen", [in_drill(False), True], ids=["broker", "no-broker"])
async def test_a_worker_ends_whose_loop_is_blocked(
    site: Deployment, tmp_path: Path, options: tuple[str, ...], name: str, *, frozen: bool
) -> None:
    (tmp_path / "own.py").write_text(BLOCKS)
    handlers = ("--handlers", "own:handlers", "--nats", site.broker.url, *options)
    site.settings["PYTHONPATH"] = os.pathsep.join([str(tmp_path), str(ROOT)])
    part = await site.start(name, "worker", *handlers)
    job = await site.submit(kind="blocks", payload={"began": str(tmp_path / "began")})
    await until_there(tmp_path / "began")
    if frozen:
        os.kill(site.broker.pid, signal.SIGSTOP)
    await ends(part)
    assert b"ending_forced" in part.log.read_bytes()
    os.kill(site.broker.pid, signal.SIGCONT)
    assert (await site.request("GET", f"/v1/jobs/{job}"))[1]["state"] in ("running", "queued")


@pytest.mark.drill
@pytest.mark.parametrize("name", ["waits"])
async def test_a_worker_with_reload_ends_while_the_broker_is_frozen(
    site: Deployment, tmp_path: Path, name: str
) -> None:
    (tmp_path / "own.py").write_text(BLOCKS)
    site.settings["PYTHONPATH"] = os.pathsep.join([str(tmp_path), str(ROOT)])
    part = await site.start(name, "worker", "--handlers", "own:handlers", "--reload")
    await site.submit(kind="waits", payload={"began": str(tmp_path / "began")})
    await until_there(tmp_path / "began")
    os.kill(site.broker.pid, signal.SIGSTOP)
    await ends(part)


async def test_a_worker_over_rest_ends_whose_loop_is_blocked(site: Deployment, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(BLOCKS + RUNS)
    site.settings["PYTHONPATH"] = os.pathsep.join([str(tmp_path), str(ROOT)])
    part = await site.start("rest", module="own")
    await site.submit(kind="blocks", payload={"began": str(tmp_path / "began")})
    await until_there(tmp_path / "began")
    await ends(part)
    assert b"asked to end" in part.log.read_bytes()
