from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from switchyard.services.connectors.protocol import FatalError, RetryableError
from switchyard.services.connectors.simulate import SimulateConnector, SimulatePayload
from tests.connectors.attempts import LocalAttempt, workers


@pytest.fixture
async def connector() -> AsyncIterator[SimulateConnector]:
    connector = SimulateConnector(slots=2)
    yield connector
    await connector.close()


async def test_result_names_the_attempt_and_the_worker(connector: SimulateConnector, tmp_path: Path) -> None:
    attempt = LocalAttempt(tmp_path, {"duration_s": 0, "echo": {"a": [1]}}, number=3)
    outcome = await connector.run(attempt)
    assert outcome.result == {"echo": {"a": [1]}, "attempt": 3, "worker": "worker-1"}


async def test_work_of_no_duration_never_leaves_the_event_loop_or_reports(
    connector: SimulateConnector, tmp_path: Path
) -> None:
    attempt = LocalAttempt(tmp_path, {"duration_s": 0, "steps": 10_000})
    run = connector.run(attempt)
    with pytest.raises(StopIteration):  # it ends at the first step: nothing was waited for
        run.send(None)
    assert attempt.reports == []
    assert workers() == []


async def test_every_step_is_reported(connector: SimulateConnector, tmp_path: Path) -> None:
    attempt = LocalAttempt(tmp_path, {"duration_s": 0.01, "steps": 4})
    await connector.run(attempt)
    assert [report["fraction"] for report in attempt.reports] == [0.25, 0.5, 0.75, 1.0]
    assert attempt.reports[2]["message"] == "step 3 of 4"
    assert attempt.reports[-1]["eta_s"] == 0


async def test_output_of_the_size_asked_for_is_in_the_result(
    connector: SimulateConnector, tmp_path: Path
) -> None:
    outcome = await connector.run(LocalAttempt(tmp_path, {"duration_s": 0, "output_bytes": 100_000}))
    assert len(outcome.result["output"]) == 100_000


@pytest.mark.parametrize(("fail", "error"), [("retryable", RetryableError), ("fatal", FatalError)])
async def test_failure_is_for_the_first_attempts_only(
    connector: SimulateConnector, tmp_path: Path, fail: str, error: type[Exception]
) -> None:
    payload = {"duration_s": 0, "fail": fail, "fail_attempts": 2}
    for number in (1, 2):
        with pytest.raises(error):
            await connector.run(LocalAttempt(tmp_path, payload, number=number))
    outcome = await connector.run(LocalAttempt(tmp_path, payload, number=3))
    assert outcome.result["attempt"] == 3


async def test_crash_is_a_retryable_failure_that_names_the_signal(
    connector: SimulateConnector, tmp_path: Path
) -> None:
    with pytest.raises(RetryableError, match="SIGKILL") as raised:
        await connector.run(LocalAttempt(tmp_path, {"duration_s": 0, "fail": "crash"}))
    assert raised.value.code == "handler_crashed"


async def test_hang_ignores_the_request_to_stop_and_is_killed(
    connector: SimulateConnector, tmp_path: Path
) -> None:
    attempt = LocalAttempt(tmp_path, {"duration_s": 0, "fail": "hang"})
    run = asyncio.create_task(connector.run(attempt))
    async with asyncio.timeout(60):
        await attempt.reported.wait()
        (child,) = workers()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
    assert not child.is_running()


@pytest.mark.parametrize(
    "payload",
    [
        {"duration_s": -1},
        {"duration_s": 86_401},
        {"duration_s": float("nan")},
        {"duration_s": "1"},
        {"steps": 0},
        {"steps": 10_001},
        {"steps": 1.5},
        {"output_bytes": 104_857_601},
        {"output_bytes": True},
        {"fail": "maybe"},
        {"fail_attempts": 0},
        {"fail_attempts": 101},
        {"model": "no/such name"},
        {"unknown": 1},
    ],
)
def test_payload_outside_its_limits_is_refused(payload: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SimulatePayload.model_validate(payload)


def test_every_field_of_the_payload_is_optional() -> None:
    assert SimulatePayload().model_dump() == {
        "duration_s": 1.0,
        "steps": 10,
        "output_bytes": 0,
        "fail": "none",
        "fail_attempts": 1,
        "echo": None,
        "model": None,
    }


async def test_loaded_models_are_capabilities_until_others_push_them_out(
    connector: SimulateConnector, tmp_path: Path
) -> None:
    calls: list[int] = []
    connector.watch(lambda: calls.append(1))
    for model in ("a", "b", "a", "c"):
        await connector.run(LocalAttempt(tmp_path, {"duration_s": 0, "model": model}))
    assert connector.capabilities() == {"simulate": {"models": ["a", "c"]}}
    assert len(calls) == 3
