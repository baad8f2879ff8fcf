"""The database of Octopoid's own server, read from its SQLite file or from an SQL export of it."""

from __future__ import annotations

import graphlib
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from switchyard.events.errors import InvalidError
from switchyard.services.cli.importing.sqlite_file import opened

TABLES: Final[Mapping[str, str]] = {
    "flow": "flows", "project": "projects", "task": "tasks", "message": "messages", "draft": "drafts",
    "action": "actions",
}  # fmt: skip
"""By sort of document the table that has it, in the order in which they are brought over."""
LEFT: Final[Mapping[str, str]] = {
    "orchestrators": "they register when they start",
    "roles": "orchestrators register them when they start",
    "api_keys": "only their hashes are there; registering the scope gives a new one",
    "agents": "the scheduler keeps them itself",
    "task_history": "a task's history begins with its job",
}
"""Tables that are not brought over, and why."""


class Left(NamedTuple):
    """Rows that are not brought over.

    Args:
        table: where they stand.
        rows: how many.
        reason: why.
    """

    table: str
    rows: int
    reason: str


class OctopoidDatabase:
    """The rows of one scope.

    Args:
        path: the file.
        scope: whose.
        unscoped: whether rows that name no scope, as old servers wrote them, are its own.

    Raises:
        InvalidError: the file is no such database.
    """

    def __init__(self, path: Path, scope: str, *, unscoped: bool = False) -> None:
        self._scope = scope
        self._unscoped = unscoped
        self._connection = opened(path)
        self._connection.row_factory = sqlite3.Row
        self._tables = self._read_tables()
        if "tasks" not in self._tables:
            raise InvalidError(f"{path}: no table of tasks: this is no database of Octopoid's server")

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def rows(self, sort: str) -> Iterator[dict[str, Any]]:
        """The rows of a sort, oldest first.

        Raises:
            InvalidError: the file is damaged.
        """
        table = TABLES[sort]
        if table not in self._tables:
            return
        where, values = self._where(table)
        try:
            for row in self._connection.execute(f"SELECT * FROM {table} {where} ORDER BY rowid", values):  # noqa: S608 - our own names
                yield {name: _text(row[name]) for name in row.keys() if name != "scope"}  # noqa: SIM118 - a Row's keys
        except sqlite3.Error as error:
            raise InvalidError(f"table {table} cannot be read: {error}") from error

    def left(self) -> list[Left]:
        """What stands in the file and is not of the scope, or is not brought over at all."""
        found = [
            Left(table, self._count(table), reason) for table, reason in LEFT.items() if table in self._tables
        ]
        for table in TABLES.values():
            if "scope" in self._tables.get(table, ()):
                count = self._count(table, "WHERE scope != ?", (self._scope,))
                found.append(Left(table, count, "they are other scopes'"))
                if not self._unscoped:
                    count = self._count(table, "WHERE scope IS NULL")
                    found.append(Left(table, count, "they name no scope; --unscoped brings them over"))
        return [one for one in found if one.rows]

    def _where(self, table: str) -> tuple[str, tuple[str, ...]]:
        if "scope" not in self._tables[table]:
            return "", ()
        return ("WHERE scope = ? OR scope IS NULL" if self._unscoped else "WHERE scope = ?"), (self._scope,)

    def _count(self, table: str, where: str = "", values: tuple[str, ...] = ()) -> int:
        row = self._connection.execute(f"SELECT count(*) FROM {table} {where}", values).fetchone()  # noqa: S608 - our own names
        return int(row[0])

    def _read_tables(self) -> dict[str, frozenset[str]]:
        wanted = {*TABLES.values(), *LEFT}
        try:
            names = self._connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            return {
                name: frozenset(row["name"] for row in self._connection.execute(f"PRAGMA table_info({name})"))
                for (name,) in names
                if name in wanted
            }
        except sqlite3.Error as error:
            raise InvalidError(f"the file cannot be read: {error}") from error


def _text(value: Any) -> Any:
    """A value as JSON has it."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def in_order(tasks: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    """Tasks after those that they wait for, and the ids of those that wait for each other in a circle."""
    known = {task["id"]: task for task in tasks}
    waits = {name: {one for one in blockers(task) if one in known} for name, task in known.items()}
    sorter = graphlib.TopologicalSorter(waits)
    circle: list[str] = []
    while True:
        try:
            order = [*sorter.static_order()]
            break
        except graphlib.CycleError as error:
            found = [*dict.fromkeys(error.args[1])]
            circle += found
            waits = {name: rest - {*found} for name, rest in waits.items() if name not in found}
            sorter = graphlib.TopologicalSorter(waits)
    return [known[name] for name in order], circle


def blockers(task: Mapping[str, Any]) -> list[str]:
    """The ids of the tasks that a task waits for."""
    return [name.strip() for name in str(task.get("blocked_by") or "").split(",") if name.strip()]
