"""What attempts over REST say: lines within limits, and where they failed."""

from __future__ import annotations

import orjson
import pytest

from switchyard.events.vocabulary.ids import Fence
from switchyard.services.broker.reader import read_range
from switchyard.services.dispatch.rest import log_book
from switchyard.services.dispatch.rest.log_book import LogBook
from switchyard.services.settings import Settings
from tests.gateway.leases.test_leases import Worker, submit, worker
from tests.gateway.rest import Gateway

__all__ = ["worker"]
TRACE = 'Traceback (most recent call last):\n  File "a.py", line 3, in work\nKeyError: 1'


def test_lines_beyond_an_attempts_limits_are_counted() -> None:
    book = LogBook(Settings(job_log_lines=100))
    assert book.kept(Fence(7), ["x"] * 60) == ["x"] * 60
    assert book.kept(Fence(7), ["x"] * 60) == [*(["x"] * 40), "… 20 lines were left out"]
    assert book.kept(Fence(8), ["x"]) == ["x"]


def test_only_so_many_attempts_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_book, "MOST_ATTEMPTS", 10)
    book = LogBook(Settings())
    for fence in range(100):
        book.kept(Fence(fence), ["x"])
    assert len(book._attempts) == 10


async def test_the_answer_to_lines_comes_when_the_broker_has_them(api: Gateway, worker: Worker) -> None:
    job_id = await submit(api)
    claimed = await worker.claim()
    lines = [f"line {number}" for number in range(1000)]
    assert (await worker.say(claimed, "logs", {"lines": lines})).status == 200
    found = await read_range(api.nc, "LOGS", f"log.{job_id}", timeout_s=5)
    assert sorted(orjson.loads(stored.data)["line"] for stored in found) == sorted(lines)


async def test_a_traceback_is_kept_and_shown_of_the_one_job(api: Gateway, worker: Worker) -> None:
    job_id = await submit(api)
    claimed = await worker.claim()
    error = {"code": "bad", "message": "no", "retryable": False}
    failed = await worker.say(claimed, "fail", {"error": {**error, "traceback": TRACE}})
    assert failed.status == 200
    shown = (await api.call("GET", f"/v1/jobs/{job_id}")).json
    assert shown["error"] == {**error, "traceback": TRACE}
    events = (await api.call("GET", f"/v1/jobs/{job_id}/events")).json["events"]
    assert events[-1]["data"]["error"]["traceback"] == TRACE


async def test_a_traceback_that_is_too_long_is_refused_by_name(api: Gateway, worker: Worker) -> None:
    await submit(api)
    claimed = await worker.claim()
    refused = await worker.say(claimed, "fail", {"error": {"code": "bad", "traceback": "x" * 8_193}})
    assert (refused.status, refused.json["field"]) == (422, "error.traceback")
