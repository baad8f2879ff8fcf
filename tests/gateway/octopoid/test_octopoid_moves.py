"""Octopoid's API: what moves of a task change of it, what they leave, and who may still move it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from switchyard.events.commands import Wake
from switchyard.events.job import Job
from switchyard.services.gateway.doors.octopoid.answers import TaskAnswer
from switchyard.services.gateway.doors.octopoid.desk import shown
from switchyard.services.gateway.doors.octopoid.keys.scopes import tenant_of
from switchyard.services.gateway.doors.octopoid.tasks import Task, task_view
from switchyard.services.records.entries.documents import Documents
from tests.events.examples import DEAD, NOW, QUEUED, REVIEW, RUNNING
from tests.gateway.octopoid.client import Octopoid
from tests.gateway.octopoid.test_octopoid import later
from tests.gateway.rest import Gateway

pytestmark = pytest.mark.shared_gateway

DAY_S = 86400


@pytest.fixture
async def octo(api: Gateway) -> Octopoid:
    found = Octopoid(api)
    assert (await found.register()).status == 201
    return found


def documents(octo: Octopoid) -> Documents:
    return Documents(octo.api.nc, octo.api.publisher, octo.api.settings)


async def lapsed(octo: Octopoid, task_id: str, **wake: Any) -> Job:
    """The task's job after its lease, of work or of a review, has lapsed and a keeper has seen it."""
    job = await octo.api.store.load((await octo.get(task_id))["job_id"])
    held = job.review or job.lease
    assert held is not None
    expires_at = held.expires_at
    assert expires_at is not None
    command = Wake(now=expires_at + timedelta(seconds=1), **wake)
    return (await octo.api.store.transition(job, command, actor="keeper")).job


# --- When it changed


def viewed(job: Job) -> TaskAnswer:
    """A task that was last written to two days before its job changed."""
    before = shown(NOW - timedelta(days=2))
    document = {
        "id": "t", "queue": "incoming", "blocked_by": None, "created_at": before, "updated_at": before,
        "counts": {"attempt_count": 0, "rejection_count": 0, "for": None}, "fields": {},
    }  # fmt: skip
    return task_view(SimpleNamespace(scope="s"), Task(document, 1, job))  # type: ignore[arg-type]


@pytest.mark.parametrize("job", [QUEUED, RUNNING, REVIEW, DEAD], ids=lambda job: job.status.value)
def test_a_task_was_updated_when_its_job_changed(job: Job) -> None:
    assert job.changed_at is not None
    assert viewed(job).updated_at == job.changed_at.strftime("%Y-%m-%d %H:%M:%S")


def test_a_task_older_than_a_day_that_fails_keeps_its_worktree() -> None:
    task = viewed(DEAD)
    assert (task.queue, task.created_at[:10]) == ("failed", (NOW - timedelta(days=2)).date().isoformat())
    # The orchestrator's own rule: a worktree goes a day after the last update of a task that failed.
    updated = datetime.fromisoformat(task.updated_at).replace(tzinfo=UTC)
    assert (NOW - updated).total_seconds() < DAY_S


async def test_every_move_of_a_task_updates_it(octo: Octopoid) -> None:
    await octo.create("t")
    tenant = tenant_of(octo.scope)

    async def updated(*, by: str) -> None:
        task = await octo.get("t")
        job = await octo.api.store.load(task["job_id"])
        found = (await documents(octo).find(tenant, "task", "t")).document
        assert found is not None
        last = max(found["updated_at"], shown(job.changed_at) or "")
        assert task["updated_at"] == last[:19].replace("T", " "), by
        assert last > old, by
        await documents(octo).change(tenant, "task", "t", lambda known: known | {"updated_at": old})

    old = "2020-01-01T00:00:00.000Z"
    await octo.claim()
    await updated(by="claim")
    await lapsed(octo, "t")
    assert (await octo.get("t"))["updated_at"] > datetime.now(UTC).isoformat(" ")[:19]
    await updated(by="lapse")
    for verb, fields in (
        ("requeue", {}), ("reject", {"reason": "no", "rejected_by": "x"}),
        ("force-queue", {"queue": "failed", "reason": "x"}),
    ):  # fmt: skip
        await octo.patch("t", queue="incoming")
        await octo.claim()
        assert (await octo.post("t", verb, **fields)).status == 200
        await updated(by=verb)


