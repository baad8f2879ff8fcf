from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest
import uvloop

from switchyard.services.connectors.isolation import child_process
from switchyard.services.connectors.isolation.child import MAX_FRAME_BYTES
from switchyard.services.connectors.isolation.processes import (
    Limits,
    ProcessCrashed,
    ProcessMemoryExceeded,
    ProcessPool,
    ProcessTimedOut,
)
from switchyard.services.connectors.protocol import BusyError, ConnectorError, FatalError, RetryableError

GIB = 1024**3
DEADLINE_S = 90.0
Run = Callable[..., Any]


def nothing(_: dict[str, Any]) -> None:
    """Progress that nobody asked for."""


def run(
    pool: ProcessPool,
    function: str,
    arguments: dict[str, Any] | None = None,
    *,
    timeout_s: float = DEADLINE_S,
    grace_s: float = DEADLINE_S,
    on_progress: Callable[[dict[str, Any]], None] = nothing,
) -> Any:
    return pool.run(
        f"tests.connectors.isolation.child_functions:{function}",
        arguments or {},
        timeout_s=timeout_s,
        grace_s=grace_s,
        on_progress=on_progress,
    )


async def gone(*pids: int) -> None:
    """Wait until none of the processes runs; a zombie that nobody reaped yet does not run."""
    async with asyncio.timeout(DEADLINE_S):
        while any(runs(pid) for pid in pids):
            await asyncio.sleep(0.01)


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Started:
    """Takes the pids that `wait` reports."""

    def __init__(self) -> None:
        self.pids: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()

    def __call__(self, progress: dict[str, Any]) -> None:
        self.pids.set_result(progress["pids"])


@pytest.fixture
async def pool() -> AsyncIterator[ProcessPool]:
    pool = ProcessPool(size=1, limits=Limits(GIB))
    yield pool
    await pool.close()


async def test_progress_arrives_in_order_before_the_result(pool: ProcessPool) -> None:
    seen: list[dict[str, Any]] = []
    result = await run(pool, "echo", {"reports": 2000, "echo": {"é": [1, None]}}, on_progress=seen.append)
    assert seen == [{"number": number} for number in range(2000)]
    assert result["echo"] == {"é": [1, None]}


async def test_process_is_reused_until_it_has_run_its_share_of_jobs() -> None:
    pool = ProcessPool(size=1, limits=Limits(GIB), jobs_per_process=2)
    pids = [(await run(pool, "echo"))["pid"] for _ in range(4)]
    assert pids[0] == pids[1] != pids[2] == pids[3]
    assert not runs(pids[0])
    await pool.close()
    assert not runs(pids[3])


async def test_pool_starts_nothing_before_it_is_used() -> None:
    before = psutil.Process().children()
    pool = ProcessPool(size=4, limits=Limits(GIB))
    assert psutil.Process().children() == before
    await pool.close()


async def test_calls_beyond_the_size_wait_their_turn_in_order(pool: ProcessPool) -> None:
    order: list[int] = []

    async def call(number: int) -> int:
        pid: int = (await run(pool, "echo"))["pid"]
        order.append(number)
        return pid

    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(call(number)) for number in range(20)]
    assert order == list(range(20))
    assert len({call.result() for call in calls}) == 1


async def test_caller_that_stops_waiting_leaves_the_queue_cleanly(pool: ProcessPool) -> None:
    started = Started()
    first = asyncio.create_task(run(pool, "wait", on_progress=started))
    await started.pids
    waiting = asyncio.create_task(run(pool, "echo"))
    last = asyncio.create_task(run(pool, "echo", {"echo": "last"}))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    first.cancel()
    assert (await last)["echo"] == "last"
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_output_of_a_library_does_not_disturb_the_protocol(pool: ProcessPool) -> None:
    assert await run(pool, "noisy") == "quiet"
    assert (await run(pool, "echo", {"echo": 1}))["echo"] == 1


@pytest.mark.parametrize(
    ("kind", "error"), [("fatal", FatalError), ("retryable", RetryableError), ("busy", BusyError)]
)
async def test_connector_error_comes_back_as_it_was_raised(
    pool: ProcessPool, kind: str, error: type[ConnectorError]
) -> None:
    before = (await run(pool, "echo"))["pid"]
    with pytest.raises(error) as raised:
        await run(pool, "fail", {"kind": kind})
    assert (raised.value.code, raised.value.message) == ("the_code", "the message")
    assert (await run(pool, "echo"))["pid"] == before


