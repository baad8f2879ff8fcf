"""Bringing over what an Octopoid server has, and its administrator's key."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result

from switchyard.services.cli.importing.command import import_group
from switchyard.services.cli.importing.database import in_order
from switchyard.services.settings.loading import load_settings
from switchyard.services.settings.secrets import weakness_of
from tests.broker.shared import SharedBroker
from tests.gateway.octopoid.client import Octopoid
from tests.gateway.rest import Gateway, gateway

ADMIN = "correct-horse-battery"
TASKS: dict[str, dict[str, Any]] = {
    "waits": {"blocked_by": "plain"},
    "plain": {"priority": "P0", "content": "# é", "role": "implement", "attempt_count": 2},
    "held": {"queue": "claimed", "claimed_by": "agent-7", "priority": "urgent"},
    "done": {"queue": "done", "completed_at": "2026-01-02T03:04:05.678Z"},
    "failed": {"queue": "failed", "execution_notes": "boom", "blocked_by": "plain"},
    "review": {"queue": "provisional", "pr_number": 7},
    "qa": {"queue": "qa", "flow": "custom"},
    "lost": {"blocked_by": "nobody"},
    "a": {"blocked_by": "b"},
    "b": {"blocked_by": "a"},
    "odd": {"created_at": "yesterday"},
}


def rows_of(scope: str) -> dict[str, list[dict[str, Any]]]:
    at = "2026-01-01 10:00:00"
    base = {"branch": "main", "created_at": at, "updated_at": at, "scope": scope, "queue": "incoming"}
    states = orjson.dumps(["incoming", "claimed", "done", "failed", "qa"]).decode()
    message = {"task_id": "plain", "from_actor": "a", "type": "note", "created_at": at, "scope": scope}
    return {
        "tasks": [{**base, "id": name, "file_path": f"{name}.md", **more} for name, more in TASKS.items()],
        "messages": [
            {**message, "id": "msg-1", "content": "one"},
            {**message, "id": "msg-2", "content": "two", "parent_message_id": "msg-1"},
            {**message, "id": "msg-3", "content": "another's", "scope": "other"},
            {**message, "id": "msg-4", "content": "nobody's", "scope": None},
        ],
        "drafts": [{"id": 7, "title": "t", "author": "a", "tags": '["x"]', "created_at": at, "scope": scope}],
        "projects": [{"id": "p", "title": "t", "auto_accept": 1, "created_at": at, "scope": scope}],
        "actions": [
            {
                "id": "act-1", "entity_type": "draft", "entity_id": "7", "action_type": "proposal",
                "label": "l",
                "status": "proposed", "proposed_by": "a", "proposed_at": at, "scope": scope,
                "expires_at": "2999-01-01T00:00:00+02:00",
            },
        ],
        "flows": [{"name": "custom", "states": states, "transitions": "[]", "scope": scope}],
        "api_keys": [{"key_hash": "x", "scope": scope}],
    }  # fmt: skip


def database(path: Path, scope: str) -> Path:
    connection = sqlite3.connect(path)
    for table, rows in rows_of(scope).items():
        names = list(dict.fromkeys(name for row in rows for name in row))
        connection.execute(f"CREATE TABLE {table} ({', '.join(names)})")
        for row in rows:
            marks = ", ".join("?" * len(names))
            connection.execute(f"INSERT INTO {table} VALUES ({marks})", [row.get(name) for name in names])
    connection.commit()
    connection.close()
    return path


def exported(path: Path, scope: str) -> Path:
    connection = sqlite3.connect(database(path.with_suffix(".db"), scope))
    path.write_text("PRAGMA defer_foreign_keys=TRUE;\n" + "\n".join(connection.iterdump()))
    connection.close()
    return path


@pytest.fixture
async def octo(shared_broker: SharedBroker, tmp_path: Path) -> AsyncIterator[Octopoid]:
    async with gateway(shared_broker.url, tmp_path / "gateway", octopoid_admin_key=ADMIN) as api:
        found = Octopoid(api)
        await found.register()
        yield found


async def run(octo: Octopoid, file: Path, *options: str, key: str | None = None) -> Result:
    arguments = ["octopoid", str(file), "--url", octo.api.url, "--scope", octo.scope, *options]
    environment = {"OCTOPOID_API_KEY": key or octo.key}
    return await asyncio.to_thread(CliRunner().invoke, import_group, arguments, env=environment)


async def imported(octo: Octopoid, file: Path, *options: str) -> dict[str, Any]:
    answer = await run(octo, file, "--json", *options)
    found: dict[str, Any] = orjson.loads(answer.stdout)
    assert answer.exit_code == (1 if found["refused"] else 0), answer
    return found


@pytest.mark.parametrize("written", [database, exported])
async def test_all_that_can_be_is_brought_over_with_ids_and_dates(
    written: Any, octo: Octopoid, tmp_path: Path
) -> None:
    file = written(tmp_path / "octopoid.sql", octo.scope)
    dry = await imported(octo, file, "--dry-run")
    assert (dry["counts"]["message"]["made"], await octo.listed()) == (2, [])
    found = await imported(octo, file)
    assert (dry["counts"], dry["refused"]) == (found["counts"], found["refused"])
    assert {sort: list(counts.values()) for sort, counts in found["counts"].items()} == {
        "flow": [1, 0, 0], "project": [1, 0, 0], "task": [7, 0, 4], "message": [2, 0, 0],
        "draft": [1, 0, 0], "action": [1, 0, 0],
    }  # fmt: skip
    assert {one["id"] for one in found["refused"]} == {"a", "b", "lost", "odd"}
    notes = {one["id"]: one["reason"] for one in found["notes"]}
    assert "agent-7 had claimed it" in notes["held"]
    assert "priority 'urgent' is P2" in notes["held"]
    assert {one["table"]: one["rows"] for one in found["left"]} == {"api_keys": 1, "messages": 1}
    tasks = {name: await octo.get(name) for name in TASKS if name not in {"a", "b", "lost", "odd"}}
    assert {name: task["queue"] for name, task in tasks.items()} == {
        "waits": "incoming", "plain": "incoming", "held": "incoming", "done": "done", "failed": "failed",
        "review": "provisional", "qa": "qa",
    }  # fmt: skip
    assert {task["created_at"].replace("T", " ")[:19] for task in tasks.values()} == {"2026-01-01 10:00:00"}
    assert (tasks["waits"]["blocked_by"], tasks["failed"]["execution_notes"]) == ("plain", "boom")
    assert (tasks["plain"]["content"], tasks["plain"]["priority"]) == ("# é", "P0")
    assert (tasks["review"]["pr_number"], tasks["held"]["claimed_by"]) == (7, None)
    messages = (await octo.call("GET", "/tasks/plain/messages")).json["messages"]
    assert [(one["id"], one["created_at"][:19]) for one in messages] == [
        ("msg-1", "2026-01-01T10:00:00"), ("msg-2", "2026-01-01T10:00:00"),
    ]  # fmt: skip
    assert (await octo.call("GET", "/drafts/7")).json["tags"] == '["x"]'
    assert (await octo.call("POST", "/drafts", {"title": "t", "author": "a"})).json["id"] == 8
    assert (await octo.call("GET", "/projects/p")).json["auto_accept"] is True
    [action] = (await octo.call("GET", "/actions")).json["actions"]
    assert (action["id"], action["expires_at"]) == ("act-1", "2999-01-01T00:00:00+02:00")
    assert (await octo.claim()).json["id"] == "plain"


async def test_again_it_changes_nothing_and_continues_what_broke_off(octo: Octopoid, tmp_path: Path) -> None:
    file = database(tmp_path / "octopoid.db", octo.scope)
    half = [{"id": "done", "file_path": "done.md", **rows_of(octo.scope)["tasks"][3]}]
    for row in half:
        row.pop("scope")
        names = dict.fromkeys(name for one in rows_of(octo.scope)["tasks"] for name in one if name != "scope")
        assert (await octo.call("POST", "/import", {"sort": "task", "rows": [names | row]})).status == 200
    assert (await imported(octo, file))["counts"]["task"] == {"made": 6, "there": 1, "refused": 4}
    before = [await octo.get(name) for name in ("plain", "done", "review")]
    again = await imported(octo, file)
    assert all(not counts["made"] for counts in again["counts"].values())
    assert (again["counts"]["task"]["there"], again["counts"]["draft"]["there"]) == (7, 1)
    assert before == [await octo.get(name) for name in ("plain", "done", "review")]
    found = await imported(octo, file, "--drop-missing-blockers", "--unscoped")
    assert found["counts"]["task"] == {"made": 1, "there": 7, "refused": 3}
    assert found["counts"]["message"] == {"made": 1, "there": 2, "refused": 0}
    assert (await octo.get("lost"))["blocked_by"] is None


async def test_what_is_there_already_is_left_as_it_is(octo: Octopoid, tmp_path: Path) -> None:
    await octo.create("plain", title="mine")
    await octo.call("POST", "/projects", {"id": "p", "title": "mine"})
    found = await imported(octo, database(tmp_path / "octopoid.db", octo.scope))
    assert {"plain", "p"} <= {one["id"] for one in found["refused"]}
    assert (await octo.get("plain"))["title"] == "mine"
    assert (await octo.call("GET", "/projects/p")).json["title"] == "mine"


async def test_files_that_are_none_are_refused_and_reach_nothing(octo: Octopoid, tmp_path: Path) -> None:
    stolen = tmp_path / "stolen.db"
    for text in (b"", b"\0\xff", b"SQLite format 3\0" + b"\0" * 100, b"SELECT 1;", b"CREATE TABLE x (y);"):
        file = tmp_path / "odd.sql"
        file.write_bytes(text)
        answer = await run(octo, file)
        assert answer.exit_code != 0, text
        assert "Traceback" not in answer.output
    file.write_text(f"ATTACH DATABASE '{stolen}' AS x; CREATE TABLE x.y (z); CREATE TABLE tasks (id);")
    assert (await run(octo, file)).exit_code != 0
    assert not stolen.exists()
    good = database(tmp_path / "good.db", octo.scope)
    assert (await run(octo, good, key="oct_" + "0" * 64)).exit_code != 0
    for odd in ({"sort": "nothing", "rows": []}, {"sort": "task", "rows": [5]}, {"sort": "task"}):
        assert (await octo.call("POST", "/import", odd)).status == 400
    values: tuple[Any, ...] = (None, 5, [], {"x": 1}, "", 2**70, 1.5, True, "x" * 3000)
    for value in values:
        for sort in ("task", "message", "draft", "project", "action", "flow"):
            row = {"id": value, "name": value, "title": value, "created_at": value, "states": value}
            said = await octo.call("POST", "/import", {"sort": sort, "rows": [row]})
            if said.status == 200:
                assert said.json["rows"][0]["outcome"] == "refused", (sort, value)
            else:
                assert said.status == 400, (sort, value)


def test_tasks_come_after_those_that_they_wait_for() -> None:
    waits = {"a": "b,c", "b": "c", "c": None, "x": "y", "y": "x", "z": "x"}
    ordered, circle = in_order([{"id": name, "blocked_by": others} for name, others in waits.items()])
    names = [task["id"] for task in ordered]
    assert [name for name in names if name in "abc"] == ["c", "b", "a"]
    assert (sorted(circle), "z" in names) == (["x", "y"], True)
    long = [{"id": str(number), "blocked_by": str(number + 1)} for number in range(5000)]
    assert len(in_order(long)[0]) == 5000


# --- The administrator's key


async def test_the_administrator_acts_for_the_scope_that_is_named(octo: Octopoid) -> None:
    await octo.create("t")
    other = Octopoid(octo.api)
    other.key = ADMIN
    assert (await octo.call("GET", f"/tasks?scope={octo.scope}", key=ADMIN)).json["total"] == 1
    assert (await octo.call("POST", "/tasks", octo.task("u"), key=ADMIN)).status == 201
    assert (await octo.call("GET", "/tasks", key=ADMIN)).status == 400
    assert (await octo.call("POST", "/messages", {"task_id": "t"}, key=ADMIN)).status == 400
    assert (await octo.call("GET", "/tasks?scope=nobody", key=ADMIN)).status == 404
    assert (await octo.call("DELETE", f"/tasks/u?scope={octo.scope}", key=ADMIN)).status == 200
    assert (await other.register(key=ADMIN)).status == 201
    assert other.key.startswith("oct_")
    assert (await other.register(key=ADMIN)).status == 200
    rotated = await octo.call("POST", f"/orchestrators/scopes/{octo.scope}/rotate-key", key=ADMIN)
    assert rotated.json["scope"] == octo.scope
    for key in (ADMIN[:-1], ADMIN + "x", ADMIN.upper()):
        assert (await octo.call("GET", f"/tasks?scope={octo.scope}", key=key)).status == 401
    assert (await octo.api.get("/v1/jobs", token=ADMIN)).status == 401


@pytest.mark.parametrize("key", ["", "short", "x" * 15, "x" * 64, "ab" * 20])
async def test_a_weak_key_is_nobodys(key: str, shared_broker: SharedBroker, tmp_path: Path) -> None:
    assert weakness_of(key) is not None
    assert weakness_of(ADMIN) is None
    if not key:
        return
    async with gateway(shared_broker.url, tmp_path, octopoid_admin_key=key) as api:
        octo = Octopoid(api)
        await octo.register()
        assert (await octo.call("GET", f"/tasks?scope={octo.scope}", key=key)).status == 401


def test_the_key_is_read_from_the_name_that_octopoid_gives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_SECRET_KEY", ADMIN)
    found = load_settings().settings.octopoid_admin_key
    assert found is not None
    assert (found.get_secret_value(), ADMIN in repr(found)) == (ADMIN, False)
    monkeypatch.setenv("SWITCHYARD_OCTOPOID_ADMIN_KEY", "another-key-of-ours")
    own = load_settings().settings.octopoid_admin_key
    assert own is not None
    assert own.get_secret_value() == "another-key-of-ours"


async def test_a_gateway_without_the_key_has_no_administrator(api: Gateway) -> None:
    octo = Octopoid(api)
    await octo.register()
    assert (await octo.call("GET", f"/tasks?scope={octo.scope}", key=ADMIN)).status == 401
