"""What the broker takes after many jobs that were archived and are gone, beside what it takes after few.

`python -m benchmarks.retention [few] [many]`: that many jobs succeed, are archived and go, then the others. The
figures are taken once all are gone; `most_mib` is the memory that the broker had at most while they came.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import structlog
import uvloop
from nats.aio.client import Client

from benchmarks.bench_rebuild import fill
from switchyard.events import subjects
from switchyard.projections.database import path_in
from switchyard.projections.reader import ReadModel
from switchyard.services.broker import connection, topology
from switchyard.services.broker.jetstream import api
from switchyard.services.broker.publisher import Publisher
from switchyard.services.broker.server.server import start_broker
from switchyard.services.keeper.loop import Keeper
from switchyard.services.projector.projector import Projector
from switchyard.services.settings import Settings

KEEP_S: Final = 60.0
TTL_S: Final = 60.0
STEP: Final = 1008
MOST_IN_LOG: Final = 200_000
TIDY_S: Final = 150.0
MIB: Final = 1024 * 1024


def memory_mib(pid: int) -> float:
    """What the process has in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / MIB


def disk_mib(directory: Path) -> float:
    """What the files below a directory take, those of the read model left out."""
    total = 0
    for path in directory.rglob("*"):
        with contextlib.suppress(OSError):
            total += 0 if "read_model" in path.name else path.stat().st_blocks * 512
    return total / MIB


def ledger_mib(directory: Path) -> float:
    """What the files of the ledger take."""
    return sum(map(disk_mib, directory.glob(f"**/{subjects.LEDGER}")))


async def held(nc: Client) -> int:
    """How many messages the log holds."""
    return int((await api(nc, f"STREAM.INFO.{subjects.JOBS}", timeout_s=30))["state"]["messages"])


async def run(nc: Client, publisher: Publisher, pid: int, home: Path, jobs: int) -> dict[str, float]:
    """Have so many jobs come and go."""
    begun = time.perf_counter()
    most = 0.0
    for _ in range(0, jobs, STEP):
        while await held(nc) > MOST_IN_LOG:
            await asyncio.sleep(0.2)
        await fill(publisher, STEP)
        await api(nc, f"STREAM.PURGE.{subjects.WORK}", {}, timeout_s=30)  # nobody works here
        most = max(most, memory_mib(pid))
    while await held(nc):
        await asyncio.sleep(0.5)
    took_s = time.perf_counter() - begun
    await asyncio.sleep(TIDY_S)
    return {
        "jobs": jobs, "took_s": took_s, "most_mib": most, "memory_mib": memory_mib(pid),
        "disk_mib": disk_mib(home), "ledger_mib": ledger_mib(home),
    }  # fmt: skip


async def main(few: int, many: int) -> None:
    """Measure after few, and after many."""
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        server = await start_broker(home)
        nc = await connection.connect(server.url, name="bench")
        await topology.apply(nc)
        settings = Settings(
            data_dir=home, keep_s=KEEP_S, archive_ttl_s=TTL_S, archives_per_s=10_000, request_timeout_s=30
        )
        projector = Projector(nc, settings)
        parts = [asyncio.create_task(projector.run())]
        await projector.ready.wait()
        model = ReadModel(path_in(home))
        parts.append(asyncio.create_task(Keeper(nc, settings, model).run()))
        async with Publisher(nc, timeout_s=60) as publisher:
            for jobs in (few, many - few):
                print(await run(nc, publisher, server.pid, home, jobs), flush=True)
        print({"left": model.counts(), "read_model_mib": path_in(home).stat().st_size / MIB}, flush=True)
        for part in parts:
            part.cancel()
        await asyncio.wait(parts)
        await nc.close()
        await server.stop()


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    sizes = [int(size) for size in sys.argv[1:]] or [100_000, 1_000_000]
    uvloop.run(main(*sizes))
