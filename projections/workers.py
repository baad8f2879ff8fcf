"""The table `workers`: what the log says of each worker; its heartbeat stands in the bucket `workers`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Final

from switchyard.events.events import AnyEvent, Unreadable
from switchyard.events.job import Job
from switchyard.events.vocabulary import causes
from switchyard.events.vocabulary.ids import WorkerId
from switchyard.projections import attempts

_WRITE: Final = """
    INSERT INTO workers VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET
        running = running + excluded.running, started = started + excluded.started,
        succeeded = succeeded + excluded.succeeded, failed = failed + excluded.failed,
        lost = lost + excluded.lost
"""
_TIDY: Final = "DELETE FROM workers WHERE id = ? AND started = 0"
RUNNING, STARTED, SUCCEEDED, FAILED, LOST = range(5)


class Workers:
    """The changes that a batch makes."""

    def __init__(self) -> None:
        self._changes: dict[str, list[int]] = {}

    def change(self, before: Job, after: Job, event: AnyEvent | Unreadable) -> None:
        """Count the begin or the end of an attempt, if the event is one."""
        if after.lease is not None and before.lease is None:
            row = self._of(after.lease.worker)
            row[RUNNING] += 1
            row[STARTED] += 1
        elif before.lease is not None and after.lease is None:
            row = self._of(before.lease.worker)
            row[RUNNING] -= 1
            _count(row, attempts.outcome(event), 1)

    def forget(self, gone: Iterable[tuple[str, str]]) -> None:
        """Count the attempts of archived jobs no longer, given worker and outcome of each."""
        for worker, how in gone:
            row = self._of(WorkerId(worker))
            row[STARTED] -= 1
            _count(row, how, -1)

    def _of(self, worker: WorkerId) -> list[int]:
        return self._changes.setdefault(worker, [0] * 5)

    def write(self, connection: sqlite3.Connection) -> None:
        """Write the changes; part of the caller's transaction."""
        connection.executemany(_WRITE, [(worker, *row) for worker, row in self._changes.items()])
        fewer = [(worker,) for worker, row in self._changes.items() if row[STARTED] <= 0]
        connection.executemany(_TIDY, fewer)


def _count(row: list[int], how: str, by: int) -> None:
    if how in causes.LOST:
        row[LOST] += by
    elif how in {"succeeded", "proposed"}:
        row[SUCCEEDED] += by
    elif how == "failed":
        row[FAILED] += by
