"""The table `tenants`: what each tenant's jobs take of what all share, changed with every transition."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Final, NamedTuple

from switchyard.events.job import Job
from switchyard.events.values import FINAL, Status

_WRITE: Final = (
    "INSERT INTO tenants VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (tenant) DO UPDATE SET "
    "open_jobs = open_jobs + excluded.open_jobs, open_bytes = open_bytes + excluded.open_bytes, "
    "waits = waits + excluded.waits, jobs = jobs + excluded.jobs, bytes = bytes + excluded.bytes"
)
_TIDY: Final = "DELETE FROM tenants WHERE tenant = ? AND jobs = 0"
# One statement, so that the figures are those of the checkpoint beside them.
_READ: Final = (
    "SELECT CAST(meta.value AS INTEGER), coalesce(open_jobs, 0), coalesce(open_bytes, 0), "
    "coalesce(waits, 0), coalesce(jobs, 0), coalesce(bytes, 0) "
    "FROM meta LEFT JOIN tenants ON tenant = ? WHERE key = 'log_seq'"
)


class Use(NamedTuple):
    """What a tenant's jobs take.

    Args:
        seq: last sequence of `JOBS` that is counted.
        open_jobs: those that have not ended.
        open_bytes: the sizes of those, as they were submitted.
        waits: pairs of a blocked job and one that it waits for.
        jobs: those that are not archived.
        bytes: the sizes of those.
    """

    seq: int
    open_jobs: int
    open_bytes: int
    waits: int
    jobs: int
    bytes: int


NOTHING: Final = Use(0, 0, 0, 0, 0, 0)


def write(connection: sqlite3.Connection, changes: Iterable[tuple[Job, Job]]) -> None:
    """Add what the changes of jobs make more or less; part of the caller's transaction."""
    totals: dict[str, list[int]] = {}
    for before, after in changes:
        was, now = _taken(before), _taken(after)
        if was != now:
            total = totals.setdefault(after.tenant, [0, 0, 0, 0, 0])
            for place, (less, more) in enumerate(zip(was, now, strict=True)):
                total[place] += more - less
    connection.executemany(_WRITE, [(tenant, *total) for tenant, total in totals.items()])
    connection.executemany(_TIDY, [(tenant,) for tenant in totals])


def read(connection: sqlite3.Connection, tenant: str) -> Use:
    """What a tenant's jobs take, as last committed."""
    return Use(*connection.execute(_READ, (tenant,)).fetchone())


def _taken(job: Job) -> tuple[int, int, int, int, int]:
    """Open jobs, their bytes, waits, jobs in the log and their bytes."""
    status = job.status
    if status is Status.ABSENT or status is Status.ARCHIVED:
        return 0, 0, 0, 0, 0
    size_bytes = job.size_bytes
    if status in FINAL:
        return 0, 0, 0, 1, size_bytes
    waits = len(job.waits_for) if status is Status.BLOCKED else 0
    return 1, size_bytes, waits, 1, size_bytes
