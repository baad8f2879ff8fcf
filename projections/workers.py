"""The table `workers`: what the log says of each worker; its heartbeat stands in the bucket `workers`."""

from __future__ import annotations

import sqlite3
from typing import Final

from events.history import AnyEvent
from events.job import Job
from projections import attempts
from projections.jobs import microseconds

_WRITE: Final = """
    INSERT INTO workers VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET
        running = running + excluded.running, started = started + excluded.started,
        succeeded = succeeded + excluded.succeeded, failed = failed + excluded.failed,
        lost = lost + excluded.lost, last_seen_at = max(last_seen_at, excluded.last_seen_at)
"""
RUNNING, STARTED, SUCCEEDED, FAILED, LOST, LAST_SEEN = range(6)


class Workers:
    """The changes that a batch makes."""

    def __init__(self) -> None:
        self._changes: dict[str, list[int]] = {}

    def change(self, before: Job, after: Job, event: AnyEvent) -> None:
        """Count the begin or the end of an attempt, if the event is one."""
        if after.lease is not None and before.lease is None:
            row = self._of(after.lease.worker)
            row[RUNNING] += 1
            row[STARTED] += 1
            row[LAST_SEEN] = max(row[LAST_SEEN], microseconds(event.at) or 0)
        elif before.lease is not None and after.lease is None:
            row = self._of(before.lease.worker)
            row[RUNNING] -= 1
            how = attempts.outcome(event)
            row[LOST] += how in attempts.LOST
            row[SUCCEEDED] += how in {"succeeded", "proposed"}
            row[FAILED] += how == "failed"
            if how not in attempts.LOST:
                row[LAST_SEEN] = max(row[LAST_SEEN], microseconds(event.at) or 0)

    def _of(self, worker: str) -> list[int]:
        return self._changes.setdefault(worker, [0] * 6)

    def write(self, connection: sqlite3.Connection) -> None:
        """Write the changes; part of the caller's transaction."""
        connection.executemany(_WRITE, [(worker, *row) for worker, row in self._changes.items()])
