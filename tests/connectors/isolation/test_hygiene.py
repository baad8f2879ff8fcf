"""One call's child process does nothing to the next one, and nothing outlives it."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest
from structlog.testing import capture_logs

from switchyard.services.connectors.isolation import child_process
from switchyard.services.connectors.isolation.processes import (
    Limits,
    ProcessCrashed,
    ProcessMemoryExceeded,
    ProcessPool,
)
from switchyard.services.connectors.protocol import RetryableError
from tests.connectors.isolation.hostile_functions import TRACES
from tests.connectors.isolation.test_processes import DEADLINE_S, Started, gone, nothing, runs

MIB = 1024**2


class Printed:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.more = 0

    def __call__(self, line: str) -> None:
        self.lines.append(line)

    def left_out(self, lines: int) -> None:
        self.more += lines


def run(
    pool: ProcessPool,
    function: str,
    arguments: dict[str, Any] | None = None,
    *,
    on_progress: Callable[[dict[str, Any]], None] = nothing,
    output: Printed | None = None,
    owner: str = "",
) -> Any:
    return pool.run(
        f"tests.connectors.isolation.hostile_functions:{function}",
        arguments or {},
        timeout_s=DEADLINE_S,
        grace_s=DEADLINE_S,
        on_progress=on_progress,
        output=output,
        owner=owner,
    )


async def pid_of(pool: ProcessPool, owner: str = "") -> int:
    pid: int = (await run(pool, "clean", owner=owner))["pid"]
    return pid


@pytest.fixture
async def pool() -> AsyncIterator[ProcessPool]:
    pool = ProcessPool(size=1, limits=Limits())
    yield pool
    await pool.close()


# --- Frames


@pytest.mark.parametrize("how", ["returns", "fails", "exits", "reports"])
async def test_a_copy_of_the_process_answers_nothing(pool: ProcessPool, how: str) -> None:
    seen: list[dict[str, Any]] = []
    for job in range(20):
        answer = await run(pool, "fork", {"job": job, "how": how}, on_progress=seen.append)
        assert answer["job"] == job
    assert seen == []


async def test_reports_of_a_thread_left_behind_reach_no_later_call(pool: ProcessPool) -> None:
    first = (await run(pool, "report_later", {"job": 1}))["pid"]
    seen: list[dict[str, Any]] = []
    second = (await run(pool, "report_later", {"job": 2}, on_progress=seen.append))["pid"]
    assert first != second
    assert not runs(first)
    assert {report["job"] for report in seen} <= {2}


async def test_reports_of_threads_at_once_arrive_whole(pool: ProcessPool) -> None:
    seen: list[dict[str, Any]] = []
    await run(pool, "report_from_threads", on_progress=seen.append)
    for name in range(4):
        own = [report for report in seen if report["thread"] == name]
        assert [report["number"] for report in own] == list(range(20))
        assert {report["fill"] for report in own} == {str(name) * 300_000}


async def test_a_report_that_interrupts_another_comes_after_it(pool: ProcessPool) -> None:
    seen: list[dict[str, Any]] = []
    assert await run(pool, "report_in_a_signal_handler", on_progress=seen.append) == "done"
    assert len([report for report in seen if report["from"] == "function"]) == 30
    assert any(report["from"] == "handler" for report in seen)


# --- Traces


@pytest.mark.parametrize("what", TRACES)
async def test_a_process_with_traces_of_its_call_is_not_called_again(pool: ProcessPool, what: str) -> None:
    before = await pid_of(pool)
    with capture_logs() as logs:
        assert (await run(pool, "leave_a_trace", {"what": what}))["pid"] == before
    (replaced,) = [entry for entry in logs if entry["event"] == "child_replaced"]
    assert replaced["left"][0].startswith(what.removesuffix(" level"))
    assert not runs(before)
    assert await pid_of(pool) != before


async def test_a_process_that_is_as_before_is_called_again(pool: ProcessPool) -> None:
    pids = {await pid_of(pool) for _ in range(20)}
    assert len(pids) == 1


async def test_what_a_failed_call_has_left_behind_counts_too(pool: ProcessPool) -> None:
    before = await pid_of(pool)
    with pytest.raises(RetryableError):
        await run(pool, "leave_a_trace", {"what": "nothing of the kind"})
    assert await pid_of(pool) == before


# --- Descendants


async def test_a_daemon_ends_with_the_call_that_started_it(pool: ProcessPool) -> None:
    pids = (await run(pool, "escape"))["pids"]
    assert not any(map(runs, pids))


async def test_a_daemon_ends_with_the_process_that_started_it(pool: ProcessPool) -> None:
    started = Started()
    with pytest.raises(ProcessCrashed):
        await run(pool, "escape", {"leave": True}, on_progress=started)
    assert not any(map(runs, await started.pids))


async def test_a_daemon_ends_with_a_cancelled_call(pool: ProcessPool) -> None:
    started = Started()
    call = asyncio.create_task(run(pool, "escape", {"stay": True}, on_progress=started))
    pids = await started.pids
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert not any(map(runs, pids))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_daemon_ends_with_a_worker_that_is_killed(number: signal.Signals) -> None:
    parent = await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-m",
            "tests.connectors.isolation.run_a_pool",
            "tests.connectors.isolation.hostile_functions:escape",
        ),
        stdout=asyncio.subprocess.PIPE,
    )
    assert parent.stdout is not None
    async with asyncio.timeout(DEADLINE_S):
        pids = orjson.loads(await parent.stdout.readline())
        assert all(map(runs, pids))
        parent.send_signal(number)
        await parent.wait()
    await gone(*pids)


async def test_what_a_killed_supervisor_leaves_is_found_and_ended(pool: ProcessPool) -> None:
    started = Started()
    with pytest.raises(ProcessCrashed):
        await run(pool, "kill_the_supervisor", on_progress=started)
    await gone(*await started.pids)
    await pid_of(pool)


async def test_a_stopped_supervisor_holds_up_nobody(
    pool: ProcessPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_process, "KILL_TIMEOUT_S", 0.5)
    started = Started()
    call = asyncio.create_task(run(pool, "stop_the_supervisor", on_progress=started))
    pids = await started.pids
    call.cancel()
    for _ in range(20):  # it is asked to end, and a second time it is not waited for
        await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await gone(*pids)


# --- Owners and idle processes


async def test_a_process_never_runs_for_two_owners() -> None:
    pool = ProcessPool(size=2, limits=Limits())
    acme, other = await pid_of(pool, "acme"), await pid_of(pool, "other")
    assert acme != other
    assert await pid_of(pool, "acme") == acme
    assert await pid_of(pool, "other") == other
    await pool.close()


async def test_there_are_never_more_processes_than_the_size_and_the_longest_idle_ends_first() -> None:
    pool = ProcessPool(size=2, limits=Limits())
    first, second = await pid_of(pool, "first"), await pid_of(pool, "second")
    third = await pid_of(pool, "third")
    assert not runs(first)
    assert runs(second)
    assert runs(third)
    await pool.close()


async def test_no_more_processes_stay_idle_than_may() -> None:
    pool = ProcessPool(size=3, limits=Limits(), idle=1)
    pids = [await pid_of(pool, owner) for owner in ("first", "second", "third")]
    await gone(*pids[:2])
    assert runs(pids[2])
    await pool.close()


async def test_an_idle_process_ends_after_a_while() -> None:
    pool = ProcessPool(size=1, limits=Limits(), idle_s=0.1)
    await gone(await pid_of(pool))
    await pool.close()


# --- Output


async def test_all_that_is_printed_reaches_the_call(pool: ProcessPool) -> None:
    for _ in range(2):
        printed = Printed()
        await run(pool, "say", output=printed)
        assert [line[:30] for line in printed.lines] == [
            "from print", "without end, ended", "from logging", "from C", "from a program", "100 %",
            "\ufffd\ufffd odd", "é" * 30, "the last, unfinished",
        ]  # fmt: skip
        assert len(printed.lines[-2].encode()) < 16 * 1024 + 8


async def test_what_a_process_printed_before_it_crashed_reaches_the_call(pool: ProcessPool) -> None:
    printed = Printed()
    with pytest.raises(ProcessCrashed):
        await run(pool, "say", {"die": True}, output=printed)
    assert printed.lines[:3] == ["from print", "without end, ended", "from logging"]
    assert "Fatal Python error: Aborted" in "\n".join(printed.lines)


async def test_lines_beyond_what_can_be_read_are_counted(pool: ProcessPool) -> None:
    printed = Printed()
    await run(pool, "say_much", {"chunks": 50}, output=printed)
    assert len(printed.lines) + printed.more == 500_000
    assert len(printed.lines) < 100_000


async def test_what_is_printed_after_the_call_is_dropped_and_counted() -> None:
    pool = ProcessPool(
        size=1, limits=Limits(), after=("tests.connectors.isolation.hostile_functions:let_it_print", {})
    )
    printed = Printed()
    with capture_logs() as logs:
        await run(pool, "print_later", output=printed)
    assert printed.lines == []
    (dropped,) = [entry for entry in logs if entry["event"] == "late_reports_dropped"]
    assert dropped["bytes"] == len(b"late\n")
    await pool.close()


# --- Memory


@pytest.mark.parametrize("program", [False, True])
async def test_a_call_that_takes_too_much_memory_is_ended_wherever_it_takes_it(*, program: bool) -> None:
    pool = ProcessPool(size=1, limits=Limits(resident_bytes=200 * MIB))
    with pytest.raises(ProcessMemoryExceeded):
        await run(pool, "grow", {"size": 300 * MIB, "program": program})
    await pid_of(pool)
    await pool.close()


async def test_address_space_that_is_only_reserved_is_no_memory() -> None:
    pool = ProcessPool(size=1, limits=Limits(resident_bytes=200 * MIB))
    await run(pool, "reserve", {"size": 100 * 1024 * MIB})
    await pool.close()


async def test_memory_that_processes_share_counts_once() -> None:
    pool = ProcessPool(size=1, limits=Limits(resident_bytes=400 * MIB))
    await run(pool, "share", {"size": 200 * MIB, "seconds": 0.5})
    await pool.close()


# --- The environment, the beginning and the end


async def test_variables_that_are_asked_for_reach_the_child_but_never_our_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("CUDA_VISIBLE_DEVICES", "HF_HOME", "AWS_SECRET", "SWITCHYARD_TOKEN", "OMP_THREAD_LIMIT"):
        monkeypatch.setenv(name, "7")
    pool = ProcessPool(size=1, limits=Limits(pass_env=("CUDA_*", "HF_HOME", "SWITCHYARD_*", "S*")))
    found = await pool.run(
        "tests.connectors.isolation.child_functions:surroundings", {},
        timeout_s=DEADLINE_S, grace_s=1, on_progress=nothing,
    )  # fmt: skip
    assert (found["CUDA_VISIBLE_DEVICES"], found["HF_HOME"]) == ("7", "7")
    assert not found.keys() & {"AWS_SECRET", "SWITCHYARD_TOKEN", "OMP_THREAD_LIMIT"}
    await pool.close()


async def test_each_process_begins_and_ends_once(tmp_path: Path) -> None:
    file = tmp_path / "marks"
    functions = "tests.connectors.isolation.hostile_functions"
    pool = ProcessPool(
        size=1, limits=Limits(), jobs_per_process=2,
        before=(f"{functions}:mark", {"file": str(file), "word": "begin"}),
        after=(f"{functions}:mark_at_the_end", {"file": str(file), "word": "end"}),
    )  # fmt: skip
    pids = [await pid_of(pool) for _ in range(3)]
    await pool.close()
    first, last = pids[0], pids[2]
    expected = [f"begin {first}", f"end {first}", f"begin {last}", f"end {last}"]
    assert file.read_text().splitlines() == expected


async def test_what_a_process_began_with_may_stay() -> None:
    before: tuple[str, dict[str, Any]] = (
        "tests.connectors.isolation.hostile_functions:begin_with_helpers",
        {},
    )
    pool = ProcessPool(size=1, limits=Limits(), before=before)
    assert len({await pid_of(pool) for _ in range(5)}) == 1
    await pool.close()


async def test_a_beginning_that_failed_is_tried_again(tmp_path: Path) -> None:
    before = ("tests.connectors.isolation.hostile_functions:refuse", {"file": str(tmp_path / "refused")})
    pool = ProcessPool(size=1, limits=Limits(), before=before)
    with pytest.raises(RetryableError, match="not yet") as raised:
        await pid_of(pool)
    assert "in refuse" in raised.value.traceback
    await pid_of(pool)
    await pool.close()


async def test_many_calls_leave_no_process_and_no_descriptor_behind(pool: ProcessPool) -> None:
    async def some() -> None:
        await run(pool, "fork", {"job": 1, "how": "returns"})
        await run(pool, "report_from_threads")
        await run(pool, "say", output=Printed())
        await run(pool, "leave_a_trace", {"what": "threads"})

    await some()
    gc.collect()
    own = psutil.Process()
    before = own.num_fds(), len(own.children(recursive=True))
    for _ in range(5):
        await some()
    gc.collect()
    assert (own.num_fds(), len(own.children(recursive=True))) <= before
    assert os.getpid() == own.pid
