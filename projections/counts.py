"""The table `counts`: jobs by tenant, kind, state, lane and priority, changed with every transition."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable
from typing import Final

from switchyard.events.job import Job

_KEY: Final = "tenant, kind, state, lane, priority"
_WRITE: Final = (
    "INSERT INTO counts VALUES (?, ?, ?, ?, ?, ?) "  # noqa: S608 - our own names
    f"ON CONFLICT ({_KEY}) DO UPDATE SET jobs = jobs + excluded.jobs"
)
_TIDY: Final = f"DELETE FROM counts WHERE ({_KEY}) = (?, ?, ?, ?, ?) AND jobs = 0"  # noqa: S608 - our own names


def write(connection: sqlite3.Connection, changes: Iterable[tuple[Job, Job]]) -> None:
    """Move jobs from the counts they were in to those they are in; part of the caller's transaction."""
    moves: Counter[tuple[str, str, str, str, int]] = Counter()
    for before, after in changes:
        if before.seq:
            moves[_key(before)] -= 1
        moves[_key(after)] += 1
    rows = [(*key, by) for key, by in moves.items() if by]
    connection.executemany(_WRITE, rows)
    connection.executemany(_TIDY, [key for key, by in moves.items() if by < 0])


def _key(job: Job) -> tuple[str, str, str, str, int]:
    return job.tenant, job.kind, job.shown_state, job.lane, job.priority