@pytest.mark.parametrize("function", ["fail", "unserializable", "no_such_function"])
async def test_other_error_comes_back_as_retryable_internal(pool: ProcessPool, function: str) -> None:
    with pytest.raises(RetryableError) as raised:
        await run(pool, function)
    assert raised.value.code == "internal"
    assert raised.value.traceback.startswith("Traceback")


async def test_message_beyond_the_limit_is_refused_both_ways(pool: ProcessPool) -> None:
    assert len(await run(pool, "large", {"size": MAX_FRAME_BYTES - 100})) == MAX_FRAME_BYTES - 100
    with pytest.raises(FatalError) as raised:
        await run(pool, "large", {"size": MAX_FRAME_BYTES})
    assert raised.value.code == "message_too_large"
    with pytest.raises(FatalError) as raised:
        await run(pool, "echo", {"echo": "x" * MAX_FRAME_BYTES})
    assert raised.value.code == "message_too_large"


async def test_process_that_exits_is_reported_with_status_and_last_words(pool: ProcessPool) -> None:
    with pytest.raises(ProcessCrashed, match="exit status 7") as raised:
        await run(pool, "leave")
    assert raised.value.returncode == 7
    assert raised.value.stderr.endswith("last words")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
async def test_crash_is_reported_with_its_signal_and_a_new_process_takes_over(
    pool: ProcessPool, number: signal.Signals
) -> None:
    before = (await run(pool, "echo"))["pid"]
    with pytest.raises(ProcessCrashed, match=number.name) as raised:
        await run(pool, "die", {"signal": number})
    assert raised.value.returncode == -number
    assert "last words" in raised.value.stderr
    assert len(raised.value.stderr) <= 4096
    assert (await run(pool, "echo"))["pid"] != before


async def test_process_that_breaks_the_protocol_is_killed(pool: ProcessPool) -> None:
    before = (await run(pool, "echo"))["pid"]
    with pytest.raises(ProcessCrashed):
        await run(pool, "send_garbage")
    assert not runs(before)


