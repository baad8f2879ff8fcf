"""What handlers with `process=True` see and leave; and setup, teardown and tracebacks in all modes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from switchyard._worker.given.spawning import Part, PartFacts, PartOutcome
from switchyard._worker.traceback import MAX_CHARS, formatted
from switchyard.handlers import Handlers, HandlersError
from switchyard.services.connectors.handlers.connector import CustomConnector
from switchyard.services.connectors.protocol import FatalError, RetryableError
from switchyard.testing import Harness
from tests.connectors.attempts import LocalAttempt
from tests.connectors.isolation.test_processes import gone
from tests.handlers import in_processes
from tests.handlers.in_processes import handlers

SOURCE = "tests.handlers.in_processes:handlers"
MODES = ("in-a-process", "in-a-thread", "on-the-loop")
Connect = Callable[[str], CustomConnector]


@pytest.fixture
async def connector() -> AsyncIterator[Connect]:
    made: list[CustomConnector] = []

    def connect(kind: str) -> CustomConnector:
        made.append(CustomConnector(handlers[kind], source=SOURCE, slots=1))
        return made[-1]

    yield connect
    for each in made:
        await each.close()


@pytest.mark.parametrize(("kind", "same"), [("where", False), ("where-shared", True)])
async def test_a_process_serves_another_tenant_only_where_the_handler_says_so(
    kind: str, *, same: bool, connector: Connect, tmp_path: Path
) -> None:
    made = connector(kind)
    acme = await made.run(LocalAttempt(tmp_path, tenant="acme"))
    again = await made.run(LocalAttempt(tmp_path, tenant="acme"))
    other = await made.run(LocalAttempt(tmp_path, tenant="other"))
    assert acme.result == again.result
    assert (other.result == acme.result) is same


async def test_a_process_plans_parts_and_joins_them(connector: Connect, tmp_path: Path) -> None:
    made = connector("in-parts")
    planned = (await made.run(LocalAttempt(tmp_path, {"n": 1}))).join
    assert planned is not None
    assert (planned.policy, [(part["name"], part["payload"]) for part in planned.parts]) == (
        "collect", [("one", {"n": 1})],
    )  # fmt: skip
    with pytest.raises(FatalError) as caught:
        await made.run(LocalAttempt(tmp_path, {"forget": True}))
    assert caught.value.code == "not_joined"
    outcome = PartOutcome("succeeded", 7)

    async def load(_: str) -> dict[str, Any]:
        return asdict(outcome)

    joining = LocalAttempt(tmp_path, parts=(Part(PartFacts("one", "an-id", "where"), load),))
    assert (await made.run(joining)).result == [7]
    harness = Harness(handlers)
    assert [part["name"] for part in (await harness.run("in-parts", {"n": 1})).spawned] == ["one"]
    assert (await harness.run("in-parts", {}, parts={"one": outcome})).result == [7]


@pytest.mark.parametrize("fail", [False, True])
async def test_what_a_process_prints_is_the_jobs_log(
    *, fail: bool, connector: Connect, tmp_path: Path
) -> None:
    attempt = LocalAttempt(tmp_path, {"fail": fail})
    made = connector("print")
    if fail:
        with pytest.raises(FatalError, match="as asked"):
            await made.run(attempt)
    else:
        await made.run(attempt)
    assert attempt.lines == ["printed", "echoed"]


async def test_saves_from_many_threads_get_their_own_answers(connector: Connect, tmp_path: Path) -> None:
    attempt = LocalAttempt(tmp_path, {"count": 40})
    outcome = await connector("save-from-threads").run(attempt)
    assert outcome.result == {f"{number}.txt": "text/plain" for number in range(40)}
    assert attempt.saved == {f"{number}.txt": f"text {number}".encode() for number in range(40)}
    assert len(outcome.artifacts) == 40


@pytest.mark.parametrize("what", ["save", "log"])
async def test_a_copy_of_the_process_has_no_context(what: str, connector: Connect, tmp_path: Path) -> None:
    attempt = LocalAttempt(tmp_path, {"what": what})
    outcome = await connector("save-from-a-copy").run(attempt)
    assert outcome.result == "forked: a process that the handler forked cannot use its context"
    assert (attempt.lines, attempt.saved) == ([], {})


async def test_a_thread_left_behind_reaches_no_later_job(connector: Connect, tmp_path: Path) -> None:
    made = connector("go-on")
    for job in ("first", "second", "third"):
        attempt = LocalAttempt(tmp_path, {"job": job})
        assert (await made.run(attempt)).result == job
        assert not set(attempt.lines) & ({"first", "second", "third"} - {job})
        assert {report["stage"] for report in attempt.reports} <= {job}
        assert attempt.saved.keys() <= {f"{job}.txt"}


@pytest.mark.parametrize("kind", ["ready", "ready-in-a-thread", "ready-on-the-loop"])
async def test_setup_comes_once_before_the_first_job_and_teardown_after_the_last(
    kind: str, tmp_path: Path
) -> None:
    in_processes.made.clear()
    made = CustomConnector(handlers[kind], source=SOURCE, slots=1)
    left = tmp_path / "left"
    with pytest.raises(RetryableError, match="OSError: no model yet") as raised:
        await made.run(LocalAttempt(tmp_path, {"left": str(left)}))
    assert raised.value.code == "setup_failed"
    assert "in fail_to_set_up_once" in formatted(raised.value)
    results = {(await made.run(LocalAttempt(tmp_path, {"left": str(left)}))).result for _ in range(3)}
    assert len(results) == 1
    assert not left.exists()
    await made.close()
    assert {int(left.read_text())} == results


async def test_a_harness_sets_up_and_tears_down(tmp_path: Path) -> None:
    in_processes.made.clear()
    in_processes.made["tried"] = 1
    left = tmp_path / "left"
    done = await Harness(handlers).run("ready", {"left": str(left)})
    assert done.error is None
    assert left.exists()


async def test_memory_of_a_handlers_own_limit_ends_the_attempt(connector: Connect, tmp_path: Path) -> None:
    with pytest.raises(FatalError) as raised:
        await connector("grow").run(LocalAttempt(tmp_path))
    assert raised.value.code == "memory_exceeded"


async def test_idle_processes_of_a_kind_end_with_the_connector(tmp_path: Path) -> None:
    made = CustomConnector(handlers["where"], source=SOURCE, slots=1)
    pid = (await made.run(LocalAttempt(tmp_path))).result
    await made.close()
    await gone(pid)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fatal", [False, True])
async def test_a_failure_says_where_it_came_about(
    mode: str, *, fatal: bool, connector: Connect, tmp_path: Path
) -> None:
    payload = {"word": "of the payload", "fatal": fatal}
    with pytest.raises((ValueError, RetryableError, FatalError)) as raised:
        await connector(f"trip-{mode}").run(LocalAttempt(tmp_path, payload))
    trace = formatted(raised.value)
    lines = trace.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert any(f'File "{in_processes.__file__}", line' in line and "in innermost" in line for line in lines)
    assert "KeyError: 14" in lines
    assert "ValueError: what went wrong" in lines
    assert ("Fatal: never" in lines) is fatal
    assert "of the payload" not in trace


@pytest.mark.parametrize("mode", MODES)
async def test_a_long_traceback_keeps_its_innermost_calls(
    mode: str, connector: Connect, tmp_path: Path
) -> None:
    with pytest.raises((ValueError, RetryableError)) as raised:
        await connector(f"trip-{mode}").run(LocalAttempt(tmp_path, {"word": "x", "depth": 500}))
    trace = formatted(raised.value)
    assert len(trace) <= MAX_CHARS + 2
    assert "  …\n  File" in trace
    assert trace.endswith("ValueError: what went wrong")


def test_a_traceback_of_a_hostile_exception_can_be_written() -> None:
    class Hostile(Exception):  # noqa: N818
        def __str__(self) -> str:
            raise RuntimeError("no")

    class Odd(Exception):  # noqa: N818
        def __str__(self) -> str:
            return "\ud800" + "x" * 100_000

    for kind, expected in ((Hostile, "(its text cannot be read)"), (Odd, "Odd: ?xx")):
        with pytest.raises(kind) as raised:
            raise kind
        raised.value.__cause__ = raised.value
        trace = formatted(raised.value)
        trace.encode()
        assert expected in trace
        assert len(trace) <= MAX_CHARS


def test_a_group_of_exceptions_shows_its_members() -> None:
    with pytest.raises(KeyError) as member:
        in_processes.innermost("x")
    with pytest.raises(ExceptionGroup) as raised:
        raise ExceptionGroup("both", [member.value])
    assert "in innermost" in formatted(raised.value)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"shared": True}, "shared, pass_env and memory_bytes are for process=True"),
        ({"process": True, "pass_env": "CUDA_*"}, "pass_env: a list of patterns was expected"),
        ({"process": True, "memory_bytes": 0}, "memory_bytes: at least 1"),
        ({"process": True, "setup": in_processes.set_up_on_the_loop}, "setup: a plain function"),
        ({"teardown": "later"}, "teardown: a function was expected"),
    ],
)
def test_options_that_cannot_be_are_refused_by_name(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(HandlersError, match=expected):
        Handlers().kind("some", **options)(lambda _: None)