# --- What it waits for


async def test_a_task_waits_for_one_that_failed_until_that_is_done(octo: Octopoid) -> None:
    await octo.create("a")
    await octo.create("b", blocked_by="a")
    async with octo.api.keeper():
        for _ in range(2):
            assert (await octo.claim()).json["id"] == "a"
            assert (await octo.patch("a", queue="failed")).json["queue"] == "failed"
            heir = {"kind": "noop", "depends_on": [(await octo.get("a"))["job_id"]]}
            made = await octo.api.call("POST", "/v1/jobs", heir, token=octo.key)
            await octo.api.until(made.json["id"], "dead")  # so its end has been looked at
            task = await octo.get("b")
            assert (task["queue"], task["blocked_by"]) == ("incoming", "a")
            assert (await octo.claim()).status == 404
            await octo.patch("a", queue="incoming")
        await octo.claim()
        await octo.submit("a")
        assert (await octo.post("a", "accept", accepted_by="x")).status == 200
        await octo.api.until((await octo.get("b"))["job_id"], "queued")
    assert (await octo.get("b"))["blocked_by"] is None
    assert (await octo.claim()).json["id"] == "b"


async def test_what_a_task_waits_for_holds_through_moves_of_it(octo: Octopoid) -> None:
    await octo.create("a", priority="P3")
    await octo.create("b", blocked_by="a")
    moved = await octo.post("b", "force-queue", queue="provisional", reason="x")
    assert (moved.json["queue"], moved.json["blocked_by"]) == ("provisional", "a")
    assert (await octo.claim(queue="provisional")).status == 404
    rejected = await octo.post("b", "reject", reason="not yet", rejected_by="gate")
    got = [rejected.json[name] for name in ("queue", "blocked_by", "rejection_count", "attempt_count")]
    assert got == ["incoming", "a", 1, 0]
    assert rejected.json["feedback"]["reason"] == "not yet"
    for queue in ("failed", "claimed", "backlog", "incoming"):
        patched = await octo.patch("b", queue=queue)
        assert (patched.json["queue"], patched.json["blocked_by"]) == (queue, "a")
        assert "b" in await octo.listed(f"queue={queue}")
    await octo.patch("b", queue="provisional")
    requeued = await octo.post("b", "requeue")
    assert (requeued.json["queue"], requeued.json["attempt_count"]) == ("incoming", 1)
    await octo.patch("b", queue="claimed")
    submitted = await octo.submit("b", commits=3)
    got = [submitted.json[name] for name in ("queue", "blocked_by", "commits_count")]
    assert got == ["provisional", "a", 3]
    assert (await octo.claim()).json["id"] == "a"
    assert (await octo.claim()).status == 404


async def test_a_task_that_waits_in_another_queue_is_there_for_who_claims_from_it(octo: Octopoid) -> None:
    await octo.create("a")
    await octo.create("b", blocked_by="a", queue="testing")
    assert (await octo.get("b"))["queue"] == "testing"
    assert (await octo.claim(queue="testing")).status == 404
    async with octo.api.keeper():
        await octo.claim()
        assert (await octo.post("a", "force-queue", queue="done", reason="x")).json["queue"] == "done"
        await octo.api.until((await octo.get("b"))["job_id"], "queued")
    assert (await octo.claim()).status == 404
    assert (await octo.claim("tester", queue="testing")).json["id"] == "b"
    assert (await octo.get("b"))["claimed_by"] == "tester"


