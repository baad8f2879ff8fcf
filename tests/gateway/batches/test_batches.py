"""Batches: every line of a file once in exactly one of two outputs, whatever is in it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest

from switchyard.services.broker.server.server import NatsServer
from switchyard.services.connectors.protocol import Attempt
from switchyard.services.keeper.batches import carrier
from switchyard.services.records.batches.record import line_job_id
from tests.gateway.batches.site import DEADLINE_S, batches, double, jsonl, keeper
from tests.worker.site import TestConnector

KIND = "double"


async def doubled(attempt: Attempt) -> Any:
    if attempt.payload.get("fails"):
        raise ValueError("it was asked to")
    return {"doubled": attempt.payload["n"] * 2}


async def test_every_line_ends_once_in_exactly_one_of_two_outputs(broker: NatsServer, tmp_path: Path) -> None:
    connector = TestConnector(doubled, KIND)
    good = [double(number) for number in range(1, 251)]
    bad: list[Any] = [
        {"custom_id": "c1", "kind": "double", "payload": {"n": 0}},  # the same custom id again
        b"this is no JSON",
        b'{"custom_id": "nan", "kind": "double", "payload": {"n": NaN}}',
        {"custom_id": "no kind at all"},
        double(900, labels={"batch": "mine"}),
        double(901, nonsense=True),
        double(902, payload={"n": 1, "fails": True}, max_attempts=1),
    ]
    async with batches(broker.url, tmp_path) as at, keeper(at.api), at.api.worker(connector, slots=8):
        body = jsonl(*good[:100], *bad, *good[100:])
        made = await at.make(body, name="nightly", window=40, job={"labels": {"team": "a"}})
        assert made["state"] == "validating"
        ended = await at.until(made["id"])
        results, errors = await at.outputs(made["id"])
        assert (ended["state"], ended["lines"]["succeeded"], ended["lines"]["failed"]) == (
            "completed", 250, 7,
        )  # fmt: skip
        assert [one["custom_id"] for one in results] == [one["custom_id"] for one in good]
        assert [one["result"]["doubled"] for one in results] == [number * 2 for number in range(1, 251)]
        assert [one["line"] for one in errors] == list(range(101, 108))
        codes = [one["error"]["code"] for one in errors]
        assert codes[:4] == ["duplicate_custom_id", "malformed_json", "malformed_json", "invalid"]
        assert errors[0]["custom_id"] == "c1"
        assert errors[6]["job"]["state"] == "dead"
        job_id = line_job_id(at.api.tenant, made["id"], 1)
        assert results[0]["job"]["id"] == job_id
        job = (await at.api.get(f"/v1/jobs/{job_id}")).json
        assert job["labels"] == {"team": "a", "batch": made["id"], "batch_line": "1"}
        assert len(connector.started) == 251


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
@pytest.mark.parametrize("last", [b"\n", b""])
async def test_marks_of_editors_and_blank_lines_change_nothing(
    broker: NatsServer, tmp_path: Path, ending: bytes, last: bytes
) -> None:
    lines = [orjson.dumps(double(number)) for number in (1, 2, 3)]
    body = b"\xef\xbb\xbf" + ending.join([lines[0], b"", b"   ", lines[1], b"", lines[2]])
    async with batches(broker.url, tmp_path) as at, keeper(at.api):
        async with at.api.worker(TestConnector(doubled, KIND), slots=4):
            made = await at.make(body + last)
            await at.until(made["id"], "completed")
            results, errors = await at.outputs(made["id"])
        assert [one["line"] for one in results] == [1, 4, 6]
        assert errors == []


async def test_hostile_lines_are_lines_of_the_errors(broker: NatsServer, tmp_path: Path) -> None:
    nested = b'{"kind":"double","payload":{"n":' + b"[" * 5000 + b"]" * 5000 + b"}}"
    lines = [
        b'{"kind":"double","payload":{"n":"' + b"x" * (10 * 1024 * 1024) + b'"}}',
        nested,
        b'{"kind":"double\x00","payload":{}}',
        b"\x00\x00\x00",
        b"[1, 2]",
        b"null",
        b'{"kind":"double","custom_id":"much","payload":{"n":1e999}}',
        b'{"kind":"double","payload":{"n":' + b"9" * 400 + b"}}",
        b'{"kind":"double","payload":{"n":"\\ud800"},"custom_id":"half a pair"}',
        b'{"custom_id":"deep","kind":"double","payload":{"n":' + b"[" * 70 + b"]" * 70 + b"}}",
        b'{"custom_id":"much","kind":"double"}',
        b'{"custom_id":7,"kind":"double"}',
        b'{"custom_id":"","kind":"double"}',
        b'{"kind":"double","priority":101}',
        b'{"kind":"double","deadline_s":-1}',
        b'{"kind":"double","payload":{"n":"' + b"y" * (600 * 1024) + b'"}}',
        b'{"kind":"dou ble"}',
        b'{"kind":"double","labels":[1]}',
        orjson.dumps(double(1)),
    ]
    async with batches(broker.url, tmp_path) as at, keeper(at.api):
        async with at.api.worker(TestConnector(doubled, KIND), slots=4):
            made = await at.make(jsonl(*lines))
            await at.until(made["id"], "completed")
        results, errors = await at.outputs(made["id"])
        assert [one["line"] for one in results] == [len(lines)]
        assert [one["line"] for one in errors] == list(range(1, len(lines)))
        codes = {one["line"]: one["error"]["code"] for one in errors}
        assert (codes[1], codes[16]) == ("line_too_large", "payload_too_large")
        named = {one["custom_id"]: one["error"]["code"] for one in errors[::-1] if one["custom_id"]}
        assert named == {"much": "invalid", "half a pair": "invalid", "deep": "nested_too_deeply"}
        assert [one["error"]["code"] for one in errors if one["custom_id"] == "much"][1:] == [
            "duplicate_custom_id"
        ]
        assert all(one["job"] is None for one in errors)


@pytest.mark.parametrize(
    ("body", "faults"),
    [
        (b"", [(0, "empty")]),
        (b"\n  \n\r\n", [(0, "empty")]),
        (b"\xff\xfe{\x00}\x00\n\x00", [(1, "not_utf8")]),
        (b'{"kind":"double"}\n{"kind":"\xff"}\n{}\n\xc3\n', [(2, "not_utf8"), (4, "not_utf8")]),
        (b'{"kind":"double"}\n' * 6, [(6, "too_many_lines")]),
    ],
)
async def test_file_that_is_none_fails_its_batch_and_says_where(
    broker: NatsServer, tmp_path: Path, body: bytes, faults: list[tuple[int, str]]
) -> None:
    async with batches(broker.url, tmp_path, batch_lines=5) as at, keeper(at.api):
        file_id = await at.upload(body or b"\n")
        made = (await at.api.call("POST", "/v1/batches", {"input": file_id})).json
        ended = await at.until(made["id"], "failed")
        assert [(one["line"], one["code"]) for one in ended["faults"]] == faults
        assert await at.outputs(made["id"]) == ([], [])


async def test_batch_that_is_cancelled_in_the_middle_accounts_for_every_line(
    broker: NatsServer, tmp_path: Path
) -> None:
    begun = asyncio.Event()

    async def until_cancelled(attempt: Attempt) -> Any:
        if attempt.payload["n"] <= 5:
            return attempt.payload["n"]
        begun.set()
        return await asyncio.Event().wait()

    async with batches(broker.url, tmp_path) as at, keeper(at.api):
        async with at.api.worker(TestConnector(until_cancelled, KIND), slots=4):
            made = await at.make(jsonl(*map(double, range(1, 101))), window=20)
            await begun.wait()
            answer = await at.api.call("POST", f"/v1/batches/{made['id']}/cancel")
            assert (answer.status, answer.json["state"]) == (202, "cancelling")
            await at.until(made["id"], "cancelled")
            results, errors = await at.outputs(made["id"])
        each_once(results, errors, 100)
        assert len(results) >= 5
        assert {one["error"]["code"] for one in errors} == {"cancelled"}
        again = await at.api.call("POST", f"/v1/batches/{made['id']}/cancel")
        assert (again.status, again.json["state"]) == (200, "cancelled")


async def test_batch_that_expires_accounts_for_every_line(
    broker: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carrier, "LOOK_S", 1000.0)  # the ends that are heard of suffice
    async with batches(broker.url, tmp_path) as at, keeper(at.api):
        # Nobody runs this kind.
        made = await at.make(jsonl(*map(double, range(1, 31))), window=10, deadline_s=3)
        await at.until(made["id"], "expired")
        results, errors = await at.outputs(made["id"])
        assert results == []
        each_once(results, errors, 30)
        assert [one["job"] is not None for one in errors] == [True] * 10 + [False] * 20
        assert {one["error"]["code"] for one in errors} == {"expired"}


@pytest.mark.parametrize("is_cancelled", [True, False])
async def test_batch_that_waits_for_room_ends_as_soon_as_its_jobs_have(
    broker: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_cancelled: bool
) -> None:
    monkeypatch.setattr(carrier, "LOOK_S", 1000.0)  # nobody looks for a job that was never made
    async with batches(broker.url, tmp_path, tenant_jobs=5) as at, keeper(at.api):
        # Nobody runs this kind.
        made = await at.make(jsonl(*map(double, range(1, 21))), deadline_s=3600 if is_cancelled else 3)
        if is_cancelled:
            async with asyncio.timeout(DEADLINE_S):
                async for found in at.seen(made["id"]):
                    if found["waits_for"]:
                        break
            assert (await at.api.call("POST", f"/v1/batches/{made['id']}/cancel")).status == 202
        await at.until(made["id"], "cancelled" if is_cancelled else "expired")
        each_once(*await at.outputs(made["id"]), 20)


async def test_batch_of_a_kind_that_nobody_runs_is_explained(broker: NatsServer, tmp_path: Path) -> None:
    async with batches(broker.url, tmp_path) as at, keeper(at.api):
        made = await at.make(jsonl(*map(double, range(1, 6))), window=2)
        async with asyncio.timeout(40):
            async for found in at.seen(made["id"]):
                if found["lines"]["jobs"].get("queued") == 2:
                    break
        answer = (await at.api.get(f"/v1/batches/{made['id']}/explain")).json
        assert answer["job"] is not None
        assert answer["explained"]["workers"] == []


async def test_batch_of_another_tenant_is_absent(broker: NatsServer, tmp_path: Path) -> None:
    async with batches(broker.url, tmp_path) as at:
        made = await at.make(jsonl(double(1)))
        stranger = at.api.token(tenant=at.api.stranger)
        path = f"/v1/batches/{made['id']}"
        for method, place in (
            ("GET", path), ("POST", f"{path}/cancel"), ("GET", f"{path}/results"),
            ("GET", f"{path}/errors"), ("GET", f"{path}/explain"), ("DELETE", path),
        ):  # fmt: skip
            answer = await at.api.call(method, place, token=stranger)
            assert (answer.status, answer.json["code"]) == (404, "not_found"), (method, place)
        assert (await at.api.get("/v1/batches", token=stranger)).json == {"batches": [], "cursor": None}
        # Nor can it make one of a file that is not its own.
        theirs = await at.api.call("POST", "/v1/batches", {"input": made["input"]}, token=stranger)
        assert (theirs.status, theirs.json["code"]) == (422, "unknown_file")


async def test_requests_that_break_a_rule_make_no_batch(broker: NatsServer, tmp_path: Path) -> None:
    async with batches(broker.url, tmp_path, batch_bytes=1000) as at:
        small, large = await at.upload(jsonl(double(1))), await at.upload(b"x" * 1001)
        for body, status, field in (
            ({"input": "missing"}, 422, "input"),
            ({"input": large}, 413, "input"),
            ({"input": small, "window": 0}, 422, "window"),
            ({"input": small, "window": 10**6}, 422, "window"),
            ({"input": small, "deadline_s": 1e300}, 422, "deadline_s"),
            ({"input": small, "job": {"deadline_s": 5}}, 422, "job.deadline_s"),
            ({"input": small, "job": {"labels": {"batch": "x"}}}, 422, "job.labels.batch"),
            ({"input": small, "job": {"kind": "a"}, "kind": "b"}, 422, "job.kind"),
            ({"input": small, "job": {"nonsense": 1}}, 422, "job.nonsense"),
            ({"input": small, "priority": 101}, 422, "priority"),
        ):
            answer = await at.api.call("POST", "/v1/batches", body)
            assert (answer.status, answer.json["field"]) == (status, field), answer
        assert (await at.api.get("/v1/batches")).json["batches"] == []


async def test_repeated_request_with_a_key_finds_the_batch(broker: NatsServer, tmp_path: Path) -> None:
    async with batches(broker.url, tmp_path) as at:
        body = {"input": await at.upload(jsonl(double(1)))}
        first = await at.api.call("POST", "/v1/batches", body, Idempotency_Key="k1")
        again = await at.api.call("POST", "/v1/batches", body, Idempotency_Key="k1")
        other = await at.api.call("POST", "/v1/batches", {**body, "window": 3}, Idempotency_Key="k1")
        assert (first.status, again.status, other.status) == (201, 200, 409)
        assert first.json["id"] == again.json["id"]


async def test_batch_is_deleted_only_when_it_has_ended(broker: NatsServer, tmp_path: Path) -> None:
    async with batches(broker.url, tmp_path) as at:
        made = await at.make(jsonl(double(1)))
        path = f"/v1/batches/{made['id']}"
        assert (await at.api.call("DELETE", path)).status == 409
        assert (await at.api.get(f"{path}/results")).json["code"] == "batch_not_ended"
        async with keeper(at.api), at.api.worker(TestConnector(doubled, KIND)):
            await at.until(made["id"], "completed")
        assert (await at.api.call("DELETE", path)).status == 204
        assert (await at.api.get(path)).status == 404
        async with asyncio.timeout(DEADLINE_S):
            while await at.files():
                await asyncio.sleep(0.02)


def each_once(results: list[dict[str, Any]], errors: list[dict[str, Any]], total: int) -> None:
    """Every line stands once in exactly one of two outputs, each in order."""
    for output in (results, errors):
        numbers = [one["line"] for one in output]
        assert numbers == sorted(numbers)
    assert sorted(one["line"] for one in (*results, *errors)) == list(range(1, total + 1))
