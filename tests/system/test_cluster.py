"""Three brokers: the leader of the log dies, nothing is lost, and the lanes are current again soon."""

from __future__ import annotations

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.commands import Submit
from switchyard.events.errors import SwitchyardError, UnavailableError
from switchyard.events.job import Job
from switchyard.events.lane import LaneKey
from switchyard.events.values import JobSpec
from switchyard.services.broker import connection, topology
from switchyard.services.broker.jetstream import FaultError, api
from switchyard.services.broker.part_reader import follow_once
from switchyard.services.broker.publisher import InProcessError, Publisher
from switchyard.services.broker.server.server import find_binary
from switchyard.services.broker.topology_spec import TopologyError
from switchyard.services.dispatch.heads import UNSEEN, Heads
from switchyard.services.event_store import EventStore
from switchyard.services.ids import new_id
from switchyard.services.keeper.source import SourceWatch, watch_source
from switchyard.services.records.lanes import Lanes, lane_for
from switchyard.services.settings import Settings
from tests.ports import free_port

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
        self.ports: dict[str, int] = {}
        self.url = ""

    def at(self, nc: Client) -> str:
        """Whom a connection goes to."""
        port = nc.connected_url.port if nc.connected_url is not None else None
        return next(name for name, known in self.ports.items() if known == port)


@asynccontextmanager
async def three_brokers(directory: Path, *, file_store: str = "1TB") -> AsyncIterator[Cluster]:
    ports = [(free_port(), free_port()) for _ in range(3)]
    routes = ", ".join(f'"nats://127.0.0.1:{route}"' for _, route in ports)
    cluster = Cluster()
    cluster.url = ",".join(f"nats://127.0.0.1:{port}" for port, _ in ports)
    for number, (port, route) in enumerate(ports):
        name = f"n{number}"
        cluster.ports[name] = port
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
        nc = await connection.connect(cluster.url, name="test", timeout_s=10)
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
        info = await api(nc, f"STREAM.INFO.{stream}", timeout_s=20)
    except SwitchyardError:
        return -1
    return int(info["state"]["messages"]) if "state" in info else -1


async def leader_of(nc: Client, stream: str) -> str:
    """Who leads a stream; "" while nobody does."""
    try:
        info = await api(nc, f"STREAM.INFO.{stream}", timeout_s=20)
    except SwitchyardError:
        return ""
    return str(info.get("cluster", {}).get("leader") or "")


async def step_down(nc: Client, stream: str, *, to: str | None = None) -> str:
    """Have another node lead a stream, a given one if any; who leads it then."""
    before = await leader_of(nc, stream)
    body = {"placement": {"preferred": to}} if to else None
    while True:
        now = await leader_of(nc, stream)
        if now == to or (now and not to and now != before):
            return now
        with suppress(SwitchyardError):
            await api(nc, f"STREAM.LEADER.STEPDOWN.{stream}", body, timeout_s=20)
        await asyncio.sleep(0.1)


async def submit_one(store: EventStore, job: Job) -> None:
    """Submit a job until it is acknowledged."""
    while True:
        with suppress(SwitchyardError):  # no leader yet
            await store.transition(job, Submit(now=datetime.now(UTC), job=SPEC), actor="user:ann")
            return


async def submit(store: EventStore, count: int) -> None:
    """Submit jobs one after the other."""
    for _ in range(count):
        await submit_one(store, Job(id=new_id()))