async def test_a_task_that_waits_in_another_queue_is_let_go_and_accepted(octo: Octopoid) -> None:
    await octo.create("a")
    for name in ("b", "c"):
        await octo.create(name, blocked_by="a", queue="provisional")
    free = await octo.patch("b", blocked_by=None)
    assert (free.json["queue"], free.json["blocked_by"]) == ("provisional", None)
    assert (await octo.claim(queue="provisional")).json["id"] == "b"
    done = await octo.post("c", "accept", accepted_by="x")
    assert (done.status, done.json["queue"]) == (200, "done")
    assert (await octo.get("a"))["queue"] == "incoming"


# --- Leases


async def test_a_lease_lasts_as_long_as_was_asked_or_is_refused(octo: Octopoid) -> None:
    await octo.create("t")
    for lease_s in (14_400, 86_400):
        asked_at = datetime.now(UTC)
        claimed = (await octo.claim(lease_duration_seconds=lease_s)).json
        until = datetime.fromisoformat(claimed["lease_expires_at"])
        assert lease_s - 1 <= (until - asked_at).total_seconds() < lease_s + 600
        renewed = await octo.post("t", "renew", lease_duration_seconds=lease_s)
        assert renewed.json["lease_expires_at"] >= claimed["lease_expires_at"]
        await octo.post("t", "requeue")
    refused = await octo.claim(lease_duration_seconds=86_401)
    assert (refused.status, refused.json["field"]) == (400, "lease_duration_seconds")
    await octo.claim()
    refused = await octo.post("t", "renew", lease_duration_seconds=1e300)
    assert (refused.status, refused.json["field"]) == (400, "lease_duration_seconds")
    refused = await octo.patch("t", lease_expires_at="2999-01-01T00:00:00Z")
    assert (refused.status, refused.json["field"]) == (400, "lease_expires_at")
    await octo.submit("t")
    assert (await octo.claim("gate", queue="provisional", lease_duration_seconds=86_401)).status == 400
    review = (await octo.claim("gate", queue="provisional", lease_duration_seconds=14_400)).json
    assert datetime.fromisoformat(review["lease_expires_at"]) > datetime.now(UTC) + timedelta(seconds=7200)


@pytest.mark.parametrize("zone", [2, -5, 0])
async def test_the_end_of_a_lease_may_have_an_offset(octo: Octopoid, zone: int) -> None:
    await octo.create("t")
    await octo.claim()
    until = (datetime.now(UTC) + timedelta(hours=3)).replace(microsecond=0)
    sent = (until + timedelta(hours=zone)).replace(tzinfo=None).isoformat() + f"{zone:+03d}:00"
    renewed = await octo.patch("t", lease_expires_at=sent)
    assert datetime.fromisoformat(renewed.json["lease_expires_at"]) == until


@pytest.mark.parametrize("names_lease", [True, False])
@pytest.mark.parametrize("times", [1, 2])
async def test_work_comes_in_after_its_lease_has_lapsed_if_nobody_took_it(
    octo: Octopoid, times: int, *, names_lease: bool
) -> None:
    await octo.create("t")
    for _ in range(times):
        claimed = (await octo.claim()).json
        job = await lapsed(octo, "t")
    assert job.status == ("queued" if times == 1 else "dead")
    said = {"lease_id": claimed["lease_id"]} if names_lease else {}
    late = await octo.submit("t", commits=2, **said)
    assert (late.status, late.json["queue"], late.json["commits_count"]) == (200, "provisional", 2)
    job = await octo.api.store.load(claimed["job_id"])
    assert job.review is not None
    assert job.review.worker == job.worker
    assert (await octo.claim()).status == 404


async def test_a_lapsed_lease_is_prolonged_if_nobody_took_the_task(octo: Octopoid) -> None:
    await octo.create("t")
    claimed = (await octo.claim()).json
    until = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    for verb in ("renew", "patch"):
        job = await lapsed(octo, "t", blamed=False)
        assert job.status == "queued"
        if verb == "renew":
            asked = {"lease_duration_seconds": 3600, "lease_id": claimed["lease_id"]}
            renewed = await octo.post("t", "renew", **asked)
        else:
            renewed = await octo.patch("t", lease_expires_at=until)
        got = [renewed.json[name] for name in ("queue", "claimed_by", "orchestrator_id")]
        assert (renewed.status, got) == (200, ["claimed", "agent-1", "prod-m1"])
        left = datetime.fromisoformat(renewed.json["lease_expires_at"]) - datetime.now(UTC)
        assert left > timedelta(seconds=1800)
        claimed = renewed.json
    assert (await octo.submit("t", lease_id=claimed["lease_id"])).status == 200


