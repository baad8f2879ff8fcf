"""Octopoid's API: queues, moves by hand, deletions, and what is kept beside tasks."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from switchyard.events.commands import Claim
from switchyard.events.errors import NotFoundError
from switchyard.events.vocabulary.ids import Revision, WorkerId
from switchyard.services.gateway.doors.octopoid.desk import holder_of, parties_of
from switchyard.services.gateway.doors.octopoid.kept.sorts import COUNTER
from switchyard.services.gateway.doors.octopoid.keys.scopes import tenant_of
from switchyard.services.gateway.doors.octopoid.tasks import job_id_of, job_key
from switchyard.services.records.entries.documents import Documents
from tests.broker.shared import SharedBroker
from tests.gateway.octopoid.client import Octopoid
from tests.gateway.rest import Answer, Gateway, gateway, now

pytestmark = pytest.mark.shared_gateway

STATES = ["incoming", "claimed", "testing", "staging", "done", "failed", "provisional"]
WAYS = [
    {"from": "incoming", "to": "claimed"},
    {"from": "claimed", "to": "testing"},
    {"from": "testing", "to": "staging"},
    {"from": "staging", "to": "done"},
]


@pytest.fixture
async def octo(api: Gateway) -> Octopoid:
    found = Octopoid(api)
    assert (await found.register()).status == 201
    return found


def documents(octo: Octopoid) -> Documents:
    return Documents(octo.api.nc, octo.api.publisher, octo.api.settings)


async def test_a_task_goes_through_the_queues_of_its_flow(octo: Octopoid) -> None:
    flow = {"states": STATES, "transitions": WAYS}
    assert (await octo.call("PUT", "/flows/custom", flow)).status == 200
    await octo.create("t", flow="custom")
    await octo.claim()
    assert (await octo.patch("t", queue="nowhere")).status == 400
    assert (await octo.patch("t", queue="testing")).json["queue"] == "testing"
    refused = await octo.post("t", "accept", accepted_by="x")
    assert (refused.status, "testing -> done" in refused.json["error"]) == (409, True)
    assert (await octo.claim()).status == 404
    tested = await octo.claim("tester", queue="testing")
    assert (tested.json["queue"], tested.json["claimed_by"]) == ("claimed", "tester")
    assert (await octo.claim("tester-2", queue="testing")).status == 404
    staged = await octo.patch("t", queue="staging", claimed_by=None, lease_expires_at=None)
    assert (staged.json["queue"], staged.json["claimed_by"]) == ("staging", None)
    assert (await octo.post("t", "accept", accepted_by="x")).json["queue"] == "done"
    assert (await octo.get("t"))["queue"] == "done"


async def test_flows_are_registered_listed_and_deleted(octo: Octopoid) -> None:
    bad: tuple[dict[str, Any], ...] = (
        {"states": STATES},
        {"states": ["incoming"], "transitions": []},
        {"transitions": []},
    )
    for body in bad:
        assert (await octo.call("PUT", "/flows/f", body)).status == 400
    for _ in range(2):
        assert (await octo.call("PUT", "/flows/f", {"states": STATES, "transitions": WAYS})).status == 200
    assert [flow["name"] for flow in (await octo.call("GET", "/flows")).json["flows"]] == ["f"]
    assert (await octo.call("GET", "/flows/f")).json["states"] == STATES
    assert (await octo.call("DELETE", "/flows/f")).status == 200
    assert (await octo.call("DELETE", "/flows/f")).status == 404
    assert (await octo.call("GET", "/flows")).json == {"flows": []}


@pytest.mark.parametrize(
    "queue", ["backlog", "provisional", "needs_continuation", "claimed", "failed", "done"]
)
async def test_a_task_may_be_created_in_any_queue(octo: Octopoid, queue: str) -> None:
    task = await octo.create("t", queue=queue)
    assert task["queue"] == queue
    assert (await octo.claim()).status == 404
    assert await octo.listed(f"queue={queue}") == ["t"]
    if queue != "done":
        forced = await octo.post("t", "force-queue", queue="incoming", reason="now")
        assert (forced.status, forced.json["queue"]) == (200, "incoming")
        assert (await octo.claim()).json["id"] == "t"


async def test_a_creation_that_broke_off_is_finished_by_the_same_request(octo: Octopoid) -> None:
    body = octo.task("t", queue="backlog")
    first = await octo.call("POST", "/tasks", body)
    again = await octo.call("POST", "/tasks", body)
    assert (first.status, again.status, again.json["job_id"]) == (201, 200, first.json["job_id"])
    other = await octo.call("POST", "/tasks", octo.task("t", title="another"))
    assert (other.status, other.json["error"]) == (409, "Task t already exists")
    # As after a crash between the two writes: the document is there, its job is not.
    store, tenant = documents(octo), tenant_of(octo.scope)
    document = (await store.find(tenant, "task", "t")).document
    assert document is not None
    await store.create(tenant, "task", "u", document | {"id": "u", "request": "?", "nonce": "n"})
    assert (await octo.call("GET", "/tasks/u")).status == 404
    assert (await octo.create("u"))["queue"] == "incoming"


async def test_a_task_that_was_to_stand_elsewhere_is_put_there_by_who_claims_it(octo: Octopoid) -> None:
    await octo.create("t")
    # As after a crash before a created task was moved to its queue.
    await documents(octo).change(tenant_of(octo.scope), "task", "t", lambda known: known | {"queue": "later"})
    assert (await octo.get("t"))["queue"] == "later"
    assert (await octo.claim()).status == 404
    assert (await octo.get("t"))["queue"] == "later"
    assert (await octo.claim(queue="later")).json["id"] == "t"


async def test_a_deleted_task_is_gone_and_its_id_free(octo: Octopoid) -> None:
    first = await octo.create("t")
    claimed = await octo.claim()
    assert claimed.status == 200
    assert (await octo.call("DELETE", "/tasks/t")).json == {"message": "Task deleted", "task_id": "t"}
    assert (await octo.call("DELETE", "/tasks/t")).status == 404
    assert (await octo.call("GET", "/tasks/t")).status == 404
    assert (await octo.submit("t")).status == 404
    assert (await octo.api.store.load(first["job_id"])).status == "cancelled"
    second = await octo.create("t")
    assert second["job_id"] != first["job_id"]
    assert (await octo.claim()).json["job_id"] == second["job_id"]


async def test_a_deletion_that_broke_off_is_finished(octo: Octopoid) -> None:
    first = await octo.create("t")
    await documents(octo).change(tenant_of(octo.scope), "task", "t", lambda known: known | {"deleted": True})
    assert (await octo.call("GET", "/tasks/t")).status == 404
    assert (await octo.claim()).status == 404
    assert (await octo.api.store.load(first["job_id"])).status == "cancelled"
    assert (await octo.create("t"))["job_id"] != first["job_id"]


async def test_a_failed_task_is_tried_again(octo: Octopoid) -> None:
    await octo.create("t")
    for _ in range(2):
        await octo.claim()
        failed = await octo.patch("t", queue="failed", execution_notes="it broke")
        assert (failed.json["queue"], failed.json["execution_notes"]) == ("failed", "it broke")
        assert failed.json["claimed_by"] is None
        assert (await octo.patch("t", queue="incoming", claimed_by=None)).json["queue"] == "incoming"
    assert (await octo.patch("t", queue="failed")).json["queue"] == "failed"
    job = await octo.api.store.load((await octo.get("t"))["job_id"])
    assert (job.status, job.reason) == ("dead", "not_retryable")


async def test_a_blocked_task_names_what_it_waits_for_until_it_is_done(octo: Octopoid) -> None:
    await octo.create("a")
    assert (await octo.call("POST", "/tasks", octo.task("x", blocked_by="nobody"))).status == 400
    blocked = await octo.create("b", blocked_by="a")
    assert (blocked["queue"], blocked["blocked_by"]) == ("incoming", "a")
    assert (await octo.claim()).json["id"] == "a"
    assert (await octo.claim()).status == 404
    assert (await octo.patch("b", blocked_by="b")).status == 400
    assert (await octo.patch("b", blocked_by=None)).json["blocked_by"] is None
    assert (await octo.claim()).json["id"] == "b"


async def test_fields_are_patched_and_bad_ones_refused(octo: Octopoid) -> None:
    task = await octo.create("t", role="implement", priority="P2")
    changed = await octo.patch("t", title="Other", branch="b", priority="P0", pr_number=7, needs_rebase=True)
    assert changed.status == 200, changed
    got = {name: changed.json[name] for name in ("title", "branch", "priority", "pr_number", "needs_rebase")}
    assert got == {"title": "Other", "branch": "b", "priority": "P0", "pr_number": 7, "needs_rebase": True}
    assert changed.json["version"] > task["version"]
    for fields, status in (
        ({}, 400), ({"nothing": 1}, 400), ({"queue": "done"}, 400),
        ({"priority": "P9"}, 400), ({"title": 5}, 400), ({"role": 5}, 400), ({"queue": 7}, 400),
        ({"title": "x", "version": task["version"]}, 409), ({"lease_expires_at": "soon"}, 400),
        ({"scope": "other", "title": "x"}, 403),
    ):  # fmt: skip
        answer = await octo.patch("t", **fields)
        assert (answer.status, "error" in answer.json) == (status, True), fields
    assert (await octo.patch("t", title="y", version=(await octo.get("t"))["version"])).status == 200
    await octo.claim(role_filter="implement")
    assert (await octo.patch("t", priority="P3")).json["priority"] == "P3"
    assert (await octo.patch("nobody", title="x")).status == 404


async def test_requests_that_break_a_rule_are_refused_in_octopoids_shape(octo: Octopoid) -> None:
    await octo.create("t")
    cases: list[tuple[str, str, Any]] = [
        ("POST", "/tasks", {"file_path": "x"}), ("POST", "/tasks", {"id": "x"}),
        ("POST", "/tasks", octo.task("x" * 201)), ("POST", "/tasks", octo.task("x", priority="high")),
        ("POST", "/tasks/claim", {"agent_name": "a"}), ("POST", "/tasks/claim", {"orchestrator_id": "a"}),
        ("POST", "/tasks/t/submit", {"commits_count": 1}), ("POST", "/tasks/t/accept", {}),
        ("POST", "/tasks/t/submit", {"commits_count": -1, "turns_used": 1}),
        ("POST", "/tasks/t/reject", {"reason": "x"}), ("POST", "/tasks/t/force-queue", {"queue": "done"}),
        ("POST", "/tasks/t/hooks/h/complete", {"status": "maybe"}), ("POST", "/tasks", [1]),
        ("GET", "/tasks?limit=x", None), ("POST", "/messages", {"task_id": "t"}),
        ("POST", "/projects", {"id": "p"}), ("POST", "/drafts", {"title": "d"}),
        ("POST", "/actions", {"label": "a"}),
    ]  # fmt: skip
    for method, path, body in cases:
        answer = await octo.call(method, path, body)
        assert (answer.status, isinstance(answer.json["error"], str)) == (400, True), (path, body, answer)
    assert (await octo.call("GET", "/nothing")).status == 404
    assert (await octo.call("PUT", "/tasks")).status == 405
    assert (await octo.post("t", "release")).status == 409
    for verb, body in (("submit", {"commits_count": 1, "turns_used": 1}), ("accept", {"accepted_by": "x"})):
        assert (await octo.post("t", verb, **body)).status == 409
        assert (await octo.post("nobody", verb, **body)).status == 404


async def test_lists_are_filtered_ordered_and_paged(octo: Octopoid) -> None:
    for number, priority in enumerate(("P2", "P0", "P1", "P0")):
        await octo.create(f"t{number}", priority=priority, role="r1" if number % 2 else "r2", project_id="p")
    assert await octo.listed() == ["t3", "t2", "t1", "t0"]
    assert await octo.listed("sort=priority") == ["t1", "t3", "t2", "t0"]
    assert await octo.listed("priority=P0,P1&role=r1") == ["t3", "t1"]
    assert await octo.listed("limit=1&offset=1") == ["t2"]
    assert await octo.listed("project_id=q") == []
    await octo.claim("me")
    assert await octo.listed("claimed_by=me") == await octo.listed("queue=claimed") == ["t1"]
    answer = (await octo.call("GET", "/tasks?limit=2")).json
    assert (answer["total"], answer["offset"], answer["limit"], len(answer["tasks"])) == (4, 0, 2, 2)
    polled = (await octo.call("GET", "/scheduler/poll?orchestrator_id=prod-m1")).json
    assert polled["queue_counts"] == {"incoming": 3, "claimed": 1, "provisional": 0}
    assert (polled["orchestrator_registered"], polled["scope"]) == (True, octo.scope)
    held = await octo.claim("me", max_claimed=1)
    assert held.status == 429


async def test_messages_hooks_projects_drafts_and_actions_are_kept(octo: Octopoid) -> None:
    await octo.create("t", hooks='[{"name": "tests"}]')
    hooked = await octo.post("t", "hooks/tests/complete", status="passed", evidence={"n": 1})
    assert hooked.json["hooks"] == '[{"name":"tests","status":"passed","evidence":{"n":1}}]'
    assert (await octo.post("t", "hooks/other/complete", status="passed")).status == 404
    said = {"task_id": "t", "from_actor": "ann", "type": "comment", "content": "hello"}
    first = (await octo.call("POST", "/messages", said)).json
    reply = said | {"parent_message_id": first["id"], "content": "yes", "to_actor": "ann"}
    second = (await octo.call("POST", "/messages", reply)).json
    assert (await octo.call("POST", "/messages", reply | {"task_id": "u"})).status == 400
    listed = (await octo.call("GET", "/tasks/t/messages")).json
    assert ([message["id"] for message in listed["messages"]], listed["total"]) == (
        [first["id"], second["id"]],
        2,
    )
    for query, count in (
        ("to_actor=ann", 1),
        (f"thread_id={first['id']}", 2),
        ("unreplied=true", 1),
        ("task_id=u", 0),
    ):
        assert (await octo.call("GET", f"/messages?{query}")).json["total"] == count, query

    project = {"id": "p", "title": "P", "branch": "feature"}
    assert (await octo.call("POST", "/projects", project)).status == 201
    assert (await octo.call("POST", "/projects", project)).status == 409
    await octo.create("u", project_id="p")
    assert [task["id"] for task in (await octo.call("GET", "/projects/p/tasks")).json["tasks"]] == ["u"]
    ended = await octo.call("PATCH", "/projects/p", {"status": "completed"})
    assert ended.json["completed_at"]
    assert (await octo.call("PATCH", "/projects/p", {})).status == 400
    assert (await octo.call("GET", "/projects?status=draft")).json["total"] == 0
    assert (await octo.call("GET", "/projects/q")).status == 404

    bodies = [octo.call("POST", "/drafts", {"title": "d", "author": "ann"}) for _ in range(12)]
    drafts = await asyncio.gather(*bodies)
    assert sorted(answer.json["id"] for answer in drafts) == list(range(1, 13))
    assert (await octo.call("GET", "/drafts?status=idea&limit=2")).json["total"] == 12

    action = {"entity_type": "task", "entity_id": "t", "label": "Merge", "proposed_by": "a"}
    act: Answer = await octo.call("POST", "/actions", action)
    path = f"/actions/{act.json['id']}"
    assert (await octo.call("POST", f"{path}/execute", {})).json["status"] == "execute_requested"
    assert (await octo.call("POST", f"{path}/execute", {})).status == 400
    assert (await octo.call("POST", f"{path}/complete", {"result": {"ok": 1}})).json["result"] == {"ok": 1}
    assert (await octo.call("GET", "/actions?status=completed&entity_id=t")).json["total"] == 1


async def test_who_meets_the_maker_of_a_counter_does_not_begin_it_again(
    octo: Octopoid, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = {"title": "d", "author": "ann"}
    assert (await octo.call("POST", "/drafts", draft)).json["id"] == 1
    real, late = Documents.change, [True]

    async def change(self: Documents, tenant: str, sort: str, name: str, made: Any) -> Any:
        if sort == COUNTER and late:  # it was made between the two readings
            late.clear()
            raise NotFoundError("not yet")
        return await real(self, tenant, sort, name, made)

    monkeypatch.setattr(Documents, "change", change)
    assert (await octo.call("POST", "/drafts", draft)).json["id"] == 2


async def test_the_scopes_key_opens_the_other_routes_as_its_tenant(octo: Octopoid) -> None:
    task = await octo.create("t")
    tenant = tenant_of(octo.scope)
    job = await octo.api.get(f"/v1/jobs/{task['job_id']}", token=octo.key)
    assert (job.status, job.json["kind"], job.json["tenant"], job.json["labels"]) == (
        200, "agent", tenant, {"task": "t"},
    )  # fmt: skip
    assert (await octo.api.get(f"/v1/jobs/{task['job_id']}")).status == 404
    wrong = await octo.api.get("/v1/jobs", token="oct_" + "1" * 64)
    assert (wrong.status, wrong.json["code"]) == (401, "token_invalid")
    body = {"worker": "w", "kinds": ["agent"], "capabilities": {"octopoid": {"role": ["*"], "type": ["*"]}}}
    leased = await octo.api.call("POST", "/v1/leases", body, token=octo.key)
    assert leased.json["job"]["payload"]["id"] == "t"
    lease = leased.json["lease"]
    renewed = await octo.api.call(
        "POST", f"/v1/leases/{lease['id']}/renew", {"lease_s": 500},
        token=octo.key, Switchyard_Lease_Token=lease["token"],
    )  # fmt: skip
    assert renewed.status == 200
    view = await octo.get("t")
    assert (view["queue"], view["lease_id"], view["claimed_by"]) == (
        "claimed",
        lease["id"],
        f"rest.{tenant}.w",
    )


async def test_any_gateway_takes_any_call(
    octo: Octopoid, shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with gateway(shared_broker.url, tmp_path / "second") as other:
        there = Octopoid(other, octo.scope)
        there.key = octo.key
        await octo.create("t")
        claimed = await there.claim()
        assert claimed.json["id"] == "t"
        assert (await octo.submit("t", lease_id=claimed.json["lease_id"])).json["queue"] == "provisional"
        answers = await asyncio.gather(*(side.claim("g", queue="provisional") for side in (octo, there)))
        assert sorted(answer.status for answer in answers) == [200, 404]
        assert (await there.post("t", "accept", accepted_by="g")).json["queue"] == "done"
        assert await octo.listed("queue=done") == await there.listed("queue=done") == ["t"]


async def test_a_scope_has_a_limited_number_of_tasks_that_have_not_ended_of_a_limited_size(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with gateway(shared_broker.url, tmp_path, tenant_jobs=1, payload_bytes=5000) as api:
        octo = Octopoid(api)
        await octo.register()
        large = await octo.call("POST", "/tasks", octo.task("t", content="x" * 6000))
        assert (large.status, "error" in large.json) == (413, True)
        await octo.create("t")
        assert (await octo.patch("t", content="x" * 6000)).status == 413
        full = await octo.call("POST", "/tasks", octo.task("u"))
        assert (full.status, full.json["code"]) == (429, "too_many_jobs")


def test_agents_names_are_read_back_from_a_workers() -> None:
    for orchestrator, agent in (("prod-m1", "agent-1"), ("a_b.local", "über agent__x"), ("x", "_")):
        name = holder_of(orchestrator, agent)
        assert all(char.isalnum() or char in "_-" for char in name)
        assert parties_of(f"rest.oct-s.{name}") == (orchestrator, agent)
    assert parties_of("w1") == (None, "w1")


async def test_a_restart_of_a_move_finds_the_task_where_it_was_left(octo: Octopoid) -> None:
    task = await octo.create("t")
    # As after a crash in the middle of a move: the gateway holds the task, and has not handed it in.
    held = Claim(
        now=now(),
        worker=WorkerId(f"rest.{tenant_of(octo.scope)}.octopoid"),
        revision=Revision(0),
        expires_at=now(),
    )
    await octo.api.store.transition(task["job_id"], held, actor="test")
    assert (await octo.get("t"))["queue"] == "incoming"
    assert (await octo.submit("t")).status == 409
    assert (await octo.patch("t", queue="later")).json["queue"] == "later"


def test_a_task_that_is_created_again_is_another_job() -> None:
    assert job_id_of("t", "a", "1") != job_id_of("t", "a", "2") != job_id_of("u", "a", "2")
    assert job_key("a", "1") != job_key("a\0", "1")
