"""The table `counts`: jobs and their bytes by tenant, kind, state, lane and priority."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable
from typing import Final

from switchyard.events.job import Job
from switchyard.events.values import Status

_Key = tuple[str, str, str, str, int]
_KEY: Final = "tenant, kind, state, lane, priority"
_WRITE: Final = (
    "INSERT INTO counts VALUES (?, ?, ?, ?, ?, ?, ?) "  # noqa: S608 - our own names
    f"ON CONFLICT ({_KEY}) DO UPDATE SET jobs = jobs + excluded.jobs, bytes = bytes + excluded.bytes"
)
_TIDY: Final = f"DELETE FROM counts WHERE ({_KEY}) = (?, ?, ?, ?, ?) AND jobs = 0"  # noqa: S608 - our own names


def write(connection: sqlite3.Connection, changes: Iterable[tuple[Job, Job]]) -> None:
    """Move jobs from the counts they were in to those they are in; part of the caller's transaction."""
    moves: Counter[_Key] = Counter()
    sizes: Counter[_Key] = Counter()
    for before, after in changes:
        if before.seq:
            moves[_key(before)] -= 1
            sizes[_key(before)] -= _size(before)
        moves[_key(after)] += 1
        sizes[_key(after)] += _size(after)
    _move(connection, moves, sizes)


def forget(connection: sqlite3.Connection, gone: Iterable[Job]) -> None:
    """Count jobs that are gone no longer; part of the caller's transaction."""
    moves: Counter[_Key] = Counter()
    sizes: Counter[_Key] = Counter()
    for job in gone:
        moves[_key(job)] -= 1
        sizes[_key(job)] -= _size(job)
    _move(connection, moves, sizes)


def _move(connection: sqlite3.Connection, moves: Counter[_Key], sizes: Counter[_Key]) -> None:
    rows = [(*key, by, sizes[key]) for key, by in moves.items() if by or sizes[key]]
    connection.executemany(_WRITE, rows)
    connection.executemany(_TIDY, [key for key, by in moves.items() if by < 0])


def _size(job: Job) -> int:
    """Bytes as they were submitted; what is archived has none."""
    return 0 if job.status is Status.ARCHIVED else job.size_bytes


def _key(job: Job) -> _Key:
    return job.tenant, job.kind, job.shown_state, job.lane, job.priority
