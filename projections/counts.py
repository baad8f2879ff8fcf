"""The table `counts`: jobs by tenant, kind, lane, priority and state, changed with every transition."""

from __future__ import annotations

import sqlite3
from collections import Counter
from typing import Final

from events.job import Job
from events.spec import Status

_WRITE: Final = """
    INSERT INTO counts VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (lane, priority, tenant, kind, state) DO UPDATE SET jobs = jobs + excluded.jobs
"""


class Counts:
    """The changes that a batch makes."""

    def __init__(self) -> None:
        self._changes: Counter[tuple[str, str, str, int, str]] = Counter()

    def change(self, before: Job, after: Job) -> None:
        """Move a job from the count it was in to the one it is in."""
        if before.status is after.status and before.priority == after.priority and before.lane == after.lane:
            return
        if before.status is not Status.ABSENT:
            self._changes[_key(before)] -= 1
        self._changes[_key(after)] += 1

    def write(self, connection: sqlite3.Connection) -> None:
        """Write the changes; part of the caller's transaction."""
        rows = [(*key, change) for key, change in self._changes.items() if change]
        connection.executemany(_WRITE, rows)
        connection.execute("DELETE FROM counts WHERE jobs = 0")


def _key(job: Job) -> tuple[str, str, str, int, str]:
    return job.tenant, job.kind, job.lane, job.priority, job.status.value
