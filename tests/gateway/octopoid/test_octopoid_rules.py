"""Octopoid's API: counts, priorities, limits and odd values are as its own server has them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest

from switchyard.services.gateway.doors.octopoid.desk import shown
from switchyard.services.gateway.doors.octopoid.keys.scopes import tenant_of
from switchyard.services.ids import new_id
from tests.broker.shared import SharedBroker
from tests.gateway.octopoid.client import Octopoid
from tests.gateway.octopoid.test_octopoid_moves import documents, lapsed
from tests.gateway.rest import Gateway, gateway
from tests.sizes import sizes

pytestmark = pytest.mark.shared_gateway

ODD: Final[tuple[Any, ...]] = (
    None, True, 0, -1, 7, 1.5, 1e308, 2**63, 2**70, "", "x", "\x00", "é" * 300, "x" * 300_000, [], [1], [[]],
    {}, {"a": 1}, [None], "2026-13-45", "9999-12-31T23:59:59+00:00", "0001-01-01T00:00:00+14:00",
)  # fmt: skip

EVERY: Final = sizes(3, 1, timeout_s=600)
"""An odd value stands in one field in so many, in turn: a third, or all. Dates stand in each time."""


@pytest.fixture
async def octo(api: Gateway) -> Octopoid:
    found = Octopoid(api)
    assert (await found.register()).status == 201
    return found


async def counts(octo: Octopoid, task_id: str = "t") -> tuple[int, int]:
    task = await octo.get(task_id)
    return task["attempt_count"], task["rejection_count"]


# --- What is counted, and what is cleared


async def test_only_requeues_count_as_attempts_and_only_rejections_as_rejections(octo: Octopoid) -> None:
    await octo.create("t")
    await octo.claim()
    await lapsed(octo, "t", blamed=False)
    await octo.claim()
    await octo.submit("t")
    assert await counts(octo) == (0, 0)
    await octo.post("t", "reject", reason="one", rejected_by="x")
    assert await counts(octo) == (0, 1)
    await octo.claim()
    await octo.post("t", "reject", reason="two", rejected_by="x")
    assert await counts(octo) == (0, 2)
    await octo.claim()
    await octo.post("t", "requeue")
    assert await counts(octo) == (1, 2)
    await octo.claim()
    await octo.submit("t")
    again = (await octo.post("t", "requeue")).json
    assert (again["attempt_count"], again["rejection_count"], again["feedback"]["reason"]) == (2, 2, "two")
    for queue in ("failed", "incoming", "provisional", "incoming"):
        await octo.patch("t", queue=queue)
    assert await counts(octo) == (2, 2)
    await octo.patch("t", attempt_count=7, rejection_count=0)
    assert await counts(octo) == (7, 0)


async def test_a_count_whose_move_broke_off_counts_once(octo: Octopoid) -> None:
    await octo.create("t")
    claimed = (await octo.claim()).json
    job = await octo.api.store.load(claimed["job_id"])
    broken = {"attempt_count": 1, "rejection_count": 0, "for": ["attempt_count", job.seq]}
    await documents(octo).change(tenant_of(octo.scope), "task", "t", lambda known: known | {"counts": broken})
    assert await counts(octo) == (0, 0)
    await octo.post("t", "requeue")
    assert await counts(octo) == (1, 0)


async def test_tasks_of_the_version_before_count_on(octo: Octopoid) -> None:
    await octo.create("t")

    def old(known: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in known.items() if name != "counts"}

    await octo.claim()
    await octo.submit("t")
    await octo.post("t", "reject", reason="no", rejected_by="x")
    await documents(octo).change(tenant_of(octo.scope), "task", "t", old)
    assert await counts(octo) == (1, 1)
    await octo.claim()
    assert await counts(octo) == (1, 1)
    await octo.post("t", "requeue")
    assert await counts(octo) == (2, 1)


@pytest.mark.parametrize(
    ("queue", "verb", "fields"),
    [
        ("incoming", "claim", {}), ("provisional", "claim", {"queue": "provisional"}),
        ("claimed", "submit", {"commits_count": 1, "turns_used": 1}),
        ("provisional", "accept", {"accepted_by": "x"}), ("claimed", "requeue", {}),
        ("provisional", "reject", {"reason": "x", "rejected_by": "y"}),
        ("claimed", "force-queue", {"queue": "failed", "reason": "x"}),
    ],
)  # fmt: skip
async def test_a_move_settles_that_somebody_had_to_intervene(
    octo: Octopoid, queue: str, verb: str, fields: dict[str, Any]
) -> None:
    await octo.create("t")
    if queue != "incoming":
        await octo.claim()
    if queue == "provisional":
        await octo.submit("t")
    assert (await octo.patch("t", needs_intervention=True)).json["needs_intervention"] == 1
    assert await octo.listed("needs_intervention=true") == ["t"]
    answer = await (octo.claim(**fields) if verb == "claim" else octo.post("t", verb, **fields))
    assert (answer.status, answer.json["needs_intervention"]) == (200, 0)
    assert await octo.listed("needs_intervention=true") == []


async def test_reviews_do_not_count_as_tasks_that_are_worked_on(octo: Octopoid) -> None:
    for name in ("a", "b", "c"):
        await octo.create(name)
    await octo.create("r", queue="testing")
    assert (await octo.claim("tester", queue="testing")).json["queue"] == "claimed"
    assert (await octo.claim(max_claimed=1)).status == 200
    assert (await octo.claim(max_claimed=1)).status == 429
    assert (await octo.claim(max_claimed=1, orchestrator_id="prod-m2")).status == 200
    await octo.post("r", "release")
    assert (await octo.claim("tester", queue="testing", max_claimed=0)).json["id"] == "r"
    assert (await octo.claim(max_claimed=2)).status == 200


# --- Priorities and queues by hand


async def test_priority_and_queue_change_in_one_request(octo: Octopoid) -> None:
    await octo.create("other", priority="P1")
    await octo.create("t", priority="P3")
    await octo.patch("t", queue="failed")
    both = await octo.patch("t", queue="incoming", priority="P0")
    assert (both.json["queue"], both.json["priority"]) == ("incoming", "P0")
    assert (await octo.claim()).json["id"] == "t"
    assert (await octo.patch("t", priority="P3")).json["priority"] == "P3"
    assert await octo.listed("priority=P3") == ["t"]
    assert (await octo.submit("t")).json["priority"] == "P3"
    assert (await octo.post("t", "reject", reason="x", rejected_by="y")).json["priority"] == "P3"
    assert (await octo.claim()).json["id"] == "other"
    away = await octo.patch("t", queue="provisional", priority="P0")
    assert (away.json["queue"], away.json["priority"]) == ("provisional", "P0")
    await octo.patch("t", queue="incoming")
    job = await octo.api.store.load((await octo.get("t"))["job_id"])
    assert (job.status, job.own_priority) == ("queued", 95)


async def test_a_holder_is_taken_away_and_written_down_by_hand(octo: Octopoid) -> None:
    await octo.create("t")
    await octo.claim()
    left = (await octo.patch("t", claimed_by=None, lease_expires_at=None)).json
    assert [left[name] for name in ("queue", "claimed_by", "lease_expires_at")] == ["claimed", None, None]
    failed = (await octo.patch("t", queue="failed", claimed_by="keep-this")).json
    assert (failed["queue"], failed["claimed_by"]) == ("failed", "keep-this")
    assert await octo.listed("claimed_by=keep-this") == ["t"]
    assert (await octo.patch("t", queue="incoming")).json["claimed_by"] is None
    assert (await octo.patch("t", claimed_by=["x"])).status == 400
    assert (await octo.claim()).json["claimed_by"] == "agent-1"


@pytest.mark.parametrize("verb", ["patch", "force-queue"])
@pytest.mark.parametrize("queue", ["incoming", "provisional", "failed", "testing"])
async def test_a_done_task_is_opened_again(octo: Octopoid, verb: str, queue: str) -> None:
    await octo.create("t", priority="P1", content="do it")
    await octo.create("waits", blocked_by="t", priority="P3")
    await octo.claim()
    await octo.submit("t")
    done = (await octo.post("t", "accept", accepted_by="x", completed_at="2026-01-31T12:00:00+02:00")).json
    assert done["completed_at"] == "2026-01-31T12:00:00+02:00"
    if verb == "patch":
        opened = await octo.patch("t", queue=queue)
    else:
        opened = await octo.post("t", "force-queue", queue=queue, reason="again")
    got = [opened.json[name] for name in ("queue", "priority", "content", "created_at")]
    assert (opened.status, got) == (200, [queue, "P1", "do it", done["created_at"]])
    assert opened.json["version"] > done["version"]
    assert await octo.listed(f"queue={queue}&priority=P1") == ["t"]
    if queue != "incoming":
        await octo.patch("t", queue="incoming")
    assert (await octo.claim()).json["id"] == "t"
    await octo.submit("t")
    assert (await octo.post("t", "accept", accepted_by="z")).json["queue"] == "done"


async def test_a_task_that_was_cancelled_by_another_route_is_tried_again(octo: Octopoid) -> None:
    task = await octo.create("t")
    cancelled = await octo.api.call("POST", f"/v1/jobs/{task['job_id']}/cancel", {}, token=octo.key)
    assert cancelled.status == 200
    assert (await octo.get("t"))["queue"] == "failed"
    assert (await octo.patch("t", queue="incoming")).json["queue"] == "incoming"
    assert (await octo.claim()).json["id"] == "t"


@pytest.mark.parametrize("has_job", [True, False])
async def test_opening_a_task_again_that_broke_off_is_finished(octo: Octopoid, *, has_job: bool) -> None:
    await octo.create("t")
    await octo.post("t", "force-queue", queue="done", reason="x")
    tenant, store = tenant_of(octo.scope), documents(octo)
    note: dict[str, Any] = {"next": {"nonce": new_id(), "queue": "incoming"}}
    opened: dict[str, Any] = {}
    if has_job:
        before = (await store.find(tenant, "task", "t")).document or {}
        opened = (await octo.patch("t", queue="incoming")).json
        after = (await store.find(tenant, "task", "t")).document or {}
        note = {"next": {"nonce": after["nonce"], "queue": "incoming"}, "nonce": before["nonce"]}
    await store.change(tenant, "task", "t", lambda known: known | note)
    assert (await octo.get("t"))["queue"] == "done"
    if has_job:  # who claims the job finds it to be the task's
        claimed = await octo.claim()
        assert (claimed.status, claimed.json["job_id"]) == (200, opened["job_id"])
    else:
        assert (await octo.patch("t", queue="incoming")).json["queue"] == "incoming"
        assert (await octo.claim()).status == 200
    assert (await octo.get("t"))["queue"] == "claimed"


# --- Limits, and what is odd


async def test_tasks_that_are_done_leave_room_for_others(shared_broker: SharedBroker, tmp_path: Path) -> None:
    async with gateway(shared_broker.url, tmp_path, octopoid_documents=3) as api:
        octo = Octopoid(api)
        await octo.register()
        for number in range(8):
            await octo.create(f"t{number}")
            forced = await octo.patch(f"t{number}", queue="provisional")
            assert forced.status == 200, forced
            assert (await octo.post(f"t{number}", "accept", accepted_by="x")).status == 200
        assert len(await octo.listed("queue=done")) == 8


FIELDS: Final = (
    "id", "file_path", "title", "queue", "priority", "complexity", "role", "type", "branch", "blocked_by",
    "claimed_by", "claimed_at", "lease_expires_at", "commits_count", "turns_used", "attempt_count",
    "has_plan", "plan_id", "project_id", "auto_accept", "rejection_count", "pr_number", "pr_url", "checks",
    "check_results", "needs_rebase", "last_rebase_attempt_at", "staging_url", "submitted_at", "completed_at",
    "hooks", "flow", "flow_overrides", "content", "needs_intervention", "version", "execution_notes",
    "metadata", "scope", "breakdown_depth", "orchestrator_id",
)  # fmt: skip
VERBS: Final[dict[str, dict[str, Any]]] = {
    "submit": {
        "commits_count": 1, "turns_used": 1, "check_results": "", "execution_notes": "", "lease_id": "",
    },
    "accept": {"accepted_by": "x", "completed_at": ""}, "reject": {"reason": "x", "rejected_by": "y"},
    "requeue": {"lease_id": ""}, "force-queue": {"queue": "x", "reason": "y"},
    "renew": {"lease_duration_seconds": 1, "lease_id": ""}, "release": {"lease_id": ""},
    "hooks/h/complete": {"status": "passed", "evidence": ""},
}  # fmt: skip
CLAIM: Final[dict[str, Any]] = {
    "orchestrator_id": "o", "agent_name": "a", "role_filter": "r", "type_filter": "t", "queue": "q",
    "lease_duration_seconds": 5, "max_claimed": 1,
}  # fmt: skip


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize("at", range(len(ODD)))
async def test_odd_values_are_never_a_fault_of_the_server(octo: Octopoid, at: int, every: int) -> None:
    odd, faults = ODD[at], list[Any]()

    async def ask(method: str, path: str, body: Any) -> None:
        answer = await octo.call(method, path, body)
        if answer.status >= 500:
            faults.append((method, path, str(body)[:200], answer))

    await octo.create("t", hooks='[{"name": "h"}]')
    times = [field for field in FIELDS if field.endswith("_at") and str(odd).count("-") > 1]
    for field in dict.fromkeys((*FIELDS[at % every :: every], *times)):
        await octo.create("p", hooks='[{"name": "h"}]')
        await ask("PATCH", "/tasks/p", {field: odd})
        await ask("GET", "/tasks/p", None)
        await ask("POST", "/tasks/p/hooks/h/complete", {"status": "passed"})
        await ask("DELETE", "/tasks/p", None)
        await ask("POST", "/tasks", octo.task(f"n-{field}") | {field: odd})
    for verb, fields in VERBS.items():
        for field in [*fields][at % min(every, len(fields)) :: every]:
            await ask("POST", f"/tasks/t/{verb}", fields | {field: odd})
    for field in [*CLAIM][at % every :: every]:
        await ask("POST", "/tasks/claim", CLAIM | {field: odd})
    await ask("GET", "/tasks", None)
    await ask("GET", "/scheduler/poll", None)
    assert faults == []


async def test_ids_and_times_come_back_as_they_were_sent(octo: Octopoid) -> None:
    name, path = "TASK 7_é+x", "/srv/a b/../TASK.md"
    await octo.create(name, file_path=path)
    sent = {
        "last_rebase_attempt_at": "2026-01-31 12:00:00", "submitted_at": "2026-01-31T12:00:00.123456+02:00",
    }  # fmt: skip
    await octo.patch("TASK%207_%C3%A9%2Bx", **sent)
    task = await octo.get("TASK%207_%C3%A9%2Bx")
    wanted = sent | {"id": name, "file_path": path}
    assert {field: task[field] for field in wanted} == wanted
    now = shown(datetime.now(UTC)) or ""
    for field in ("created_at", "updated_at"):
        assert datetime.fromisoformat(task[field]).tzinfo is None
        assert task[field][:10] <= now[:10]
