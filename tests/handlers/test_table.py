"""One table of hostile handlers, run by real workers: each ends its own job and no more.

A worker on NATS runs it on its loop, in threads and in processes, one over REST on its loop and in threads.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from switchyard.client import AsyncClient
from switchyard.models import Job
from tests.handlers import odd
from tests.handlers.table import ANY, MODES, REST, SOURCES, Entry, table
from tests.sizes import in_drill, sizes
from tests.system.deployment import Deployment, Part

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

SLOTS = 24
LEASE_S = 10.0  # a job given to a REST worker while a handler blocks its loop is kept by nobody until then
SETTINGS: dict[str, Any] = {"lost_slots": 1000}
GRACE_S = {False: 1.0, True: 10.0}  # a worker over REST has a grace of its own, which is to be within this
RUNS = [("loop", False), ("process", False), ("thread", False), ("loop", True), ("thread", True)]
EVERY_TIME = [("process", False), ("loop", True)]
NEIGHBOURS = 40
LEAST = 60


@pytest.fixture
async def site(tmp_path: Path, rest: bool) -> AsyncIterator[Deployment]:  # noqa: FBT001 - as it is parametrized
    settings = SETTINGS | {"cancel_grace_s": GRACE_S[rest]}
    async with Deployment(tmp_path, lease_s=LEASE_S, **settings) as opened:
        await opened.start("projector", "projector")
        await opened.start_gateway()
        await opened.start("keeper", "keeper")
        yield opened


async def start_worker(site: Deployment, *, rest: bool) -> Part:
    if rest:
        return await site.start("rest", str(SLOTS), str(LEASE_S), module="tests.handlers.rest_worker")
    sources = [argument for source in SOURCES for argument in ("--handlers", source)]
    return await site.start("worker", "worker", *sources, "--slots", str(SLOTS))


async def submit(client: AsyncClient, entry: Entry) -> Job:
    more: dict[str, Any] = {} if entry.timeout_s is None else {"attempt_timeout_s": entry.timeout_s}
    return await client.submit(entry.kind, {"case": entry.name}, max_attempts=1, **more)


def neighbours(*, rest: bool) -> list[Entry]:
    kinds = [odd.ASYNC, odd.THREAD] + ([] if rest else [odd.PROCESS])
    return [
        Entry(f"{REST if rest else ''}{kind}", "fine", odd.CASES["fine"], {"fine": [None, [1, 2.5]]}, None)
        for kind in kinds
        for _ in range(NEIGHBOURS // len(kinds))
    ]


async def differing(client: AsyncClient, entries: Sequence[Entry], jobs: Sequence[Job]) -> list[Any]:
    """The entries that did not end as they say."""
    found = []
    for entry, job in zip(entries, jobs, strict=True):
        ended = await client.wait(job.id)
        case, error = entry.case, ended.error
        if case.code is None:
            fits = ended.succeeded and entry.result in (ANY, ended.result)
        else:
            fits = ended.state == "dead" and error is not None
            if error is not None:
                said = error.code, error.retryable, case.says in error.message
                fits = fits and said == (case.code, case.retryable, True)
        if not fits or ended.attempt != 1:
            found.append((entry.kind, entry.name, ended.state, ended.attempt, str(error)[:300]))
    return found


def test_the_table_is_large() -> None:
    for mode in MODES:
        assert len(table(mode)) >= 200, mode


@pytest.mark.parametrize("every", sizes(3, 1, timeout_s=1800))
@pytest.mark.parametrize(("mode", "rest"), [run if run in EVERY_TIME else in_drill(*run) for run in RUNS])
async def test_a_hostile_handler_ends_its_own_job_and_nothing_else(
    site: Deployment, mode: str, every: int, *, rest: bool
) -> None:
    worker = await start_worker(site, rest=rest)
    # Another third of them in each mode, so that all are tried in some.
    entries = table(mode, rest=rest)[RUNS.index((mode, rest)) % every :: every]
    assert len(entries) >= LEAST
    between = neighbours(rest=rest)
    step = len(entries) // len(between)
    for at, entry in enumerate(between):  # before, among and after them
        entries.insert(at * (step + 1), entry)
    async with AsyncClient(site.url, site.token) as client:
        jobs = [await submit(client, entry) for entry in entries]
        found = await differing(client, entries, jobs)
        assert not found, "\n".join(map(str, found))
        last = neighbours(rest=rest)
        assert await differing(client, last, [await submit(client, entry) for entry in last]) == []
    assert worker.process.returncode is None
    assert b"worker_restarted" not in worker.log.read_bytes()
    worker.signal(signal.SIGTERM)
    status = await asyncio.wait_for(worker.process.wait(), 60)
    assert status == 0, worker.log.read_bytes()[-3000:]
