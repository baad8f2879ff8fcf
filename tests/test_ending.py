"""What breaks off at the end of a process, and what does not."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from switchyard.services.ending import Patience

ENDS_S = 60.0
DEAF = """
import asyncio
from switchyard.services.run import stopping as runtime

async def deaf():
    print("ready", flush=True)
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass

async def main():
    await runtime.until_stopped(runtime.stop_on_signals(), deaf(), grace_s=-9.0)

asyncio.run(main())
"""


async def test_what_is_under_way_is_broken_off_when_patience_is_lost_and_what_follows_goes_on() -> None:
    patience = Patience()
    reached = []

    async def wait_for_ever(name: str) -> None:
        async with patience.limited():
            await asyncio.Event().wait()
        reached.append(name)

    async with asyncio.TaskGroup() as group:
        group.create_task(wait_for_ever("first"))
        await asyncio.sleep(0)
        patience.lose(0.01)
        group.create_task(wait_for_ever("later"))
    assert reached == ["first", "later"]


async def test_a_timeout_of_what_is_under_way_is_not_taken_for_lost_patience() -> None:
    patience = Patience()
    with pytest.raises(TimeoutError):
        async with patience.limited():
            raise TimeoutError


async def test_a_process_whose_work_does_not_end_is_ended() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", DEAF, cwd=Path(__file__).parents[1],
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None
    async with asyncio.timeout(ENDS_S):
        assert await process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 1
