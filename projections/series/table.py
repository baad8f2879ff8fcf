"""The table `series`: jobs by the minute and the hour in which they came and ended, and their waits and runs.

Its rows are sums over what the jobs are now: a job that is redriven has not ended any more. So a job has part
in ten rows at most, and they go with the row of the job.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final

from switchyard.events.job import Job
from switchyard.events.values import FINAL, Status
from switchyard.projections.jobs import microseconds
from switchyard.projections.series.spans import slot_of

MINUTE_S: Final = 60
HOUR_S: Final = 3600
STEPS: Final = (MINUTE_S, HOUR_S)
SUBMITTED: Final = "submitted"
WAIT: Final = "wait"
RUN: Final = "run"
HAS_RUN: Final = frozenset({Status.SUCCEEDED, Status.DEAD})
_KEY: Final = "tenant, step_s, at, kind, what, slot"
_WRITE: Final = (
    "INSERT INTO series VALUES (?, ?, ?, ?, ?, ?, ?) "  # noqa: S608 - our own names
    f"ON CONFLICT ({_KEY}) DO UPDATE SET jobs = jobs + excluded.jobs"
)
_TIDY: Final = f"DELETE FROM series WHERE ({_KEY}) = (?, ?, ?, ?, ?, ?) AND jobs = 0"  # noqa: S608 - our own names

_Key = tuple[str, int, int, str, str, int]


def write(connection: sqlite3.Connection, changes: Iterable[tuple[Job, Job]]) -> None:
    """Count jobs as what they have become; part of the caller's transaction."""
    moves: Counter[_Key] = Counter()
    for before, after in changes:
        if _same(before, after):
            continue
        moves.subtract(_keys(before))
        moves.update(_keys(after))
    _move(connection, moves)


def forget(connection: sqlite3.Connection, gone: Iterable[Job]) -> None:
    """Count jobs that are gone no longer; part of the caller's transaction."""
    moves: Counter[_Key] = Counter()
    for job in gone:
        moves.subtract(_keys(job))
    _move(connection, moves)


def _same(before: Job, after: Job) -> bool:
    return _of(before) == _of(after)


def _of(job: Job) -> tuple[object, ...]:
    return (
        job.created_at,
        job.queued_at,
        job.started_at,
        job.ended_at,
        job.archived_as or job.status,
        job.kind,
    )


def _move(connection: sqlite3.Connection, moves: Counter[_Key]) -> None:
    connection.executemany(_WRITE, [(*key, by) for key, by in moves.items() if by])
    connection.executemany(_TIDY, [key for key, by in moves.items() if by < 0])


def _keys(job: Job) -> Iterator[_Key]:
    for at, what, slot in _facts(job):
        second = (microseconds(at) or 0) // 1_000_000
        for step_s in STEPS:
            yield job.tenant, step_s, second // step_s * step_s, job.kind, what, slot


def _facts(job: Job) -> Iterator[tuple[datetime, str, int]]:
    """When something happened, what it was, and how long it took."""
    status = job.archived_as or job.status
    if job.created_at is not None:
        yield job.created_at, SUBMITTED, 0
    started = job.started_at
    if started is not None and job.queued_at is not None and job.queued_at <= started:
        yield started, WAIT, _slot(job.queued_at, started)
    ended = job.ended_at
    if ended is None or status not in FINAL:
        return
    yield ended, status.value, 0
    if status in HAS_RUN and started is not None:
        yield ended, RUN, _slot(started, ended)


def _slot(since: datetime, until: datetime) -> int:
    return slot_of((microseconds(until) or 0) - (microseconds(since) or 0))
