"""Three brokers: the leader of the log dies, nothing is lost, and the lanes are current again soon."""

from __future__ import annotations

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from nats.aio.client import Client

from events import subjects
from events.commands import Submit
from events.errors import SwitchyardError
from events.job import Job
from events.lane import LaneKey
from events.spec import JobSpec
from services import broker, topology
from services.event_store import EventStore
from services.ids import new_id
from services.keeper.source import watch_source
from services.lanes import Lanes, lane_for
from services.log_reader import api
from services.nats_server import find_binary
from services.publisher import Publisher
from services.settings import Settings
from services.topology_spec import TopologyError
from tests.system.deployment import free_port

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

SETTINGS = Settings(replicas=3, request_timeout_s=3.0)
# Without `max_file_store` each broker takes its limits from the free disk.
CONFIG = """
server_name: {name}
listen: "127.0.0.1:{port}"
jetstream {{ store_dir: "{store}", max_memory_store: 1GB, max_file_store: {file_store} }}
cluster {{ name: c, listen: "127.0.0.1:{route}", routes: [{routes}] }}
"""
SPEC = JobSpec(kind="simulate", tenant="acme", lane=lane_for("simulate"))


class Cluster:
    """Three nats-servers by name."""

    def __init__(self) -> None:
        self.servers: dict[str, asyncio.subprocess.Process] = {}
        self.url = ""


@asynccontextmanager
async def three_brokers(directory: Path, *, file_store: str = "1TB") -> AsyncIterator[Cluster]:
    ports = [(free_port(), free_port()) for _ in range(3)]
    routes = ", ".join(f'"nats://127.0.0.1:{route}"' for _, route in ports)
    cluster = Cluster()
    cluster.url = ",".join(f"nats://127.0.0.1:{port}" for port, _ in ports)
    for number, (port, route) in enumerate(ports):
        name = f"n{number}"
        written = CONFIG.format(
            name=name, port=port, route=route, routes=routes, store=directory / name, file_store=file_store
        )
        config = _write(directory / f"{name}.conf", written)
        cluster.servers[name] = await asyncio.create_subprocess_exec(
            str(find_binary()), "-c", str(config), stderr=asyncio.subprocess.DEVNULL
        )
    try:
        yield cluster
    finally:
        for process in cluster.servers.values():
            if process.returncode is None:
                process.send_signal(signal.SIGKILL)
                await process.wait()
        shutil.rmtree(directory, ignore_errors=True)


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


async def until_laid_out(nc: Client) -> None:
    """Lay out the streams as soon as the cluster has elected its leaders."""
    while True:
        try:
            await topology.apply(nc, replicas=3)
        except (SwitchyardError, TopologyError):
            await asyncio.sleep(0.5)
        else:
            return


async def test_cluster_that_is_too_small_says_so(tmp_path: Path) -> None:
    async with three_brokers(tmp_path / "cluster", file_store="1GB") as cluster, asyncio.timeout(60):
        nc = await broker.connect(cluster.url, name="test", timeout_s=10)
        refusal = ""
        while "insufficient storage" not in refusal:  # it may first have no leader
            try:
                await topology.apply(nc, replicas=3)
            except (SwitchyardError, TopologyError) as error:
                refusal = str(error)
        await nc.close()
    assert "refuses JOBS" in refusal
    assert "max_file_store" in refusal


async def messages(nc: Client, stream: str) -> int:
    """How many messages a stream holds; -1 while it has no leader."""
    try:
        info = await api(nc, f"STREAM.INFO.{stream}", timeout_s=2)
    except SwitchyardError:
        return -1
    return int(info["state"]["messages"]) if "state" in info else -1


async def test_work_is_current_again_after_the_leader_of_the_log_was_killed(tmp_path: Path) -> None:
    async with three_brokers(tmp_path / "cluster") as cluster, asyncio.timeout(150):
        nc = await broker.connect(cluster.url, name="test", timeout_s=10)
        await until_laid_out(nc)
        async with Publisher(nc, timeout_s=3) as publisher, asyncio.TaskGroup() as group:
            store = EventStore(nc, publisher, SETTINGS)
            await Lanes(nc, publisher, SETTINGS).ensure(LaneKey("simulate"), SPEC.lane, 50)
            nudging = group.create_task(watch_source(nc, SETTINGS))
            acknowledged = 0
            for number in range(400):
                if number == 100:
                    info = await api(nc, "STREAM.INFO.JOBS", timeout_s=3)
                    leader = cluster.servers[info["cluster"]["leader"]]
                    leader.send_signal(signal.SIGKILL)
                    await leader.wait()
                while True:
                    job = Job(id=new_id())
                    try:
                        command = Submit(now=datetime.now(UTC), job=SPEC)
                        await store.transition(job, command, actor="user:ann")
                    except SwitchyardError:
                        continue  # no leader yet
                    acknowledged += 1
                    break
            while await messages(nc, subjects.JOBS) < acknowledged:
                await asyncio.sleep(0.2)
            while await messages(nc, subjects.WORK) < await messages(nc, subjects.JOBS):
                await asyncio.sleep(0.2)
            assert await messages(nc, subjects.WORK) == await messages(nc, subjects.JOBS)
            nudging.cancel()
        await nc.close()
