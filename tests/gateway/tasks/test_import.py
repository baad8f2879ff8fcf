"""`switchyard import tasks`: a D1 export of the task system, brought over once."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner, Result

from switchyard.services.cli.importing.task_database import TaskDatabase
from switchyard.services.cli.importing.tasks import tasks
from tests.gateway.rest import Gateway
from tests.gateway.tasks.site import VIDEO, signed

TABLE: Final = (
    "CREATE TABLE Tasks (id TEXT PRIMARY KEY, status TEXT, request TEXT, serverId TEXT, result TEXT, "
    "createdAt INTEGER DEFAULT CURRENT_TIMESTAMP, updatedAt INTEGER DEFAULT CURRENT_TIMESTAMP);"
)
WORK: Final[dict[str, Any]] = {
    "type": "image",
    "payload": {"note": "it's ; here"},
    "priority": 1,
    "async": False,
}
ROWS: Final[tuple[tuple[Any, ...], ...]] = (
    ("task-1", "WAITING", json.dumps(VIDEO), None, None),
    ("task-2", "PROCESSING", json.dumps(VIDEO), "s1", None),
    ("task-3", "PENDING", json.dumps(WORK), None, None),
    ("task-4", "FINISHED", json.dumps(VIDEO), "s1", '{"data": {}}'),
    ("task-5", "FAILED", json.dumps(VIDEO), "s1", None),
    ("task-6", "WAITING", "no JSON", None, None),
    ("task-7", "LOST", json.dumps(VIDEO), None, None),
    ("task-8", "WAITING", '{"mimeType": "x"}', None, None),
    ("task 9", "WAITING", json.dumps(VIDEO), None, None),
    (None, "WAITING", json.dumps(VIDEO), None, None),
    ("task-11", None, json.dumps(VIDEO), None, None),
    ("task-12", "WAITING", '{"payload": {"n": 1e400}}', None, None),
)  # fmt: skip


def export(rows: tuple[tuple[Any, ...], ...]) -> str:
    """What `wrangler d1 export` writes."""

    def text(value: Any) -> str:
        return "NULL" if value is None else "'{}'".format(str(value).replace("'", "''"))

    lines = ["PRAGMA defer_foreign_keys=TRUE;", TABLE]
    lines += [
        'INSERT INTO "Tasks" ("id","status","request","serverId","result","createdAt","updatedAt") '
        f"VALUES({','.join(map(text, row))},1742322087000,1742322087000);"
        for row in rows
    ]
    return "\n".join(lines)


@pytest.fixture(params=["sql", "sqlite"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"export.{request.param}"
    if request.param == "sql":
        path.write_text(export(ROWS))
    else:
        with sqlite3.connect(path) as connection:
            connection.executescript(export(ROWS))
        connection.close()
    return path


async def run(api: Gateway, *arguments: str) -> Result:
    """The command as a person types it."""
    environment = {
        "SWITCHYARD_URL": api.url, "SWITCHYARD_TOKEN": api.token("admin"), "JWT_SECRET": "",
    }  # fmt: skip
    return await asyncio.to_thread(
        CliRunner().invoke, tasks, ["--tenant", api.tenant, *arguments], env=environment
    )


async def summary(api: Gateway, *arguments: str) -> Any:
    done = await run(api, "--json", *arguments)
    assert done.exit_code == 1, done.output  # some were refused
    return json.loads(done.stdout)


async def test_tasks_that_have_not_ended_come_over_once(api: Gateway, file: Path) -> None:
    first = await summary(api, str(file))
    assert first["counts"] == {"made": 3, "there": 0, "refused": 7}
    assert list(first["ids"]) == ["task-1", "task-2", "task-3"]
    assert first["started_again"] == ["task-2"]
    assert first["left"]["ended"] == {"FINISHED": 1, "FAILED": 1}
    reasons = {one["id"]: one["reason"] for one in first["refused"]}
    assert list(reasons) == ["task-6", "task-7", "None", "task-11", "task-12", "task-8", "task 9"]
    assert "no JSON object" in reasons["task-6"]
    assert "'LOST'" in reasons["task-7"]
    assert "model" in reasons["task-8"]
    assert "visible ASCII" in reasons["task 9"]
    task = await api.get(f"/api/task/{first['ids']['task-1']}", token=signed("user"))
    assert (task.json["taskDetails"]["request"], task.json["taskDetails"]["status"]) == (VIDEO, "WAITING")
    work = await api.get(f"/api/task/{first['ids']['task-3']}", token=signed("user"))
    assert work.json["status"] == "PENDING"
    again = await summary(api, str(file))
    assert (again["counts"], again["ids"]) == ({"made": 0, "there": 3, "refused": 7}, first["ids"])


async def test_dry_run_sends_nothing(api: Gateway, file: Path) -> None:
    looked = await summary(api, "--dry-run", str(file))
    assert (looked["counts"]["made"], looked["ids"]) == (5, {})  # two are refused by the gateway alone
    assert (await api.get("/v1/jobs")).json["jobs"] == []
    words = (await run(api, "--dry-run", str(file))).output
    assert "nothing was sent" in words
    assert "left: 1 FINISHED" in words
    assert "task-2: a server had it there" in words


async def test_more_tasks_than_a_request_takes_come_over(api: Gateway, tmp_path: Path) -> None:
    path = tmp_path / "many.sql"
    large = json.dumps({"payload": {"text": "x" * 200_000}})
    rows = [(f"n{n}", "PENDING", '{"payload": {}}', None, None) for n in range(230)]
    path.write_text(export((*rows, *((f"l{n}", "PENDING", large, None, None) for n in range(5)))))
    done = await run(api, "--json", str(path))
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["counts"] == {"made": 235, "there": 0, "refused": 0}


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("", "a table Tasks"),
        ("CREATE TABLE Tasks (id TEXT);", "a table Tasks"),
        ("nonsense", "neither a SQLite file"),
        ("ATTACH DATABASE '{path}' AS other;", "neither a SQLite file"),
        ("SELECT load_extension('x');", "neither a SQLite file"),
        ("SQLite format 3\0 and no more", "file is not a database"),
    ],
)
def test_file_that_is_no_such_database_is_refused(tmp_path: Path, script: str, said: str) -> None:
    path, other = tmp_path / "file", tmp_path / "other"
    path.write_text(script.replace("{path}", str(other)))
    with pytest.raises(Exception, match=said):
        TaskDatabase(path)
    assert not other.exists()
