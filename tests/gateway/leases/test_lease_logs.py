"""What attempts over REST say: lines within limits, and where they failed."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from switchyard.client import AsyncClient
from switchyard.events.vocabulary.ids import Fence
from switchyard.services.broker.reader import read_range
from switchyard.services.dispatch.log_lines import left_out_in, notice_of
from switchyard.services.dispatch.rest import log_book
from switchyard.services.dispatch.rest.log_book import LogBook
from switchyard.services.settings import Settings
from tests.gateway.leases.test_leases import Worker, submit, worker
from tests.gateway.rest import DEADLINE_S, Gateway

__all__ = ["worker"]
TRACE = 'Traceback (most recent call last):\n  File "a.py", line 3, in work\nKeyError: 1'


def test_lines_beyond_an_attempts_limits_are_counted() -> None:
    book = LogBook(Settings(job_log_lines=100))
    assert book.kept(Fence(7), ["x"] * 60) == ["x"] * 60
    assert book.kept(Fence(7), ["x"] * 60) == [*(["x"] * 40), "… 20 lines were left out"]
    assert book.kept(Fence(8), ["x"]) == ["x"]


def test_lines_beyond_an_attempts_bytes_are_counted() -> None:
    book = LogBook(Settings(job_log_bytes=10))
    assert book.kept(Fence(7), ["é" * 4, "xxx", "xx", "x"]) == ["é" * 4, notice_of(1), "xx"]
    left_out = [
        left_out_in(line) for line in (notice_of(3), "… 3 lines were left", "… -1 lines were left out")
    ]
    assert left_out == [3, 0, 0]


async def test_lines_are_read_and_followed_without_a_gap(api: Gateway, worker: Worker) -> None:
    job_id = await submit(api)
    path = f"/v1/jobs/{job_id}/logs"
    first = [f"one {number}" for number in range(9)]
    claimed = await worker.claim()
    for line in first:
        assert (await worker.say(claimed, "logs", {"lines": [line]})).status == 200
    assert (await worker.say(claimed, "release", {})).status == 200
    claimed = await worker.claim()
    assert (await worker.say(claimed, "logs", {"lines": [notice_of(5), "two"]})).status == 200
    found: list[dict[str, Any]] = []
    after = ""
    while True:
        page = (await api.get(f"{path}?limit=4{after}")).json
        found += page["lines"]
        if page["after"] is None:
            break
        after = f"&after={page['after']}"
    lines = [*first, notice_of(5), "two"]
    assert [line["line"] for line in found] == lines
    assert page["cursor"] == found[-1]["cursor"]
    assert [line["attempt"] for line in found] == [1] * 9 + [2] * 2
    whole = (await api.get(path)).json
    assert (whole["lines"], whole["left_out"], whole["after"]) == (found, 5, None)
    assert (await api.get(f"{path}?tail=3")).json["lines"] == found[-3:]
    assert (await api.get(f"{path}?attempt=1&tail=2")).json["lines"] == found[7:9]
    assert (await api.get(f"{path}?attempt=2")).json["lines"] == found[9:]
    # Places of another log are none of this one: all is given, and nothing is missed.
    assert (await api.get(f"{path}?after=0123abcd:999999")).json["lines"] == found

    async with AsyncClient(api.url, api.token()) as client, asyncio.timeout(DEADLINE_S):
        heard: list[str] = []
        begun = asyncio.Event()

        async def follow() -> None:
            async for line in client.logs.follow(job_id, tail=2):
                heard.append(line.line)
                begun.set()

        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(follow())
            await begun.wait()
            assert (await worker.say(claimed, "logs", {"lines": ["three"]})).status == 200
            assert (await worker.say(claimed, "succeed", {"result": {}})).status == 200
            await following
        assert heard == [notice_of(5), "two", "three"]
        rest = [line.line async for line in client.logs.follow(job_id, after=found[6]["cursor"])]
        assert rest == [*lines[7:], "three"]
        assert [line.line async for line in client.logs.read(job_id, attempt=1)] == first
    headers = {"Authorization": f"Bearer {api.token()}", "Last-Event-ID": found[9]["cursor"]}
    async with api.http.get(f"{api.url}{path}?follow=true&tail=1", headers=headers) as answer:
        events = (await answer.text()).split("\n\n")
    assert [event.partition("\n")[0] for event in events if event] == [
        "event: log", "event: log", "event: ended", "event: end",
    ]  # fmt: skip
    assert (await api.get(path, token=api.token(tenant=api.stranger))).status == 404
    assert (await api.call("HEAD", f"{path}?follow=true")).status == 200


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
    found = await read_range(api.nc, "LOGS", f"log.{job_id}", timeout_s=20)
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