async def test_a_lapsed_lease_is_nothing_once_somebody_else_took_the_task(octo: Octopoid) -> None:
    await octo.create("t")
    first = (await octo.claim("one")).json["lease_id"]
    await lapsed(octo, "t")
    second = (await octo.claim("two")).json["lease_id"]
    await lapsed(octo, "t", blamed=False)
    job_id = first.partition(".")[0]
    for lease in (first, f"{first}9", "x", f"{job_id}.-1", f"{job_id}.{'9' * 30}"):
        for verb in ("submit", "renew"):
            refused = await octo.post("t", verb, lease_id=lease, commits_count=1, turns_used=1)
            assert (refused.status, refused.json["code"]) == (409, "lease_lost"), (verb, lease)
    assert (await octo.submit("t", lease_id=second)).json["queue"] == "provisional"
    await octo.post("t", "reject", reason="x", rejected_by="y")
    assert (await octo.submit("t")).status == 409  # its lease did not lapse: it was ended
    assert (await octo.post("t", "renew")).status == 409


async def test_a_lapsed_review_is_taken_again_by_who_had_it(octo: Octopoid) -> None:
    await octo.create("t", queue="testing")
    for agent in ("one", "two"):
        await octo.claim(agent, queue="testing")
        await lapsed(octo, "t")
    assert (await octo.get("t"))["queue"] == "testing"
    renewed = await octo.post("t", "renew")
    assert (renewed.json["queue"], renewed.json["claimed_by"]) == ("claimed", "two")
    await lapsed(octo, "t")
    assert (await octo.submit("t")).json["queue"] == "provisional"


async def test_a_lease_whose_end_nobody_has_seen_yet_is_still_held(octo: Octopoid) -> None:
    await octo.create("t")
    await octo.claim()
    job = await octo.api.store.load((await octo.get("t"))["job_id"])
    assert later(job).now > datetime.now(UTC)
    soon = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    assert (await octo.patch("t", lease_expires_at=soon)).status == 200
    assert (await octo.submit("t")).status == 200


# --- A kind whose jobs can be erased


async def test_no_task_is_made_or_started_again_once_its_kind_can_be_erased(
    api: Gateway, octo: Octopoid
) -> None:
    for task_id in ("waits", "ended"):
        await octo.create(task_id)
    claimed = (await octo.claim()).json
    other = "ended" if claimed["id"] == "waits" else "waits"
    assert (await octo.submit(claimed["id"], lease_id=claimed["lease_id"])).status == 200
    assert (await octo.post(claimed["id"], "accept", accepted_by="x")).status == 200
    admin = api.token("admin")
    assert (await api.call("PUT", "/v1/kinds/agent", {"erasable": True}, token=admin)).status == 200
    try:
        made = await octo.call("POST", "/tasks", octo.task("new"))
        again = await octo.post(claimed["id"], "force-queue", queue="incoming", reason="x")
        for refused in (made, again):
            assert (refused.status, refused.json["code"]) == (400, "not_erasable"), refused
            assert "cannot be erased" in str(refused.json)
        assert (await octo.get(claimed["id"]))["queue"] == "done"
        held = (await octo.claim()).json
        assert held["id"] == other  # made before: its board holds it in clear, and goes on
        assert (await octo.submit(other, lease_id=held["lease_id"])).status == 200
    finally:
        await api.call("DELETE", "/v1/kinds/agent", token=admin)
    assert (await octo.post(claimed["id"], "force-queue", queue="incoming", reason="x")).status == 200
