"""What the broker takes after many jobs that were archived and are gone, from what is written to it alone.

`python -m benchmarks.retention_broker [few] [many]`: as `benchmarks.retention`, without its keeper and projector,
which two cores let do some hundred jobs a second. Each event, line of the ledger and purge is theirs, in their
order; the figures are shown by stream.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import uvloop
from nats.aio.client import Client

from benchmarks.retention import KEEP_S, TTL_S, disk_mib, held, memory_mib
from switchyard.events import subjects
from switchyard.events.events import Archived, Leased, Submitted, Succeeded
from switchyard.events.ledger.line import ATTEMPTS, MICRO, RUN, Line, encode, page
from switchyard.events.state import Job, summary
from switchyard.events.subjects import claimable_event, job_event
from switchyard.events.values import JobSpec, Status
from switchyard.events.vocabulary.ids import Fence, JobId, Seq, WorkerId
from switchyard.services.broker import connection, topology
from switchyard.services.broker.jetstream import api
from switchyard.services.broker.publisher import Publisher
from switchyard.services.broker.server.server import start_broker
from switchyard.services.ids import new_id
from switchyard.services.keeper.kept.archive import purge_archived
from switchyard.services.records.lanes import lane_for

STEP: Final = 1000
TIDY_S: Final = 150.0
"""Longer than the broker remembers the ids of messages, which take memory by how fast they came."""
LINES: Final = 100
"""Lines of the ledger in a message, as under load."""
TIMEOUT_S: Final = 60
WORKER: Final = WorkerId("gpu-1")
LANE: Final = lane_for("simulate")
SPEC: Final = JobSpec(
    kind="simulate", tenant="bench", lane=LANE, payload={"duration_s": 0}, labels={"project": "p1"}
)


SUMMARY: Final = summary(Job(id=JobId(new_id()), status=Status.SUCCEEDED, kind="simulate", tenant="bench"))


class Traffic:
    """Has jobs come and go."""

    def __init__(self, nc: Client, publisher: Publisher) -> None:
        self._nc = nc
        self._publisher = publisher

    async def come(self) -> dict[JobId, int]:
        """A step of jobs that succeed; the sequences of their ends."""
        ids = [JobId(new_id()) for _ in range(STEP)]
        now = datetime.now(UTC)
        await self._send(
            (claimable_event(one, "submitted", LANE, 50), Submitted(at=now, job=SPEC)) for one in ids
        )
        fences = await self._send(
            (job_event(one, "leased"), Leased(at=now, worker=WORKER, attempt=1)) for one in ids
        )
        ends = await self._send(
            (job_event(one, "succeeded"), Succeeded(at=now, fence=Fence(fence), result={"echo": 1}))
            for one, fence in zip(ids, fences, strict=True)
        )
        await api(self._nc, f"STREAM.PURGE.{subjects.WORK}", {}, timeout_s=TIMEOUT_S)  # nobody works here
        await self._bill(ids, fences, ends)
        return dict(zip(ids, ends, strict=True))

    async def go(self, ended: dict[JobId, int]) -> None:
        """Archive jobs and purge their histories."""
        now = datetime.now(UTC)
        event = Archived(at=now, status=Status.SUCCEEDED, summary=SUMMARY)
        seqs = await self._send(((job_event(one, "archived"), event) for one in ended), ttl_s=TTL_S)
        for start in range(0, STEP, LINES):
            some = list(zip(ended, seqs, strict=True))[start : start + LINES]
            await asyncio.gather(
                *(purge_archived(self._nc, one, Seq(seq), timeout_s=TIMEOUT_S) for one, seq in some)
            )

    async def _send(self, events: Iterable[tuple[str, Any]], *, ttl_s: float = 0) -> list[int]:
        headers = {
            "Switchyard-Tenant": "bench", "Switchyard-Kind": "simulate", "Switchyard-Actor": "worker:gpu-1",
        }  # fmt: skip
        if ttl_s:
            headers[subjects.H_TTL] = f"{ttl_s:.0f}s"
        acks = [
            await self._publisher.send(
                subject, msgspec.json.encode(event), headers | {subjects.H_MSG_ID: new_id()}
            )
            for subject, event in events
        ]
        return await asyncio.gather(*acks)

    async def _bill(self, ids: list[JobId], fences: list[int], ends: list[int]) -> None:
        now = datetime.now(UTC)
        lines = [
            Line(
                id=new_id(), seq=seq, job=one, attempt=1, fence=fence, tenant="bench", kind="simulate",
                worker=WORKER, engine=WORKER, units={RUN: 12345, ATTEMPTS: MICRO, "pages": 3 * MICRO},
                started_at=now, ended_at=now, at=now, outcome="succeeded",
            )
            for one, fence, seq in zip(ids, fences, ends, strict=True)
        ]  # fmt: skip
        for start in range(0, STEP, LINES):
            some = lines[start : start + LINES]
            await self._publisher.publish(subjects.ledger(some[0].seq), page(map(encode, some)), {})


def by_stream(home: Path) -> dict[str, float]:
    """The disk of each stream, from a hundredth of a MiB on."""
    found = {path.name: round(disk_mib(path), 2) for path in home.glob("**/streams/*") if path.is_dir()}
    return {name: size for name, size in found.items() if size >= 0.05}


async def run(nc: Client, publisher: Publisher, pid: int, home: Path, jobs: int) -> dict[str, Any]:
    """Have so many jobs come and go, each kept for `KEEP_S` and its summary for `TTL_S`."""
    begun = time.perf_counter()
    traffic, kept = Traffic(nc, publisher), deque[tuple[float, dict[JobId, int]]]()
    most_mib = most_disk_mib = 0.0
    for _ in range(0, jobs, STEP):
        kept.append((time.perf_counter(), await traffic.come()))
        while kept and time.perf_counter() - kept[0][0] > KEEP_S:
            await traffic.go(kept.popleft()[1])
        most_mib, most_disk_mib = max(most_mib, memory_mib(pid)), max(most_disk_mib, disk_mib(home))
    for _, ended in kept:
        await traffic.go(ended)
    while await held(nc):
        await asyncio.sleep(0.5)
    took_s = time.perf_counter() - begun
    await asyncio.sleep(TIDY_S)
    return {
        "jobs": jobs, "took_s": round(took_s), "most_mib": round(most_mib), "memory_mib": round(memory_mib(pid)),
        "most_disk_mib": round(most_disk_mib), "disk_mib": round(disk_mib(home), 1), "streams": by_stream(home),
    }  # fmt: skip


async def main(few: int, many: int) -> None:
    """Measure after few, and after many."""
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        server = await start_broker(home)
        nc = await connection.connect(server.url, name="bench")
        await topology.apply(nc)
        async with Publisher(nc, timeout_s=TIMEOUT_S) as publisher:
            for jobs in (few, many - few):
                print(await run(nc, publisher, server.pid, home, jobs), flush=True)
        await nc.close()
        await server.restart()
        nc = await connection.connect(server.url, name="bench")
        print(
            {"memory_mib_after_restart": round(memory_mib(server.pid)), "streams": by_stream(home)},
            flush=True,
        )
        await nc.close()
        await server.stop()


if __name__ == "__main__":
    uvloop.run(main(*([int(size) for size in sys.argv[1:]] or [100_000, 1_000_000])))
