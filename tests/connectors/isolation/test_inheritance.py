"""A child process is started without what a handler in a thread has changed in the worker's process."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from switchyard._worker.process_state import kept
from switchyard.services.connectors.isolation.processes import Limits, ProcessPool
from tests.connectors.isolation.test_processes import DEADLINE_S, nothing


async def _inherited(pool: ProcessPool) -> object:
    return await pool.run(
        "tests.connectors.isolation.child_functions:inherited", {},
        timeout_s=DEADLINE_S, grace_s=DEADLINE_S, on_progress=nothing,
    )  # fmt: skip


async def test_a_child_has_the_worker_s_directory_and_umask() -> None:
    directory, umask = Path.cwd(), os.umask(0o022)
    try:
        with kept():
            pool = ProcessPool(size=1, limits=Limits())
            os.chdir("/")
            os.umask(0o777)
            assert await _inherited(pool) == {"directory": str(directory), "umask": 0o022}
            await pool.close()
    finally:
        os.umask(umask)
        os.chdir(directory)


async def test_a_child_starts_though_a_handler_closed_the_standard_streams() -> None:
    with kept():
        pool = ProcessPool(size=1, limits=Limits())
        for stream in (sys.__stdout__, sys.__stderr__):
            assert stream is not None
            stream.close()
        found = await _inherited(pool)
        await pool.close()
    assert isinstance(found, dict)
    assert not any(stream is None or stream.closed for stream in (sys.__stdout__, sys.__stderr__))
