"""What hostile jobs leave in their worker: no memory, no descriptors, no threads and no processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from switchyard.client import AsyncClient
from switchyard.events import subjects
from switchyard.events.encoding.codec import FINAL_EVENTS
from switchyard.services.broker import connection
from switchyard.services.broker.inbox import Inbox
from tests.handlers import outlasting
from tests.handlers.table import MODES, REST, SOURCES, Entry, table
from tests.sizes import in_drill, sizes
from tests.system.deployment import Deployment, Part

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

SLOTS = 12
LEASE_S = 5.0
QUIET_S = 120.0
SETTLES_S = 60.0
SUBMITTERS = 16
IDLE_S = 1.0
BY_DESIGN = {"thread stays", "descriptors", "descriptor limit", "file size"}
"""What these leave in the worker's own process is theirs and holds for all; a child takes it along."""
OUTSIDE = "switchyard-outside"  # where handlers put things on purpose
MIB = 1 << 20
VIGIL = 1
"""The one process that a worker has beside those of jobs."""


class Size(NamedTuple):
    """Jobs before the first look, jobs in all, and by how much memory may grow between."""

    first: int
    last: int
    grows_bytes: int


SIZES = sizes(Size(100, 200, 60 * MIB), Size(500, 5000, 60 * MIB), timeout_s=3600)


class Look(NamedTuple):
    """What a worker has, with all that descends from it.

    Args:
        memory: that of the worker itself, resident, in bytes.
        beside: that of its descendants.
        descriptors: those of the worker.
        threads: those of the worker.
        processes: its descendants that live.
    """

    memory: int
    beside: int
    descriptors: int
    threads: int
    processes: int


def look(worker: psutil.Process) -> Look:
    # A program that a handler has not waited for is a zombie until the next one is started.
    below = [child for child in worker.children(recursive=True) if _lives(child)]
    return Look(
        worker.memory_info().rss, sum(_rss(child) for child in below), worker.num_fds(),
        worker.num_threads(), len(below),
    )  # fmt: skip


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _rss(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


async def settled(worker: psutil.Process) -> Look:
    """What is left when nothing more goes: descendants and threads of jobs may still be ending."""
    until = asyncio.get_running_loop().time() + SETTLES_S
    seen = look(worker)
    while asyncio.get_running_loop().time() < until:
        await asyncio.sleep(3 * IDLE_S)
        now = look(worker)
        if now[2:] == seen[2:] and now.processes <= VIGIL:
            break
        seen = now
    return look(worker)


def hostile(*, rest: bool) -> list[Entry]:
    """One after the other of each mode."""
    tables = []
    for mode in ("loop", "thread") if rest else MODES:
        kinds = {outlasting.ASYNC, outlasting.THREAD, outlasting.PROCESS}
        entries = [entry for entry in table(mode, rest=rest) if entry.kind.removeprefix(REST) not in kinds]
        if mode != "process":
            entries = [entry for entry in entries if entry.name not in BY_DESIGN]
        tables.append(entries)
    longest = max(map(len, tables))
    return [entries[at % len(entries)] for at in range(longest) for entries in tables]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Deployment]:
    async with Deployment(tmp_path, lease_s=LEASE_S, started={"worker"}, handler_idle_s=IDLE_S) as opened:
        await opened.start("projector", "projector")
        await opened.start_gateway()
        await opened.start("keeper", "keeper")
        yield opened


async def run_jobs(site: Deployment, entries: list[Entry]) -> None:
    """Submit jobs, and wait until all have ended."""
    nc = await connection.connect(site.broker.url, name="test")
    ended: set[str] = set()
    ids: set[str] = set()
    numbers = iter(entries)
    async with Inbox(nc, subjects.ALL_JOBS) as events, AsyncClient(site.url, site.token) as client:
        await nc.flush()

        async def submit() -> None:
            for entry in numbers:
                job = await client.submit(entry.kind, {"case": entry.name}, max_attempts=1)
                ids.add(job.id)

        async with asyncio.TaskGroup() as group:
            for _ in range(SUBMITTERS):
                group.create_task(submit())
            while len(ended) < len(entries):
                _, job_id, name, *_ = (await events.next(QUIET_S)).subject.split(".")
                if name in FINAL_EVENTS:
                    ended.add(job_id)
    assert ended == ids
    await nc.close()


def temporary(site: Deployment) -> Path:
    """Where the worker has its scratch directories."""
    return site.directory / "t"


async def start_worker(site: Deployment, *, rest: bool) -> Part:
    sources = [argument for source in SOURCES for argument in ("--handlers", source)]
    temporary(site).mkdir()
    site.settings["TMPDIR"] = str(temporary(site))
    # What the allocator keeps for threads, up to eight arenas a core, would hide what is lost.
    site.settings |= {"MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": "131072"}
    if rest:
        return await site.start("rest", str(SLOTS), str(LEASE_S), module="tests.handlers.rest_worker")
    return await site.start("worker", "worker", *sources, "--slots", str(SLOTS))


@pytest.mark.parametrize("rest", [False, in_drill(True)], ids=["nats", "rest"])
@pytest.mark.parametrize("size", SIZES)
async def test_hostile_jobs_leave_nothing_in_their_worker(
    site: Deployment, size: Size, *, rest: bool
) -> None:
    part = await start_worker(site, rest=rest)
    worker = psutil.Process(part.pid)
    table = hostile(rest=rest)
    jobs = [table[at % len(table)] for at in range(size.last)]
    looks = []
    step = size.first
    for begin in range(0, size.last, step):
        await run_jobs(site, jobs[begin : begin + step])
        looks.append(await settled(worker))
        print(begin + step, looks[-1]._asdict(), flush=True)  # noqa: T201 - the figures of the drill
    first, last = looks[0], looks[-1]
    assert part.process.returncode is None
    assert b"worker_restarted" not in part.log.read_bytes()
    assert last.memory - first.memory < size.grows_bytes, looks
    assert last.descriptors <= first.descriptors + 10, looks
    assert last.threads <= first.threads + 10, looks
    assert last.processes <= VIGIL, looks
    left = sorted(path.name for path in temporary(site).iterdir() if path.name != OUTSIDE)
    assert left == []
