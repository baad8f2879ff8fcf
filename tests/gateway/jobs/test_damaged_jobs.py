"""Every route that names a job, with a job whose log cannot be read."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from switchyard.events import subjects
from switchyard.events.vocabulary.ids import JobId, LaneId
from switchyard.services.broker.jetstream import api as ask
from switchyard.services.broker.server.server import NatsServer
from tests.gateway.leases.test_leases import Worker
from tests.gateway.octopoid.client import Octopoid
from tests.gateway.rest import DEADLINE_S, Answer, Gateway, gateway
from tests.images import png

ROOT = Path(__file__).parents[3]
API_PAGE = (ROOT / "docs/api.md").read_text()
OCTOPOID_PAGE = (ROOT / "docs/octopoid.md").read_text()
STRANGER, FIRST, NEWER = "a stranger's message", "its first event", "a newer version"
HOW = (STRANGER, FIRST, NEWER)

Outcomes = dict[str, tuple[int, str]]


@pytest.fixture
async def api(broker: NatsServer, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway(broker.url, tmp_path) as running:
        yield running


async def damage(api: Gateway, job_id: str, how: str, *, tenant: str = "") -> int:
    """Put something into the job's log that cannot be read; its sequence."""
    headers = {subjects.H_TENANT: tenant or api.tenant, subjects.H_KIND: "noop"}
    if how == NEWER:
        body = orjson.dumps({"v": 7, "at": "2026-01-31T12:00:00Z", "why": "it can"})
        return await api.publisher.publish(f"job.{job_id}.invented", body, headers)
    if how == STRANGER:
        return await api.publisher.publish(f"job.{job_id}.hello", b"\x1b[2Jhello", {})
    await ask(
        api.nc, f"STREAM.PURGE.{subjects.JOBS}", {"filter": subjects.job_filter(JobId(job_id))}, timeout_s=20
    )
    subject = subjects.claimable_event(JobId(job_id), "submitted", LaneId("noop-1"), 50)
    return await api.publisher.publish(subject, b"{", headers)


def outcome(answer: Answer) -> tuple[int, str]:
    if answer.status < 400:
        return answer.status, ""
    if answer.status == 503:
        assert answer.headers["Retry-After"] == "60"
        assert "newer version" in str(answer.json.get("detail", answer.json.get("error")))
    return answer.status, answer.json["code"]


# --- The REST API

READS = {
    "GET /v1/jobs/{id}", "GET /v1/jobs/{id}/events", "GET /v1/jobs/{id}/explain", "GET /v1/jobs/{id}/logs",
}  # fmt: skip
BODIES: dict[str, Any] = {
    "PATCH /v1/jobs/{id}": {"priority": 90},
    "POST /v1/reviews/{id}/reject": {"reason": "no"},
    "POST /v1/leases/{id}/progress": {"fraction": 0.5},
    "POST /v1/leases/{id}/logs": {"lines": ["a"]},
    "POST /v1/leases/{id}/fail": {"error": {"code": "x"}},
    "POST /v1/leases/{id}/succeed": {"result": "x" * 70_000},
    "POST /v1/leases/{id}/delegate": {"backend": {"kind": "k", "id": "b"}},
    "POST /v1/leases/{id}/part": {"parts": [{"name": "a", "kind": "noop", "payload": {}}]},
    "POST /v1/leases/{id}/preview": png(),
}
TYPES = {"POST /v1/leases/{id}/preview": "image/png"}
LAST = ("POST /v1/jobs/{id}/repair", "POST /v1/jobs/{id}/discard")


def routes() -> list[str]:
    """All of them that name a job, those last that give it a state again."""
    found = re.findall(r"^### `([A-Z]+ /v1/(?:jobs|reviews|leases)/\{id\}[^`?]*)`", API_PAGE, re.MULTILINE)
    return [*(route for route in found if route not in LAST), *LAST]


def expected(route: str, how: str) -> tuple[int, str]:
    if route in READS:
        return 200, ""
    if route == "GET /v1/jobs/{id}/preview":
        return 404, "no_preview"
    if how == NEWER:
        return 503, "unavailable"
    if route == LAST[0] and how == FIRST:
        return 409, "nothing_to_repair"
    return (200, "") if route in LAST else (409, "damaged")


@pytest.mark.parametrize("how", HOW)
async def test_no_route_fails_at_a_damaged_job(api: Gateway, how: str) -> None:
    worker = Worker(api, kinds=["noop"], lease_s=60)
    made = {}
    for route in LAST:
        await api.submit()
        made[route] = await worker.claim()
        await damage(api, made[route].json["job"]["id"], how)
    found: Outcomes = {}
    for route in routes():
        claimed = made.get(route, made[LAST[0]])
        method, path = route.split(" ")
        lease, job_id = claimed.json["lease"], claimed.json["job"]["id"]
        named = path.replace("{id}", lease["id"] if "leases" in path else job_id).replace("{part}", job_id)
        named += "?name=a.txt" if method == "POST" and named.endswith("artifacts") else ""
        answer = await api.call(
            method, named, BODIES.get(route, b"x" if named.endswith("a.txt") else None),
            token=api.token("admin"), Switchyard_Lease_Token=lease["token"],
            Content_Type=TYPES.get(route, "application/json"),
        )  # fmt: skip
        found[route] = outcome(answer)
    assert found == {route: expected(route, how) for route in routes()}
    assert len(found) > 20