def nudges_of(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The times of the nudges that are given from now on."""
    nudges: list[float] = []
    nudged = SourceWatch.nudged

    def noted(watch: SourceWatch, now: float) -> None:
        nudges.append(now)
        nudged(watch, now)

    monkeypatch.setattr(SourceWatch, "nudged", noted)
    return nudges


@pytest.mark.parametrize("work_moves", [False, True], ids=["source dies", "source is asked for in vain"])
async def test_work_is_current_again_after_the_leader_of_the_log_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, work_moves: bool
) -> None:
    nudges = nudges_of(monkeypatch)
    async with three_brokers(tmp_path / "cluster") as cluster, asyncio.timeout(150):
        nc = await connection.connect(cluster.url, name="test", timeout_s=10)
        await until_laid_out(nc)
        async with Publisher(nc, timeout_s=20) as publisher, asyncio.TaskGroup() as group:
            store = EventStore(nc, publisher, SETTINGS)
            await Lanes(nc, publisher, SETTINGS).ensure(LaneKey("simulate"), SPEC.lane, 50)
            log_leader = await leader_of(nc, subjects.JOBS)
            await step_down(nc, subjects.WORK, to=min(name for name in cluster.servers if name != log_leader))
            nudging = group.create_task(watch_source(nc, SETTINGS))
            await submit(store, 100)
            cluster.servers[log_leader].send_signal(signal.SIGKILL)
            await cluster.servers[log_leader].wait()
            if work_moves:
                # What happens where one node led both: the next leader of WORK finds none of JOBS to ask.
                await step_down(nc, subjects.WORK)
            await submit(store, 300)
            while await messages(nc, subjects.WORK) < 400:
                await asyncio.sleep(0.2)
            assert await messages(nc, subjects.WORK) == await messages(nc, subjects.JOBS)
            # Where the leader of WORK has moved, the next one may have found one of JOBS to ask.
            assert nudges or work_moves
            nudging.cancel()
        await nc.close()


@pytest.mark.drill
async def test_cluster_without_a_quorum_is_unavailable_and_neither_empty_nor_at_fault(tmp_path: Path) -> None:
    async with three_brokers(tmp_path / "cluster") as cluster, asyncio.timeout(150):
        nc = await connection.connect(cluster.url, name="test", timeout_s=10)
        await until_laid_out(nc)
        async with Publisher(nc, timeout_s=20) as publisher:
            lanes = Lanes(nc, publisher, SETTINGS)
            await lanes.ensure(LaneKey("simulate"), SPEC.lane, 50)
            kept = cluster.at(nc)
            for name in set(cluster.servers) - {kept}:
                cluster.servers[name].send_signal(signal.SIGKILL)
                await cluster.servers[name].wait()
            calls: list[Callable[[], Awaitable[object]]] = [
                lambda: api(nc, "STREAM.INFO.JOBS", timeout_s=20),
                lambda: api(nc, "STREAM.NAMES", timeout_s=20),
                lambda: api(nc, "CONSUMER.INFO.JOBS.keeper-events", timeout_s=20),
                lambda: api(nc, "STREAM.PURGE.TIMERS", {"filter": "timer.set.x"}, timeout_s=20),
                lambda: follow_once(nc, "KV_lanes", timeout_s=20),
                lambda: lanes.make_consumer(LaneKey("simulate"), SPEC.lane, 50),
            ]
            for number, call in enumerate(calls):
                while True:  # a leader continues for a while before it knows that it is alone
                    found: list[object] = []
                    with suppress(UnavailableError):
                        found.append(await call())
                    if not found:
                        break
                    assert found[0] or number == len(calls) - 1  # never an empty list
                    await asyncio.sleep(0.5)
                with pytest.raises(UnavailableError) as raised:
                    await call()
                assert not isinstance(raised.value, FaultError)
            heads = Heads(nc, timeout_s=10)
            await heads.start()
            lane = subjects.lane_consumer(SPEC.lane, 50)
            while await heads.look([lane]) != {lane: UNSEEN}:  # nothing is known of it: it is not empty
                await asyncio.sleep(0.5)
            await heads.stop()
        await nc.close()


class NotesRefusals(Publisher):
    """A publisher that says when the broker is storing a message already."""

    def __init__(self, nc: Client) -> None:
        super().__init__(nc, timeout_s=1)
        self.in_process = asyncio.Event()

    async def send(
        self, subject: str, body: bytes, headers: Mapping[str, str] | bytes
    ) -> asyncio.Future[int]:
        acknowledgement = await super().send(subject, body, headers)
        acknowledgement.add_done_callback(self._note)
        return acknowledgement

    def _note(self, acknowledgement: asyncio.Future[int]) -> None:
        if isinstance(acknowledgement.exception(), InProcessError):
            self.in_process.set()


@pytest.mark.drill
async def test_event_that_replicas_were_storing_when_it_came_again_is_recorded_once(tmp_path: Path) -> None:
    async with three_brokers(tmp_path / "cluster") as cluster, asyncio.timeout(150):
        nc = await connection.connect(cluster.url, name="test", timeout_s=10)
        await until_laid_out(nc)
        async with NotesRefusals(nc) as publisher:
            store = EventStore(nc, publisher, SETTINGS)
            while not publisher.in_process.is_set():
                leader = await step_down(nc, subjects.JOBS, to=cluster.at(nc))
                others = [server for name, server in cluster.servers.items() if name != leader]
                job = Job(id=new_id())
                async with asyncio.TaskGroup() as group:
                    for server in others:  # the leader takes the message in, and nobody confirms it
                        server.send_signal(signal.SIGSTOP)
                    submitting = group.create_task(submit_one(store, job))
                    with suppress(TimeoutError):  # it may have given up, alone as it is
                        async with asyncio.timeout(8):
                            await publisher.in_process.wait()
                    for server in others:
                        server.send_signal(signal.SIGCONT)
                    await submitting
                while not (found := await store.history(job.id)):  # a replica that lags has nothing yet
                    await asyncio.sleep(0.1)
                assert len(found) == 1
        await nc.close()


async def test_message_that_is_published_everywhere_at_once_is_stored_once(tmp_path: Path) -> None:
    async with (
        three_brokers(tmp_path / "cluster") as cluster,
        asyncio.timeout(150),
        AsyncExitStack() as stack,
    ):
        nc = await connection.connect(cluster.url, name="test", timeout_s=10)
        await until_laid_out(nc)
        publishers = []
        for port in cluster.ports.values():
            client = await connection.connect(f"nats://127.0.0.1:{port}", name="test", timeout_s=10)
            stack.push_async_callback(client.close)
            publishers.append(await stack.enter_async_context(Publisher(client, timeout_s=10)))
        refusals = 0
        while not refusals:
            before = await messages(nc, subjects.JOBS)
            subject = subjects.job_event(new_id(), "cancelled")
            sent = (publisher.publish(subject, b"", {subjects.H_MSG_ID: subject}) for publisher in publishers)
            outcomes = await asyncio.gather(*sent, return_exceptions=True)
            refusals += sum(isinstance(outcome, InProcessError) for outcome in outcomes)
            stored = {outcome for outcome in outcomes if isinstance(outcome, int)}
            assert len(stored) == 1
            assert all(isinstance(outcome, int | InProcessError) for outcome in outcomes)
            assert await messages(nc, subjects.JOBS) == before + 1
        await nc.close()
