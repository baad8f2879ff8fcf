"""Messages, projects, drafts, actions and roles at Octopoid's door."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from switchyard.services import clock
from tests.broker.shared import SharedBroker
from tests.gateway.octopoid.client import Octopoid
from tests.gateway.rest import Gateway, gateway

pytestmark = pytest.mark.shared_gateway


@pytest.fixture
async def octo(api: Gateway) -> Octopoid:
    found = Octopoid(api)
    assert (await found.register()).status == 201
    return found


async def said(octo: Octopoid, content: str, task: str = "t", **fields: Any) -> dict[str, Any]:
    body = {"task_id": task, "from_actor": "agent", "type": "note", "content": content, **fields}
    answer = await octo.call("POST", "/messages", body)
    assert answer.status == 201, answer
    message: dict[str, Any] = answer.json
    return message


async def heard(octo: Octopoid, query: str, path: str = "/messages") -> list[str]:
    answer = await octo.call("GET", f"{path}?{query}")
    assert (answer.status, answer.json["total"]) == (200, len(answer.json["messages"])), answer
    return [message["content"] for message in answer.json["messages"]]


# --- Messages


async def test_what_is_unreplied_is_judged_by_all_messages_whatever_is_filtered(octo: Octopoid) -> None:
    asked = await said(octo, "question", to_actor="human", type="question")
    await said(octo, "other", to_actor="human", type="question")
    await said(octo, "answer", parent_message_id=asked["id"])
    assert await heard(octo, "unreplied=true&type=question") == ["other"]
    assert await heard(octo, "unreplied=true&to_actor=human") == ["other"]
    assert await heard(octo, "unreplied=true") == ["other", "answer"]
    assert await heard(octo, "unreplied=true&type=question", "/tasks/t/messages") == ["other"]


async def test_a_thread_is_a_message_with_all_that_answers_it(octo: Octopoid) -> None:
    root = await said(octo, "root")
    await said(octo, "aside")
    reply = await said(octo, "reply", parent_message_id=root["id"], type="answer")
    await said(octo, "again", parent_message_id=reply["id"])
    assert await heard(octo, f"thread_id={root['id']}") == ["root", "reply", "again"]
    assert await heard(octo, f"thread_id={reply['id']}&type=note") == ["reply", "again"]
    assert await heard(octo, "thread_id=msg-nobody") == []


async def test_an_empty_text_says_nothing(octo: Octopoid) -> None:
    message = await said(octo, "c", to_actor="", parent_message_id="")
    assert (message["to_actor"], message["parent_message_id"]) == (None, None)
    body = {"task_id": "t", "from_actor": "a", "type": "t", "content": ""}
    assert (await octo.call("POST", "/messages", body)).status == 400
    draft = {"title": "t", "author": "a", "status": "", "domain": "", "file_path": ""}
    made = (await octo.call("POST", "/drafts", draft)).json
    assert (made["status"], made["domain"], made["file_path"]) == ("idea", None, None)
    project = {"id": "p", "title": "t", "branch": "", "base_branch": ""}
    made = (await octo.call("POST", "/projects", project)).json
    assert (made["branch"], made["base_branch"]) == (None, "main")
    action = {"entity_type": "t", "entity_id": "i", "label": "l", "expires_at": "", "action_type": ""}
    made = (await octo.call("POST", "/actions", action)).json
    assert (made["expires_at"], made["action_type"]) == (None, "proposal")


async def test_a_long_thread_comes_whole_and_lists_come_in_pages(octo: Octopoid) -> None:
    root = await said(octo, "0")
    for number in range(1, 61):
        await said(octo, str(number), parent_message_id=root["id"])
    assert await heard(octo, f"thread_id={root['id']}") == [str(number) for number in range(61)]
    page = (await octo.call("GET", "/tasks/t/messages?offset=50&limit=5")).json
    assert ([one["content"] for one in page["messages"]], page["total"]) == (
        [str(number) for number in range(50, 55)], 61,
    )  # fmt: skip
    assert len((await octo.call("GET", "/messages")).json["messages"]) == 50


async def test_messages_are_seen_at_every_gateway_as_soon_as_they_are_kept(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with (
        gateway(shared_broker.url, tmp_path / "a") as one,
        gateway(shared_broker.url, tmp_path / "b") as other,
    ):
        here = Octopoid(one)
        await here.register()
        there = Octopoid(other, here.scope)
        there.key = here.key
        for number in range(10):
            await said(here, str(number))
            assert len(await heard(there, "task_id=t")) == number + 1


# --- Room


@pytest.fixture
async def small(shared_broker: SharedBroker, tmp_path: Path) -> AsyncIterator[Octopoid]:
    """A scope with room for few, in which what has ended goes at once."""
    limits: dict[str, Any] = {"octopoid_documents": 4, "octopoid_messages": 4, "octopoid_keep_s": 0}
    async with gateway(shared_broker.url, tmp_path, **limits) as api:
        octo = Octopoid(api)
        await octo.register()
        yield octo


async def test_messages_of_tasks_that_have_ended_make_room_and_those_of_others_never(small: Octopoid) -> None:
    await small.create("t")
    await small.create("done")
    assert (await small.post("done", "force-queue", queue="done", reason="r")).status == 200  # posts one
    await small.api.caught_up()
    await said(small, "ended", "done")
    await said(small, "of nobody", "gone")
    await said(small, "kept")
    await said(small, "another")
    assert await heard(small, "") == ["kept", "another"]
    await said(small, "third")
    await said(small, "fourth")
    body = {"task_id": "t", "from_actor": "a", "type": "note", "content": "fifth"}
    refused = await small.call("POST", "/messages", body)
    assert (refused.status, refused.json["code"]) == (429, "limit")
    assert await heard(small, "") == ["kept", "another", "third", "fourth"]


async def test_gateways_that_make_room_at_once_take_nothing_but_what_has_ended(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    limits: dict[str, Any] = {"octopoid_messages": 8, "octopoid_keep_s": 0}
    async with (
        gateway(shared_broker.url, tmp_path / "a", **limits) as one,
        gateway(shared_broker.url, tmp_path / "b", **limits) as other,
    ):
        here = Octopoid(one)
        await here.register()
        there = Octopoid(other, here.scope)
        there.key = here.key
        await here.create("t")
        await said(here, "kept")
        for number in range(7):
            await said(here, f"ended {number}", "gone")

        async def post(octo: Octopoid, content: str) -> str | None:
            body = {"task_id": "t", "from_actor": "a", "type": "note", "content": content}
            answer = await octo.call("POST", "/messages", body)
            assert answer.status == 201 or answer.json["code"] == "limit", answer
            return content if answer.status == 201 else None

        posts = [post(octo, f"{number}{octo is here}") for number in range(4) for octo in (here, there)]
        taken = [content for content in await asyncio.gather(*posts) if content]
        assert taken
        for octo in (here, there):
            left = await heard(octo, "limit=50")
            assert sorted(one for one in left if not one.startswith("ended")) == sorted(["kept", *taken])


async def test_what_has_ended_stays_for_the_time_that_the_setting_says(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with gateway(shared_broker.url, tmp_path, octopoid_messages=2) as api:
        octo = Octopoid(api)
        await octo.register()
        await said(octo, "one", "gone")
        await said(octo, "two", "gone")
        body = {"task_id": "gone", "from_actor": "a", "type": "note", "content": "three"}
        assert (await octo.call("POST", "/messages", body)).status == 429
        assert await heard(octo, "") == ["one", "two"]


async def test_actions_drafts_and_projects_that_have_ended_make_room(small: Octopoid) -> None:
    action = {"entity_type": "task", "entity_id": "t", "label": "l"}
    made = [(await small.call("POST", "/actions", action)).json["id"] for _ in range(4)]
    assert (await small.call("POST", "/actions", action)).status == 429
    await small.call("POST", f"/actions/{made[1]}/fail", {"result": {"why": 1}})
    assert (await small.call("POST", "/actions", action)).status == 201
    left = {one["id"] for one in (await small.call("GET", "/actions")).json["actions"]}
    assert (len(left), made[1] in left, made[0] in left) == (4, False, True)
    for number in range(4):
        assert (await small.call("POST", "/drafts", {"title": "t", "author": "a"})).status == 201
        assert (await small.call("POST", "/projects", {"id": f"p{number}", "title": "t"})).status == 201
    assert (await small.call("POST", "/drafts", {"title": "t", "author": "a"})).status == 429
    assert (await small.call("POST", "/projects", {"id": "p4", "title": "t"})).status == 429
    await small.call("PATCH", "/drafts/2", {"status": "archived"})
    await small.call("PATCH", "/projects/p3", {"status": "completed"})
    assert (await small.call("POST", "/drafts", {"title": "t", "author": "a"})).status == 201
    assert (await small.call("POST", "/projects", {"id": "p4", "title": "t"})).status == 201
    assert (await small.call("GET", "/drafts/2")).status == 404
    assert (await small.call("GET", "/projects/p3")).status == 404


# --- Drafts


async def test_a_draft_is_read_changed_and_deleted_by_its_number(octo: Octopoid) -> None:
    made = (await octo.call("POST", "/drafts", {"title": "t", "author": "a", "tags": ["x", "y"]})).json
    assert (made["id"], made["status"], made["tags"]) == (1, "idea", '["x","y"]')
    changed = await octo.call("PATCH", "/drafts/1", {"status": "approved", "linked_task_id": "t", "tags": []})
    assert (changed.json["status"], changed.json["linked_task_id"], changed.json["tags"]) == (
        "approved", "t", "[]",
    )  # fmt: skip
    assert changed.json["updated_at"] >= made["updated_at"]
    assert (await octo.call("GET", "/drafts/1")).json == changed.json
    assert (await octo.call("PATCH", "/drafts/1", {"domain": "d", "linked_task_id": None})).json[
        "domain"
    ] == "d"
    for path, body, status in (
        ("/drafts/1", {}, 400), ("/drafts/x", {"title": "u"}, 400), ("/drafts/-1", {"title": "u"}, 400),
        ("/drafts/9", {"title": "u"}, 404), ("/drafts/1", {"title": 5}, 400),
        ("/drafts/1", {"title": None}, 400),
    ):  # fmt: skip
        assert (await octo.call("PATCH", path, body)).status == status, (path, body)
    assert (await octo.call("GET", f"/drafts/{'9' * 40}")).status == 400
    stranger = Octopoid(octo.api)
    await stranger.register()
    for method in ("GET", "DELETE"):
        assert (await stranger.call(method, "/drafts/1")).status == 404
    assert (await octo.call("DELETE", "/drafts/1")).json == {"message": "Draft 1 deleted"}
    assert (await octo.call("GET", "/drafts/1")).status == 404
    assert (await octo.call("DELETE", "/drafts/1")).status == 404
    assert (await octo.call("GET", "/drafts")).json["total"] == 0
    assert (await octo.call("POST", "/drafts", {"title": "t", "author": "a"})).json["id"] == 2


async def test_drafts_that_are_made_at_once_have_numbers_of_their_own(octo: Octopoid) -> None:
    body = {"title": "t", "author": "a"}
    made = await asyncio.gather(*(octo.call("POST", "/drafts", body) for _ in range(8)))
    assert sorted(answer.json["id"] for answer in made) == list(range(1, 9))
    assert (await octo.call("GET", "/drafts?author=a&limit=3")).json["total"] == 8
    assert (await octo.call("GET", "/drafts?author=b")).json["total"] == 0


# --- Projects


async def test_tasks_of_a_project_are_made_on_its_branch(octo: Octopoid) -> None:
    made = await octo.call(
        "POST", "/projects", {"id": "p", "title": "t", "branch": "feature/p", "auto_accept": 1}
    )
    assert (made.json["auto_accept"], made.json["base_branch"]) == (True, "main")
    await octo.call("POST", "/projects", {"id": "bare", "title": "t"})
    assert (await octo.create("t", project_id="p"))["branch"] == "feature/p"
    assert (await octo.create("u", project_id="bare"))["branch"] == "main"
    assert (await octo.create("v", project_id="nobody"))["branch"] == "main"
    again = await octo.call("POST", "/tasks", octo.task("t", project_id="p"))
    assert (again.status, again.json["branch"]) == (200, "feature/p")
    found = (await octo.call("GET", "/projects/p/tasks")).json
    assert ([task["id"] for task in found["tasks"]], found["total"]) == (["t"], 1)


async def test_a_project_with_tasks_cannot_be_deleted(octo: Octopoid) -> None:
    await octo.call("POST", "/projects", {"id": "p", "title": "t"})
    await octo.create("t", project_id="p")
    refused = await octo.call("DELETE", "/projects/p")
    assert (refused.status, refused.json["code"]) == (409, "has_tasks")
    await octo.call("DELETE", "/tasks/t")
    assert (await octo.call("DELETE", "/projects/p")).json == {"message": "Project p deleted"}
    assert (await octo.call("GET", "/projects/p")).status == 404
    assert (await octo.call("GET", "/projects")).json["total"] == 0
    assert (await octo.call("DELETE", "/projects/p")).status == 404


async def test_a_project_keeps_the_date_that_its_client_sent(octo: Octopoid) -> None:
    await octo.call("POST", "/projects", {"id": "p", "title": "t"})
    sent = {"status": "completed", "completed_at": "2026-01-31T12:00:00+02:00"}
    assert (await octo.call("PATCH", "/projects/p", sent)).json["completed_at"] == sent["completed_at"]
    await octo.call("POST", "/projects", {"id": "q", "title": "t"})
    assert (await octo.call("PATCH", "/projects/q", {"status": "completed"})).json["completed_at"]
    assert (await octo.call("PATCH", "/projects/q", {})).status == 400


# --- Actions


async def test_an_action_goes_its_way_by_patches(octo: Octopoid) -> None:
    body = {
        "entity_type": "task",
        "entity_id": "t",
        "label": "l",
        "proposed_by": "a",
        "action_data": {"b": [1]},
    }
    action = (await octo.call("POST", "/actions", body)).json
    assert (action["status"], action["action_type"], action["action_data"]) == (
        "proposed",
        "proposal",
        {"b": [1]},
    )
    path = f"/actions/{action['id']}"
    assert (await octo.call("POST", f"{path}/execute", {})).json["status"] == "execute_requested"
    assert (await octo.call("POST", f"{path}/execute", {})).status == 400
    assert (await octo.call("PATCH", path, {"status": "executing"})).json["status"] == "executing"
    done = (await octo.call("PATCH", path, {"status": "completed", "result": "ok"})).json
    assert (done["status"], done["result"], done["label"]) == ("completed", "ok", "l")
    assert (await octo.call("GET", "/actions?status=completed")).json["actions"] == [done]
    assert (await octo.call("GET", "/actions?status=proposed")).json["total"] == 0
    for sent, status in (({"status": "bogus"}, 400), ({"status": 5}, 400), ({}, 400), ({"other": 1}, 400)):
        assert (await octo.call("PATCH", path, sent)).status == status, sent
    assert (await octo.call("PATCH", "/actions/nobody", {"status": "failed"})).status == 404


@pytest.mark.parametrize(
    ("seconds", "offset", "is_over"),
    [
        (-60, "+05:00", True),
        (60, "+05:00", False),
        (-60, "-05:00", True),
        (60, "-05:00", False),
        (-60, "", True),
    ],
)
async def test_the_time_of_an_action_counts_with_its_offset(
    seconds: float, offset: str, *, is_over: bool, octo: Octopoid
) -> None:
    at = clock.now() + timedelta(seconds=seconds)
    zone = datetime.fromisoformat(f"2026-01-01T00:00:00{offset or '+00:00'}").tzinfo
    text = at.astimezone(zone).isoformat()
    sent = text if offset else text.removesuffix("+00:00")
    body = {"entity_type": "task", "entity_id": "t", "label": "l", "expires_at": sent}
    action = (await octo.call("POST", "/actions", body)).json
    assert action["expires_at"] == sent
    assert (await octo.call("GET", "/actions")).json["total"] == (0 if is_over else 1)
    assert (await octo.call("POST", f"/actions/{action['id']}/execute", {})).status == (
        400 if is_over else 200
    )


# --- Roles


async def test_roles_are_registered_and_then_only_they_may_be_named(octo: Octopoid) -> None:
    assert (await octo.call("GET", "/roles")).json == {"roles": []}
    await octo.create("before", role="anything")
    roles = [{"name": "implement"}, {"name": "review", "claims_from": "provisional", "description": "d"}, {}]
    made = await octo.call("POST", "/roles/register", {"orchestrator_id": "prod-m1", "roles": roles})
    assert [(role["name"], role["claims_from"]) for role in made.json["roles"]] == [
        ("implement", "incoming"), ("review", "provisional"),
    ]  # fmt: skip
    again = await octo.call("POST", "/roles/register", {"orchestrator_id": "prod-m1", "roles": roles[:1]})
    assert len(again.json["roles"]) == 2
    assert (await octo.call("GET", "/roles/review")).json["description"] == "d"
    assert (await octo.call("GET", "/roles/nobody")).status == 404
    for answer in (
        await octo.call("POST", "/tasks", octo.task("t", role="other")),
        await octo.claim(role_filter=["implement", "other"]),
        await octo.call("POST", "/roles/register", {"orchestrator_id": "nobody", "roles": roles}),
        await octo.call("POST", "/roles/register", {"orchestrator_id": "prod-m1", "roles": "all"}),
    ):
        assert answer.status == 400, answer
    assert (await octo.create("u", role="implement"))["role"] == "implement"
    stranger = Octopoid(octo.api)
    await stranger.register()
    assert (await stranger.call("GET", "/roles")).json == {"roles": []}
    assert (await stranger.create("t", role="other"))["role"] == "other"


async def test_a_role_claims_from_the_queue_of_its_registration(octo: Octopoid) -> None:
    roles = [{"name": "review", "claims_from": "provisional"}]
    await octo.call("POST", "/roles/register", {"orchestrator_id": "prod-m1", "roles": roles})
    await octo.create("t", role="review", queue="provisional")
    await octo.create("u", role="review")
    assert (await octo.claim(role_filter="review")).json["id"] == "t"
    assert (await octo.claim("agent-2", role_filter="review", queue="incoming")).json["id"] == "u"


# --- Dates of orchestrators


async def test_a_heartbeat_has_the_time_that_its_client_sent(octo: Octopoid) -> None:
    sent = "2026-01-31T12:00:00.000Z"
    beat = await octo.call("POST", "/orchestrators/prod-m1/heartbeat", {"timestamp": sent})
    assert beat.json["last_heartbeat"] == sent
    found = (await octo.call("GET", "/orchestrators/prod-m1")).json
    assert (found["last_heartbeat"], found["status"]) == (sent, "offline")
    odds: tuple[Any, ...] = ("yesterday", 5, {})
    for odd in odds:
        assert (await octo.call("POST", "/orchestrators/prod-m1/heartbeat", {"timestamp": odd})).status == 400
