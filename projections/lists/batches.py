"""The table `batches`: how many jobs of each batch are in each state."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from switchyard.events.job import Job

LABEL: Final = "batch"
"""The label by which a job says which batch it is of; jobs made of a workflow together have it too."""
_WRITE: Final = (
    "INSERT INTO batches VALUES (?, ?, ?, ?) "
    "ON CONFLICT (tenant, batch, state) DO UPDATE SET jobs = jobs + excluded.jobs"
)
_TIDY: Final = "DELETE FROM batches WHERE (tenant, batch, state) = (?, ?, ?) AND jobs = 0"
_READ: Final = "SELECT state, jobs FROM batches WHERE tenant = ? AND batch = ?"

_Key = tuple[str, str, str]


def write(connection: sqlite3.Connection, changes: Iterable[tuple[Job, Job]]) -> None:
    """Move jobs from the states they were in to those they are in; part of the caller's transaction."""
    moves: Counter[_Key] = Counter()
    for before, after in changes:
        if before.seq and (key := _key(before)) is not None:
            moves[key] -= 1
        if (key := _key(after)) is not None:
            moves[key] += 1
    _move(connection, moves)


def forget(connection: sqlite3.Connection, gone: Iterable[Job]) -> None:
    """Count jobs that are gone no longer; part of the caller's transaction."""
    moves: Counter[_Key] = Counter()
    for job in gone:
        if (key := _key(job)) is not None:
            moves[key] -= 1
    _move(connection, moves)


def read(connection: sqlite3.Connection, tenant: str, batch: str) -> Mapping[str, int]:
    """The jobs of a batch by state."""
    return dict(connection.execute(_READ, (tenant, batch)))


def _move(connection: sqlite3.Connection, moves: Counter[_Key]) -> None:
    connection.executemany(_WRITE, [(*key, by) for key, by in moves.items() if by])
    connection.executemany(_TIDY, [key for key, by in moves.items() if by < 0])


def _key(job: Job) -> _Key | None:
    batch = job.labels.get(LABEL)
    if batch is None:
        return None
    return job.tenant, batch, job.archived_as or job.shown_state