@pytest.mark.parametrize("function", ["hog", "hog_wrapped"])
async def test_call_that_needs_too_much_memory_is_ended(function: str) -> None:
    pool = ProcessPool(size=1, limits=Limits(GIB // 4))
    before = (await run(pool, "echo"))["pid"]
    with pytest.raises(ProcessMemoryExceeded):
        await run(pool, function)
    assert (await run(pool, "echo"))["pid"] != before
    await pool.close()


async def test_crash_of_a_library_for_want_of_memory_is_distinguished(pool: ProcessPool) -> None:
    with pytest.raises(ProcessMemoryExceeded):
        await run(pool, "die_out_of_memory")


async def test_child_killed_by_the_kernel_for_want_of_memory_is_distinguished(
    pool: ProcessPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    kills = itertools.count()  # the kernel's own count, which a test cannot raise without harm
    monkeypatch.setattr(child_process, "_oom_kills", lambda: next(kills))
    with pytest.raises(ProcessMemoryExceeded):
        await run(pool, "die", {"signal": signal.SIGKILL})
    with pytest.raises(ProcessCrashed):
        await run(pool, "die", {"signal": signal.SIGSEGV})


async def test_call_that_takes_too_long_is_killed_with_the_program_it_runs(pool: ProcessPool) -> None:
    started = Started()
    with pytest.raises(ProcessTimedOut):
        await run(pool, "wait", {"program": True, "stubborn": True}, timeout_s=3, on_progress=started)
    child, program = await started.pids
    assert not runs(child)
    await gone(program)
    assert (await run(pool, "echo"))["pid"] != child


async def test_cancelled_call_gets_the_chance_to_end_by_itself(pool: ProcessPool, tmp_path: Path) -> None:
    started = Started()
    call = asyncio.create_task(run(pool, "wait", {"farewell": str(tmp_path / "bye")}, on_progress=started))
    (child,) = await started.pids
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (tmp_path / "bye").exists()
    assert not runs(child)


async def test_cancelled_call_that_ignores_sigterm_is_killed_before_the_cancellation_goes_on(
    pool: ProcessPool,
) -> None:
    started = Started()
    call = asyncio.create_task(
        run(pool, "wait", {"stubborn": True, "program": True}, grace_s=0.2, on_progress=started)
    )
    child, program = await started.pids
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert not runs(child)
    await gone(program)


async def test_second_cancellation_does_not_wait_for_the_grace_period(pool: ProcessPool) -> None:
    started = Started()
    call = asyncio.create_task(run(pool, "wait", {"stubborn": True}, grace_s=3600, on_progress=started))
    (child,) = await started.pids
    call.cancel()
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert not runs(child)


async def test_caller_whose_progress_handler_fails_gets_no_process_in_mid_call_back(
    pool: ProcessPool,
) -> None:
    def refuse(_: dict[str, Any]) -> None:
        raise LookupError("no")

    before = (await run(pool, "echo"))["pid"]
    with pytest.raises(LookupError):
        await run(pool, "echo", {"reports": 3}, on_progress=refuse)
    assert not runs(before)
    assert (await run(pool, "echo", {"echo": 5}))["echo"] == 5


async def test_closing_the_pool_ends_its_calls_and_their_processes(pool: ProcessPool) -> None:
    started = Started()
    call = asyncio.create_task(run(pool, "wait", {"program": True, "stubborn": True}, on_progress=started))
    waiting = asyncio.create_task(run(pool, "echo"))
    pids = await started.pids
    await pool.close()
    for ended in (call, waiting, run(pool, "echo")):
        with pytest.raises(BusyError) as raised:
            await ended
        assert raised.value.code == "shutting_down"
    await gone(*pids)


async def test_idle_process_that_died_is_replaced(pool: ProcessPool) -> None:
    before = (await run(pool, "echo"))["pid"]
    os.kill(before, signal.SIGKILL)
    await gone(before)
    async with asyncio.timeout(DEADLINE_S):
        while psutil.pid_exists(before):
            await asyncio.sleep(0.01)
    assert (await run(pool, "echo"))["pid"] != before


async def test_process_that_died_just_now_is_replaced(pool: ProcessPool) -> None:
    before = (await run(pool, "echo"))["pid"]
    os.kill(before, signal.SIGKILL)
    # The loop is held up, so that it cannot have reported the exit.
    deadline = time.monotonic() + DEADLINE_S
    while psutil.pid_exists(before):
        assert time.monotonic() < deadline
    assert (await run(pool, "echo"))["pid"] != before


async def test_secrets_of_the_worker_do_not_reach_the_child(
    pool: ProcessPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWITCHYARD_TOKEN", "secret")
    surroundings = await run(pool, "surroundings")
    assert "secret" not in surroundings.values()
    assert "OMP_THREAD_LIMIT" not in surroundings


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_killed_parent_leaves_no_process_behind(number: signal.Signals) -> None:
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.connectors.isolation.run_a_pool"), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    async with asyncio.timeout(DEADLINE_S):
        pids = orjson.loads(await parent.stdout.readline())
        assert len(pids) == 2
        assert all(runs(pid) for pid in pids)
        parent.send_signal(number)
        await parent.wait()
    try:
        await gone(*pids)
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


async def test_crashes_leave_no_descriptor_behind(pool: ProcessPool) -> None:
    await run(pool, "echo")
    with pytest.raises(ProcessCrashed):
        await run(pool, "leave")
    before = psutil.Process().num_fds()
    for _ in range(10):
        with pytest.raises(ProcessCrashed):
            await run(pool, "leave")
    gc.collect()
    assert psutil.Process().num_fds() <= before


def test_pool_does_the_same_on_the_event_loop_of_the_worker() -> None:
    async def main() -> None:
        pool = ProcessPool(size=1, limits=Limits(GIB))
        first = (await run(pool, "echo"))["pid"]
        with pytest.raises(ProcessCrashed, match="SIGSEGV") as raised:
            await run(pool, "die", {"signal": signal.SIGSEGV})
        assert "last words" in raised.value.stderr
        started = Started()
        call = asyncio.create_task(
            run(pool, "wait", {"stubborn": True, "program": True}, grace_s=0.2, on_progress=started)
        )
        child, program = await started.pids
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert not runs(child)
        await gone(program)
        last = (await run(pool, "echo"))["pid"]
        await pool.close()
        assert not runs(first)
        assert not runs(last)

    uvloop.run(main())
