"""The table `labels`: which jobs have a label, in the order of lists."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Final

from switchyard.events.job import Job
from switchyard.projections.jobs import microseconds

KEY: Final = "@key"
"""Stands for a label, which can have no such name, with the id of the API key that submitted a job."""
PARENT: Final = "@parent"
"""The same, with the id of the job that a job is a part of."""
_WRITE: Final = "INSERT OR IGNORE INTO labels VALUES (?, ?, ?, ?, ?)"
_FORGET: Final = (
    "DELETE FROM labels WHERE tenant = ? AND key = ? AND value = ? AND created_at = ? AND job_id = ?"
)


def write(connection: sqlite3.Connection, new: Iterable[Job]) -> None:
    """Write the labels of new jobs, which never change; part of the caller's transaction."""
    connection.executemany(_WRITE, _rows(new))


def forget(connection: sqlite3.Connection, gone: Iterable[Job]) -> None:
    """Remove the labels of jobs that are gone; part of the caller's transaction."""
    connection.executemany(_FORGET, _rows(gone))


def _rows(jobs: Iterable[Job]) -> list[tuple[str, str, str, int, str]]:
    return [
        (job.tenant, key, value, microseconds(job.created_at) or 0, job.id)
        for job in jobs
        for key, value in (*job.labels.items(), (KEY, job.key), (PARENT, job.parent))
        if value or key not in (KEY, PARENT)
    ]
