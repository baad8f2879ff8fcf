"""The table `attempts`: who ran a job when, and how each attempt ended."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Final

from switchyard.events.events import NAMES, AnyEvent, Dead, Queued, Unreadable
from switchyard.events.job import Job
from switchyard.events.rules.ends import loss
from switchyard.projections.jobs import microseconds

_WRITE: Final = """
    INSERT INTO attempts VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (job_id, attempt) DO UPDATE SET ended_at = excluded.ended_at, outcome = excluded.outcome
"""


_FORGET: Final = "DELETE FROM attempts WHERE job_id = ? RETURNING worker, outcome"


def outcome(event: AnyEvent | Unreadable) -> str:
    """The word for an attempt that the event ended: its name, or why the job went back.

    An attempt that left its job dead failed or was lost like any other.
    """
    match event:
        case Queued(cause=cause):
            return cause
        case Dead():
            return loss(event) or "failed"
        case Unreadable():
            return "damaged"  # unreachable: it ends no attempt
        case _:
            return NAMES[type(event)]


class Attempts:
    """The rows that a batch changes."""

    def __init__(self) -> None:
        self._latest: dict[tuple[str, int], tuple[Job, AnyEvent | Unreadable | None]] = {}

    def change(self, before: Job, after: Job, event: AnyEvent | Unreadable) -> None:
        """Begin or end an attempt, if the event does."""
        if after.lease is not None and before.lease is None:
            self._latest[after.id, after.lease.attempt] = after, None
        elif before.lease is not None and after.lease is None:
            self._latest[before.id, before.lease.attempt] = before, event

    def write(self, connection: sqlite3.Connection) -> None:
        """Write the rows; part of the caller's transaction."""
        connection.executemany(_WRITE, [_row(job, event) for job, event in self._latest.values()])


def forget(connection: sqlite3.Connection, job_ids: Iterable[str]) -> list[tuple[str, str]]:
    """Remove the attempts of archived jobs, whose events are purged; part of the caller's transaction.

    Returns:
        Worker and outcome of each that was there.
    """
    gone: list[tuple[str, str]] = []
    for job_id in job_ids:
        gone += connection.execute(_FORGET, (job_id,)).fetchall()
    return gone


def _row(job: Job, end: AnyEvent | Unreadable | None) -> tuple[object, ...]:
    """The row of the attempt that a job is in, and of the event that ended it."""
    lease = job.lease
    if lease is None:
        raise AssertionError("an attempt has a lease")
    ended_at, how = (None, None) if end is None else (microseconds(end.at), outcome(end))
    return job.id, lease.attempt, lease.worker, lease.fence, microseconds(job.started_at), ended_at, how