@pytest.mark.parametrize("how", HOW)
async def test_a_damaged_job_is_shown_with_what_is_wrong(api: Gateway, how: str) -> None:
    job_id = (await api.submit())["id"]
    seq = await damage(api, job_id, how)
    for query in ("", "?wait=60", f"?at={seq}"):
        job = (await api.get(f"/v1/jobs/{job_id}{query}")).json
        assert (job["damage"]["seq"], job["damage"]["newer_version"]) == (seq, how == NEWER), query
    events = (await api.get(f"/v1/jobs/{job_id}/events")).json["events"]
    assert events[-1]["seq"] == seq
    explained = (await api.get(f"/v1/jobs/{job_id}/explain")).json
    assert explained["reason"] == ("newer_version" if how == NEWER else "damaged")
    event = {STRANGER: "hello", FIRST: "submitted", NEWER: "invented"}[how]
    assert f"event {event!r} at sequence {seq}" in explained["summary"]
    assert job["damage"]["reason"] in explained["summary"]
    assert {STRANGER: "repair", FIRST: "discard", NEWER: "upgrade"}[how] in explained["would_help"][0]


@pytest.mark.parametrize("how", [STRANGER, NEWER])
async def test_who_waits_for_a_job_is_answered_when_it_is_damaged(api: Gateway, how: str) -> None:
    job_id = (await api.submit())["id"]
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(api.get(f"/v1/jobs/{job_id}?wait=60"))
        # Whether the request waits already or is about to, it learns of it.
        await damage(api, job_id, how)
    assert waiting.result().json["damage"] is not None


@pytest.mark.parametrize("how", HOW)
async def test_a_submission_that_names_a_damaged_job_is_answered(api: Gateway, how: str) -> None:
    answer = await api.call("POST", "/v1/jobs", {"kind": "noop"}, Idempotency_Key="k")
    job_id = answer.json["id"]
    await damage(api, job_id, how)
    again = await api.call("POST", "/v1/jobs", {"kind": "noop"}, Idempotency_Key="k")
    assert again.status == (409 if how == FIRST else 200)
    child = await api.submit(depends_on=[job_id])
    assert child["state"] == "blocked"
    explained = (await api.get(f"/v1/jobs/{child['id']}/explain")).json
    assert explained["summary"] == f"it waits for 1 other job: {job_id} (damaged)"


async def test_a_stranger_cannot_end_a_lease_with_a_message_of_its_holder(api: Gateway) -> None:
    worker = Worker(api, kinds=["noop"], lease_s=60)
    job = await api.submit()
    claimed = await worker.claim()
    actor = {subjects.H_ACTOR: f"worker:{claimed.json['lease']['worker']}"}
    await api.publisher.publish(f"job.{job['id']}.succeeded", b"{", actor)
    answer = await worker.say(claimed, "succeed", {"result": 1})
    assert (answer.status, answer.json["code"]) == (409, "damaged")
    assert answer.json["since"][-1]["at"] is None


async def test_a_result_that_is_there_can_still_be_read(api: Gateway) -> None:
    job_id = (await api.submit())["id"]
    await api.complete(await api.lease(job_id), {"made": 1})
    await damage(api, job_id, STRANGER)
    assert (await api.get(f"/v1/jobs/{job_id}/result")).json == {"made": 1}


# --- Octopoid's API

VERBS: dict[str, dict[str, Any]] = {
    "submit": {"commits_count": 1, "turns_used": 1}, "accept": {"accepted_by": "a"},
    "reject": {"reason": "r", "rejected_by": "a"}, "requeue": {}, "renew": {}, "release": {},
    "force-queue": {"queue": "incoming", "reason": "r"}, "hooks/h/complete": {"status": "passed"},
}  # fmt: skip


def test_every_verb_of_octopoid_is_tried() -> None:
    found = set(re.findall(r"`/api/v1/tasks/\{id\}/([^`]*)`", OCTOPOID_PAGE)) - {"messages"}
    assert found == {verb.replace("/h/", "/{hook}/") for verb in VERBS}


@pytest.mark.parametrize("claimed", [True, False])
@pytest.mark.parametrize("how", HOW)
async def test_a_damaged_task_has_failed_and_is_refused_in_octopoids_words(
    api: Gateway, how: str, *, claimed: bool
) -> None:
    octopoid = Octopoid(api)
    await octopoid.register()
    await octopoid.create("t1", title="one")
    if claimed:
        assert (await octopoid.claim()).status == 200
    task = await octopoid.get("t1")
    seq = await damage(api, task["job_id"], how, tenant=octopoid.scope)
    async with asyncio.timeout(DEADLINE_S):
        shown = await octopoid.get("t1")
    queue = ("claimed" if claimed else "incoming") if how == NEWER else "failed"
    assert (shown["queue"], shown["needs_intervention"]) == (queue, True)
    assert shown["damage"]
    assert await octopoid.listed(f"queue={queue}") == ["t1"]
    assert (await octopoid.call("GET", "/tasks/t1/messages")).status == 200
    refused = (503, "unavailable") if how == NEWER else (409, "damaged")
    for verb, body in VERBS.items():
        answer = await octopoid.post("t1", verb, **body)
        assert outcome(answer) == refused, verb
        assert how == NEWER or answer.json["error"].startswith("Failed to "), verb
    for fields in ({"title": "two"}, {"queue": "incoming"}, {"priority": "P0"}, {"claimed_by": None}):
        assert outcome(await octopoid.patch("t1", **fields)) == refused, fields
    assert (await api.store.last_seq(task["job_id"])) == seq
    deleted = await octopoid.call("DELETE", "/tasks/t1")
    assert outcome(deleted) == (refused if how == NEWER else (200, ""))
    assert await octopoid.listed() == (["t1"] if how == NEWER else [])
    if how != NEWER:
        await octopoid.create("t1", title="again")
