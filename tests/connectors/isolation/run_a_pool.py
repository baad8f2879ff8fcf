"""A parent to kill: runs one call that never ends and prints the pids of the processes in it."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import orjson

from switchyard.services.connectors.isolation.processes import Limits, ProcessPool


def show(progress: dict[str, Any]) -> None:
    sys.stdout.write(orjson.dumps(progress["pids"]).decode() + "\n")
    sys.stdout.flush()


async def main() -> None:
    pool = ProcessPool(size=1, limits=Limits(1024**3))
    await pool.run(
        sys.argv[1] if len(sys.argv) > 1 else "tests.connectors.isolation.child_functions:wait",
        {"program": True, "stubborn": True, "stay": True},
        timeout_s=3600,
        grace_s=1,
        on_progress=show,
    )


asyncio.run(main())
