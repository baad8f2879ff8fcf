"""`switchyard import`: what another system has, brought over."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import click

from switchyard._client.json import body_json
from switchyard.services.cli import options
from switchyard.services.cli.client import Api
from switchyard.services.cli.importing.database import TABLES, Left, OctopoidDatabase, blockers, in_order
from switchyard.services.cli.importing.ilios import ilios
from switchyard.services.cli.importing.tasks import tasks
from switchyard.services.cli.output import print_json, print_table, say

KEY: Final = "OCTOPOID_API_KEY"
AT_ONCE: Final = 100
TASKS_AT_ONCE: Final = 20
"""Fewer: each is a job with a history of its own."""
AT_ONCE_BYTES: Final = 512 * 1024
"""A request has no more, unless one row does."""
ROW_BYTES: Final = 900 * 1024
OUTCOMES: Final = ("made", "there", "refused")


@click.group("import")
def import_group() -> None:
    """Bring over what another system has."""


import_group.add_command(tasks)
import_group.add_command(ilios)


@import_group.command("octopoid")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--url", required=True, help="The gateway's.")
@click.option("--scope", required=True, help="Whose rows; it has to be registered at the gateway.")
@click.option("--key", help=f"The scope's API key there, or the administrator's; ${KEY} by default.")
@click.option("--unscoped", is_flag=True, help="Bring rows over as well that name no scope.")
@click.option(
    "--drop-missing-blockers", is_flag=True,
    help="Bring tasks over that wait for others that are not in the file; they then wait for nothing.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Say what would be brought over, and write nothing.")
@options.as_json
def octopoid(
    *,
    file: Path,
    url: str,
    scope: str,
    key: str | None,
    unscoped: bool,
    drop_missing_blockers: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Bring the tasks, messages, drafts, projects, actions and flows of an Octopoid server over.

    FILE is its SQLite database, or an SQL export of it. Run again, it passes over what it brought over.
    """
    key = key or os.environ.get(KEY)
    if not key:
        raise click.UsageError(f"this needs --key, or {KEY}")
    database = OctopoidDatabase(file, scope, unscoped=unscoped)
    run = Run(scope, dry_run=dry_run, drops=drop_missing_blockers)
    try:
        options.run(run.all(Api(url, key), database))
        left = database.left()
    finally:
        database.close()
    if as_json:
        print_json(run.summary(left))
    else:
        run.say(left)
    if run.refused:
        raise click.exceptions.Exit(1)


class Run:
    """One import, and what became of its rows.

    Args:
        scope: whose.
        dry_run: whether nothing is written.
        drops: whether tasks come over without the blockers that are not there.
    """

    def __init__(self, scope: str, *, dry_run: bool, drops: bool) -> None:
        self._scope = scope
        self._dry_run = dry_run
        self._drops = drops
        self.counts: dict[str, Counter[str]] = {sort: Counter() for sort in TABLES}
        self.refused: list[dict[str, str]] = []
        self.notes: list[dict[str, str]] = []
        self._absent: dict[str, list[str]] = {}

    async def all(self, api: Api, database: OctopoidDatabase) -> None:
        """Bring every sort over, in the order in which they need each other."""
        async with api:
            for sort in TABLES:
                rows: Iterable[dict[str, Any]] = database.rows(sort)
                if sort == "task":
                    rows = self._tasks([*rows])
                rows = self._small(sort, rows)
                for batch in _batches(rows, TASKS_AT_ONCE if sort == "task" else AT_ONCE):
                    await self._send(api, sort, batch)

    def _tasks(self, tasks: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        ordered, circle = in_order(tasks)
        for name in circle:
            self._note("task", {"id": name, "outcome": "refused", "reason": "it waits for itself, by others"})
        there = {task["id"] for task in ordered}
        for task in ordered:
            missing = [name for name in blockers(task) if name not in there]
            if missing:
                reason = f"it waits for {', '.join(missing)}, which is not in the file"
                if self._drops:
                    task["blocked_by"] = ",".join(set(blockers(task)) - set(missing)) or None
                    reason = f"{reason}, and does no more"
                else:
                    self._absent[task["id"]] = missing
                self.notes.append({"sort": "task", "id": task["id"], "reason": reason})
            yield task

    def _small(self, sort: str, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for row in rows:
            if (size_bytes := _size_of(row)) <= ROW_BYTES:
                yield row
                continue
            reason = f"it has {size_bytes} bytes as JSON, of at most {ROW_BYTES}"
            name = str(row.get("id", row.get("name")))
            self._note(sort, {"id": name, "outcome": "refused", "reason": reason})

    async def _send(self, api: Api, sort: str, rows: list[dict[str, Any]]) -> None:
        body: dict[str, Any] = {"scope": self._scope, "sort": sort, "rows": rows, "dry_run": self._dry_run}
        if self._dry_run and sort == "task":
            absent = {name for row in rows for name in self._absent.get(row["id"], ())}
            body["absent"] = sorted(absent)
        answer = await api.call("POST", "/api/v1/import", json=body)
        for row in answer["rows"]:
            self._note(sort, row)

    def _note(self, sort: str, row: dict[str, str]) -> None:
        self.counts[sort][row["outcome"]] += 1
        if row["outcome"] == "refused":
            self.refused.append({"sort": sort, "id": row["id"], "reason": row["reason"]})
        elif row["reason"]:
            self.notes.append({"sort": sort, "id": row["id"], "reason": row["reason"]})

    def summary(self, left: list[Left]) -> dict[str, Any]:
        """All of it, for programs."""
        return {
            "dry_run": self._dry_run,
            "counts": {sort: {one: counts[one] for one in OUTCOMES} for sort, counts in self.counts.items()},
            "refused": self.refused, "notes": self.notes, "left": [one._asdict() for one in left],
        }  # fmt: skip

    def say(self, left: list[Left]) -> None:
        """All of it, for people."""
        if self._dry_run:
            say("nothing was written; `made` would be")
        rows = [
            {"sort": sort, **{one: counts[one] for one in OUTCOMES}} for sort, counts in self.counts.items()
        ]
        print_table(("sort", *OUTCOMES), rows)
        for what, found in (("refused", self.refused), ("note", self.notes)):
            for one in found:
                say(f"{what}: {one['sort']} {one['id']}: {one['reason']}")
        for rest in left:
            say(f"left: {rest.rows} of {rest.table}: {rest.reason}")


def _batches(rows: Iterable[dict[str, Any]], most: int) -> Iterator[list[dict[str, Any]]]:
    """Rows, some at a time: so many, and no more bytes than a request takes."""
    batch: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        row_bytes = _size_of(row)
        if batch and (len(batch) == most or size + row_bytes > AT_ONCE_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += row_bytes
    if batch:
        yield batch


def _size_of(row: dict[str, Any]) -> int:
    """How many bytes a row has as JSON."""
    return len(body_json(row))
