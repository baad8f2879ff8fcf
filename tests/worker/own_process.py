"""A worker in a process of its own, whose handlers may do to it what they like."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson

from tests.worker.site import DEADLINE_S, Site

ROOT = Path(__file__).parents[2]


class OwnProcess:
    """The process and what it logs."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.process = process
        self.log = log

    def logged(self, event: str) -> list[dict[str, Any]]:
        """All entries of one name so far."""
        lines = self.log.read_bytes().splitlines() if self.log.exists() else []
        entries = [orjson.loads(line) for line in lines if line.startswith(b"{") and line.endswith(b"}")]
        return [entry for entry in entries if entry["event"] == event]

    async def until_logged(self, event: str, *, count: int = 1) -> dict[str, Any]:
        """The newest entry of a name once there are so many."""
        async with asyncio.timeout(DEADLINE_S):
            while len(found := self.logged(event)) < count:
                assert self.process.returncode is None, self.log.read_text()
                await asyncio.sleep(0.05)
        return found[-1]

    async def vigil(self, *, count: int = 1) -> int:
        """The process id of its vigil, the first or a later one, when that is up."""
        return int((await self.until_logged("vigil_up", count=count))["vigil_pid"])


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def until_dead(pid: int) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while is_alive(pid):
            await asyncio.sleep(0.05)


@asynccontextmanager
async def own_process(
    site: Site, log: Path, *, name: str = "w1", slots: int = 4, **settings: Any
) -> AsyncIterator[OwnProcess]:
    """A worker of `tests.worker.blockers` on a site's broker; killed at the end."""
    said = {"lease_s": site.settings.lease_s, "drain_grace_s": 0.2, "cancel_grace_s": 0.5} | settings
    with log.open("ab") as target:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "switchyard.services.cli", "worker",
            "--handlers", "tests.worker.blockers:handlers",
            *("--slots", str(slots), "--name", name, "--nats", site.url),
            env=os.environ | {f"SWITCHYARD_{key.upper()}": str(value) for key, value in said.items()},
            cwd=ROOT, stdin=asyncio.subprocess.DEVNULL, stdout=target, stderr=target,
        )  # fmt: skip
    try:
        yield OwnProcess(process, log)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        await process.wait()
