"""`switchyard.testing`, as a user's tests use it."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from switchyard.handlers import Fatal, Handlers, Retry, SyncContext
from switchyard.testing import Harness
from tests.handlers.samples import handlers

DEADLINE_S = 90.0


def test_a_plain_test_sees_result_and_progress() -> None:
    done = Harness(handlers).run_sync("count", {"steps": 2})
    assert done.result == {"steps": 2}
    assert [(report.fraction, report.message) for report in done.progress] == [
        (0.5, "1 of 2"),
        (1.0, "2 of 2"),
    ]
    assert done.error is None
    assert not done.cancelled


@pytest.mark.parametrize("kind", ["copy", "copy-in-a-thread", "join"])
async def test_input_files_artifacts_and_logs_are_at_hand(kind: str) -> None:
    done = await Harness(handlers, files={"f1": b"hello"}).run(kind, {"file": "f1"})
    assert done.error is None
    assert b"hello" in done.artifacts.values()
    assert done.logs == ([] if kind == "join" else ["copied f1"])


@pytest.mark.parametrize("kind", ["count", "count-in-a-thread"])
async def test_a_cancelled_attempt_stops(kind: str) -> None:
    async with (
        asyncio.timeout(DEADLINE_S),
        Harness(handlers).start(kind, {"forever": True}) as running,
    ):
        assert (await running.progress("count")).stage == "count"
        done = await running.cancel()
    assert done.cancelled
    assert done.result is None


@pytest.mark.parametrize("kind", ["count", "count-in-a-thread"])
async def test_a_drained_attempt_is_no_cancelled_one(kind: str) -> None:
    async with asyncio.timeout(DEADLINE_S), Harness(handlers).start(kind, {"forever": True}) as running:
        await running.progress("count")
        done = await running.drain()
    assert (done.drained, done.cancelled, done.error, done.still_runs) == (True, False, None, False)


@pytest.mark.parametrize("kind", ["count", "count-in-a-thread"])
async def test_an_attempt_whose_time_is_over_fails_and_may_be_tried_again(kind: str) -> None:
    async with asyncio.timeout(DEADLINE_S), Harness(handlers).start(kind, {"forever": True}) as running:
        await running.progress("count")
        done = await running.time_out()
    assert isinstance(done.error, Retry)
    assert (done.error.code, done.retryable, done.cancelled) == ("timeout", True, False)


async def test_a_handler_that_does_not_stop_is_named() -> None:
    go = threading.Event()
    deaf = Handlers()

    @deaf.kind("deaf")
    def never(_: dict[str, Any], context: SyncContext) -> None:
        context.progress(0.5, "begun")
        go.wait(DEADLINE_S)

    try:
        async with (
            asyncio.timeout(DEADLINE_S),
            Harness(deaf, grace_s=0.05).start("deaf") as running,
        ):
            await running.progress("begun")
            done = await running.time_out()
        assert done.still_runs
        assert isinstance(done.error, Retry)
    finally:
        go.set()


async def test_what_a_plain_handler_returns_once_it_is_stopped_is_dropped() -> None:
    stubborn = Handlers()

    @stubborn.kind("stubborn")
    def partly(_: dict[str, Any], context: SyncContext) -> str:
        context.progress(0.5, "begun")
        while not context.cancelled:
            time.sleep(0.005)
        return "half"

    async with asyncio.timeout(DEADLINE_S), Harness(stubborn).start("stubborn") as running:
        await running.progress("begun")
        done = await running.drain()
    assert (done.drained, done.result) == (True, None)


async def test_a_report_that_never_comes_is_named() -> None:
    async with asyncio.timeout(DEADLINE_S), Harness(handlers).start("count") as running:
        with pytest.raises(AssertionError, match="without a report of upload"):
            await running.progress("upload")


@pytest.mark.parametrize(("how", "retryable"), [("retry", True), ("bug", True), ("fatal", False)])
async def test_an_error_says_whether_another_attempt_follows(how: str, *, retryable: bool) -> None:
    done = await Harness(handlers).run("fail", {"how": how})
    assert done.retryable is retryable
    assert isinstance(done.error, {"retry": Retry, "fatal": Fatal, "bug": KeyError}[how])


async def test_a_bad_payload_is_an_error_that_names_the_field() -> None:
    done = await Harness(handlers).run("count", {"steps": 0})
    assert isinstance(done.error, Fatal)
    assert done.error.code == "invalid_payload"
    assert str(done.error).startswith("steps: ")


async def test_a_proposal_has_its_checks_and_an_attempt_its_feedback() -> None:
    done = await Harness(handlers).run("words", {"words": ["a"]}, attempt=2, feedback="louder")
    assert done.checks == {"lint": True}
    assert done.result == {"said": "a", "feedback": "louder"}
