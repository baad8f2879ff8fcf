"""The table `labels`: which jobs have a label, in the order of lists."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Final

from switchyard.events.job import Job
from switchyard.projections.jobs import microseconds

KEY: Final = "@key"
"""Stands for a label, which can have no such name, with the id of the API key that submitted a job."""
_WRITE: Final = "INSERT OR IGNORE INTO labels VALUES (?, ?, ?, ?, ?)"


def write(connection: sqlite3.Connection, new: Iterable[Job]) -> None:
    """Write the labels of new jobs, which never change; part of the caller's transaction."""
    rows = [
        (job.tenant, key, value, microseconds(job.created_at) or 0, job.id)
        for job in new
        for key, value in (*job.labels.items(), *(((KEY, job.key),) if job.key else ()))
    ]
    connection.executemany(_WRITE, rows)
