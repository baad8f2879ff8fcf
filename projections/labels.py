"""The table `labels`: which jobs have a label, in the order of lists."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Final

from switchyard.events.job import Job
from switchyard.projections.jobs import microseconds

_WRITE: Final = "INSERT OR IGNORE INTO labels VALUES (?, ?, ?, ?, ?)"


def write(connection: sqlite3.Connection, new: Iterable[Job]) -> None:
    """Write the labels of new jobs, which never change; part of the caller's transaction."""
    rows = [
        (job.tenant, key, value, microseconds(job.created_at) or 0, job.id)
        for job in new
        for key, value in job.labels.items()
    ]
    connection.executemany(_WRITE, rows)
