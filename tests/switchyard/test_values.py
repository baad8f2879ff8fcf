"""Values that no gateway would take are refused by name before anything is sent."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pytest

from switchyard.client import AsyncClient, Client, InvalidValueError, Submission
from switchyard.events.vocabulary.ids import JobId
from switchyard.handlers import Handlers
from switchyard.testing import Harness
from switchyard.worker import Worker
from tests.gateway.rest import Gateway


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def endless() -> dict[str, Any]:
    itself: dict[str, Any] = {}
    itself["x"] = itself
    return itself


ODD = (
    ({"x": math.nan}, "x"), ({"x": [0, {"y": -math.inf}]}, "x[1].y"), ({"x": 10**30}, "x"),
    ({"x": -(2**63) - 1}, "x"), ({"x": nested(64)}, "x[0]"), ({"x": nested(3000)}, "x[0]"),
    (endless(), "x.x"), ({"x": "\ud800"}, "x"), ({"x": {1}}, "x"), ({"x": object()}, "x"), ({"x": b""}, "x"),
    ({"x": {1: 1}}, "x"), ({"x": [None, {"y": math.nan}]}, "x[1].y"),
)  # fmt: skip
NOBODY = "http://127.0.0.1:1"  # whatever is sent fails otherwise


@pytest.mark.parametrize(("payload", "field"), ODD)
async def test_a_submission_is_refused_by_name(payload: dict[str, Any], field: str) -> None:
    async with AsyncClient(NOBODY, "token", retries=0) as client:
        with pytest.raises(InvalidValueError) as raised:
            await client.submit("noop", payload)
    assert raised.value.field.startswith(f"payload.{field}")
    assert str(raised.value).startswith(raised.value.field[:100])
    with Client(NOBODY, "token", retries=0) as plain, pytest.raises(InvalidValueError):
        plain.submit("noop", payload)


async def test_any_part_of_a_submission_is_refused_by_name() -> None:
    parts: tuple[dict[str, Any], ...] = (
        {"labels": {"x": math.nan}}, {"requires": {"x": math.nan}}, {"prefers": {"x": 10**30}},
        {"delay_s": math.inf}, {"retry": {"base_s": math.nan}},
    )  # fmt: skip
    async with AsyncClient(NOBODY, "token", retries=0) as client:
        for options in parts:
            with pytest.raises(InvalidValueError) as raised:
                await client.submit("noop", **options)
            assert raised.value.field.startswith(next(iter(options)))


async def test_what_json_can_hold_is_sent(api: Gateway, client: AsyncClient) -> None:
    at = datetime(2026, 1, 2, tzinfo=UTC)
    payload = {"a": None, "b": (1, [2.5]), "at": at, "deep": nested(60), "most": 2**64 - 1, "null": "null"}
    job = await client.submit("noop", payload)
    sent = (await api.store.spec(JobId(job.id))).payload
    assert sent is not None
    assert (sent["b"], sent["at"], sent["most"]) == ([1, [2.5]], "2026-01-02T00:00:00+00:00", 2**64 - 1)


async def test_a_line_of_many_is_refused_by_its_number_after_the_answers_to_those_before(
    client: AsyncClient,
) -> None:
    odd: Submission = {"kind": "noop", "payload": {"x": math.nan}}
    answers = client.submit_many([{"kind": "noop"}, {"kind": "noop"}, odd, {"kind": "noop"}])
    assert [(await anext(answers)).status for _ in range(2)] == [201, 201]
    with pytest.raises(InvalidValueError) as raised:
        await anext(answers)
    assert raised.value.field == "lines[2].payload.x"


async def test_a_workers_capabilities_are_refused_by_name() -> None:
    handlers = Handlers()
    handlers.kind("k")(lambda payload: payload)
    worker = Worker(handlers, url=NOBODY, token="token", capabilities={"gpu": {"gb": math.nan}})
    with pytest.raises(InvalidValueError) as raised:
        await worker.serve()
    assert raised.value.field == "capabilities.gpu.gb"


def test_a_harness_refuses_a_payload_that_no_job_has() -> None:
    handlers = Handlers()
    handlers.kind("k")(lambda payload: payload)
    with pytest.raises(InvalidValueError) as raised:
        Harness(handlers).run_sync("k", {"x": math.nan})
    assert raised.value.field == "payload.x"
