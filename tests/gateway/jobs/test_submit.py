"""Submitting one job: what is taken, what is refused and how, and what a key stands for."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from switchyard.events.commands import Submit
from switchyard.events.errors import RejectedError
from switchyard.events.job import Job
from switchyard.events.subjects import job_filter
from switchyard.events.values import JobSpec
from switchyard.events.vocabulary.ids import LaneId
from switchyard.services.broker.inbox import Inbox
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.ids import id_for_key
from switchyard.services.intake.request import BulkLine, parse_line, parse_request, request_hashes
from switchyard.services.settings import Settings
from tests.gateway.rest import DEADLINE_S, Gateway, gateway, now

pytestmark = pytest.mark.shared_gateway

MIB = 1024 * 1024


async def test_submitted_job_is_answered_from_its_own_event(api: Gateway) -> None:
    body = {
        "kind": "noop", "payload": {"n": 1}, "priority": 90, "labels": {"project": "p 1"}, "max_attempts": 5,
        "retry": {"base_s": 1, "factor": 3}, "attempt_timeout_s": 60,
    }  # fmt: skip
    answer = await api.call("POST", "/v1/jobs", body)
    job = answer.json
    assert answer.status == 201
    assert answer.headers["Location"] == f"/v1/jobs/{job['id']}"
    assert answer.headers["Switchyard-Seq"] == str(job["seq"])
    assert UUID(job["id"]).version == 7
    assert job["seq"] == await api.store.last_seq(job["id"])
    assert job["state"] == "queued"
    assert (job["kind"], job["tenant"], job["priority"]) == ("noop", api.tenant, 90)
    assert (job["labels"], job["max_attempts"]) == ({"project": "p 1"}, 5)
    (event,) = await api.store.history(job["id"])
    assert event.actor == "user:ann"
    assert event.event.job.payload == {"n": 1}  # type: ignore[union-attr]
    assert event.event.job.retry.factor == 3  # type: ignore[union-attr]


async def test_job_with_a_start_ahead_is_scheduled(api: Gateway) -> None:
    start = now() + timedelta(hours=1)
    assert (await api.submit(run_at=start.isoformat()))["state"] == "scheduled"
    assert (await api.submit(start_at=start.isoformat()))["state"] == "scheduled"
    assert (await api.submit(delay_s=60))["state"] == "scheduled"
    assert (await api.submit(start_at="2020-01-01T00:00:00+05:00"))["state"] == "queued"
    assert (await api.submit(deadline_at=start.isoformat()))["state"] == "queued"


BAD_BODIES: list[tuple[Any, int, str | None, str]] = [
    (b"{", 400, None, "malformed_json"),
    (b"", 400, None, "malformed_json"),
    (b'{"kind": "noop"} x', 400, None, "malformed_json"),
    (b'{"kind": "noop", "payload": {"x": NaN}}', 400, None, "malformed_json"),
    (b'{"kind": "\xff"}', 400, None, "malformed_json"),
    ([], 422, None, "invalid"),
    ({}, 422, "kind", "invalid"),
    ({"kind": None}, 422, "kind", "invalid"),
    ({"kind": "Noop"}, 422, "kind", "invalid"),
    ({"kind": "noop\n"}, 422, "kind", "invalid"),
    ({"kind": "n" * 64}, 422, "kind", "invalid"),
    ({"kind": "noop", "colour": "red"}, 422, "colour", "invalid"),
    ({"kind": "noop", "depends_on": None}, 422, "depends_on", "invalid"),
    ({"kind": "noop", "depends_on": [1]}, 422, "depends_on[0]", "invalid"),
    ({"kind": "noop", "depends_on": ["x"]}, 422, "depends_on[0]", "unknown_dependency"),
    ({"kind": "noop", "on_dependency_failure": "retry"}, 422, "on_dependency_failure", "invalid"),
    ({"kind": "noop", "priority": 101}, 422, "priority", "invalid"),
    ({"kind": "noop", "priority": -1}, 422, "priority", "invalid"),
    ({"kind": "noop", "priority": "50"}, 422, "priority", "invalid"),
    ({"kind": "noop", "priority": 1.5}, 422, "priority", "invalid"),
    ({"kind": "noop", "payload": [1]}, 422, "payload", "invalid"),
    ({"kind": "noop", "payload": None}, 422, "payload", "invalid"),
    (b'{"kind": "noop", "payload": {"n": %b}}' % (b"9" * 30), 422, "payload.n", "invalid"),
    (
        b'{"kind": "noop", "payload": {"n": %b}}' % (b"[" * 400 + b"]" * 400),
        422,
        "payload.n" + "[0]" * 63,
        "nested_too_deeply",
    ),
    (
        b'{"kind": "noop", "payload": {"n": %b' % (b"[" * 9000),
        422,
        "payload.n" + "[0]" * 63,
        "nested_too_deeply",
    ),
    ({"kind": "noop", "labels": {"Big": "x"}}, 422, "labels.Big", "invalid"),
    ({"kind": "noop", "labels": {"a": 1}}, 422, "labels.a", "invalid"),
    ({"kind": "noop", "labels": {"a": "x" * 257}}, 422, "labels.a", "invalid"),
    ({"kind": "noop", "labels": {f"a{n}": "x" for n in range(33)}}, 422, "labels", "invalid"),
    ({"kind": "noop", "max_attempts": 0}, 422, "max_attempts", "invalid"),
    ({"kind": "noop", "max_attempts": 101}, 422, "max_attempts", "invalid"),
    ({"kind": "noop", "retry": {"factor": 0.5}}, 422, "retry.factor", "invalid"),
    ({"kind": "noop", "retry": {"base": 1}}, 422, "retry.base", "invalid"),
    ({"kind": "noop", "attempt_timeout_s": 0}, 422, "attempt_timeout_s", "invalid"),
    ({"kind": "noop", "run_at": "2030-01-01T00:00:00"}, 422, "run_at", "invalid"),
    ({"kind": "noop", "run_at": "0001-01-01T00:00:00+10:00"}, 422, "run_at", "invalid"),
    ({"kind": "noop", "run_at": "2030-01-01T00:00:00Z", "delay_s": 1}, 422, "delay_s", "invalid"),
    (
        {"kind": "noop", "run_at": "2030-01-01T00:00:00Z", "start_at": "2030-01-01T00:00:00Z"},
        422,
        "start_at",
        "invalid",
    ),
    ({"kind": "noop", "start_at": "2030-01-01T00:00:00"}, 422, "start_at", "invalid"),
    ({"kind": "noop", "start_at": "0001-01-01T00:00:00+10:00"}, 422, "start_at", "invalid"),
    ({"kind": "noop", "start_at": "tomorrow"}, 422, "start_at", "invalid"),
    ({"kind": "noop", "start_at": "2030-01-01T00:00:00Z", "delay_s": 1}, 422, "delay_s", "invalid"),
    ({"kind": "noop", "delay_s": 1e12}, 422, "delay_s", "invalid"),
    ({"kind": "noop", "deadline_at": "1990-01-01T00:00:00Z"}, 422, "deadline_at", "invalid"),
    ({"kind": "noop", "delay_s": 60, "deadline_at": "2020-01-01T00:00:00Z"}, 422, "deadline_at", "invalid"),
    ({"kind": "simulate", "payload": {"steps": 0}}, 422, "payload.steps", "invalid"),
    ({"kind": "simulate", "payload": {"speed": 1}}, 422, "payload.speed", "invalid"),
    ({"kind": "convert", "payload": {}}, 422, "payload.file", "invalid"),
    ({"kind": "convert", "payload": {"file": "no-such-file"}}, 422, "payload.file", "unknown_file"),
    ({"kind": "noop", "payload": {"x": "y" * 524_288}}, 413, "payload", "payload_too_large"),
    ({"kind": "noop", "payload": {"x": "y" * MIB}}, 413, None, "body_too_large"),
]


async def test_bad_submission_names_field_and_rule_and_writes_nothing(api: Gateway) -> None:
    for body, status, field, code in BAD_BODIES:
        answer = await api.call("POST", "/v1/jobs", body)
        shown = str(body)[:100]
        assert answer.headers["Content-Type"] == "application/problem+json", shown
        problem = answer.json
        assert (answer.status, problem.get("field"), problem["code"]) == (status, field, code), shown
        assert problem["status"] == status
        assert problem["type"] == f"urn:switchyard:problem:{code}"
        assert problem["title"]
        assert (field or "").split(".")[-1] in problem["detail"], shown
    assert (await api.get("/v1/jobs")).json["jobs"] == []


async def test_file_of_the_tenant_is_accepted_as_input(api: Gateway) -> None:
    stored = await api.call("POST", "/v1/files", b"<p>hello</p>", Content_Type="text/html")
    body = {"kind": "convert", "payload": {"file": stored.json["id"]}}
    assert (await api.call("POST", "/v1/jobs", body)).status == 201
    foreign = await api.call("POST", "/v1/jobs", body, token=api.token(tenant=api.stranger))
    assert (foreign.status, foreign.json["field"]) == (422, "payload.file")


async def test_body_that_is_not_json_by_its_type_is_refused(api: Gateway) -> None:
    answer = await api.call("POST", "/v1/jobs", b'{"kind": "noop"}', Content_Type="text/plain")
    assert (answer.status, answer.json["field"]) == (415, "Content-Type")
    typed = await api.call("POST", "/v1/jobs", b'{"kind": "noop"}', Content_Type="application/x+json")
    assert typed.status == 201


async def test_same_key_and_body_answer_the_same_job(api: Gateway) -> None:
    first = await api.call("POST", "/v1/jobs", {"kind": "noop", "priority": 3}, Idempotency_Key="order")
    again = await api.call("POST", "/v1/jobs", b'{ "priority":3, "kind":"noop" }', Idempotency_Key="order")
    assert (first.status, again.status) == (201, 200)
    assert again.json == first.json
    assert UUID(first.json["id"]).version == 5
    assert len(await api.store.history(first.json["id"])) == 1


@pytest.mark.parametrize(
    ("first", "same", "other"),
    [
        (b"1", (b"1.0", b"1e0", b"10e-1"), b"1.5"),
        (b"100.0", (b"100", b"1e2"), b"101"),
        (b"1e18", (b"1000000000000000000",), b"1000000000000000001"),
        (b"18446744073709549568", (b"18446744073709549568.0",), b"18446744073709551615"),
        (b"0", (b"-0.0", b"0.0"), b"false"),
        (b'["a.0", {"1.0": [2.0]}]', (b'["a.0", {"1.0": [2]}]',), b'["a", {"1": [2]}]'),
        (b"1e300", (b"10e299",), b"2e300"),
    ],
)
async def test_numbers_of_one_value_are_one_request(
    api: Gateway, first: bytes, same: tuple[bytes, ...], other: bytes
) -> None:
    async def send(value: bytes) -> int:
        body = b'{"kind":"noop","payload":{"x":%b}}' % value
        return (await api.call("POST", "/v1/jobs", body, Idempotency_Key="n")).status

    assert await send(first) == 201
    assert [await send(value) for value in same] == [200] * len(same)
    assert await send(other) == 409


async def test_request_that_an_earlier_version_took_in_is_known_again(api: Gateway) -> None:
    body = b'{"kind":"noop","payload":{"x":2.0}}'
    now_kept, kept_before = request_hashes(body)
    assert now_kept == request_hashes(body.replace(b"2.0", b"2"))[0] != kept_before
    spec = JobSpec(kind="noop", tenant=api.tenant, lane=LaneId("noop-1"), request_hash=kept_before)
    job_id = id_for_key(api.tenant, "old")
    await api.store.transition(Job(id=job_id), Submit(now=now(), job=spec), actor="user:ann")
    answer = await api.call("POST", "/v1/jobs", body, Idempotency_Key="old")
    assert (answer.status, answer.json["id"]) == (200, job_id)


async def test_same_key_with_another_body_is_a_conflict(api: Gateway) -> None:
    await api.call("POST", "/v1/jobs", {"kind": "noop"}, Idempotency_Key="k")
    other = await api.call("POST", "/v1/jobs", {"kind": "noop", "priority": 3}, Idempotency_Key="k")
    assert (other.status, other.json["code"]) == (409, "idempotency_conflict")
    foreign = await api.call(
        "POST", "/v1/jobs", {"kind": "noop"}, Idempotency_Key="k", token=api.token(tenant=api.stranger)
    )
    assert foreign.status == 201


async def test_key_answers_an_ended_job_as_it_is_now(api: Gateway) -> None:
    first = await api.call("POST", "/v1/jobs", {"kind": "noop"}, Idempotency_Key="k")
    await api.complete(await api.lease(first.json["id"]), {"n": 1})
    again = await api.call("POST", "/v1/jobs", {"kind": "noop"}, Idempotency_Key="k")
    assert (again.status, again.json["state"], again.json["result"]) == (200, "succeeded", {"n": 1})


async def test_key_still_answers_when_the_input_file_is_gone(api: Gateway) -> None:
    stored = await api.call("POST", "/v1/files", b"<p>hello</p>", Content_Type="text/html")
    body = {"kind": "convert", "payload": {"file": stored.json["id"]}}
    first = await api.call("POST", "/v1/jobs", body, Idempotency_Key="k")
    assert (await api.call("DELETE", f"/v1/files/{stored.json['id']}")).status == 204
    again = await api.call("POST", "/v1/jobs", body, Idempotency_Key="k")
    assert (again.status, again.json["id"]) == (200, first.json["id"])


async def test_same_key_at_the_same_time_makes_one_job(api: Gateway) -> None:
    calls = [api.call("POST", "/v1/jobs", {"kind": "noop"}, Idempotency_Key="k") for _ in range(20)]
    answers = await asyncio.gather(*calls)
    assert sorted(answer.status for answer in answers) == [200] * 19 + [201]
    assert len({answer.json["id"] for answer in answers}) == 1


@pytest.mark.parametrize("key", ["", "with blank", "x" * 256, "umlaut-\u00e4"])
async def test_key_of_another_form_is_refused(api: Gateway, key: str) -> None:
    answer = await api.call("POST", "/v1/jobs", {"kind": "noop"}, Idempotency_Key=key)
    assert (answer.status, answer.json["field"]) == (422, "Idempotency-Key")


async def test_submission_waits_for_the_end_of_the_job(api: Gateway) -> None:
    job_id = id_for_key(api.tenant, "waited")
    async with Inbox(api.nc, job_filter(job_id)) as seen:
        calling = asyncio.create_task(
            api.call("POST", "/v1/jobs?wait=15", {"kind": "noop"}, Idempotency_Key="waited")
        )
        await seen.next(DEADLINE_S)
    await api.complete(await api.lease(job_id), "done")
    answer = await calling
    assert (answer.status, answer.json["state"], answer.json["result"]) == (201, "succeeded", "done")


async def test_submission_that_waited_in_vain_hands_the_job_back(api: Gateway) -> None:
    answer = await api.call("POST", "/v1/jobs?wait=0.05", {"kind": "noop"})
    assert (answer.status, answer.json["state"]) == (201, "queued")
    for wrong in ("soon", "-1", "nan", "inf"):
        refused = await api.call("POST", f"/v1/jobs?wait={wrong}", {"kind": "noop"})
        assert (refused.status, refused.json["field"]) == (400, "wait")


async def test_broker_that_is_away_is_answered_with_retry_after(broker: NatsServer, tmp_path: Any) -> None:
    async with gateway(broker.url, tmp_path, request_timeout_s=0.5, append_tries=2) as api:
        await api.submit()
        await broker.kill()
        answer = await api.call("POST", "/v1/jobs", {"kind": "noop"})
        assert (answer.status, answer.json["code"]) == (503, "unavailable")
        assert int(answer.headers["Retry-After"]) >= 1
        read = await api.get("/v1/jobs/01a206cb-14b3-7f30-904f-7f2a9444f80b")
        assert read.status == 503


async def test_full_log_is_answered_with_retry_after(broker: NatsServer, tmp_path: Any) -> None:
    async with gateway(broker.url, tmp_path, max_bytes={"JOBS": 64 * 1024}) as api:
        body = {"kind": "noop", "payload": {"x": "y" * 20_000}}
        answers = [await api.call("POST", "/v1/jobs", body) for _ in range(6)]
        assert [answer.status for answer in answers[:2]] == [201, 201]
        assert answers[-1].status == 503
        assert int(answers[-1].headers["Retry-After"]) >= 1
        assert (await api.get(f"/v1/jobs/{answers[0].json['id']}")).status == 200


async def test_lane_limit_names_the_kind(broker: NatsServer, tmp_path: Any) -> None:
    async with gateway(broker.url, tmp_path, lanes=1) as api:
        await api.submit(kind="one")
        answer = await api.call("POST", "/v1/jobs", {"kind": "two"})
        assert (answer.status, answer.json["field"]) == (422, "kind")


# --- Both doors take the same language

ANY_SPEED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    ["kind", "payload", "priority", "labels", "max_attempts", "retry", "run_at", "start_at", "delay_s", "x"]
)
LIKELY = st.sampled_from(["noop", {}, 5, {"a": "b"}, 1.5, "2030-01-01T00:00:00Z", {"base_s": 1}])


def outcome(parse: Any, body: bytes) -> Any:
    try:
        request = parse(body)
    except RejectedError as error:
        return error.status, error.field, error.message
    fields = {name: getattr(request, name) for name in request.__struct_fields__}
    fields.pop("idempotency_key", None)
    return fields


@ANY_SPEED
@given(st.dictionaries(FIELDS, JSON_VALUES | LIKELY, max_size=5))
def test_bulk_line_and_single_body_are_judged_alike(fields: dict[str, Any]) -> None:
    body = orjson.dumps({"kind": "noop", **fields}, option=orjson.OPT_PASSTHROUGH_SUBCLASS)
    assert outcome(parse_request, body) == outcome(parse_line, body)


@ANY_SPEED
@given(st.binary(max_size=40))
def test_any_bytes_are_taken_or_rejected(body: bytes) -> None:
    found = outcome(parse_request, body)
    assert isinstance(found, dict) or found[0] in (400, 422)


@ANY_SPEED
@given(st.dictionaries(st.text(max_size=8), JSON_VALUES, max_size=4), st.randoms())
def test_request_hash_ignores_order_and_spacing(fields: dict[str, Any], random: Any) -> None:
    fields.pop("idempotency_key", None)
    shuffled = list(fields.items())
    random.shuffle(shuffled)
    compact, spaced = orjson.dumps(fields), orjson.dumps(dict(shuffled), option=orjson.OPT_INDENT_2)
    assert request_hashes(compact) == request_hashes(spaced)
    line = orjson.dumps({**fields, "idempotency_key": "k"})
    assert request_hashes(line) == request_hashes(compact)


def test_what_a_line_does_not_say_is_left_to_its_kind() -> None:
    line = parse_line(b'{"kind":"noop"}')
    assert isinstance(line, BulkLine)
    assert (line.priority, line.max_attempts, line.retry) == (msgspec.UNSET,) * 3
    assert (line.payload, line.labels) == ({}, {})
    assert Settings().payload_bytes < Settings().body_bytes


def test_time_is_taken_in_any_zone() -> None:
    request = parse_request(b'{"kind":"noop","start_at":"2030-01-01T02:00:00+02:00"}')
    assert request.start_at == datetime(2030, 1, 1, tzinfo=UTC)


async def test_a_submission_that_comes_again_after_its_deadline_is_answered_as_before(api: Gateway) -> None:
    soon = now() + timedelta(seconds=0.5)
    body = {"kind": "noop", "deadline_at": soon.isoformat()}
    first = await api.call("POST", "/v1/jobs", body, Idempotency_Key="k")
    async with asyncio.timeout(DEADLINE_S):
        while (again := await api.call("POST", "/v1/jobs", body)).status == 201:
            pass
    assert (again.status, again.json["field"]) == (422, "deadline_at")
    again = await api.call("POST", "/v1/jobs", body, Idempotency_Key="k")
    assert (first.status, again.status, again.json["id"]) == (201, 200, first.json["id"])
