"""Octopoid's API: orchestrators, keys, tasks and their queues."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from switchyard.events.commands import Wake
from switchyard.events.job import Job
from switchyard.services.gateway.doors.octopoid.keys.scopes import tenant_of
from tests.broker.shared import SharedBroker
from tests.gateway.octopoid.client import Octopoid
from tests.gateway.rest import Gateway, gateway

pytestmark = pytest.mark.shared_gateway


@pytest.fixture
async def octo(api: Gateway) -> Octopoid:
    found = Octopoid(api)
    assert (await found.register()).status == 201
    return found


async def test_the_first_registration_of_a_scope_gives_the_key_and_only_its_hash_is_kept(
    octo: Octopoid,
) -> None:
    assert re.fullmatch(r"oct_[0-9a-f]{64}", octo.key)
    again = await octo.register(key=octo.key)
    assert (again.status, again.json["orchestrator_id"], "api_key" in again.json) == (200, "prod-m1", False)
    assert (await octo.register(machine="m2")).status == 401
    place = octo.key[4:36]
    stored = await octo.api.nc.request(
        "$JS.API.DIRECT.GET.KV_keys", f'{{"last_by_subj":"$KV.keys.octopoid.{place}"}}'.encode(), timeout=5
    )
    assert octo.scope.encode() in stored.data
    assert octo.key[36:].encode() not in stored.data


async def test_two_first_registrations_at_once_give_one_key(api: Gateway) -> None:
    octo = Octopoid(api)
    answers = await asyncio.gather(*(octo.register() for _ in range(5)))
    assert sorted(answer.status for answer in answers) == [201, 401, 401, 401, 401]


async def test_nobody_passes_without_the_scopes_key(octo: Octopoid) -> None:
    stranger = Octopoid(octo.api)
    await stranger.register()
    await octo.create("task-001")
    for key, status in (
        ("", 401),
        ("oct_" + "0" * 64, 401),
        ("nonsense", 401),
        (octo.api.token("admin"), 401),
    ):
        answer = await octo.call("GET", "/tasks", key=key)
        assert (answer.status, next(iter(answer.json))) == (status, "error"), key
    assert (await octo.call("GET", f"/tasks?scope={octo.scope}", key=stranger.key)).status == 403
    body = octo.task("task-002")
    assert (await octo.call("POST", "/tasks", body, key=stranger.key)).status == 403
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/accept"), ("POST", "/renew")):
        answer = await stranger.call(method, f"/tasks/task-001{path}", {"accepted_by": "x"})
        assert (answer.status, answer.json["error"]) == (404, "Task not found")
    assert (await stranger.claim()).status == 404
    async with octo.api.http.get(octo.api.url + "/api/health") as health:
        assert (health.status, (await health.json())["status"]) == (200, "healthy")


async def test_a_rotated_key_counts_no_more(octo: Octopoid) -> None:
    path, old = f"/orchestrators/scopes/{octo.scope}/rotate-key", octo.key
    octo.key = (await octo.call("POST", path)).json["api_key"]
    assert (await octo.call("GET", "/tasks", key=old)).status == 401
    assert await octo.listed() == []
    assert (await octo.call("POST", path, key=octo.api.token("submitter"))).status == 403
    by_admin = await octo.call("POST", path, key=octo.api.token("admin"))
    assert (await octo.call("GET", "/tasks", key=by_admin.json["api_key"])).status == 200
    assert (
        await octo.call("POST", "/orchestrators/scopes/other/rotate-key", key=by_admin.json["api_key"])
    ).status == 403


async def test_registrations_end_where_the_setting_says(shared_broker: SharedBroker, tmp_path: Path) -> None:
    async with gateway(shared_broker.url, tmp_path, octopoid_scopes=0) as api:
        answer = await Octopoid(api).register()
        assert (answer.status, answer.json["code"]) == (429, "limit")


async def test_nobody_registers_a_scope_unless_a_token_or_the_setting_lets_him(
    api: Gateway, shared_broker: SharedBroker, tmp_path: Path
) -> None:
    octo = Octopoid(api)
    assert (await octo.register(key="")).status == 401
    for role in ("viewer", "submitter", "worker", "reviewer", "operator"):
        answer = await octo.register(key=api.token(role))
        assert (answer.status, answer.json["code"]) == (403, "forbidden")
    assert (await octo.register(key="nonsense")).status == 401
    assert (await octo.call("GET", "/tasks", key=octo.api.token("registrar"))).status == 401
    assert (await api.get("/v1/jobs", token=api.token("registrar"))).status == 403
    assert (await octo.register(key=api.token("registrar"))).status == 201
    assert (await octo.register(key="")).status == 401
    assert (await Octopoid(api).register(key=api.token("admin"))).status == 201
    async with gateway(shared_broker.url, tmp_path / "open", octopoid_open=True) as other:
        assert (await Octopoid(other).register(key="")).status == 201
        for running, said in ((api, "closed"), (other, "open")):
            async with running.http.get(f"{running.url}/api/health") as health:
                assert (await health.json())["registration"] == said


def test_no_two_scopes_share_a_tenant() -> None:
    scopes = ["a", "A", "a-b", "a_b", "a b", "oct-a", "é", "x" * 58, "x" * 59, "x" * 255]
    tenants = {tenant_of(scope) for scope in scopes}
    assert len(tenants) == len(scopes)
    assert all(re.fullmatch(r"oct[-_][a-z0-9-]{1,59}", tenant) for tenant in tenants)


async def test_orchestrators_are_listed_and_their_heartbeats_noted(octo: Octopoid) -> None:
    await octo.register(machine="m2", key=octo.key)
    first = (await octo.call("GET", "/orchestrators/prod-m1")).json
    beat = await octo.call("POST", "/orchestrators/prod-m1/heartbeat", {})
    assert (beat.status, beat.json["success"]) == (200, True)
    listed = (await octo.call("GET", "/orchestrators?cluster=prod&status=active")).json
    assert (listed["total"], listed["orchestrators"][0]["id"]) == (2, "prod-m1")
    assert listed["orchestrators"][0]["last_heartbeat"] >= first["last_heartbeat"]
    assert (await octo.call("POST", "/orchestrators/nobody/heartbeat", {})).status == 404
    changed = await octo.call("PATCH", "/orchestrators/prod-m2", {"status": "maintenance"})
    assert (changed.status, changed.json["status"]) == (200, "maintenance")
    assert (await octo.call("PATCH", "/orchestrators/prod-m2", {"status": "gone"})).status == 400
    assert (await octo.call("GET", "/orchestrators?status=maintenance")).json["total"] == 1


async def test_a_task_goes_from_incoming_to_done(octo: Octopoid) -> None:
    task = await octo.create("task-001", title="Do it", priority="P1", role="implement", content="# How")
    assert (task["queue"], task["priority"], task["title"], task["scope"]) == (
        "incoming", "P1", "Do it", octo.scope,
    )  # fmt: skip
    claimed = (await octo.claim("agent-1", role_filter="implement")).json
    assert (claimed["id"], claimed["queue"], claimed["claimed_by"], claimed["orchestrator_id"]) == (
        "task-001", "claimed", "agent-1", "prod-m1",
    )  # fmt: skip
    assert claimed["lease_expires_at"] > claimed["claimed_at"] > ""
    submitted = await octo.submit("task-001", 3, 20, execution_notes="done so")
    assert (submitted.status, submitted.json["queue"], submitted.json["commits_count"]) == (
        200,
        "provisional",
        3,
    )
    assert submitted.json["claimed_by"] is None
    assert (await octo.submit("task-001", 3, 20, execution_notes="done so")).status == 200, "a repeated call"
    assert (await octo.submit("task-001", 4, 20)).status == 409
    done = await octo.post("task-001", "accept", accepted_by="gatekeeper")
    assert (done.status, done.json["queue"], done.json["execution_notes"]) == (200, "done", "done so")
    assert done.json["completed_at"]
    assert (await octo.post("task-001", "accept", accepted_by="gatekeeper")).status == 200, "a repeated call"
    late = await octo.post("task-001", "accept", accepted_by="other")
    assert (late.status, late.json["error"][:21]) == (409, "Failed to accept task")


async def test_two_that_claim_at_once_never_get_one_task(octo: Octopoid) -> None:
    for number in range(6):
        await octo.create(f"task-{number:03}")
    answers = await asyncio.gather(*(octo.claim(f"agent-{number}") for number in range(8)))
    got = sorted(answer.json["id"] for answer in answers if answer.status == 200)
    assert got == [f"task-{number:03}" for number in range(6)]
    none = [answer.json for answer in answers if answer.status == 404]
    assert none == [{"message": "No tasks available"}] * 2


async def test_two_reviewers_of_one_name_never_get_one_review(octo: Octopoid) -> None:
    for name in ("a", "b"):
        await octo.create(name)
        await octo.claim()
        await octo.submit(name)
    answers = await asyncio.gather(*(octo.claim("gatekeeper", queue="provisional") for _ in range(4)))
    assert sorted(answer.json["id"] for answer in answers if answer.status == 200) == ["a", "b"]
    view = next(answer.json for answer in answers if answer.status == 200)
    assert (view["queue"], view["claimed_by"]) == ("provisional", "gatekeeper")
    left = await octo.patch("a", claimed_by=None)
    assert left.json["claimed_by"] is None
    assert (await octo.claim("other", queue="provisional")).json["id"] == "a"


async def test_the_most_urgent_goes_first_and_then_the_oldest_that_fits(octo: Octopoid) -> None:
    await octo.create("low", priority="P3", role="implement")
    await octo.create("first", priority="P0", role="test", type="product")
    await octo.create("second", priority="P0", role="implement", type="hotfix")
    await octo.create("free", priority="P2")
    assert (await octo.claim(role_filter="review")).status == 404
    assert (await octo.claim(type_filter="hotfix")).json["id"] == "second"
    assert (await octo.claim(role_filter=["implement", "test"])).json["id"] == "first"
    assert (await octo.claim()).json["id"] == "free"
    assert (await octo.claim()).json["id"] == "low"


async def test_a_rejected_task_comes_back_with_the_reason(octo: Octopoid) -> None:
    await octo.create("t")
    for count in (1, 2):
        await octo.claim()
        await octo.submit("t")
        rejected = await octo.post("t", "reject", reason="no tests", rejected_by="gatekeeper")
        assert (rejected.status, rejected.json["queue"], rejected.json["rejection_count"]) == (
            200, "incoming", count,
        )  # fmt: skip
        again = await octo.post("t", "reject", reason="no tests", rejected_by="gatekeeper")
        assert (again.status, again.json["rejection_count"]) == (200, count), "a repeated call"
    assert (await octo.claim()).json["feedback"]["reason"] == "no tests"
    back = await octo.post("t", "requeue")
    assert (back.json["queue"], back.json["rejection_count"], back.json["attempt_count"]) == (
        "incoming",
        2,
        1,
    )
    assert (await octo.post("t", "requeue")).status == 409


@pytest.mark.parametrize(
    ("commits", "turns", "queue"),
    [
        (0, 79, "provisional"),
        (0, 80, "needs_continuation"),
        (1, 99, "provisional"),
        (1, 100, "needs_continuation"),
    ],
)
async def test_a_burnt_out_agents_task_needs_continuation(
    octo: Octopoid, commits: int, turns: int, queue: str
) -> None:
    await octo.create("t")
    await octo.claim()
    assert (await octo.submit("t", commits, turns)).json["queue"] == queue
    assert await octo.listed(f"queue={queue}") == ["t"]
    assert (await octo.claim()).status == 404
    resumed = await octo.claim("agent-2", queue=queue)
    assert (resumed.status, resumed.json["claimed_by"]) == (200, "agent-2")
    if queue == "needs_continuation":
        assert resumed.json["queue"] == "claimed"
        assert (await octo.submit("t", 2, 5)).json["queue"] == "provisional"


async def test_a_lease_is_prolonged_and_a_late_submission_refused(octo: Octopoid) -> None:
    await octo.create("t")
    claimed = (await octo.claim(lease_duration_seconds=60)).json
    renewed = await octo.post("t", "renew", lease_duration_seconds=600, lease_id=claimed["lease_id"])
    assert renewed.json["lease_expires_at"] > claimed["lease_expires_at"]
    until = (datetime.now(UTC) + timedelta(seconds=900)).isoformat()
    patched = await octo.patch("t", lease_expires_at=until)
    assert patched.json["lease_expires_at"] > renewed.json["lease_expires_at"]
    job = await octo.api.store.load(claimed["job_id"])
    woken = await octo.api.store.transition(job, later(job), actor="keeper")
    assert woken.job.status == "queued"
    second = (await octo.claim("agent-2")).json
    assert (await octo.submit("t", lease_id=claimed["lease_id"])).status == 409
    assert (await octo.post("t", "requeue", lease_id=claimed["lease_id"])).status == 409
    assert (await octo.submit("t", lease_id=second["lease_id"])).status == 200


def later(job: Job) -> Wake:
    """The timer of a lease whose time is over."""
    assert job.lease is not None
    assert job.lease.expires_at is not None
    return Wake(now=job.lease.expires_at + timedelta(seconds=1))
