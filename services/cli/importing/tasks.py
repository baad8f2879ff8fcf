"""`switchyard import tasks`: the tasks of the Cloudflare task system that have not ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import click

from switchyard._client.json import body_json
from switchyard.errors import InvalidValueError
from switchyard.services.cli import options
from switchyard.services.cli.client import Api
from switchyard.services.cli.importing.task_database import Row, TaskDatabase
from switchyard.services.cli.output import print_json, print_table, say

AT_ONCE: Final = 100
AT_ONCE_BYTES: Final = 512 * 1024
"""A request has no more, unless one task does."""
ROW_BYTES: Final = 900 * 1024
KEY: Final = "d1:"
KEY_CHARS: Final = 255
SHOWN_CHARS: Final = 80
OUTCOMES: Final = ("made", "there", "refused")
WHY_ENDED: Final = "a task that has ended there is no job here: its result stays in the file"
WHY_AGAIN: Final = "a server had it there; it starts again, and may be done twice"
_MADE: Final = {201: "made", 200: "there"}


@click.command("tasks")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--tenant", default="tasks", show_default=True, help="Whose they become: the tenant of the task door."
)
@click.option("--dry-run", is_flag=True, help="Say what would be brought over, and send nothing.")
@options.as_json
@options.data_dir
def tasks(*, file: Path, tenant: str, dry_run: bool, as_json: bool, data_dir: Path | None) -> None:
    """Submit the tasks of a Cloudflare task system that have not ended.

    FILE is what `wrangler d1 export` wrote, or the SQLite file. Run again, it passes over what it brought.
    """
    database = TaskDatabase(file)
    run = Run(tenant)
    try:
        if dry_run:
            run.look(database.open())
        else:
            api = options.gateway(data_dir)
            options.run(run.all(api, database.open()))
        ended = database.ended()
    finally:
        database.close()
    if as_json:
        print_json({"dry_run": dry_run, **run.summary(ended)})
    else:
        run.say(ended, dry_run=dry_run)
    if run.refused:
        raise click.exceptions.Exit(1)


class Run:
    """One import, and what became of its tasks.

    Args:
        tenant: whose they become.
    """

    def __init__(self, tenant: str) -> None:
        self._tenant = tenant
        self.counts = Counter[str]()
        self.ids: dict[str, str] = {}
        self.refused: list[dict[str, str]] = []
        self.again: list[str] = []

    def look(self, rows: Iterable[Row]) -> None:
        """Count what would be sent."""
        for row, _ in self._good(rows):
            self._note(row, "made")

    async def all(self, api: Api, rows: Iterable[Row]) -> None:
        """Send them, some at a time."""
        async with api:
            batch: list[tuple[Row, dict[str, Any]]] = []
            size = 0
            for row, body in self._good(rows):
                size_bytes = len(body_json(body))
                if batch and (len(batch) == AT_ONCE or size + size_bytes > AT_ONCE_BYTES):
                    await self._send(api, batch)
                    batch, size = [], 0
                batch.append((row, body))
                size += size_bytes
            if batch:
                await self._send(api, batch)

    def _good(self, rows: Iterable[Row]) -> Iterator[tuple[Row, dict[str, Any]]]:
        for row in rows:
            body = {**(row.request or {}), "idempotencyKey": KEY + row.id}
            reason = row.reason or _fault(body)
            if reason:
                self._refuse(row, reason)
            else:
                yield row, body

    async def _send(self, api: Api, batch: list[tuple[Row, dict[str, Any]]]) -> None:
        body = {"tasks": [task for _, task in batch]}
        answer = await api.call("POST", "/api/task/batch", params={"tenant": self._tenant}, json=body)
        for (row, _), entry in zip(batch, answer["tasks"], strict=True):
            said = entry["answer"]
            outcome = _MADE.get(entry["status"])
            if outcome is None:
                issues = said.get("details") or [{"message": said["error"]}]
                self._refuse(row, issues[0]["message"])
                continue
            self.ids[row.id] = said.get("taskId") or said["id"]
            self._note(row, outcome)

    def _note(self, row: Row, outcome: str) -> None:
        self.counts[outcome] += 1
        if row.running and outcome == "made":
            self.again.append(row.id)

    def _refuse(self, row: Row, reason: str) -> None:
        self.counts["refused"] += 1
        self.refused.append({"id": row.id[:SHOWN_CHARS], "reason": reason})

    def summary(self, ended: Counter[str]) -> dict[str, Any]:
        """All of it, for programs; `ids` has the new id of each task."""
        return {
            "counts": {one: self.counts[one] for one in OUTCOMES}, "ids": self.ids, "refused": self.refused,
            "started_again": self.again, "left": {"ended": dict(ended), "reason": WHY_ENDED},
        }  # fmt: skip

    def say(self, ended: Counter[str], *, dry_run: bool) -> None:
        """All of it, for people."""
        if dry_run:
            say("nothing was sent; `made` would be, unless it is there already")
        print_table(OUTCOMES, [{one: self.counts[one] for one in OUTCOMES}])
        for old, new in self.ids.items():
            say(f"task: {old} is {new}")
        for name in self.again:
            say(f"note: {name}: {WHY_AGAIN}")
        for one in self.refused:
            say(f"refused: {one['id']}: {one['reason']}")
        for status, count in sorted(ended.items()):
            say(f"left: {count} {status}: {WHY_ENDED}")


def _fault(body: dict[str, Any]) -> str:
    """Why a task cannot be sent; "" for nothing."""
    if len(body["idempotencyKey"]) > KEY_CHARS:
        return f"its id has more than {KEY_CHARS - len(KEY)} characters"
    try:
        size_bytes = len(body_json(body))
    except InvalidValueError as error:
        return str(error)
    return f"it has {size_bytes} bytes as JSON, of at most {ROW_BYTES}" if size_bytes > ROW_BYTES else ""
