"""Submitting jobs that wait for other jobs, and payloads that refer to their results."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from switchyard.events.commands import RequestCancel
from switchyard.services.ids import id_for_key, new_id
from tests.broker.shared import SharedBroker
from tests.events.examples import encode
from tests.gateway.rest import Gateway, gateway, now

pytestmark = pytest.mark.shared_gateway


def ref(job_id: str, **fields: Any) -> dict[str, Any]:
    return {"$result": {"job": job_id, **fields}}


async def refused(api: Gateway, **body: Any) -> tuple[int, str | None, str]:
    answer = await api.call("POST", "/v1/jobs", {"kind": "noop", **body})
    assert answer.json.get("field", "") in answer.json["detail"]
    return answer.status, answer.json.get("field"), answer.json["code"]


async def test_job_with_dependencies_is_blocked_and_names_them_once(api: Gateway) -> None:
    first, second = (await api.submit())["id"], (await api.submit())["id"]
    job = await api.submit(depends_on=[first, second, first], on_dependency_failure="run")
    assert (job["state"], job["depends_on"]) == ("blocked", [first, second])
    (event,) = await api.store.history(job["id"])
    assert event.event.job.on_dependency_failure == "run"  # type: ignore[union-attr]
    read = await api.get(f"/v1/jobs/{job['id']}")
    assert (read.json["state"], read.json["depends_on"]) == ("blocked", [first, second])


async def test_job_without_dependencies_is_written_as_ever(api: Gateway) -> None:
    job = await api.submit(depends_on=[], on_dependency_failure="cancel")
    (event,) = await api.store.history(job["id"])
    assert job["state"] == "queued"
    assert b"depends_on" not in encode(event.event)  # type: ignore[arg-type]


async def test_ended_job_may_be_waited_for(api: Gateway) -> None:
    parent = await api.submit()
    await api.complete(await api.lease(parent["id"]), 1)
    assert (await api.submit(depends_on=[parent["id"]]))["state"] == "blocked"


async def test_unknown_and_foreign_jobs_are_refused_alike(api: Gateway) -> None:
    own = (await api.submit())["id"]
    foreign = await api.call("POST", "/v1/jobs", {"kind": "noop"}, token=api.token(tenant=api.stranger))
    for unknown in (new_id(), foreign.json["id"], own.upper(), "*", ">", own + "\n", ""):
        found = await refused(api, depends_on=[own, own, unknown])
        assert found == (422, "depends_on[2]", "unknown_dependency")


async def test_job_cannot_wait_for_itself(api: Gateway) -> None:
    own = id_for_key(api.tenant, "own")
    body = {"kind": "noop", "depends_on": [own]}
    answer = await api.call("POST", "/v1/jobs", body, Idempotency_Key="own")
    assert (answer.status, answer.json["code"]) == (422, "unknown_dependency")
    assert await api.store.last(own) is None


async def test_same_key_answers_the_blocked_job_again(api: Gateway) -> None:
    body = {"kind": "noop", "depends_on": [(await api.submit())["id"]]}
    first = await api.call("POST", "/v1/jobs", body, Idempotency_Key="k")
    again = await api.call("POST", "/v1/jobs", body, Idempotency_Key="k")
    assert (first.status, again.status, again.json["id"]) == (201, 200, first.json["id"])
    other = await api.call("POST", "/v1/jobs", {"kind": "noop"}, Idempotency_Key="k")
    assert (other.status, other.json["code"]) == (409, "idempotency_conflict")


async def test_limits_are_those_of_the_settings(shared_broker: SharedBroker, tmp_path: Path) -> None:
    async with gateway(shared_broker.url, tmp_path, dependencies=2, references=2) as api:
        ids = [(await api.submit())["id"] for _ in range(3)]
        assert await refused(api, depends_on=ids) == (422, "depends_on", "invalid")
        assert (await api.submit(depends_on=[*ids[:2], *ids[:2]]))["state"] == "blocked"
        payload = {"a": [ref(ids[0]), ref(ids[1])]}
        await api.submit(depends_on=ids[:2], payload=payload)
        payload["b"] = ref(ids[0])  # type: ignore[assignment]
        found = await refused(api, depends_on=ids[:2], payload=payload)
        assert found == (422, "payload.b", "invalid")


async def test_only_jobs_that_are_waited_for_may_be_referred_to(api: Gateway) -> None:
    parent, other = (await api.submit())["id"], (await api.submit())["id"]
    payload = {"x": [{"y": ref(other)}]}
    field = "payload.x.0.y.$result.job"
    assert await refused(api, depends_on=[parent], payload=payload) == (422, field, "invalid")
    assert await refused(api, payload=payload) == (422, field, "invalid")
    escaped = b'{"kind": "noop", "payload": {"x": {"\\u0024result": {"job": "%b"}}}}' % other.encode()
    answer = await api.call("POST", "/v1/jobs", escaped)
    assert (answer.status, answer.json["field"]) == (422, "payload.x.$result.job")


async def test_malformed_reference_names_its_place(api: Gateway) -> None:
    parent = (await api.submit())["id"]
    for wrong in (1, {"job": parent, "line": 1}, {"job": parent, "path": "a", "artifact": "b"}):
        found = await refused(api, depends_on=[parent], payload={"x": {"$result": wrong}})
        assert found == (422, "payload.x.$result", "invalid")


async def test_model_of_a_kind_is_checked_as_far_as_references_allow(api: Gateway) -> None:
    parent = (await api.submit())["id"]
    fits: list[tuple[str, dict[str, Any]]] = [
        ("convert", {"file": ref(parent, artifact="page.md")}),
        ("convert", {"file": ref(parent, path="file"), "languages": ["deu", ref(parent, path="lang")]}),
        ("simulate", {"echo": ref(parent), "duration_s": ref(parent, path="duration_s")}),
    ]
    for kind, payload in fits:
        job = await api.submit(kind=kind, depends_on=[parent], payload=payload)
        assert job["state"] == "blocked"
    faults: list[tuple[str, dict[str, Any], str]] = [
        ("convert", {"file": ref(parent), "max_pages": 0}, "payload.max_pages"),
        ("convert", {"languages": [ref(parent)]}, "payload.file"),
        ("convert", {"file": ref(parent), "languages": [ref(parent), 5]}, "payload.languages.1"),
        ("simulate", {"echo": ref(parent), "speed": 1}, "payload.speed"),
    ]
    for kind, payload, field in faults:
        found = await refused(api, kind=kind, depends_on=[parent], payload=payload)
        assert found == (422, field, "invalid")


async def test_bulk_lines_wait_for_jobs_too(api: Gateway) -> None:
    parent = (await api.submit())["id"]
    good, bad = await api.bulk(
        {"kind": "noop", "depends_on": [parent], "payload": {"x": ref(parent)}},
        {"kind": "noop", "depends_on": [parent, new_id()]},
    )
    assert good["status"] == 201
    assert (bad["error"]["code"], bad["error"]["field"]) == ("unknown_dependency", "depends_on[1]")


@pytest.mark.parametrize("state", ["queued", "blocked"])
async def test_waiting_job_is_cancelled_at_once(api: Gateway, state: str) -> None:
    parent = await api.submit()
    job = parent if state == "queued" else await api.submit(depends_on=[parent["id"]])
    answer = await api.call("POST", f"/v1/jobs/{job['id']}/cancel", {"reason": "not needed"})
    assert (answer.status, answer.json["state"], answer.json["reason"]) == (200, "cancelled", "requested")
    events = (await api.get(f"/v1/jobs/{job['id']}/events")).json["events"]
    assert events[-1]["data"] == {"cause": "requested", "by": "user:ann", "reason": "not needed"}


async def test_cancelled_and_late_jobs_are_still_jobs_to_wait_for(api: Gateway) -> None:
    parent = await api.submit()
    command = RequestCancel(now=now(), by="user:ann", grace_s=1)
    await api.store.transition(parent["id"], command, actor="user:ann")
    deadline = (now() + timedelta(hours=1)).isoformat()
    job = await api.submit(depends_on=[parent["id"]], deadline_at=deadline, delay_s=60)
    assert job["state"] == "blocked"
