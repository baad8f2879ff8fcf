"""Handlers as connectors: on the loop, in a thread, in a process."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from switchyard.services.connectors.handlers.connector import CustomConnector
from switchyard.services.connectors.protocol import BusyError, ConnectorError, FatalError, RetryableError
from switchyard.services.connectors.registry import payload_model
from tests.connectors.attempts import LocalAttempt
from tests.connectors.conformance import DEADLINE_S, ConnectorConformance, Subject
from tests.handlers.samples import DEAF_DONE, DEAF_GO, handlers

SOURCE = "tests.handlers.samples:handlers"


def connector(kind: str) -> CustomConnector:
    return CustomConnector(handlers[kind], source=SOURCE, slots=1)


@pytest.mark.parametrize("kind", ["count", "count-in-a-thread", "count-in-a-process"])
class TestCustom(ConnectorConformance):
    @pytest.fixture
    def subject(self, kind: str) -> Subject:
        return Subject(
            make=lambda: connector(kind),
            work=lambda path: LocalAttempt(path, {"steps": 3}),
            long_work=lambda path: LocalAttempt(path, {"forever": True}),
            bad_payloads=({"steps": 0}, {"unknown": 1}, {"steps": "many"}),
        )

    async def test_kind_and_payload_model_are_those_of_the_registry(self, subject: Subject) -> None:
        """A gateway does not know a user's kinds, so it takes their payloads as they are."""
        made = subject.make()
        assert payload_model(made.kind) is None
        assert made.payload_model is handlers[made.kind].model
        await made.close()


@pytest.mark.parametrize("kind", ["copy", "copy-in-a-thread", "join"])
async def test_a_handler_reads_its_input_and_stores_artifacts(kind: str, tmp_path: Path) -> None:
    (tmp_path / "word.txt").write_text("hello")
    attempt = LocalAttempt(tmp_path)
    attempt.payload = {"file": attempt.offer(tmp_path / "word.txt")}
    made = connector(kind)
    outcome = await made.run(attempt)
    await made.close()
    if kind == "join":
        assert attempt.saved == {"upper.txt": b"HELLO", "path.bin": b"hello"}
        assert outcome.result["type"] == "text/plain"
        assert outcome.usage == {"bytes": 5}
    else:
        assert attempt.saved == {"copy.txt": b"hello"}
        assert attempt.lines == ["copied word.txt"]
        assert outcome.result == "word.txt"
    assert [reference["name"] for reference in outcome.artifacts] == list(attempt.saved)


@pytest.mark.parametrize("kind", ["copy", "copy-in-a-thread", "join"])
async def test_a_missing_input_is_fatal(kind: str, tmp_path: Path) -> None:
    made = connector(kind)
    with pytest.raises(FatalError) as raised:
        await made.run(LocalAttempt(tmp_path, {"file": "none"}))
    await made.close()
    assert raised.value.code == "file_not_found"


@pytest.mark.parametrize(
    ("kind", "how", "error", "code"),
    [
        ("fail", "retry", RetryableError, "again"),
        ("fail", "fatal", FatalError, "never"),
        ("fail", "release", BusyError, "handler_failed"),
        ("fail", "result", FatalError, "invalid_result"),
        ("fail-in-a-process", "fatal", FatalError, "never"),
        ("fail-in-a-process", "die", RetryableError, "handler_crashed"),
    ],
)
async def test_what_a_handler_raises_is_what_the_worker_records(
    kind: str, how: str, error: type[ConnectorError], code: str, tmp_path: Path
) -> None:
    made = connector(kind)
    with pytest.raises(error) as raised:
        await made.run(LocalAttempt(tmp_path, {"how": how}))
    await made.close()
    assert raised.value.code == code


async def test_any_other_exception_is_left_to_the_worker(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        await connector("fail").run(LocalAttempt(tmp_path, {"how": "bug"}))


async def test_a_bad_payload_names_the_field(tmp_path: Path) -> None:
    bad: list[tuple[str, dict[str, Any], str]] = [
        ("count", {"steps": 0}, "steps: "), ("words", {"words": ["a", 1]}, "words.1: "),
    ]  # fmt: skip
    for kind, payload, expected in bad:
        with pytest.raises(FatalError) as raised:
            await connector(kind).run(LocalAttempt(tmp_path, payload))
        assert raised.value.message.startswith(expected)


async def test_a_proposal_is_distinguished_from_a_result_and_the_feedback_is_there(tmp_path: Path) -> None:
    attempt = LocalAttempt(tmp_path, {"words": ["a", "b"]}, feedback={"say": "louder"})
    outcome = await connector("words").run(attempt)
    assert outcome.checks == {"lint": True}
    assert outcome.result == {"said": "a b", "feedback": {"say": "louder"}}


@pytest.mark.parametrize("kind", ["copy", "copy-in-a-thread", "join"])
async def test_a_handler_may_catch_what_its_context_raises(kind: str, tmp_path: Path) -> None:
    made = connector(kind)
    outcome = await made.run(LocalAttempt(tmp_path, {"file": "none", "tolerant": True}))
    await made.close()
    assert outcome.result == "file_not_found"


async def test_a_thread_that_does_not_stop_is_left_behind_and_unheard(tmp_path: Path) -> None:
    attempt = LocalAttempt(tmp_path, awaited_stage="deaf")
    task = asyncio.create_task(connector("deaf").run(attempt))
    async with asyncio.timeout(DEADLINE_S):
        await attempt.reported.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        DEAF_GO.set()
        await asyncio.to_thread(DEAF_DONE.wait)
    assert [report["fraction"] for report in attempt.reports] == [0.1]
    assert attempt.lines == []
