"""No test sleeps for a time that somebody guessed: it waits for what is to come, or says here why it cannot.

A pause in a `while` loop waits for something, and is bounded by the deadline around it or that of the test.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent

WORK = "the work that it stands for takes time"
OUTAGE = "the outage itself, or what comes after it, lasts as long as leases that must not be lost by it"
SLOW = "it is slow on purpose"

ALLOWED = {
    "connectors/isolation/child_functions.py": WORK,
    "connectors/isolation/hostile_functions.py": WORK,
    "handlers/hostile.py": WORK,
    "handlers/outlasting.py": WORK,
    "system/billed.py": WORK,
    "system/mischief.py": WORK,
    "worker/blockers.py": WORK,
    "dispatch/crowd.py": WORK,
    "dispatch/test_dispatch_property.py::Fleet.start.short": WORK,
    "dispatch/test_matching.py::Crowd.__call__": WORK,
    "dispatch/test_tenancy.py::test_no_worker_runs_a_job_of_a_tenant_that_it_does_not_serve_and_no_job_is_left.short": WORK,  # noqa: E501
    "switchyard/test_worker.py::test_an_attempt_that_takes_too_long_is_stopped_though_no_renewal_is_due.work": WORK,  # noqa: E501
    "dispatch/test_lanes_race.py::test_no_job_is_lost_while_lanes_are_made_and_removed.write": (
        "drawn by chance, so that removals come at any moment"
    ),
    "dispatch/test_picker.py::test_takers_that_go_leave_nothing_taken_and_no_pull_open": (
        "drawn by chance, so that takers go at any moment"
    ),
    "dispatch/test_waiting_pulls.py::test_a_lane_that_had_no_consumer_is_pulled_from_soon_after_it_is_made": (
        "a pull that finds nobody leaves no trace, and who listened for it would be somebody"
    ),
    "gateway/push/openai_server.py::streams.behave": SLOW,
    "gateway/push/task_server.py::at_once": WORK,
    "pusher/cog_server.py": WORK,
    "system/cog_model/predict.py": WORK,
    "gateway/push/task_server.py::TaskServer.call_back_later": WORK,
    "gateway/push/test_pushing.py::test_tasks_that_are_carried_on_take_slots_until_they_end": (
        "a push that does not come leaves no trace"
    ),
    "gateway/http/test_connections.py::test_an_upload_that_is_slow_and_makes_progress_goes_on.body": SLOW,
    "connectors/comfyui/double/server.py::ComfyDouble._view": SLOW,
    "connectors/a1111/double/execution.py::Execution._steps": SLOW,
    "gateway/live/test_live_progress.py::lagging": SLOW,
    "gateway/leases/test_lease_faults.py::test_an_outage_of_the_broker_ends_no_timed_lease": OUTAGE,
    "gateway/leases/test_lease_faults.py::test_an_attempt_may_say_that_its_time_is_over": (
        "the time of an attempt has to pass; nobody does anything at its end"
    ),
    "system/test_kill.py::stop_worker_past_its_lease": OUTAGE,
    "system/test_previews_memory.py::test_memory_stays_flat_with_fifty_readers_of_whom_one_does_not_read": (
        "previews come in rounds, as fast as a job may show them"
    ),
    "system/test_kill.py::kill_broker_for_longer_than_a_lease": OUTAGE,
    "worker/test_worker.py::test_an_outage_longer_than_the_lease_costs_a_running_job_nothing": OUTAGE,
    "worker/test_vigil.py::test_a_worker_without_a_vigil_says_so_and_renews_on_its_own_loop": OUTAGE,
    "telemetry/test_listener.py::test_a_loop_that_is_busy_lives": WORK,
    "test_clock_jumps.py::lives_through": OUTAGE,
}  # fmt: skip
"""Files, or functions in them, that sleep for a time of their own, and why."""

SLEEPS = {"asyncio.sleep", "time.sleep", "sleep"}


def guessed(node: ast.AST, name: str = "", *, polls: bool = False) -> Iterator[tuple[str, int]]:
    """The functions and lines that sleep outside of loops which wait for something."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            name, polls = f"{name}.{node.name}".lstrip("."), False
        case ast.While():
            polls = True
        case ast.For() | ast.AsyncFor():
            polls = ast.unparse(node.iter) == "itertools.count()"
        case ast.Call() if ast.unparse(node.func) in SLEEPS and not polls:
            if [ast.unparse(argument) for argument in node.args[:1]] != ["0"]:  # 0 lets others run, no more
                yield name, node.lineno
    for child in ast.iter_child_nodes(node):
        yield from guessed(child, name, polls=polls)


@functools.cache
def in_tests() -> list[tuple[str, str, int]]:
    """File, function and line of every such sleep."""
    return [
        (path.relative_to(TESTS).as_posix(), name, line)
        for path in sorted(TESTS.rglob("*.py"))
        if "sleep(" in (text := path.read_text())
        for name, line in guessed(ast.parse(text))
    ]


def test_no_test_sleeps_for_a_time_that_somebody_guessed() -> None:
    found = [
        f"{file}:{line} in {name}"
        for file, name, line in in_tests()
        if file not in ALLOWED and f"{file}::{name}" not in ALLOWED
    ]
    assert found == []


def test_every_exception_is_still_needed() -> None:
    needed = {key for file, name, _ in in_tests() for key in (file, f"{file}::{name}")}
    assert set(ALLOWED) - needed == set()


def test_a_guess_is_found_and_a_loop_that_waits_is_not() -> None:
    source = """
async def polls():
    while not done:
        await asyncio.sleep(0.1)
        for _ in range(3):
            time.sleep(1)
    await asyncio.sleep(0)
    await asyncio.sleep(2)
    call(lambda: time.sleep(3))
"""
    assert list(guessed(ast.parse(source))) == [("polls", 6), ("polls", 8), ("polls", 9)]
